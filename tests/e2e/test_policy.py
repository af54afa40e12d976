"""The cluster owner's policy and the scope against programs that try to get round them.

The runner reads the policy where a pod has it mounted; here it is mounted for the command alone.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .command import BIN, Command, Result, start, trace

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="bpftrace needs root")

FOLDER = Path("/policy")
SHARED = (
    "scope: required\nunsafe: false\nkernelMemory: false\ndeniedFunctions: [kstack]\n"
    "probes: [uprobe, 'tracepoint:syscalls:*']\n"
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    was_there = FOLDER.exists()
    FOLDER.mkdir(exist_ok=True)
    yield FOLDER
    if not was_there:
        FOLDER.rmdir()


@pytest.fixture(scope="module")
def opener() -> Iterator[int]:
    """A process that opens files all the time; another one does, too."""
    code = "import time\nwhile True:\n    open('/etc/hostname').close()\n    time.sleep(0.01)\n"
    with contextlib.ExitStack() as stack:
        each = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", code])) for _ in range(2)
        ]
        for process in each:
            stack.callback(process.kill)
        yield each[0].pid


def under(policy: str, folder: Path, tmp_path: Path, *words: str) -> Result:
    """Runs `kubectl-trace` where this policy is mounted."""
    (tmp_path / "policy.yaml").write_text(policy)
    mount = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    mounted = ("unshare", "-m", "sh", "-c", mount, "sh", str(tmp_path), str(folder))
    return Command(*mounted, str(BIN / "kubectl-trace"), *words).finish()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ('BEGIN {\n\tsystem("id");\n}', "(unsafe: false): stdin:2:2: system is unsafe"),
        ("iter:task { }", "(probes): stdin:1:1: not among the probes allowed"),
        ("interval:s:1 { print(comm); }", "(scope: required): stdin:1:22: comm in interval"),
        ("kprobe:vfs_read { }", "(probes): stdin:1:1: not among the probes allowed"),
        ("uprobe:libc:read { @ = curtask->pid; }", "(kernelMemory: false): stdin:1:24: curtask"),
        ("uprobe:libc:read { @[kstack] = count(); }", "(deniedFunctions): stdin:1:22: kstack"),
        ('#define S sys tem\nuprobe:libc:read { S("id"); }', "stdin:1:1: of directives only"),
        ('#include "/etc/shadow"\nBEGIN { }', "stdin:1:1: of directives only"),
    ],
)
def test_what_the_policy_does_not_allow_is_refused_at_its_place(
    folder: Path, tmp_path: Path, opener: int, program: str, said: str
) -> None:
    result = under(SHARED, folder, tmp_path, "run", f"local/{opener}", "-e", program)
    assert result.code == 4, result
    assert "not allowed by the cluster's policy" in result.stderr
    assert said in result.stderr
    assert result.stdout == ""
    assert "attached" not in result.stderr


def test_what_the_policy_allows_is_traced(folder: Path, tmp_path: Path, opener: int) -> None:
    program = (
        'tracepoint:syscalls:sys_enter_openat { printf("%d %s\\n", pid, str(args->filename)); '
        "exit(); }"
    )
    result = under(SHARED, folder, tmp_path, "run", f"local/{opener}", "-e", program)
    assert (result.code, result.lines[:1]) == (0, [f"{opener} /etc/hostname"]), result


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "local", "-e", "BEGIN { }"), "(scope: required): a whole node"),
        (("run", "local/{pid}", "--no-scope", "-e", "BEGIN { }"), "(scope: required): --no-scope"),
        (("run", "local/{pid}", "--unsafe", "-e", "BEGIN { }"), "--unsafe"),
        (("run", "local/{pid}", "--env", "BPFTRACE_BTF=/x", "-e", "BEGIN { }"), "BPFTRACE_BTF"),
    ],
)
def test_no_flag_goes_round_the_policy(
    folder: Path, tmp_path: Path, opener: int, words: tuple[str, ...], said: str
) -> None:
    given = (word.format(pid=opener) if word.startswith("local/") else word for word in words)
    result = under(SHARED, folder, tmp_path, *given)
    assert result.code == 4, result
    assert said in result.stderr


def test_under_a_policy_that_can_not_be_read_nothing_is_traced(
    folder: Path, tmp_path: Path
) -> None:
    result = under("scop: required\n", folder, tmp_path, "run", "local", "-e", "BEGIN { exit(); }")
    assert (result.code, result.stdout) == (4, ""), result
    assert "can't be read, so nothing is traced" in result.stderr
    assert "scop" in result.stderr


OPENED = 'printf("%d\\n", pid); @n++; if (@n > 30) { exit(); }'


@pytest.mark.parametrize(
    "program",
    [
        f"tracepoint:syscalls:sys_enter_openat /1 || 1/ {{ {OPENED} }}",
        f"tracepoint:syscalls:sys_enter_openat /1 // \n|| 1/ {{ {OPENED} }}",
        "#define M @ _scope\nBEGIN { clear(M); } "
        f"tracepoint:syscalls:sys_enter_openat {{ {OPENED} }}",
        "BEGIN { @_scope[(uint64)1] = (uint64)1; } "
        f"tracepoint:syscalls:sys_enter_openat {{ @_scope[(uint64)tid] = (uint64)1; {OPENED} }}",
        f"BEGIN, tracepoint:syscalls:sys_enter_openat /pid/ {{ {OPENED} }}",
        f"tracepoint:syscalls:sys_enter_open* {{ $_container = 1; {OPENED} }}",
    ],
)
def test_no_program_shows_events_of_another_process(opener: int, program: str) -> None:
    command = start("run", f"local/{opener}", "--deadline", "10s", "-e", program)
    result = command.finish()
    if result.code == 6:  # no map of its own has that name
        assert "Undefined map" in result.stderr, result
        return
    assert result.code == 0, result
    own = {line for line in result.lines if line.isdecimal()}
    if "BEGIN, " in program:  # BEGIN fires in bpftrace itself
        own = set(result.lines[1:]) & own
    assert own == {str(opener)}, result


@pytest.mark.parametrize("path", ["/proc/1/exe", "/proc/self/exe", "/proc/1/root/bin/sh"])
def test_a_file_of_the_node_is_not_attached_to(opener: int, path: str) -> None:
    result = trace("run", f"local/{opener}", "-e", f"uprobe:{path}:main {{ }}")
    assert result.code == 6, result
    assert "no file of the target's containers" in result.stderr
    assert "attached" not in result.stderr


def test_no_file_of_the_node_comes_into_a_message(opener: int) -> None:
    program = '#include "/etc/passwd"\nuprobe:libc:read { }'
    result = trace("run", f"local/{opener}", "-e", program)
    assert result.code == 2, result
    assert "root:" not in result.stderr
