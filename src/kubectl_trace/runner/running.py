"""A bpftrace that has been started, to its end.

What this imports and does, bpftrace does not wait for: it compiles its program meanwhile.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.errors import Exit
from kubectl_trace.results.record import Losses
from kubectl_trace.runner import bpftrace, losses
from kubectl_trace.runner.output import KERNEL_BUFFER, to_data
from kubectl_trace.runner.overhead import Overhead
from kubectl_trace.runner.supervisor import Supervisor
from kubectl_trace.runner.translation import Translation

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

    from kubectl_trace.results.record import Summary
    from kubectl_trace.runner.attempts import Attempt
    from kubectl_trace.runner.calls import Reading
    from kubectl_trace.runner.output import RecordWriter
    from kubectl_trace.runner.statistics import Statistics
    from kubectl_trace.runner.tally import LostTexts
    from kubectl_trace.trace import Container, Trace


@dataclass(frozen=True)
class Started:
    """A bpftrace, and what it runs."""

    child: subprocess.Popen[bytes]
    file: bpftrace.ProgramFile
    attempt: Attempt
    release: str
    """Its version."""
    environment: Mapping[str, str]


def followed(
    started: Started,
    trace: Trace,
    reading: Reading | None,
    statistics: Statistics,
    writer: RecordWriter,
    *,
    stdin: int,
    end: float,
) -> Summary | None:
    """Runs it to its end; None: it took nothing of what the user did not write, another way may do.

    Args:
        started: Bpftrace.
        trace: The trace.
        reading: How to read what a program of `calls` prints.
        statistics: The kernel's.
        writer: Takes its records.
        stdin: Where the client speaks.
        end: When its time is over, by the monotonic clock.
    """
    attempt, release = started.attempt, started.release
    translation = Translation(
        attempt.plan,
        started.file,
        trace.program,
        trace.program_name,
        reading,
        room=bpftrace.untold_room(started.environment, release),
    )
    with contextlib.ExitStack() as stack:
        members = attempt.members() if attempt.members is not None else None
        if members is not None:
            stack.callback(members.close)
        supervisor = Supervisor(
            started.child,
            writer,
            translation,
            members,
            scope_map=attempt.plan.scope.map if attempt.plan.scope else "",
            attached=trace.attached,
            silence=trace.silence,
            held_back=[] if attempt.has_fallback else None,
            deadline=end - time.monotonic(),
            grace=trace.grace,
            control_fd=stdin,
            target=trace.pid,
            overhead=Overhead(statistics, attempt.plan.points, writer),
            may_be_deaf=bpftrace.is_before(release, 23),
        )
        summary = supervisor.run()
        containers = members.containers if members is not None else []
        _tell_losses(writer, supervisor.lost_texts, containers)
    if attempt.has_fallback and summary.exit == Exit.REFUSED and translation.hidden_errors:
        return None
    for text in supervisor.held_back or ():
        writer.add("stderr", text)
    return summary


def _tell_losses(
    writer: RecordWriter, texts: Sequence[LostTexts], containers: Sequence[Container]
) -> None:
    """Whose events were lost and of which probe; or whose came, where that is not known."""
    if known := losses.known(texts, writer.lost_by, containers):
        writer.add("losses", to_data(Losses(known)))
    lost = writer.lost.get(KERNEL_BUFFER, 0)
    if lost and not texts and len(containers) > 1 and writer.delivered_by:
        writer.add("stderr", losses.note(lost, containers, writer.delivered_by))
