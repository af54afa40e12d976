"""Which containers are surely foreign, with folders for cgroups and for /proc."""

from __future__ import annotations

import errno
import os
import subprocess
from dataclasses import replace
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.program.scope import FOREIGN
from kubectl_trace.runner import foreign
from kubectl_trace.runner.bpfmap import Map
from kubectl_trace.runner.foreign import Marks, Target

if TYPE_CHECKING:
    from pathlib import Path

NO_SYS_ADMIN = "00000000a80425fb"
SYS_ADMIN = "00000000a82425fb"
SCOPES_NAMESPACE, SCOPES_PIDS, NODES_PIDS = 4026533002, 4026533003, 4026531836
OWN_NAMESPACE, OWN_PIDS = 4026534002, 4026534003
TARGET, OTHER = ("uid-1", "app"), ("uid-2", "noisy")


class SmallMap(Map):
    """What would be in the kernel, with so much room."""

    def __init__(self, room: int = 4096) -> None:
        super().__init__(-1, 8, 8)
        object.__setattr__(self, "content", {})
        object.__setattr__(self, "room", room)
        self.content: dict[int, int]
        self.room: int

    def set(self, key: int, value: int) -> None:
        if key not in self.content and len(self.content) >= self.room:
            raise OSError(errno.E2BIG, "full")
        self.content[key] = value

    def remove(self, key: int) -> None:
        self.content.pop(key, None)


