"""One trace on one node, from the client's description to the summary record."""

from __future__ import annotations

import functools
import itertools
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kubectl_trace import trace as trace_module
from kubectl_trace._version import __version__
from kubectl_trace.errors import Exit, ForbiddenError, NotFoundError, StartError, TraceError
from kubectl_trace.program import contexts, scope
from kubectl_trace.program.tokens import Lines
from kubectl_trace.results.record import Member, ScopeChange, Start, Summary
from kubectl_trace.runner import bpftrace, cgroups, leftovers, plan, processes
from kubectl_trace.runner.members import Members
from kubectl_trace.runner.output import RecordWriter, to_data
from kubectl_trace.runner.supervisor import Supervisor, summary_record
from kubectl_trace.runner.translation import Translation
from kubectl_trace.trace import Container, Trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kubectl_trace.runner.cgroups import Hierarchy
    from kubectl_trace.runner.members import Present
    from kubectl_trace.runner.plan import Groundwork, Plan
    from kubectl_trace.runner.processes import Process

_CONTAINER_TIMEOUT = 5.0
"""Seconds in which a container that the API server says is running must show up in /proc."""

_TRACEFS = (Path("/sys/kernel/tracing/events"), Path("/sys/kernel/debug/tracing/events"))


def run(description: bytes, *, stdout: int, stdin: int) -> int:
    """Runs the trace that the JSON text describes; the exit code.

    Whatever happens, the last line on stdout is a summary record.
    """
    writer = RecordWriter(stdout)
    try:
        summary = _run(_read_trace(description), writer, stdin)
    except TraceError as error:
        summary = Summary(exit=int(error.code), reason="not started", message=str(error))
    summary_record(writer, summary)
    return summary.exit


def _read_trace(description: bytes) -> Trace:
    try:
        trace = msgspec.json.decode(description, type=Trace)
    except msgspec.MsgspecError as error:
        raise StartError(f"the runner can't read the trace: {error}") from error
    if trace.protocol != trace_module.PROTOCOL:
        raise StartError(
            f"version mismatch: the client is {trace.client_version or 'unknown'}, this runner is "
            f"{__version__}; use a runner image of the client's version (--imagename)"
        )
    return trace


def _run(trace: Trace, writer: RecordWriter, stdin: int) -> Summary:
    if os.geteuid() != 0:
        raise ForbiddenError("bpftrace needs root: the target `local` works with sudo")
    binary = bpftrace.find()
    chosen = _processes(trace)
    pids = [process.pid for process in chosen]
    start = Start(
        trace=trace.id,
        version=__version__,
        protocol=trace_module.PROTOCOL,
        node=os.environ.get("KUBECTL_TRACE_NODE") or os.uname().nodename,
        kernel=os.uname().release,
        bpftrace=bpftrace.version(binary),
        container_pid=pids[0] if len(pids) == 1 else 0,
        containers=tuple(itertools.starmap(_member, enumerate(trace.containers, 1))),
    )
    writer.add("start", to_data(start))
    writer.flush()
    groundwork = plan.prepared(trace, pids)
    environment = bpftrace.environment(trace.environment)
    for attempt in _attempts(trace, groundwork, environment, writer):
        if trace.explain:
            return _explain(trace, attempt.plan, writer)
        file = bpftrace.ProgramFile(attempt.plan.program.text)
        translation = Translation(attempt.plan, file, trace.program, trace.program_name)
        child = bpftrace.start(binary, file, trace.bpftrace_options, trace.parameters, environment)
        summary = Supervisor(
            child,
            writer,
            translation,
            attempt.members,
            scope_map=attempt.plan.scope.map if attempt.plan.scope else "",
            attached=trace.attached,
            deadline=trace.deadline,
            grace=trace.grace,
            control_fd=stdin,
        ).run()
        leftovers.remove(child.pid)
        if summary.exit != Exit.REFUSED or not translation.hidden_errors:
            break
    if summary.exit == Exit.REFUSED and not any(path.is_dir() for path in _TRACEFS):
        return msgspec.structs.replace(
            summary,
            message=summary.message
            + "; no tracefs here (mount -t tracefs none /sys/kernel/tracing), tracepoints need it",
        )
    return summary


