"""One trace on one node, from the client's description to the summary record."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import resource
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kubectl_trace import trace as trace_module
from kubectl_trace._version import __version__
from kubectl_trace.errors import Exit, ForbiddenError, NotFoundError, StartError, TraceError
from kubectl_trace.program.tokens import Lines
from kubectl_trace.results.record import Map, Print, Start, Summary
from kubectl_trace.runner import (
    attempts,
    bpftrace,
    files,
    leftovers,
    plan,
    policy,
    processes,
)
from kubectl_trace.runner.output import RecordWriter, to_data
from kubectl_trace.runner.output_limit import OutputLimit
from kubectl_trace.runner.semaphores import Semaphores
from kubectl_trace.runner.statistics import Statistics
from kubectl_trace.trace import Container, Limits, Trace

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Mapping

    from kubectl_trace.program.merging import Merging
    from kubectl_trace.runner.calls import Reading
    from kubectl_trace.runner.plan import Groundwork, Plan
    from kubectl_trace.runner.policy import Policy
    from kubectl_trace.runner.processes import Process

_CONTAINER_TIMEOUT = 5.0
"""Seconds in which a container that the API server says is running must show up in /proc."""

_LEAST_ROOM, _MOST_ROOM = 4, 16
"""How many containers, at least and at most, a map has room for that is kept by container."""

_TERMINATION_LOG = Path("/dev/termination-log")
"""Where the kubelet mounts a container's `terminationMessagePath`; nowhere else there is one."""

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
    except Exception as error:
        import traceback

        writer.add("stderr", traceback.format_exc())
        message = f"the runner itself failed: {error!r}"
        summary = Summary(exit=Exit.FAILED, reason="failed", message=message)
    from kubectl_trace.runner.supervisor import summary_record  # once the trace has been tried

    summary_record(writer, summary, _TERMINATION_LOG)
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
    # Each container in scope is held by file descriptors.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    writer.limit = OutputLimit(trace.limits)
    begun = time.monotonic()
    with (
        contextlib.closing(files.Held()) as held,
        contextlib.closing(Semaphores()) as semaphores,
        contextlib.closing(Statistics(trace.limits if trace.traces else Limits())) as statistics,
    ):
        summary = _run_held(trace, _Means(writer, stdin, held, semaphores, statistics))
    return _with_bites(trace, summary, writer, time.monotonic() - begun)


def _with_bites(trace: Trace, summary: Summary, writer: RecordWriter, seconds: float) -> Summary:
    """What the limits of the runner's container did to it, told."""
    limits = trace.limits
    if not (limits.memory and limits.cpu):
        return summary
    from kubectl_trace.runner import bites  # bpftrace has ended

    bitten = bites.read()
    if note := bites.throttling_note(bitten, seconds, limits.cpu):
        writer.add("stderr", note)
    if summary.exit == Exit.FAILED and bitten.killed:
        message = (
            f"bpftrace was killed: it needed more than --memory {limits.memory}; its maps are lost "
            "(raise it, or keep fewer map keys)"
        )
        return msgspec.structs.replace(summary, message=message)
    return summary


@dataclass(frozen=True)
class _Means:
    """What a trace has at hand on its node, to be let go of at its end."""

    writer: RecordWriter
    stdin: int
    held: files.Held
    semaphores: Semaphores
    statistics: Statistics

    def complain(self, text: str) -> None:
        """Tells the user."""
        self.writer.add("stderr", text)


@dataclass(frozen=True)
class _Prepared:
    """A trace that is ready to be tried."""

    trace: Trace
    """With the program that `calls` has written, if it has."""
    groundwork: Groundwork
    chosen: Mapping[str, Process]
    reading: Reading | None
    """How to read what a program of `calls` prints."""


def _run_held(trace: Trace, means: _Means) -> Summary:
    known = policy.read()
    policy.check_always(trace)
    binary = bpftrace.find()
    leftovers.remove_all()  # of runners that were killed
    found = _found(trace)
    policy.check(trace, known)
    chosen = _processes(trace, found, means.writer)
    release = bpftrace.version(binary)
    policy.check_version(known, release)
    prepared = _prepared(trace, chosen, known, binary, release, means)
    if isinstance(prepared, Summary):
        return prepared
    summary = _tried(prepared, known, binary, release, means)
    if summary.exit == Exit.REFUSED and prepared.reading is None:
        _tell_near_names(trace, chosen, means)
    return _with_reason(summary)


