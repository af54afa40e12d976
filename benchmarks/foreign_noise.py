"""What a container that is not traced costs when it makes system calls at full speed.

A pod beside it on the node is traced with a printf per system call, by the real command.
"""

from __future__ import annotations

import os
import re
import signal
import statistics
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import attached, cluster
from benchmarks.errors import BenchmarkError
from benchmarks.row import Row, at_most, spread

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRACED, _NOISE = "bench-traced", "bench-noise"
_COMMANDS = {
    _TRACED: ("sh", "-c", "while :; do cat /etc/hostname >/dev/null; sleep 0.2; done"),
    # Two system calls a byte.
    _NOISE: ("dd", "if=/dev/zero", "of=/dev/null", "bs=1"),
}
# The network namespace is the pod's, and the scope knows nothing of it.
_PROGRAM = """tracepoint:raw_syscalls:sys_enter {
  printf("%lu %s\\n", (uint64)curtask->nsproxy->net_ns->ns.inum, comm);
}"""
_WINDOWS = 3
_SECONDS = 5.0
_LIMIT = 5.0
"""Per cent of a CPU."""


def rows() -> Iterator[Row]:
    """Foreign records, the CPU time of the runner, and how much slower the foreign one gets."""
    with ExitStack() as stack:
        containers = stack.enter_context(cluster.pods(_COMMANDS))
        (noise,) = cluster.processes_of(containers[_NOISE])
        pod = cluster.processes_of(containers[_TRACED])[0]
        own = str(os.stat(f"/proc/{pod}/ns/net").st_ino)
        free = [_rate(noise) for _ in range(_WINDOWS)]
        quiet: list[float] = []
        noisy: list[float] = []
        slowed: list[float] = []
        output = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")), "output")
        with attached.trace(_TRACED, _PROGRAM, output) as trace_id:
            runner = cluster.processes_of(cluster.runner_of(trace_id))
            for _ in range(_WINDOWS):
                with _stopped(noise):
                    quiet.append(_share(runner))
                before, since = _calls(noise), time.monotonic()
                noisy.append(_share(runner))
                slowed.append((_calls(noise) - before) / (time.monotonic() - since))
        free += [_rate(noise) for _ in range(_WINDOWS)]
        lines = output.read_text(errors="replace").splitlines()
    mine = [line for line in lines if line.startswith(f"{own} ")]
    if not mine:
        raise BenchmarkError(f"the trace shows nothing of its own pod: {lines[:5]}")
    records = [float(len(lines) - len(mine))]
    yield at_most(
        "records of a foreign container at full speed",
        records,
        unit="records",
        limit=0,
    )
    yield at_most(
        "CPU of runner and bpftrace meanwhile; floor: while it makes none",
        noisy,
        unit="% of a CPU",
        limit=_LIMIT,
        floor=statistics.median(quiet),
    )
    floor = 1e9 / statistics.median(free)
    times = [1e9 / rate for rate in slowed]
    yield Row(
        "a system call of the foreign container meanwhile; floor: without a trace",
        statistics.median(times),
        "ns/call",
        floor,
        spread=spread(times),
    )


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _share(pids: list[int]) -> float:
    """The CPU time of these processes in some seconds, in per cent of a CPU."""
    before, since = _seconds(pids), time.monotonic()
    time.sleep(_SECONDS)
    return 100 * (_seconds(pids) - before) / (time.monotonic() - since)


def _seconds(pids: list[int]) -> float:
    """Of the user and of the kernel on their behalf (proc_pid_stat(5))."""
    try:
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    except (FileNotFoundError, ProcessLookupError) as error:
        raise BenchmarkError("the trace has ended: does somebody delete all traces?") from error
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")


def _rate(pid: int) -> float:
    before, since = _calls(pid), time.monotonic()
    time.sleep(1)
    return (_calls(pid) - before) / (time.monotonic() - since)


def _calls(pid: int) -> int:
    """How often it has called read and write."""
    found = re.findall(r"^sysc[rw]: (\d+)$", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
    return sum(map(int, found))
