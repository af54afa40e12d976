"""What the summary says of how a bpftrace ended. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

from kubectl_trace.errors import Exit
from kubectl_trace.results.record import Summary
from kubectl_trace.runner import output_limit, overhead


@dataclass(frozen=True)
class Ending:
    """How a bpftrace ended, and what is known of its trace."""

    status: int
    """What it exited with; negative: the signal that killed it."""
    reason: str = ""
    """Why it was told to end; empty: it ended by itself."""
    failure: tuple[Exit, str] | None = None
    """Why the trace could not be done."""
    is_attached: bool = True
    """All its probes were."""
    is_interrupted: bool = False
    is_killed: bool = False
    is_cut: bool = False
    """What it prints last has not come."""
    is_unread: bool = False
    """Nobody reads the runner's output any more."""
    grace: float = 0
    """Seconds that it had to end."""
    silence: float = 0
    """Seconds in which the client must have said something; 0: it need not."""
    limit_says: str = ""
    """The message of the limit that it ran into."""
    delivered: int = 0
    lost: dict[str, int] = field(default_factory=dict)


def summary(ending: Ending) -> Summary:
    """The data of the summary record."""
    exit_code, reason, message = _told(ending)
    return Summary(
        exit=int(exit_code),
        reason=reason,
        message=message,
        delivered=ending.delivered,
        lost=ending.lost,
    )


def _told(ending: Ending) -> tuple[Exit, str, str]:
    reason = ending.reason or "finished"
    if ending.failure is not None:
        code, message = ending.failure
        return code, "refused" if code == Exit.REFUSED else "failed", message
    if ending.is_killed:
        code, message = _killed(ending)
        return code, reason, message
    if reason == "terminated" or (reason == "client gone" and ending.silence):
        return Exit.FAILED, reason, _not_by_the_user(ending)
    if ending.reason and not ending.is_attached:
        code = Exit.DEADLINE if reason == "deadline" else Exit.DONE
        return code, reason, "stopped before its probes were attached"
    if ending.status > 0 and not ending.is_attached and not ending.delivered:
        return Exit.REFUSED, "refused", "bpftrace refused the program"
    if ending.status != 0:
        number = ending.status
        how = f"status {number}" if number > 0 else signal.Signals(-number).name
        return Exit.FAILED, "failed", f"bpftrace ended with {how}"
    if ending.is_interrupted and ending.is_cut:
        message = "bpftrace's output broke off: what it printed last, and its maps, are lost"
        return Exit.FAILED, "failed", message
    if reason == overhead.REASON:
        return Exit.OVERHEAD, reason, ending.limit_says
    return Exit.DONE, reason, ending.limit_says if reason == output_limit.CAUSE else ""


def _killed(ending: Ending) -> tuple[Exit, str]:
    if ending.reason == "deadline":
        return Exit.DEADLINE, f"not detached {ending.grace:g} s after the deadline; maps lost"
    if ending.reason == "killed":
        return Exit.GIVEN_UP, "maps given up"
    if ending.reason == "client gone" and ending.is_unread:
        return Exit.FAILED, "nobody reads its output any more; maps lost"
    return Exit.FAILED, f"not detached {ending.grace:g} s after the stop; maps lost"


def _not_by_the_user(ending: Ending) -> str:
    why = (
        "the runner was told to end (its pod was deleted or evicted)"
        if ending.reason == "terminated"
        else f"the client was not heard of for {ending.silence:g} s"
    )
    return f"{why}: stopped, {'with its maps' if ending.is_attached else 'before it was attached'}"
