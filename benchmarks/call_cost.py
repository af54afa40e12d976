"""What a traced call costs the program that makes it: `kubectl-trace calls` of a known program.

The program calls a function that adds two integers as fast as it goes, and does nothing else. Its
processor time is what counts: the clock that it reads itself also tells when it waited for one.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import bpfstats, bpftrace, cluster
from benchmarks.errors import BenchmarkError
from benchmarks.row import Row, at_most, spread
from kubectl_trace.functions import patterns, tracing, writing
from kubectl_trace.functions.shapes import Limits
from kubectl_trace.runner import modules, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kubectl_trace.functions.writing import Traced

_VERSION = "0.23"
_ROUNDS = 3
"""Each round runs every case once, so that what changes on the machine changes for all."""
_CALLS = 20_000
_CALLS_UNTRACED = 20_000_000
_QUIET = 3.0
"""Seconds without a new line after which none is expected."""
_REPOSITORY = Path(__file__).parents[1]
_PROCESS_CLOCK = 2
"""Of a process's CPU clocks the scheduler's (include/linux/posix-timers.h, CPUCLOCK_SCHED)."""


@dataclass(frozen=True)
class _Case:
    """How calls are traced."""

    name: str
    flags: tuple[str, ...]


_COUNT = _Case("entry alone, --count", ("--count",))
_LATENCY = _Case("entry and return, --latency", ("--latency",))
_LINES = _Case("entry and return, a line a call", ())
_CASES = (
    _COUNT,
    _LATENCY,
    _Case("entry alone, a line a call, --no-returns", ("--no-returns",)),
    _LINES,
    _Case("entry and return, passed over by --max-rate 1", ("--max-rate", "1")),
)
_PROGRAMS = {
    # Of Go 1.19 they were the same, up to what two runs differ by.
    ("go-newest", "main.add"): _CASES,
    ("c-O2", "add"): (_COUNT, _LATENCY),
    # Begins with a `push`, which the kernel emulates; all others it lets run in a single step.
    ("c-O0", "add"): (_COUNT, _LATENCY),
}


@dataclass(frozen=True)
class _Measured:
    """What a call has cost, in nanoseconds."""

    processor: float
    """Of the processor time of the program."""
    clock: float
    """Of the time that has passed."""
    programs: float = 0.0
    """Of these the BPF programs, as the kernel counts them."""


def rows() -> Iterator[Row]:
    """Of Go and of C, beside an entry probe alone; C's return sites, beside a uretprobe."""
    with ExitStack() as stack:
        folder = _folder()
        path = stack.enter_context(bpftrace.in_path(_VERSION))
        for (name, function), cases in _PROGRAMS.items():
            yield from _of_program(folder / name, function, cases, path)
        for name in ("c-O2", "c-O0"):
            yield from _of_returns(folder / name, "add")


def _of_program(program: Path, function: str, cases: Sequence[_Case], path: str) -> Iterator[Row]:
    untraced: list[_Measured] = []
    measured: dict[_Case, list[_Measured]] = defaultdict(list)
    missing: list[float] = []
    for _ in range(_ROUNDS):
        with _waiting(program, _CALLS_UNTRACED) as waiting:
            untraced.append(waiting.run())
        for case in cases:
            with (
                _waiting(program, _CALLS) as waiting,
                tempfile.TemporaryDirectory() as folder,
                _traced(waiting.pid, function, case, path, Path(folder)) as tracer,
            ):
                measured[case].append(waiting.run(tracer))
                if case is _LINES:
                    missing.append(float(_CALLS - _lines(Path(folder, "output"))))
    base = statistics.median(each.processor for each in untraced)
    yield Row(
        f"a call of {function}, {program.name}, not traced",
        base,
        "ns/call",
        spread=spread([each.processor for each in untraced]),
    )
    for case in cases:
        yield from _rows_of(
            f"a call of {function}, {program.name}: {case.name}",
            measured[_COUNT],
            measured[case],
            is_floor=case is _COUNT,
        )
    if missing:
        name = f"calls of {function}, {program.name}, without a line, of {_CALLS:,} at full speed"
        yield at_most(name, missing, unit="calls", limit=0)


def _of_returns(program: Path, function: str) -> Iterator[Row]:
    """The same program with a uretprobe and with return sites: what `calls` chooses between."""
    by_uretprobe: list[_Measured] = []
    by_sites: list[_Measured] = []
    for _ in range(_ROUNDS):
        for way, results in ((tracing.at_entries, by_uretprobe), (_as_it_is, by_sites)):
            with _waiting(program, _CALLS) as waiting:
                text = _latency_program(waiting.pid, function, way)
                with bpftrace.running(_VERSION, text) as tracer:
                    results.append(waiting.run([tracer]))
    yield from _rows_of(
        f"a call of {function}, {program.name}: return sites; floor: a uretprobe",
        by_uretprobe,
        by_sites,
    )


