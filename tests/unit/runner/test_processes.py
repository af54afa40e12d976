from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.errors import NotFoundError, UsageError
from kubectl_trace.runner import processes
from kubectl_trace.runner.processes import Process

if TYPE_CHECKING:
    from pathlib import Path

ID = "4f" * 32


def a_process(pid: int, **fields: object) -> Process:
    defaults: dict[str, object] = {
        "parent": 1,
        "start_time": pid,
        "pid_in_container": pid,
        "comm": "sh",
        "exe": "/bin/sh",
        "cmdline": "sh",
    }
    return Process(pid=pid, **{**defaults, **fields})  # type: ignore[arg-type]


def proc_entry(proc: Path, pid: int, cgroup: str, start_time: int = 5, comm: str = "nginx") -> None:
    folder = proc / str(pid)
    folder.mkdir()
    fields = ["S", "1", *["0"] * 17, str(start_time)]
    (folder / "stat").write_text(f"{pid} ({comm}) {' '.join(fields)} 0 0\n")
    (folder / "status").write_text(f"Name:\t{comm}\nNSpid:\t{pid}\t1\n")
    (folder / "cmdline").write_bytes(b"nginx\0-g\0daemon off;\0")
    (folder / "cgroup").write_text(cgroup)
    (folder / "exe").symlink_to("/usr/sbin/nginx (deleted)")


@pytest.mark.parametrize(
    "cgroup",
    [
        f"0::/kubepods.slice/kubepods-burstable.slice/pod1/cri-containerd-{ID}.scope\n",
        f"0::/../../kubepods/besteffort/pod1/{ID}\n",
        f"12:pids:/kubepods/pod1/{ID}\n1:name=systemd:/kubepods/pod1/{ID}\n",
        f"0::/kubepods.slice/crio-{ID}.scope/container\n",
        f"4:memory:/docker/{'9' * 64}/kubepods/pod2/{ID}\n0::/\n",
    ],
)
def test_finds_a_containers_processes_by_any_cgroup_layout(tmp_path: Path, cgroup: str) -> None:
    proc_entry(tmp_path, 10, "0::/system.slice/cron.service\n")
    proc_entry(tmp_path, 11, cgroup)
    (tmp_path / "self").mkdir()
    (found,) = processes.of_container(ID, tmp_path)
    assert found == Process(11, 1, 5, 1, "nginx", "/usr/sbin/nginx", "nginx -g daemon off;")


def test_the_processes_of_many_containers_are_found_at_once(tmp_path: Path) -> None:
    inner, none = "5a" * 32, "6b" * 32
    proc_entry(tmp_path, 13, f"0::/kubepods/pod1/{ID}\n", start_time=9)
    proc_entry(tmp_path, 14, f"4:memory:/docker/{ID}/kubepods/{inner}\n0::/\n", start_time=8)
    proc_entry(tmp_path, 15, f"0::/crio-conmon-{ID}.scope\n")
    proc_entry(tmp_path, 16, f"0::/kubepods/pod1/{ID}/of{ID}\n4:memory:/of{inner}\n", start_time=9)
    found = processes.of_containers([ID, inner, none, ""], tmp_path)
    pids = {name: [process.pid for process in there] for name, there in found.items()}
    assert pids == {ID: [14, 13, 16], inner: [14, 16]}


def test_those_that_a_process_started_are_found_by_their_parents(tmp_path: Path) -> None:
    for pid, parent in ((20, 1), (21, 20), (22, 21), (23, 1)):
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "stat").write_text(f"{pid} (a) (b c) S {parent} 0 0\n")
    (tmp_path / "24").mkdir()
    assert processes.descendants(20, tmp_path) == [20, 21, 22]


def test_a_process_that_vanishes_while_it_is_read_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "12").mkdir()
    assert processes.of_container(ID, tmp_path) == []
    assert processes.read(12, tmp_path) is None


def test_a_name_with_parentheses_and_spaces_is_read(tmp_path: Path) -> None:
    proc_entry(tmp_path, 13, "0::/\n", start_time=77, comm="a) (b c")
    found = processes.read(13, tmp_path)
    assert found is not None
    assert (found.comm, found.start_time) == ("a) (b c", 77)


def test_reads_a_real_process() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        found = processes.read(child.pid)
        assert found is not None
        assert found.parent == os.getpid()
        assert found.start_time > 0
    finally:
        child.communicate(b"\n")


def test_the_first_process_is_the_one_that_no_other_forked() -> None:
    # The clock has no finer tick: parent and child may show the same start.
    master = a_process(50, start_time=9)
    worker = a_process(49, parent=50, start_time=9)
    execed = a_process(60, parent=2, start_time=12)
    assert processes.first_process([worker, execed, master]) is master


def test_an_empty_selector_means_the_first_process() -> None:
    assert processes.select([a_process(7), a_process(3)], "").pid == 3


def test_pid_last_means_the_youngest_that_matches() -> None:
    every = [a_process(1), a_process(2, comm="bash"), a_process(3), a_process(4, comm="bash")]
    assert processes.select(every, "pid=last").pid == 4
    assert processes.select(every, "pid=last,comm=sh").pid == 3, "sh is not bash"


def test_a_pid_is_the_nodes_first_and_the_containers_else() -> None:
    every = [a_process(100, pid_in_container=1), a_process(1, pid_in_container=2)]
    assert processes.select(every, "pid=1").pid == 1
    assert processes.select(every, "pid=2").pid == 1
    assert processes.select(every[:1], "pid=1").pid == 100


def test_exe_matches_the_path_or_the_base_name_and_cmdline_a_part() -> None:
    every = [a_process(1, exe="/usr/sbin/nginx", cmdline="nginx: worker, n=1"), a_process(2)]
    assert processes.select(every, "exe=nginx").pid == 1
    assert processes.select(every, "exe=/usr/sbin/nginx").pid == 1
    assert processes.select(every, "cmdline=worker, n=1").pid == 1, "commas and = in a value"


def test_no_match_names_what_there_is() -> None:
    with pytest.raises(NotFoundError, match="its processes: 1 sh"):
        processes.select([a_process(1)], "comm=nginx")


@pytest.mark.parametrize("selector", ["nginx", "user=root", "pid=", "pid=x", "comm=a,comm=b"])
def test_a_selector_that_means_nothing_is_refused(selector: str) -> None:
    with pytest.raises(UsageError):
        processes.parse_selector(selector)
