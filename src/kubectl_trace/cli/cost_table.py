"""What a trace has cost, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_PROBE_WIDTH = 80
_MOST = 40
"""Probes in it, the costliest; JSON has them all."""


def lines(cost: dict[str, Any]) -> Iterator[str]:
    """The table's lines.

    `cost`: the data of a `cost` record (`record.Cost`).
    """
    rows = [
        (each["probe"], str(each["hits"]), f"{each['average_ns']:.0f}", f"{each['share']:.2f}%")
        for each in cost["probes"]
    ]
    head = ("PROBE", "HITS", "AVERAGE NS", "CPU")
    more = [(f"{len(rows) - _MOST} more", "", "", "")] if len(rows) > _MOST else []
    rows = [head, *rows[:_MOST], *more, ("all", "", "", f"{cost['share']:.2f}%")]
    width = min(_PROBE_WIDTH, max(len(row[0]) for row in rows))
    for probe, hits, average, share in rows:
        yield f"{probe:<{width}}  {hits:>12}  {average:>10}  {share:>8}"
    yield (
        f"probes attached for {cost['seconds']:.1f} s; CPU time of bpftrace {cost['bpftrace_cpu']:.2f}"
        f" s, of the runner {cost['runner_cpu']:.2f} s"
    )
