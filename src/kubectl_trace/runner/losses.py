"""Which probe's and whose events were lost, as far as that can honestly be said. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kubectl_trace.results.record import Loss
from kubectl_trace.runner.output import KERNEL_BUFFER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kubectl_trace.runner.tally import LostTexts
    from kubectl_trace.trace import Container

_MOST = 1000
"""Losses that are told one by one."""
_SHOWN = 5
"""Containers of each kind that are named."""


def known(
    texts: Iterable[LostTexts],
    others: Mapping[tuple[str, str, int], int],
    containers: Sequence[Container],
) -> tuple[Loss, ...]:
    """The losses whose probe or container is known, most events first.

    Args:
        texts: What the kernel's buffer had no room for.
        others: Events by cause, probe and the container's number; 0: of none, or not known.
        containers: Those in scope; their numbers are their places, from 1.
    """

    def loss(cause: str, events: int, seen: int, probe: str, number: int) -> Loss:
        if not 0 < number <= len(containers):
            return Loss(cause, events, seen, probe)
        of = containers[number - 1]
        return Loss(cause, events, seen, probe, of.namespace, of.pod, of.container)

    found = [
        *(loss(KERNEL_BUFFER, each.lost, each.seen, each.probe, each.container) for each in texts),
        *(loss(cause, events, 0, probe, of) for (cause, probe, of), events in others.items()),
    ]
    found = [each for each in found if each.probe or each.pod]
    return tuple(sorted(found, key=lambda each: -each.events)[:_MOST])


def note(lost: int, containers: Sequence[Container], delivered: Mapping[int, int]) -> str:
    """Whose lines came, where it is not known whose were lost.

    Args:
        lost: Events.
        containers: Those in scope; their numbers are their places, from 1.
        delivered: Lines by the container's number; 0: of none, or not known.
    """
    has_several = len({each.namespace for each in containers}) > 1
    counts: Counter[str] = Counter()  # a pod that was made anew under its name is the same here
    for number, each in enumerate(containers, 1):
        name = f"{each.pod}/{each.container}"
        counts[f"{each.namespace}/{name}" if has_several else name] += delivered.get(number, 0)
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
