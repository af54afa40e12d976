from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.runner import attempts, cgroups, plan
from kubectl_trace.runner.cgroups import Hierarchy
from kubectl_trace.runner.output import RecordWriter
from kubectl_trace.runner.processes import Process
from kubectl_trace.trace import Container, Trace

if TYPE_CHECKING:
    from pathlib import Path

CONTAINER = Container("shop", "cart", "app", "ab" * 32)


def ways(program: str, tmp_path: Path) -> list[bool]:
    """Of each way to run the program: whether it tells tasks by their IDs."""
    types = tmp_path / "btf"
    types.write_text("what bpftrace can read")
    trace = Trace("1", program, containers=(CONTAINER,))
    groundwork = plan.prepared(trace, [os.getpid()])
    with open(os.devnull, "wb") as nothing:
        found = attempts.attempts(
            trace, groundwork, {}, {"BPFTRACE_BTF": str(types)}, RecordWriter(nothing.fileno())
        )
        result = []
        for each in found:
            result.append(each.by_task)
            assert each.members is not None
            each.members().close()
    return result


def test_tasks_are_told_by_the_kernels_types_and_else_by_their_ids(tmp_path: Path) -> None:
    assert ways("kprobe:f { }", tmp_path) == [False, True]


@pytest.mark.parametrize(
    "types", ["struct task_struct { int x; };", "#define T task_struct\nstruct T { int x; };"]
)
def test_with_types_of_the_programs_own_tasks_are_told_by_their_ids(
    types: str, tmp_path: Path
) -> None:
    assert ways(f"{types} kprobe:f {{ }}", tmp_path) == [True]


def test_a_container_that_has_ended_meanwhile_does_not_hide_where_the_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Hierarchy(tmp_path, "cgroup")
    monkeypatch.setattr(cgroups, "hierarchy", lambda pid, _: there if pid == 2 else None)
    chosen = {name: Process(pid, 1, 5, 1, "x", "/x", "x") for name, pid in (("a", 1), ("b", 2))}
    assert attempts._hierarchy(chosen) is there
    assert attempts._hierarchy({"a": chosen["a"]}) is None
