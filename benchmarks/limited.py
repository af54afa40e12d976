"""The counting program, limited to a scope as a runner limits it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks import bpftrace
from benchmarks.errors import BenchmarkError
from kubectl_trace.program import prepare, scope, syntax
from kubectl_trace.program.rewrite import Rewritten
from kubectl_trace.runner import bpfmap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROGRAM = "tracepoint:raw_syscalls:sys_enter { @ = count(); }\n"


@contextmanager
def running(version: str, cgroup: str, members: Mapping[int, int]) -> Iterator[int]:
    """The PID of a bpftrace that runs it, with all members in scope.

    Args:
        version: Of bpftrace.
        cgroup: The expression for a task's cgroup (`program.scope`).
        members: The map's content, as `runner.members` has it.
    """
    limit = scope.by_namespace(syntax.parse(PROGRAM), cgroup)
    program = prepare.limited(Rewritten.of(PROGRAM), limit)
    with bpftrace.running(version, program.text) as pid:
        scope_map = bpfmap.find(pid, limit.map)
        if scope_map is None:
            raise BenchmarkError(f"bpftrace {version} has no map {limit.map}")
        try:
            for key, number in members.items():
                scope_map.set(key, number)
            yield pid
        finally:
            os.close(scope_map.fd)


def strangers(count: int) -> dict[int, int]:
    """Members of so many containers, numbered from 2, that no task is in: two keys each."""
    return {
        key + number: number
        for number in range(2, count + 2)
        # As namespaces and as cgroups are numbered.
        for key in (0xFF00_0000, 0x7F00_0000)
    }
