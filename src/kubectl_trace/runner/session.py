"""One trace on one node, from the client's description to the summary record."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kubectl_trace import trace as trace_module
from kubectl_trace._version import __version__
from kubectl_trace.errors import Exit, ForbiddenError, NotFoundError, StartError, TraceError
from kubectl_trace.program import variables
from kubectl_trace.results.record import Start, Summary
from kubectl_trace.runner import bpftrace, leftovers, processes
from kubectl_trace.runner.output import RecordWriter, to_data
from kubectl_trace.runner.supervisor import Supervisor, summary_record
from kubectl_trace.trace import Container, Trace

if TYPE_CHECKING:
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
    process = _container_process(trace)
    start = Start(
        trace=trace.id,
        version=__version__,
        protocol=trace_module.PROTOCOL,
        node=os.environ.get("KUBECTL_TRACE_NODE") or os.uname().nodename,
        kernel=os.uname().release,
        bpftrace=bpftrace.version(binary),
        container_pid=process.pid if process else 0,
    )
    writer.add("start", to_data(start))
    writer.flush()
    text = trace.program
    if process:
        text = variables.replace_container_pid(text, process.pid)
    program = bpftrace.ProgramFile(text, trace.program_name)
    child = bpftrace.start(
        binary,
        program,
        trace.bpftrace_options,
        trace.parameters,
        bpftrace.environment(trace.environment),
    )
    summary = Supervisor(
        child,
        writer,
        program,
        attached=trace.attached,
        deadline=trace.deadline,
        grace=trace.grace,
        control_fd=stdin,
    ).run()
    leftovers.remove(child.pid)
    if summary.exit == Exit.REFUSED and not any(path.is_dir() for path in _TRACEFS):
        return msgspec.structs.replace(
            summary,
            message=summary.message
            + "; no tracefs here (mount -t tracefs none /sys/kernel/tracing), tracepoints need it",
        )
    return summary


def _container_process(trace: Trace) -> Process | None:
    """The process that `$container_pid` stands for; None where the target has none."""
    if trace.pid:
        process = processes.read(trace.pid)
        if process is None:
            raise NotFoundError(f"there is no process {trace.pid} on this machine")
        return process
    if not trace.containers:
        return None
    return processes.select(_wait_for(trace.containers[0]), trace.process_selector)


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
