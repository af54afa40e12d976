"""Where containers' cgroups are, in the layouts that nodes have."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from kubectl_trace.program import scope
from kubectl_trace.runner import cgroups

if TYPE_CHECKING:
    from pathlib import Path

    from kubectl_trace.runner.cgroups import Hierarchy

ID = "c0ffee" * 10 + "abcd"
CONTROLLERS = "cpuset\t3\t1\t1\ncpu\t1\t1\t1\ncpuacct\t2\t1\t1\nblkio\t7\t1\t1\nmemory\t4\t1\t1\n"
UNIFIED = "30 25 0:27 / /sys/fs/cgroup{} rw - cgroup2 cgroup2 rw\n"
MEMORY = "31 25 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
OWN_PART = "31 25 0:28 /kubepods/own /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"


def hierarchy(
    proc: Path, membership: str, mounts: str, controllers: str = CONTROLLERS
) -> Hierarchy | None:
    for name in ("7", "self"):
        (proc / name).mkdir()
    (proc / "7" / "cgroup").write_text(membership)
    (proc / "self" / "mountinfo").write_text(mounts)
    (proc / "cgroups").write_text("#subsys_name\thierarchy\tnum_cgroups\tenabled\n" + controllers)
    return cgroups.hierarchy(7, ID, proc)


def test_on_version_2_a_program_asks_for_the_cgroup_itself(tmp_path: Path) -> None:
    found = hierarchy(tmp_path, f"0::/../cri-containerd-{ID}.scope\n", UNIFIED.format(""))
    assert found is not None
    assert (str(found.root), found.expression) == ("/sys/fs/cgroup", scope.CGROUP2)


def test_where_both_have_it_version_2_is_taken(tmp_path: Path) -> None:
    membership = f"4:memory:/kubepods/{ID}\n0::/kubepods/{ID}\n"
    found = hierarchy(tmp_path, membership, MEMORY + UNIFIED.format("/unified"))
    assert found is not None
    assert found.expression == scope.CGROUP2


def test_on_version_1_a_program_asks_by_the_controllers_number(tmp_path: Path) -> None:
    membership = f"4:memory:/kubepods/{ID}\n0::/\n"
    found = hierarchy(tmp_path, membership, MEMORY + UNIFIED.format("/unified"))
    assert found is not None
    assert (str(found.root), found.expression) == ("/sys/fs/cgroup/memory", scope.cgroup1(4))


def test_a_hierarchy_of_which_only_a_part_is_mounted_is_of_no_use(tmp_path: Path) -> None:
    assert hierarchy(tmp_path, f"4:memory:/kubepods/{ID}\n", OWN_PART) is None


def test_controllers_numbers_are_not_guessed_where_some_are_left_out(tmp_path: Path) -> None:
    controllers = CONTROLLERS.replace("cpuset\t3\t1\t1\n", "")
    assert hierarchy(tmp_path, f"4:memory:/kubepods/{ID}\n", MEMORY, controllers) is None


@pytest.mark.parametrize("name", [ID, f"cri-containerd-{ID}.scope", f"crio-{ID}"])
def test_a_containers_directory_is_found_by_its_id(tmp_path: Path, name: str) -> None:
    made = tmp_path / "kubepods.slice" / "kubepods-pod1.slice" / name
    made.mkdir(parents=True)
    assert cgroups.directory(tmp_path, ID) == made
    assert cgroups.directory(tmp_path, "f" * 64) is None


def test_the_directories_of_many_containers_are_found_in_one_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    scandir = os.scandir

    def counted(path: str) -> Any:
        read.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    other = "beef" * 16
    for name in (f"crio-{ID}.scope", f"crio-conmon-{other}.scope", f"pod2/crio-{other}.scope"):
        (tmp_path / "kubepods.slice" / name).mkdir(parents=True)
    found = cgroups.directories(tmp_path, [ID, other, "f" * 64, ""])
    assert {name: path.name for name, path in found.items()} == {
        ID: f"crio-{ID}.scope",
        other: f"crio-{other}.scope",
    }
    assert len(read) == len(set(read)), "a folder is read once"


def test_processes_of_cgroups_inside_belong_to_the_container(tmp_path: Path) -> None:
    inner = tmp_path / "init.scope"
    inner.mkdir()
    (tmp_path / "cgroup.procs").write_text("")
    (inner / "cgroup.procs").write_text("11\n12\n")
    assert cgroups.processes(tmp_path) == [11, 12]


def test_a_cgroup_that_is_gone_has_no_processes(tmp_path: Path) -> None:
    assert cgroups.processes(tmp_path / "gone") == []
