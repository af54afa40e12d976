"""How many printed lines come through, and what they cost: from the kernel to the client's stdout.

A burst that the kernel's buffer, made large, has room for: what is measured is how quickly it is
read, not how much of it is lost.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import attached, bpftrace, cluster, container
from benchmarks.errors import BenchmarkError
from benchmarks.row import Row, at_most, spread
from kubectl_trace.runner import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_VERSION = "0.23"
_LINES_A_CALL = 4
"""The generator must be quicker than what reads."""
_LINE = "a text of forty characters with its end"
_PRINT = f'printf("{_LINE}\\n"); '
_CALLS = 150_000
_REPETITIONS = 3
_LEAST = 300_000
"""Lines a second."""
_MOST_CPU = 6.0
"""Seconds a million lines."""

# 64 MiB a CPU.
_BUFFER = {"BPFTRACE_PERF_RB_PAGES": "16384"}
_FLAGS = ("--max-bytes=0", "--max-overhead=none", "--deadline=5m")
_ENVIRONMENT = [word for name, value in _BUFFER.items() for word in ("--env", f"{name}={value}")]

_POD = "bench-lines"
_SHARED = frozenset({"containerd", "containerd-shim", "kubelet", "kube-apiserver", "kubectl"})
"""The names of processes that carry a pod's lines, beside runner and client."""

_QUIET = 1.0  # seconds in which what is still under way comes to its end
_TIMEOUT = 20.0


@dataclass(frozen=True)
class _Run:
    seconds: float
    """From the first line to the last one, at the end of their way."""
    cpu: float
    """Seconds of all processes on the way, less what they take when no lines come."""

    @property
    def rate(self) -> float:
        return _CALLS * _LINES_A_CALL / self.seconds

    @property
    def cpu_a_million(self) -> float:
        return self.cpu * 1e6 / (_CALLS * _LINES_A_CALL)


def rows() -> Iterator[Row]:
    """Lines a second, and the CPU time of a million lines: on this machine, and of a pod."""
    full: list[_Run] = []
    plain: list[_Run] = []
    local: list[_Run] = []
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        container.program() as program,
        _generator(program) as generator,
        bpftrace.in_path(_VERSION) as path,
    ):
        output = Path(folder, "output")
        text = _program(f"tracepoint:syscalls:sys_enter_getpid /pid == {generator.pid}/")
        for _ in range(_REPETITIONS):
            for runs, options in ((full, ["-B", "full"]), (plain, ["-f", "json"])):
                with _bpftrace(text, options, output, path) as tracer:
                    # The rest of a full buffer comes at the end.
                    rest = 1000 if runs is full else 0
                    runs.append(_burst(generator.make, output, [tracer], rest))
            words = ["run", "local", *_FLAGS, *_ENVIRONMENT, "-e", text]
            with _lossless(words, output, {**os.environ, "PATH": path}) as client:
                local.append(_burst(generator.make, output, processes.descendants(client)))
    pod = list(_of_a_pod())
    floor = statistics.median(run.rate for run in full)
    floor_cpu = statistics.median(run.cpu_a_million for run in full)
    yield _rate("lines a second, bpftrace -f json alone", plain, floor, None)
    yield _rate("lines a second, `run local`", local, floor, _LEAST)
    yield _rate("lines a second, `run pod/… -a`", pod, floor, _LEAST)
    for name, runs, limit in (
        ("bpftrace -f json alone", plain, float("inf")),
        ("`run local`", local, _MOST_CPU),
        ("`run pod/… -a`", pod, _MOST_CPU),
    ):
        values = [run.cpu_a_million for run in runs]
        name = f"CPU of a million lines, {name}"
        if limit == float("inf"):
            yield Row(name, statistics.median(values), "s", floor_cpu, spread=spread(values))
        else:
            yield at_most(name, values, unit="s", limit=limit, floor=floor_cpu)


def _rate(name: str, runs: Sequence[_Run], floor: float, least: float | None) -> Row:
    values = [run.rate for run in runs]
    value = statistics.median(values)
    aim = f">= {least:,.0f}" if least else ""
    met = value >= least if least else None
    return Row(name, value, "lines/s", floor, aim, met, spread(values))


