"""What a scope costs per event: the same counting program with and without.

A container's task, one of a container that is known to be foreign, and one that no container is
known of each make getpid(2) calls at full speed.
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
from kubectl_trace.program import scope
from kubectl_trace.runner import cgroups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.container import Busy
    from benchmarks.row import Row

_MORE = 100
"""Nanoseconds that a scope may cost per event."""
_ROUNDS = 4
"""Each round runs every program once, so that what changes on the machine changes for all."""
_BURSTS = 3
_CALLS = 100_000
"""In a burst: some 50 ms."""
_IN_SCOPE, _FOREIGN, _NO_PODS = "in scope", "foreign", "of no pod"
_MAIN = "0.23"
"""The version that is asked for what the others would say again."""


@dataclass(frozen=True)
class _Case:
    """A program to measure."""

    name: str
    containers: int
    """In scope; 0: the program has none."""
    cgroup_version: int = 2
    clock: bool = False
    """Whether the wall clock is worth rows, too."""
    everywhere: bool = False
    """Whether all versions of bpftrace are asked."""


_FLOOR = _Case("floor", 0, everywhere=True)
_CASES = (
    _Case("1 container", 1, clock=True, everywhere=True),
    _Case("300 containers", 300),
    _Case("1 container, cgroup v1", 1, cgroup_version=1),
)

_Tasks = dict[str, "Busy"]
"""By what they are to the scope: containers that differ in nothing else."""


def rows() -> Iterator[Row]:
    """Of each version of bpftrace by the kernel's account, of one by the wall clock, too."""
    hierarchies = container.hierarchies()
    if 2 not in hierarchies:
        raise BenchmarkError("no cgroup2 is mounted on this machine")
    with ExitStack() as stack:
        path = stack.enter_context(container.program())
        tasks = {
            version: {
                who: stack.enter_context(container.started(path, hierarchy))
                # By version 1, no foreign containers are known.
                for who in (_IN_SCOPE, _FOREIGN, _NO_PODS)
                if version == 2 or who != _FOREIGN
            }
            for version, hierarchy in hierarchies.items()
        }
        for version in bpftrace.VERSIONS:
            cases = [
                case
                for case in _CASES
                if case.cgroup_version in tasks and (case.everywhere or version == _MAIN)
            ]
            yield from _of_version(version, cases, tasks)


def _of_version(version: str, cases: list[_Case], tasks: dict[int, _Tasks]) -> Iterator[Row]:
    kernel: dict[tuple[_Case, str], list[float]] = defaultdict(list)
    clock: dict[tuple[_Case, str], list[float]] = defaultdict(list)
    for _ in range(_ROUNDS):
        without = {who: _burst(task) for who, task in tasks[2].items()}
        for case in (_FLOOR, *cases):
            measured = tasks[case.cgroup_version]
            with _running(version, case, measured) as pid:
                for who, (by_kernel, by_clock) in _measured(pid, measured).items():
                    kernel[case, who].append(by_kernel)
                    clock[case, who].append(by_clock - without[who])
    for how, samples in (("BPF statistics", kernel), ("wall clock", clock)):
        for case in cases:
            if samples is clock and not (case.clock and version == _MAIN):
                continue
            for who in tasks[case.cgroup_version]:
                yield at_most_more(
                    f"scope, {case.name}, task {who}, bpftrace {version}, {how}",
                    samples[_FLOOR, who],
                    samples[case, who],
                    unit="ns/event",
                    more=_MORE,
                )


@contextmanager
def _running(version: str, case: _Case, tasks: _Tasks) -> Iterator[int]:
    """The PID of a bpftrace that runs the program, limited as a runner limits it."""
    if not case.containers:
        with bpftrace.running(version, limited.PROGRAM) as pid:
            yield pid
        return
    task = tasks[_IN_SCOPE]
    hierarchy = cgroups.hierarchy(task.pid, task.container_id)
    if hierarchy is None:
        raise BenchmarkError("the cgroup of the traced task is not to be seen")
    # As runner.members has them.
    members = {task.mount_namespace: 1, cgroups.number(task.cgroup): 1}
    if _FOREIGN in tasks:
        members[cgroups.number(tasks[_FOREIGN].cgroup)] = scope.FOREIGN
    members |= limited.strangers(case.containers - 1)
    with limited.running(version, hierarchy.expression, members) as pid:
        yield pid


def _measured(pid: int, tasks: _Tasks) -> dict[str, tuple[float, float]]:
    """Nanoseconds per event by the kernel's account, and nanoseconds per call by the clock."""
    kernel: dict[str, list[float]] = defaultdict(list)
    clock: dict[str, list[float]] = defaultdict(list)
    for _ in range(_BURSTS):
        for who, task in tasks.items():
            clock[who].append(task.run(_CALLS))
            with bpfstats.counted():
                before = bpfstats.cost(pid)
                task.run(_CALLS)
                cost = bpfstats.cost(pid) - before
            if cost.runs < _CALLS:
                raise BenchmarkError(f"{_CALLS} system calls, but only {cost.runs} events")
            kernel[who].append(cost.nanoseconds / cost.runs)
    return {who: (statistics.median(kernel[who]), statistics.median(clock[who])) for who in tasks}


def _burst(task: Busy) -> float:
    return statistics.median(task.run(_CALLS) for _ in range(_BURSTS))
