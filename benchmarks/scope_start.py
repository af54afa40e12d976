"""How much later a program with a scope is attached and its scope filled."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from benchmarks import bpftrace, limited
from benchmarks.row import Row, spread
from kubectl_trace.program import scope

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROUNDS = 5
_CONTAINERS = (1, 300)


def rows() -> Iterator[Row]:
    """Of each version of bpftrace, beside the program without scope."""
    for version in bpftrace.VERSIONS:
        floors: list[float] = []
        values: dict[int, list[float]] = {count: [] for count in _CONTAINERS}
        for _ in range(_ROUNDS):
            floors.append(_seconds(version))
            for count in _CONTAINERS:
                values[count].append(_seconds_limited(version, count))
        for count, seconds in values.items():
            yield Row(
                f"start until attached and filled, {count} in scope, bpftrace {version}",
                statistics.median(seconds),
                "s",
                statistics.median(floors),
                spread=spread(seconds),
            )


def _seconds(version: str) -> float:
    start = time.perf_counter()
    with bpftrace.running(version, limited.PROGRAM):
        return time.perf_counter() - start


def _seconds_limited(version: str, containers: int) -> float:
    members = limited.strangers(containers)
    start = time.perf_counter()
    with limited.running(version, scope.CGROUP2, members):
        return time.perf_counter() - start