def _of_a_pod() -> Iterator[_Run]:
    # busybox: dd calls write(2) once a byte, and with its end some more.
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        cluster.pods({_POD: ("sleep", "3600")}),
    ):
        output = Path(folder, "output")
        text = _program('tracepoint:syscalls:sys_enter_write /comm == "dd" && args->fd == 1/')
        words = ["run", f"pod/{_POD}", "-a", *_FLAGS, *_ENVIRONMENT, "-e", text]
        dd = ("dd", "if=/dev/zero", "of=/dev/null", "bs=1", f"count={_CALLS}")
        for _ in range(_REPETITIONS):
            with _lossless(words, output, cluster.environment()) as client:
                runner = cluster.processes_of(cluster.runner_of(attached.created(output)))
                on_the_way = {*processes.descendants(client), *runner, *_named(_SHARED)}
                yield _burst(
                    lambda: cluster.kubectl("exec", _POD, "--", *dd), output, sorted(on_the_way)
                )


def _program(probe: str) -> str:
    return f"{probe} {{ {_PRINT * _LINES_A_CALL}}}"


def _burst(
    make: Callable[[], object], output: Path, on_the_way: Sequence[int], rest: int = 0
) -> _Run:
    """Lets the calls be made, and waits for their lines.

    Args:
        make: Makes the calls.
        output: The file that the lines go to; it is as it is now.
        on_the_way: The processes whose time counts.
        rest: So many lines may come at the end only.

    Raises:
        BenchmarkError: not all lines came.
    """
    size = (_CALLS * _LINES_A_CALL - rest) * (len(_LINE) + 1)
    before, began = output.stat().st_size, time.monotonic()
    idle = -_cpu(on_the_way)
    time.sleep(_QUIET)
    idle = (idle + _cpu(on_the_way)) / (time.monotonic() - began)
    cpu, since = -_cpu(on_the_way), time.monotonic()
    maker = threading.Thread(target=make)
    maker.start()
    last = first = since
    seen = before
    while seen - before < size:
        time.sleep(0.002)
        if (now := output.stat().st_size) != seen:
            last = time.monotonic()
            first = last if seen == before else first
            seen = now
        if time.monotonic() - last > _TIMEOUT:
            lines = (seen - before) // (len(_LINE) + 1)
            raise BenchmarkError(f"{lines} of {_CALLS * _LINES_A_CALL} lines came")
    maker.join()
    time.sleep(_QUIET)
    cpu += _cpu(on_the_way) - idle * (time.monotonic() - since)
    return _Run(last - first, cpu)


class _Generator:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid
        self._answer()

    def make(self) -> None:
        """Makes the calls."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{_CALLS}\n")
        self._process.stdin.flush()
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def _generator(program: Path) -> Iterator[_Generator]:
    with subprocess.Popen(
        [program, str(max(os.sched_getaffinity(0)))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield _Generator(process)
        finally:
            process.kill()


@contextmanager
def _bpftrace(text: str, options: Sequence[str], output: Path, path: str) -> Iterator[int]:
    """A bpftrace alone, attached; what it prints goes to the file."""
    with output.open("wb") as stdout:
        process = subprocess.Popen(
            ["bpftrace", *options, "-e", text],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_BUFFER, "PATH": path},
        )
    try:
        # With a full buffer nothing shows that it is attached.
        cluster.wait_until(lambda: _is_attached(process.pid), "bpftrace is attached")
        yield process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _is_attached(pid: int) -> bool:
    """Whether the process holds the perf event of a tracepoint."""
    try:
        return any(
            os.readlink(entry) == "anon_inode:[perf_event]"
            for entry in Path(f"/proc/{pid}/fd").iterdir()
        )
    except FileNotFoundError:
        return False


@contextmanager
def _lossless(words: Sequence[str], output: Path, env: Mapping[str, str]) -> Iterator[int]:
    """`attached.command`, which must say in the end that nothing was lost."""
    with attached.command(words, output, env) as client:
        yield client
    messages = output.with_name("messages").read_text()
    if "lost: none" not in messages:
        raise BenchmarkError(messages)


def _named(names: frozenset[str]) -> Iterator[int]:
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            # The kernel cuts names at 15 characters.
            if any(comm.read_text().strip() == name[:15] for name in names):
                yield int(comm.parent.name)
        except (FileNotFoundError, ProcessLookupError):
            continue


def _cpu(pids: Sequence[int]) -> float:
    """Seconds of CPU time of processes; those that have ended count nothing."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")