def _prepared(
    trace: Trace,
    chosen: Mapping[str, Process],
    known: Policy,
    binary: str,
    release: str,
    means: _Means,
) -> _Prepared | Summary:
    """The trace with all that its program needs; or its end, where nothing is to be traced.

    Whatever happens, the start record is written.
    """
    pids = [process.pid for process in chosen.values()]
    start = Start(
        trace=trace.id,
        version=__version__,
        protocol=trace_module.PROTOCOL,
        node=os.environ.get("KUBECTL_TRACE_NODE") or os.uname().nodename,
        kernel=os.uname().release,
        bpftrace=release,
        container_pid=pids[0] if len(pids) == 1 else 0,
        containers=tuple(itertools.starmap(attempts.member, enumerate(trace.containers, 1))),
    )
    reading = None
    try:
        if trace.listing is not None or trace.calls is not None:
            _check_libraries()
        if trace.listing is not None:
            from kubectl_trace.runner import listing

            return listing.run(trace.listing, _all_pids(trace, chosen), means.writer)
        if trace.calls is not None:
            from kubectl_trace.runner import calls

            trace, reading = calls.prepared(
                trace,
                _all_pids(trace, chosen),
                release=release,
                has_types=plan.has_kernel_types(trace.environment),
                held=means.held,
                complain=means.complain,
            )
            if reading is None:
                means.writer.add("program", {"text": trace.program, "changes": []})
                return Summary(exit=Exit.DONE, reason="explained")
            policy.check_program(trace, known)
        groundwork = plan.prepared(
            trace,
            pids,
            release=release,
            takes_offsets=lambda: bpftrace.takes_offsets(binary),
            complain=means.complain,
            held=means.held,
            is_ours=reading is not None,
        )
        if reading is not None:
            groundwork = dataclasses.replace(
                groundwork, files=reading.files, functions=reading.names
            )
            lifted = [means.semaphores.lift(*each) for each in reading.semaphores]
            if not all(lifted):
                means.complain(
                    "USDT: not every process's semaphores can be raised; it may stay silent"
                )
        start = _with_maps(start, groundwork.merging)
    finally:
        means.writer.add("start", to_data(start))
        means.writer.flush()
    return _Prepared(trace, groundwork, chosen, reading)


def _tried(prepared: _Prepared, known: Policy, binary: str, release: str, means: _Means) -> Summary:
    """Runs the program in one way after the other, until bpftrace takes it."""
    trace, writer = prepared.trace, means.writer
    environment = _environment(trace, prepared.groundwork, release)
    end = time.monotonic() + trace.deadline
    said: set[str] = set()

    def complain_once(text: str) -> None:
        if text not in said:
            said.add(text)
            means.complain(text)

    permitted = functools.partial(policy.allowed, known=known, complain=complain_once)
    summary: Summary | None = None
    for attempt in attempts.attempts(
        trace, prepared.groundwork, prepared.chosen, environment, writer, permitted
    ):
        policy.check_exact(known, is_exact=not attempt.by_task or bool(trace.pid))
        if trace.explain:
            return _explain(trace, attempt.plan, writer)
        with contextlib.ExitStack() as stack:
            file = bpftrace.ProgramFile(attempt.plan.program.text)
            stack.callback(file.close)
            child = bpftrace.start(
                binary, file, trace.bpftrace_options, trace.parameters, environment, means.held.fds
            )
            stack.callback(_end, child)
            # It takes longer to compile its program than all that is imported and found out now.
            from kubectl_trace.runner import running

            summary = running.followed(
                running.Started(child, file, attempt, release, environment),
                trace,
                prepared.reading,
                means.statistics,
                writer,
                stdin=means.stdin,
                end=end,
            )
        if summary is not None:
            break
    assert summary is not None, "the last way has no other behind it"
    return summary


def _end(child: subprocess.Popen[bytes]) -> None:
    """Lets nothing be left of a bpftrace, which has ended unless something failed here."""
    if child.poll() is None:
        child.kill()
        child.wait()
    leftovers.remove(child.pid)


def _tell_near_names(trace: Trace, chosen: Mapping[str, Process], means: _Means) -> None:
    """What the program may have meant."""
    from kubectl_trace.program import syntax
    from kubectl_trace.runner import near_names

    pids = [process.pid for process in chosen.values()] or [os.getpid()]
    program = syntax.parse(trace.program.replace("\r\n", "\n"))
    find = functools.partial(plan.find_files, pids=pids)
    for hint in near_names.hints(program, trace.parameters, find):
        means.complain(hint)


def _with_reason(summary: Summary) -> Summary:
    """Of a program that was refused: what this machine has not that bpftrace needs."""
    if summary.exit != Exit.REFUSED:
        return summary
    from kubectl_trace.runner import capabilities

    message = summary.message
    if missing := capabilities.missing():
        names = " and ".join(f"CAP_{name}" for name in missing)
        message += f"; the runner has no {names} (docs/rights.md)"
    elif not any(path.is_dir() for path in _TRACEFS):
        message += (
            "; no tracefs here (mount -t tracefs none /sys/kernel/tracing), tracepoints need it"
        )
    return msgspec.structs.replace(summary, message=message)


