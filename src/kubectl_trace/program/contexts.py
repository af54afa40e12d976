"""Probes that fire in a task, but often not in the one that they are about."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubectl_trace.program.syntax import AttachPoint, Program

# Patterns over `tracepoint:GROUP:NAME` and `kprobe:FUNCTION`, and what the current task is there.
# Sources: the places in torvalds/linux where the tracepoints are.
_NOTES = (
    (
        r"(raw)?tracepoint:sched:sched_switch",
        "is limited by the task that leaves the CPU (prev); --scope-next limits it by the one that "
        "gets it",
    ),
    (
        r"(raw)?tracepoint:sched:sched_(wakeup|waking|wakeup_new)",
        "is limited by the task that wakes another, not by the one that is woken",
    ),
    (
        r"(raw)?tracepoint:sched:sched_(migrate_task|stat_.*|process_wait|process_free)",
        "may fire in another task than the one that it is about",
    ),
    (r"(raw)?tracepoint:signal:signal_generate", "is limited by the sender of the signal"),
    (
        r"(raw)?tracepoint:(irq|napi|timer|rcu|irq_vectors|softirq|xdp|hrtimer|ipi):.*",
        "fires in interrupts: the current task is whichever was interrupted",
    ),
    (
        r"(raw)?tracepoint:(block:block_(rq_complete|rq_error|rq_requeue|bio_complete)|nvme:.*|scsi:.*done.*)"
        r"|k(ret)?probe:(__)?blk_(account_io_done|mq_complete_request|mq_end_request|update_request)",
        "fires when a device has finished: the current task is whichever was interrupted",
    ),
    (
        r"(raw)?tracepoint:(net:(netif_|napi_).*|skb:.*|tcp:tcp_(probe|receive_reset|rcv_.*|bad_csum))"
        r"|k(ret)?probe:(tcp_v[46]_(rcv|do_rcv|syn_recv_sock)|tcp_rcv_.*|ip(v6)?_rcv.*|netif_.*|tcp_set_state)",
        "fires also where packets are received: the current task may be any",
    ),
    (
        r"(raw)?tracepoint:(workqueue|writeback|kmem:mm_page_.*|vmscan|compaction|jbd2):.*",
        "fires also in kernel threads, which belong to no container",
    ),
)
_COMPILED = tuple((re.compile(pattern), note) for pattern, note in _NOTES)
_LONG = {"t": "tracepoint", "rt": "rawtracepoint", "k": "kprobe", "kr": "kretprobe"}
_BY_FUNCTION = ("kprobe", "kretprobe", "f", "fr", "fentry", "fexit", "kfunc", "kretfunc")
# A raw tracepoint is named without its group; most names begin with it, but not those of these.
_GROUPS = ("net", "kmem")


def notes(program: Program, *, next_task: bool = False) -> Iterator[str]:
    """What the user of a scope should know about attach points of the program, each once."""
    said: set[str] = set()
    for probe in program.probes:
        for point in probe.attach_points:
            name, said_of = _name(point), note(point)
            if said_of and not (next_task and "--scope-next" in said_of) and name not in said:
                said.add(name)
                yield f"{name} {said_of}"


def note(point: AttachPoint) -> str:
    """Which task is current at an attach point, where it is not the one that it is about."""
    name, last = _name(point), point.parts[-1].text
    provider = name.partition(":")[0]
    names = [name]
    if provider in _BY_FUNCTION:
        names = [f"kprobe:{last.partition('+')[0]}"]
    elif provider == "rawtracepoint":
        names = [f"{provider}:{group}:{last}" for group in (last.split("_")[0], *_GROUPS)]
    return next((text for pattern, text in _COMPILED if any(map(pattern.fullmatch, names))), "")


def _name(point: AttachPoint) -> str:
    provider = _LONG.get(point.provider, point.provider)
    return ":".join((provider, *(part.text for part in point.parts[1:])))
