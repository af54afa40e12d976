from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.errors import NotFoundError
from kubectl_trace.program import syntax
from kubectl_trace.runner import files, near_names

if TYPE_CHECKING:
    from pathlib import Path

    from kubectl_trace.runner.files import File


@pytest.fixture
def tracefs(tmp_path: Path) -> Path:
    for name in ("syscalls/sys_enter_openat", "syscalls/sys_exit_openat", "sched/sched_switch"):
        (tmp_path / "events" / name).mkdir(parents=True)
    (tmp_path / "events" / "syscalls" / "filter").write_text("none\n")
    return tmp_path


@pytest.fixture
def kallsyms(tmp_path: Path) -> Path:
    path = tmp_path / "kallsyms"
    path.write_text(
        "0 W weak\n0 T vfs_read\n0 t vfs_readv\n0 D vfs_raed_data\n0 t vfs_reed.cold\nbroken\n"
        "0 T kvm_x\t[kvm]\n"
    )
    return path


def hints(text: str, tracefs: Path, kallsyms: Path, *parameters: str) -> list[str]:
    def find(name: str) -> list[File]:
        if name.startswith("/missing"):
            raise NotFoundError("no such file")
        return files.find(os.getpid(), "libc")

    program = syntax.parse(text)
    return list(near_names.hints(program, parameters, find, tracefs=tracefs, kallsyms=kallsyms))


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ("uprobe:libc:pthread_mutex_lok", "did you mean pthread_mutex_lock"),
        ("u:/proc/$container_pid/exe:getnev", "has no function getnev; did you mean getenv"),
        ("u:libc:main.greet", "libc has no function main.greet"),
        ("ur:libc:zzzzzzzz", "libc has no function zzzzzzzz"),
        ("uprobe:libc:$1", "has no function getnev; did you mean getenv"),
        (
            "t:syscalls:sys_enter_opneat",
            "no tracepoint syscalls:sys_enter_opneat; did you mean sys",
        ),
        ("tracepoint:sycalls:x", "there are no tracepoints sycalls; did you mean syscalls?"),
        (
            "k:vfs_raed",
            "this kernel has no function vfs_raed, or inlined it; did you mean vfs_read",
        ),
        ("fentry:vmlinux:vfs_redv", "did you mean vfs_readv"),
    ],
)
def test_what_is_nearly_meant_is_said(tracefs: Path, kallsyms: Path, point: str, said: str) -> None:
    (hint,) = hints(f"{point} {{ }} {point} {{ }}", tracefs, kallsyms, "getnev")
    assert said in hint


@pytest.mark.parametrize(
    "point",
    [
        "uprobe:libc:getenv",
        "uprobe:libc:geten*",
        "uprobe:libc:getnev+4",
        "uprobe:/missing:f",
        "t:syscalls:sys_enter_openat",
        "t:syscalls:sys_enter_opneat*",
        "k:vfs_read",
        "k:weak",
        "uprobe:libc:strlen",  # IFUNC
        "k:vfs_*",
        "nothing:f",
        "BEGIN",
        "usdt:/x:a:b",
    ],
)
def test_of_what_is_there_or_can_not_be_told_nothing_is_said(
    tracefs: Path, kallsyms: Path, point: str
) -> None:
    assert hints(f"{point} {{ }}", tracefs, kallsyms) == []


def test_what_many_probes_name_is_read_once_and_three_hints_are_enough(
    tracefs: Path, kallsyms: Path
) -> None:
    found: list[str] = []

    def find(name: str) -> list[File]:
        found.append(name)
        return files.find(os.getpid(), "libc")

    points = ", ".join(f"uprobe:libc:no_such{number}" for number in range(50))
    program = syntax.parse(f"uprobe:libc:getenv, {points} {{ }}")
    hints = near_names.hints(program, (), find, tracefs=tracefs, kallsyms=kallsyms)
    assert len(list(hints)) == 3
    assert found == ["libc"]


def test_where_the_kernel_shows_nothing_nothing_is_said(tmp_path: Path) -> None:
    assert hints("k:vfs_raed, t:sycalls:x { }", tmp_path, tmp_path / "none") == []


def test_a_near_name_is_found_among_very_many() -> None:
    names = [f"a_{number:06}" for number in range(100_000)]
    assert near_names.near("main.greeet", [*names, "main.greet"]) == ["main.greet"]