class Node:
    """Pods' cgroups and processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pods = root / "unified" / "node" / "kubepods.slice" / "kubepods-besteffort.slice"
        self.proc = root / "proc"
        self.identities: dict[int, tuple[str, str]] = {}
        self._pid = 100
        self.target = self.container("pod-1", "a" * 64, TARGET, SCOPES_NAMESPACE, SCOPES_PIDS)

    def container(
        self,
        pod: str,
        container_id: str,
        identity: tuple[str, str] | None = OTHER,
        mount: int = OWN_NAMESPACE,
        pids: int = OWN_PIDS,
    ) -> Path:
        """Its cgroup, with a process."""
        cgroup = self.pods / pod / f"cri-containerd-{container_id}.scope"
        cgroup.mkdir(parents=True)
        (cgroup / "cgroup.procs").touch()
        self.process(cgroup, identity, mount, pids)
        return cgroup

    def process(
        self,
        cgroup: Path,
        identity: tuple[str, str] | None = OTHER,
        mount: int = OWN_NAMESPACE,
        pids: int = OWN_PIDS,
    ) -> int:
        self._pid += 1
        self.thread(self._pid, self._pid, mount, pids)
        with (cgroup / "cgroup.procs").open("a") as file:
            file.write(f"{self._pid}\n")
        if identity:
            self.identities[self._pid] = identity
        return self._pid

    def thread(self, pid: int, tid: int, mount: int = OWN_NAMESPACE, pids: int = OWN_PIDS) -> Path:
        task = self.proc / f"{pid}/task/{tid}"
        (task / "ns").mkdir(parents=True)
        (task / "ns" / "mnt").symlink_to(f"mnt:[{mount}]")
        (task / "ns" / "pid").symlink_to(f"pid:[{pids}]")
        self.capabilities(task)
        return task

    def capabilities(self, task: Path, **given: str) -> None:
        every = {"Inh": "0" * 16, "Prm": NO_SYS_ADMIN, "Eff": NO_SYS_ADMIN, "Bnd": NO_SYS_ADMIN}
        lines = [f"Cap{name}:\t{value}\n" for name, value in {**every, **given}.items()]
        (task / "status").write_text("Name:\tsh\n" + "".join(lines))

    def task(self, cgroup: Path) -> Path:
        pid = (cgroup / "cgroup.procs").read_text().split()[0]
        return self.proc / f"{pid}/task/{pid}"

    def marks(self, scope_map: Map) -> Marks:
        return Marks(scope_map, self.root, self.identities.get, self.proc)

    def scope(self) -> Target:
        return Target(
            cgroups=frozenset({self.target}),
            container_ids=frozenset({"a" * 64}),
            keys=frozenset({SCOPES_NAMESPACE, self.target.stat().st_ino}),
            pid_namespaces=frozenset({SCOPES_PIDS, NODES_PIDS}),
        )

    def marked(self) -> dict[int, int]:
        """The map after a look."""
        scope_map = SmallMap()
        assert look(self.marks(scope_map), self.scope())
        return scope_map.content


def look(marks: Marks, target: Target) -> bool:
    return marks.look(target, lambda identity: identity == TARGET)


def number(cgroup: Path) -> int:
    return cgroup.stat().st_ino


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setattr(foreign, "_AT_ONCE", 60.0)
    return Node(tmp_path)


def test_containers_of_other_pods_and_of_the_same_are_marked(node: Node) -> None:
    other = node.container("pod-2", "b" * 64)
    sidecar = node.container("pod-1", "c" * 64, ("uid-1", "sidecar"))
    guaranteed = node.pods.parent / "pod-3" / ("d" * 64)
    guaranteed.mkdir(parents=True)
    node.process(guaranteed)
    assert node.marked() == dict.fromkeys(map(number, (other, sidecar, guaranteed)), FOREIGN)


def test_the_targets_own_containers_are_not_by_their_names_ids_or_cgroups(node: Node) -> None:
    again = node.container("pod-1", "b" * 64, TARGET)
    assert node.marked() == {}
    # Of a static pod, the API server knows another UID than the kubelet.
    node.identities = dict.fromkeys(node.identities, OTHER)
    assert node.marked() == {number(again): FOREIGN}
    target = replace(node.scope(), container_ids=frozenset({"a" * 64, "b" * 64}))
    scope_map = SmallMap()
    look(node.marks(scope_map), target)
    assert scope_map.content == {}


@pytest.mark.parametrize("which", ["Inh", "Prm", "Bnd"])
def test_one_that_may_enter_other_mount_namespaces_is_left_out(node: Node, which: str) -> None:
    other = node.container("pod-2", "b" * 64)
    node.capabilities(node.task(other), **{which: SYS_ADMIN})
    assert node.marked() == {}


def test_a_single_thread_of_a_later_process_that_may_is_enough(node: Node) -> None:
    other = node.container("pod-2", "b" * 64)
    pid = node.process(other)
    assert number(other) in node.marked()
    node.capabilities(node.thread(pid, pid + 1000), Bnd=SYS_ADMIN)
    assert node.marked() == {}


def test_one_that_has_the_targets_namespace_or_sees_its_processes_is_left_out(node: Node) -> None:
    entered = node.container("pod-2", "b" * 64)
    node.process(entered, mount=SCOPES_NAMESPACE)
    shared = node.container("pod-3", "c" * 64, pids=SCOPES_PIDS)
    host = node.container("pod-4", "d" * 64, pids=NODES_PIDS)
    assert not node.marked().keys() & set(map(number, (entered, shared, host)))


def test_what_is_not_known_or_not_one_container_is_left_out(node: Node) -> None:
    node.container("pod-2", "b" * 64, identity=None)  # a sandbox, or a runtime at work
    mixed = node.container("pod-2", "c" * 64)
    node.process(mixed, ("uid-9", "x"))
    starting = node.container("pod-2", "d" * 64)
    node.process(starting, identity=None)
    empty = node.pods / "pod-2" / ("e" * 64)
    empty.mkdir()
    (empty / "cgroup.procs").touch()
    monitor = node.container("pod-2", "f" * 64)
    monitor.rename(monitor.with_name(f"crio-conmon-{'f' * 64}.scope"))
    (node.task(node.container("pod-2", "1" * 64)) / "status").write_text("Name:\tsh\n")
    assert node.marked() == {}


def test_what_can_not_be_read_is_left_out_and_the_others_are_marked(node: Node) -> None:
    threaded = node.container("pod-2", "b" * 64) / "threaded"
    (threaded / "cgroup.procs").mkdir(parents=True)  # reading fails, as it does there
    status = node.task(node.container("pod-2", "c" * 64)) / "status"
    status.unlink()
    status.mkdir()
    other = node.container("pod-2", "d" * 64)
    assert node.marked() == {number(other): FOREIGN}


def test_outside_of_kubepods_nothing_is_marked(node: Node) -> None:
    outside = node.pods.parents[1] / "system.slice" / ("b" * 64)
    outside.mkdir(parents=True)
    node.process(outside)
    assert node.marked() == {}


def test_a_cgroup_below_a_containers_has_no_mark_of_its_own(node: Node) -> None:
    other = node.container("pod-2", "b" * 64)
    nested = other / "docker" / ("c" * 64)
    nested.mkdir(parents=True)
    node.process(nested)
    assert node.marked() == {number(other): FOREIGN}


def test_tasks_that_have_ended_do_not_matter(node: Node) -> None:
    other = node.container("pod-2", "b" * 64)
    with (other / "cgroup.procs").open("a") as file:
        file.write("77777\n")
    pid = node.process(other)
    (node.proc / f"{pid}/task/{pid}/ns/mnt").unlink()  # as a zombie
    assert node.marked() == {number(other): FOREIGN}


def test_marks_of_containers_that_went_are_taken_out(node: Node) -> None:
    other = node.container("pod-2", "b" * 64)
    scope_map = SmallMap()
    marks = node.marks(scope_map)
    look(marks, node.scope())
    assert scope_map.content == {number(other): FOREIGN}
    other.rename(other.parents[3] / "gone")
    look(marks, node.scope())
    assert scope_map.content == {}


def test_a_key_that_has_become_the_targets_is_not_taken_out_with_the_marks(node: Node) -> None:
    other = node.container("pod-2", "b" * 64)
    scope_map = SmallMap()
    marks = node.marks(scope_map)
    look(marks, node.scope())
    marks.forget(number(other))
    scope_map.set(number(other), 2)
    assert not marks.drop()
    assert scope_map.content == {number(other): 2}


def test_where_the_map_is_full_there_are_no_marks(node: Node) -> None:
    for each in range(3):
        node.container("pod-2", f"{each}" * 64)
    scope_map = SmallMap(room=2)
    marks = node.marks(scope_map)
    look(marks, node.scope())
    assert scope_map.content == {}
    scope_map.room = 4096
    look(marks, node.scope())
    assert scope_map.content == {}


def test_marks_leave_room(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "_MOST", 2)
    for each in range(3):
        node.container("pod-2", f"{each}" * 64)
    assert len(node.marked()) == 2


def test_a_look_takes_a_while_at_most_and_the_next_goes_on(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "_AT_ONCE", -1.0)
    node.container("pod-2", "b" * 64)
    node.container("pod-2", "c" * 64)
    scope_map = SmallMap()
    marks = node.marks(scope_map)
    counts = []
    while not look(marks, node.scope()):
        counts.append(len(scope_map.content))
    assert len(scope_map.content) == 2
    assert counts == sorted(counts)
    assert len(counts) == 2


def test_processes_are_seen_from_their_own_pid_namespace() -> None:
    assert os.stat("/proc/self/ns/pid").st_ino in set(foreign.pid_namespaces([os.getpid()]))
    assert list(foreign.pid_namespaces([1 << 30])) == []


def test_a_mount_namespace_of_another_user_namespace_is_not_ours() -> None:
    with open("/proc/self/ns/mnt") as ours:
        assert foreign.is_owned_by_ours(ours.fileno())
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", "echo in; read x"]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL) as other:
        assert other.stdin
        assert other.stdout
        if other.stdout.readline() != b"in\n":
            pytest.skip("this machine lets nobody make a user namespace")
        with open(f"/proc/{other.pid}/ns/mnt") as theirs:
            assert not foreign.is_owned_by_ours(theirs.fileno())
        other.stdin.close()