@dataclass(frozen=True)
class _Attempt:
    plan: Plan
    members: Members | None = None


def _attempts(
    trace: Trace, groundwork: Groundwork, environment: Mapping[str, str], writer: RecordWriter
) -> Iterator[_Attempt]:
    """The ways to run the program, best first; the next is for when bpftrace can't take one."""
    program = groundwork.syntax
    if not (trace.scope and (trace.containers or trace.pid) and scope.is_limited(program)):
        yield _Attempt(groundwork.unlimited())
        return

    def complain(text: str) -> None:
        writer.add("stderr", f"scope: {text}")

    for note in contexts.notes(program, next_task=trace.scope_next):
        complain(note)
    on_change = functools.partial(_say_scope, writer, groundwork)
    hierarchy = _hierarchy(trace)
    has_types = plan.has_kernel_types(environment)
    why = "" if has_types or trace.pid else _NO_TYPES
    if has_types and not trace.pid and not trace.scope_next:
        cgroup = hierarchy.expression if hierarchy else ""
        members = Members(trace.containers, hierarchy, on_change=on_change, complain=complain)
        limit = scope.by_namespace(program, cgroup)
        yield _Attempt(groundwork.limited(limit, members.keys), members)
        why = _OWN_TYPES
    if why:
        complain(why)
    members = Members(
        trace.containers,
        hierarchy,
        on_change=on_change,
        complain=complain,
        by_task=True,
        pid=trace.pid,
    )
    limit = scope.by_task(program, next_task=trace.scope_next, has_types=has_types)
    yield _Attempt(groundwork.limited(limit, members.keys), members)


_NO_TYPES = (
    "this kernel has no BTF, so tasks are told by thread ID: the first moment of those that come "
    "into a container from outside (kubectl exec) may be missed"
)
_OWN_TYPES = (
    "bpftrace can't use the kernel's own types in this program (does it bring its own?), so tasks "
    "are told by thread ID: the first moment of those that come into a container from outside "
    "(kubectl exec) may be missed"
)


def _hierarchy(trace: Trace) -> Hierarchy | None:
    for container in trace.containers:
        for process in processes.of_container(container.container_id)[:1]:
            return cgroups.hierarchy(process.pid, container.container_id)
    return None


def _say_scope(
    writer: RecordWriter,
    groundwork: Groundwork,
    joined: Sequence[Present],
    left: Sequence[Present],
) -> None:
    change = ScopeChange(
        joined=tuple(_member(each.number, each.container) for each in joined),
        left=tuple(_member(each.number, each.container) for each in left),
    )
    writer.add("scope", to_data(change))
    for each in joined:
        for name in groundwork.not_attached(each.pid):
            writer.add(
                "stderr",
                f"scope: {name} of container {each.container.container} of pod "
                f"{each.container.pod} is another file than those that probes are attached to; "
                "start the trace anew to see its functions",
            )


def _explain(trace: Trace, chosen: Plan, writer: RecordWriter) -> Summary:
    lines = Lines(trace.program)
    changes = []
    for change in sorted(chosen.program.changes, key=lambda change: change.offset):
        line, column = lines.position(change.offset)
        changes.append({"line": line, "column": column, "reason": change.reason})
    writer.add("program", {"text": chosen.program.text, "changes": changes})
    return Summary(exit=Exit.DONE, reason="explained")


def _member(number: int, container: Container) -> Member:
    return Member(
        number,
        container.namespace,
        container.pod,
        container.container,
        container.container_id,
    )


def _processes(trace: Trace) -> list[Process]:
    """The processes that `$container_pid` stands for, one a container."""
    if trace.pid:
        process = processes.read(trace.pid)
        if process is None:
            raise NotFoundError(f"there is no process {trace.pid} on this machine")
        return [process]
    return [
        processes.select(_wait_for(container), trace.process_selector)
        for container in trace.containers
    ]


def _wait_for(container: Container) -> list[Process]:
    end = time.monotonic() + _CONTAINER_TIMEOUT
    while True:
        if found := processes.of_container(container.container_id):
            return found
        if time.monotonic() > end:
            raise StartError(
                f"container {container.container} of pod {container.pod} has no process on this "
                f"node (container ID {container.container_id})"
            )
        time.sleep(0.05)