def _rows_of(
    name: str, floors: Sequence[_Measured], values: Sequence[_Measured], *, is_floor: bool = False
) -> Iterator[Row]:
    def of(take: Callable[[_Measured], float], more: str) -> Row:
        numbers = [take(each) for each in values]
        floor = None if is_floor else statistics.median(take(each) for each in floors)
        return Row(
            name + more, statistics.median(numbers), "ns/call", floor, spread=spread(numbers)
        )

    yield of(lambda each: each.processor, "")
    yield of(lambda each: each.programs, ", in BPF programs")


class _Waiting:
    """The program, ready to call the function."""

    def __init__(self, process: subprocess.Popen[str], calls: int) -> None:
        self._process = process
        self._calls = calls
        self._said()

    @property
    def pid(self) -> int:
        """Its PID."""
        return self._process.pid

    def run(self, pids: Sequence[int] = ()) -> _Measured:
        """Lets it call, and says what a call has cost.

        Args:
            pids: Processes that hold the BPF programs.
        """
        assert self._process.stdin is not None
        clock = (~self.pid << 3) | _PROCESS_CLOCK
        with bpfstats.counted() if pids else ExitStack():
            programs, began = _cost(pids), time.clock_gettime(clock)
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            took = int(self._said()["nanoseconds"])
            _, status, usage = os.wait4(self.pid, 0)
            cost = _cost(pids) - programs
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.returncode:
            raise BenchmarkError(f"the traced program has ended with {self._process.returncode}")
        if pids and cost.runs < self._calls:
            raise BenchmarkError(f"{self._calls} calls, but only {cost.runs} events")
        seconds = usage.ru_utime + usage.ru_stime - began
        return _Measured(
            seconds * 1e9 / self._calls, took / self._calls, cost.nanoseconds / self._calls
        )

    def _said(self) -> dict[str, int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError("the traced program has ended")
        said: dict[str, int] = json.loads(line)
        return said


def _cost(pids: Sequence[int]) -> bpfstats.Cost:
    found = bpfstats.Cost(0, 0)
    for pid in pids:
        with suppress(FileNotFoundError):
            each = bpfstats.cost(pid)
            found = bpfstats.Cost(found.runs + each.runs, found.nanoseconds + each.nanoseconds)
    return found


@contextmanager
def _waiting(program: Path, calls: int) -> Iterator[_Waiting]:
    process = subprocess.Popen(
        [program, "--wait", "--fast", str(calls)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield _Waiting(process, calls)
        finally:
            process.kill()


@contextmanager
def _traced(pid: int, function: str, case: _Case, path: str, folder: Path) -> Iterator[list[int]]:
    """The processes of the installed command, attached; it shows what it sees in `output`."""
    messages = folder / "messages"
    with (folder / "output").open("wb") as stdout, messages.open("wb") as stderr:
        process = subprocess.Popen(
            # Not watched: the kernel's statistics have a cost of their own.
            [
                *(cluster.COMMAND, "calls", f"local/{pid}", function),
                *("--max-overhead=none", "--max-bytes=0", *case.flags),
            ],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, "PATH": path},
        )
    try:
        cluster.wait_until(
            lambda: "attached " in messages.read_text() or process.poll() is not None,
            "the functions are traced",
        )
        if process.poll() is not None or f"bpftrace {_VERSION}." not in messages.read_text():
            raise BenchmarkError(messages.read_text())
        yield processes.descendants(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _lines(path: Path) -> int:
    """How many lines the file has once it has all, or no more come.

    Before the trace is stopped: what bpftrace has not read by then, it drops.
    """
    found, last = -1, time.monotonic()
    while found < _CALLS and time.monotonic() - last < _QUIET:
        time.sleep(0.05)
        if (now := path.read_bytes().count(b"\n")) != found:
            found, last = now, time.monotonic()
    return found


def _latency_program(pid: int, function: str, way: Callable[[Traced], Traced]) -> str:
    """What `calls --latency` runs, its returns seen that way."""
    with modules.Opened() as opened:
        (module,) = modules.executables([pid])
        binary = opened.binary(module)
        assert binary is not None
        (found,) = binary.functions([patterns.parse(function)])
        described = binary.described([found.address], 1)
        traced = tracing.traced(
            binary, found, module.path, described.get(found.address), Limits(0, 64)
        )
        ((attached,), _) = tracing.attached(binary, [traced])
        return writing.write([way(attached)], writing.Options(show="latency"), None).text


def _as_it_is(function: Traced) -> Traced:
    if not function.returns:
        raise BenchmarkError(f"{function.name} has no return sites")
    return function


def _folder() -> Path:
    """Where the testbed's programs are."""
    done = subprocess.run(
        [sys.executable, "-m", "testbed", "programs"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        cwd=_REPOSITORY,
    )
    if done.returncode:
        raise BenchmarkError("the programs of known calls are not to be had")
    return Path(done.stdout.strip())