def _check_libraries() -> None:
    """Refuses to begin without what reads code and names; the runner's image has it.

    Raises:
        StartError: something is not installed.
    """
    missing = [name for name in ("capstone", "pycxxfilt") if find_spec(name) is None]
    if missing:
        raise StartError(
            f"{' and '.join(missing)} not installed on this machine, which functions and calls "
            "need: install kubectl-trace[runner]"
        )


def _with_maps(start: Start, merging: Merging | None) -> Start:
    if merging is None:
        return start
    from kubectl_trace.program.merging import CONTAINER  # imported where maps are merged

    return msgspec.structs.replace(
        start,
        merge=True,
        maps={
            name: Map(
                each.kind, each.added == CONTAINER, merging.whole.get(name, ""), each.function
            )
            for name, each in merging.maps.items()
        },
        prints=tuple(
            Print(each.map, each.when, each.period, each.top, each.div) for each in merging.prints
        ),
    )


def _environment(trace: Trace, groundwork: Groundwork, release: str) -> dict[str, str]:
    environment = bpftrace.environment(trace.environment, release)
    if not groundwork.syntax.configures("perf_rb_pages"):
        environment = bpftrace.with_larger_buffer(environment, release, os.uname().release)
    merging = groundwork.merging
    if merging is None or groundwork.syntax.configures("max_map_keys"):
        return environment
    from kubectl_trace.program.merging import CONTAINER

    if not any(each.added == CONTAINER for each in merging.maps.values()):
        return environment
    # The keys of all containers share a map, but each container is to have the room that it would
    # have alone; only up to a point, as the kernel sets the room aside.
    times = min(max(len(trace.containers), _LEAST_ROOM), _MOST_ROOM)
    return bpftrace.with_more_map_keys(environment, release, times)


def _explain(trace: Trace, chosen: Plan, writer: RecordWriter) -> Summary:
    lines = Lines(trace.program)
    changes = []
    for change in sorted(chosen.program.changes, key=lambda change: change.offset):
        line, column = lines.position(change.offset)
        changes.append({"line": line, "column": column, "reason": change.reason})
    writer.add("program", {"text": chosen.program.text, "changes": changes})
    return Summary(exit=Exit.DONE, reason="explained")


def _found(trace: Trace) -> dict[str, list[Process]]:
    """The processes of the containers that run now; what they are is not told before the policy.

    Raises:
        NotFoundError: there is no such process.
        StartError: none of the containers runs.
    """
    if trace.pid:
        process = processes.read(trace.pid)
        if process is None:
            raise NotFoundError(f"there is no process {trace.pid} on this machine")
        return {"": [process]}
    found = _wait_for(trace.containers)
    if trace.containers and not found:
        first = trace.containers[0]
        raise StartError(
            f"container {first.container} of pod {first.pod} has no process on this node "
            f"(container ID {first.container_id})"
        )
    return found


def _processes(
    trace: Trace, found: Mapping[str, list[Process]], writer: RecordWriter
) -> dict[str, Process]:
    """The processes that `$container_pid` stands for, one a container that runs now, by its ID.

    That of the target `local/PID`, which has no container, is empty.
    """
    if trace.pid:
        (process,) = found[""]
        return {"": process}
    for each in trace.containers:
        if each.container_id not in found:
            what = f"container {each.container} of pod {each.pod}"
            writer.add("stderr", f"scope: {what} does not run just now")
    return {
        each.container_id: processes.select(found[each.container_id], trace.process_selector)
        for each in trace.containers
        if each.container_id in found
    }


def _all_pids(trace: Trace, chosen: Mapping[str, Process]) -> list[int]:
    """All processes of the target, the chosen ones first; where some were asked for, only these."""
    pids = [process.pid for process in chosen.values()]
    if trace.process_selector:
        return pids
    if trace.pid:
        return processes.descendants(trace.pid)
    ids = [container.container_id for container in trace.containers]
    found = processes.of_containers(ids)
    for each in ids:
        pids += [process.pid for process in found.get(each, ())]
    return list(dict.fromkeys(pids))


def _wait_for(containers: Iterable[Container]) -> dict[str, list[Process]]:
    """The processes of the containers, once each has some or it has taken too long."""
    end = time.monotonic() + _CONTAINER_TIMEOUT
    missing = {container.container_id for container in containers}
    found: dict[str, list[Process]] = {}
    while True:
        found |= processes.of_containers(missing)
        missing -= found.keys()
        if not missing or time.monotonic() > end:
            return found
        time.sleep(0.05)
