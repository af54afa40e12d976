"""What a scope costs per event: the same counting program with and without.

A container's task and a foreign one each make getpid(2) calls at full speed.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import bpfstats, bpftrace, container, limited
from benchmarks.errors import BenchmarkError
from benchmarks.row import at_most_more
from kubectl_trace.runner import cgroups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.container import Busy
    from benchmarks.row import Row

_MORE = 100
"""Nanoseconds that a scope may cost per event."""
_ROUNDS = 5
"""Each round runs every program once, so that what changes on the machine changes for all."""
_BURSTS = 5
_CALLS = 100_000
"""In a burst: some 50 ms."""
_WHO = ("in scope", "foreign")


@dataclass(frozen=True)
class _Case:
    """A program to measure."""

    name: str
    containers: int
    """In scope; 0: the program has none."""
    cgroup_version: int = 2
    clock: bool = True
    """Whether the wall clock is worth rows, too."""


_FLOOR = _Case("floor", 0)
_CASES = (
    _Case("1 container", 1),
    _Case("300 containers", 300),
    _Case("1 container, cgroup v1", 1, cgroup_version=1, clock=False),
)


@dataclass(frozen=True)
class _Pair:
    """Two containers that differ in nothing but that one is traced."""

    traced: Busy
    foreign: Busy

    @property
    def both(self) -> tuple[tuple[str, Busy], ...]:
        return tuple(zip(_WHO, (self.traced, self.foreign), strict=True))


def rows() -> Iterator[Row]:
    """Of each version of bpftrace, by the kernel's account and by the wall clock."""
    hierarchies = container.hierarchies()
    if 2 not in hierarchies:
        raise BenchmarkError("no cgroup2 is mounted on this machine")
    with ExitStack() as stack:
        path = stack.enter_context(container.program())
        pairs = {
            version: _Pair(*(stack.enter_context(container.started(path, hierarchy)) for _ in _WHO))
            for version, hierarchy in hierarchies.items()
        }
        cases = [case for case in _CASES if case.cgroup_version in pairs]
        for version in bpftrace.VERSIONS:
            yield from _of_version(version, cases, pairs)


def _of_version(version: str, cases: list[_Case], pairs: dict[int, _Pair]) -> Iterator[Row]:
    kernel: dict[tuple[_Case, str], list[float]] = defaultdict(list)
    clock: dict[tuple[_Case, str], list[float]] = defaultdict(list)
    for _ in range(_ROUNDS):
        without = {who: _burst(task) for who, task in pairs[2].both}
        for case in (_FLOOR, *cases):
            pair = pairs[case.cgroup_version]
            with _running(version, case, pair) as pid:
                for who, (by_kernel, by_clock) in _measured(pid, pair).items():
                    kernel[case, who].append(by_kernel)
                    clock[case, who].append(by_clock - without[who])
    for how, samples in (("BPF statistics", kernel), ("wall clock", clock)):
        for case in cases:
            for who in _WHO:
                if case.clock or samples is kernel:
                    yield at_most_more(
                        f"scope, {case.name}, task {who}, bpftrace {version}, {how}",
                        samples[_FLOOR, who],
                        samples[case, who],
                        unit="ns/event",
                        more=_MORE,
                    )


@contextmanager
def _running(version: str, case: _Case, pair: _Pair) -> Iterator[int]:
    """The PID of a bpftrace that runs the program, limited as a runner limits it."""
    if not case.containers:
        with bpftrace.running(version, limited.PROGRAM) as pid:
            yield pid
        return
    task = pair.traced
    hierarchy = cgroups.hierarchy(task.pid, task.container_id)
    if hierarchy is None:
        raise BenchmarkError("the cgroup of the traced task is not to be seen")
    # As runner.members has them.
    members = {task.mount_namespace: 1, cgroups.number(task.cgroup): 1}
    members |= limited.strangers(case.containers - 1)
    with limited.running(version, hierarchy.expression, members) as pid:
        yield pid


def _measured(pid: int, pair: _Pair) -> dict[str, tuple[float, float]]:
    """Nanoseconds per event by the kernel's account, and nanoseconds per call by the clock."""
    kernel: dict[str, list[float]] = defaultdict(list)
    clock: dict[str, list[float]] = defaultdict(list)
    for _ in range(_BURSTS):
        for who, task in pair.both:
            clock[who].append(task.run(_CALLS))
            with bpfstats.counted():
                before = bpfstats.cost(pid)
                task.run(_CALLS)
                cost = bpfstats.cost(pid) - before
            if cost.runs < _CALLS:
                raise BenchmarkError(f"{_CALLS} system calls, but only {cost.runs} events")
            kernel[who].append(cost.nanoseconds / cost.runs)
    return {who: (statistics.median(kernel[who]), statistics.median(clock[who])) for who in _WHO}


def _burst(task: Busy) -> float:
    return statistics.median(task.run(_CALLS) for _ in range(_BURSTS))
