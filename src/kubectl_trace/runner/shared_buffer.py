"""What can honestly be said of events that were lost in a buffer that several containers share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kubectl_trace.trace import Container

_SHOWN = 5
"""Containers of each kind that are named."""


def note(lost: int, containers: Sequence[Container], delivered: Mapping[int, int]) -> str:
    """Whose lines came. The kernel counts what is lost, not whose it was.

    Args:
        lost: Events.
        containers: Those in scope; their numbers are their places, from 1.
        delivered: Lines by the container's number; 0: of none, or not known.
    """
    counts = {
        f"{each.pod}/{each.container}": delivered.get(number, 0)
        for number, each in enumerate(containers, 1)
    }
    came = sorted(filter(counts.get, counts), key=lambda name: -counts[name])
    none = [name for name in counts if not counts[name]]
    text = (
        f"{lost} events were lost in the kernel's buffer, which all containers share: whose they "
        f"were is not known. Lines came of {_listed([f'{name} ({counts[name]})' for name in came])}"
    )
    return f"{text}; none of {_listed(none)}" if none else text


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join([*names[:_SHOWN], *([f"{more} more"] if more > 0 else [])]) or "none"
