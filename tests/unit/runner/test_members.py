"""Who is in scope, with folders for cgroups and sleeping processes for containers.

Real containers, cgroups and maps are in the end-to-end tests.
"""

from __future__ import annotations

import errno
import os
import select
import subprocess
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from kubectl_trace.program.scope import FOREIGN
from kubectl_trace.runner import cgroups, foreign, members, processes
from kubectl_trace.runner.bpfmap import Map
from kubectl_trace.runner.cgroups import Hierarchy
from kubectl_trace.runner.members import Members
from kubectl_trace.trace import Container

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kubectl_trace.runner.members import Present

APP = Container("default", "web", "app", "a" * 64, "uid-1")
SIDECAR = Container("default", "web", "sidecar", "b" * 64, "uid-1")


class FakeMap(Map):
    """What would be in the kernel."""

    def __init__(self) -> None:
        super().__init__(-1, 8, 8)
        self.__dict__.update(content={}, room=4096)
        self.content: dict[int, int]
        self.room: int

    def __setattr__(self, name: str, value: object) -> None:
        self.__dict__[name] = value

    def set(self, key: int, value: int) -> None:
        if key not in self.content and len(self.content) >= self.room:
            raise OSError(errno.E2BIG, "full")
        self.content[key] = value

    def remove(self, key: int) -> None:
        self.content.pop(key, None)


class Node:
    """A pod's cgroup, and what is in it."""

    def __init__(self, root: Path) -> None:
        self.hierarchy = Hierarchy(root, "cgroup")
        self.pod = root / "kubepods" / "poduid-1"
        self.pod.mkdir(parents=True)
        self.identities: dict[int, tuple[str, str]] = {}
        self.sleeping: list[subprocess.Popen[bytes]] = []
        self.said: list[tuple[list[str], list[str]]] = []
        self.begun: list[Present] = []

    def start(self, container_id: str, name: str) -> Path:
        """Starts a container; its cgroup."""
        process = subprocess.Popen(["sleep", "60"])
        self.sleeping.append(process)
        self.identities[process.pid] = ("uid-1", name)
        # As a whole, since cgroups have their processes at once or are empty.
        making = self.pod.parent / "making"
        making.mkdir()
        (making / "cgroup.procs").write_text(f"{process.pid}\n")
        return making.rename(self.pod / container_id)

    def end(self, cgroup: Path) -> None:
        """Ends a container."""
        for pid in (cgroup / "cgroup.procs").read_text().split():
            os.kill(int(pid), 9)
        for process in self.sleeping:
            if process.poll() is None and str(process.pid) in (cgroup / "cgroup.procs").read_text():
                process.wait()
        (cgroup / "cgroup.procs").unlink()
        cgroup.rmdir()

    def members(self, *containers: Container, by_task: bool = False) -> Members:
        return Members(
            containers,
            self.hierarchy,
            on_change=self._say,
            on_begun=self.begun.append,
            complain=pytest.fail,
            by_task=by_task,
        )

    def _say(self, joined: list[Present], left: list[Present]) -> None:
        self.said.append(
            ([each.container.container for each in joined], [e.container.container for e in left])
        )


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    made = Node(tmp_path)
    monkeypatch.setattr(members, "identify", made.identities.get)
    yield made
    for process in made.sleeping:
        process.kill()
        process.wait()


def tick_until(scope: Members, condition: Callable[[], bool]) -> None:
    """Does what the supervisor does, with a bound."""
    end = time.monotonic() + 10
    wait = 0.0
    while not condition():
        assert time.monotonic() < end
        select.select([scope], [], [], wait)
        wait = scope.tick()


def content(scope: Members) -> dict[int, int]:
    """What is in scope, as the program's map has it."""
    scope_map = FakeMap()
    scope.use(scope_map)
    return scope_map.content


def number(cgroup: Path) -> int:
    return cgroup.stat().st_ino


def test_what_runs_at_the_start_is_in_scope_by_its_cgroup(node: Node) -> None:
    app = node.start(APP.container_id, "app")
    node.start(SIDECAR.container_id, "sidecar")
    assert content(node.members(APP)) == {number(app): 1}


def test_a_mount_namespace_that_others_have_too_is_never_in_scope(node: Node) -> None:
    node.start(APP.container_id, "app")
    assert os.stat("/proc/self/ns/mnt").st_ino not in content(node.members(APP))


def test_the_programs_map_gets_all_that_is_in_scope(node: Node) -> None:
    app, sidecar = node.start(APP.container_id, "app"), node.start(SIDECAR.container_id, "sidecar")
    scope = node.members(APP, SIDECAR)
    scope_map = FakeMap()
    scope.use(scope_map)
    assert scope_map.content == {number(app): 1, number(sidecar): 2}


def test_a_container_that_is_started_anew_takes_its_predecessors_place(node: Node) -> None:
    app = node.start(APP.container_id, "app")
    scope, scope_map = node.members(APP), FakeMap()
    scope.use(scope_map)
    node.end(app)
    tick_until(scope, lambda: not scope_map.content)
    again = node.start("c" * 64, "app")
    tick_until(scope, lambda: scope_map.content == {number(again): 1})
    assert node.said == [([], ["app"]), (["app"], [])]


def test_another_container_of_the_pod_stays_outside(node: Node) -> None:
    app = node.start(APP.container_id, "app")
    scope, scope_map = node.members(APP), FakeMap()
    scope.use(scope_map)
    node.start("c" * 64, "sidecar")
    node.end(app)
    tick_until(scope, lambda: not scope_map.content)


def test_a_cgroup_inside_the_containers_is_in_scope(node: Node) -> None:
    app = node.start(APP.container_id, "app")
    scope, scope_map = node.members(APP), FakeMap()
    scope.use(scope_map)
    inner = app / "inner"
    inner.mkdir()
    tick_until(scope, lambda: scope_map.content == {number(app): 1, number(inner): 1})


def test_containers_join_and_leave_on_request_and_keep_their_numbers(node: Node) -> None:
    app, sidecar = node.start(APP.container_id, "app"), node.start(SIDECAR.container_id, "sidecar")
    scope, scope_map = node.members(APP), FakeMap()
    scope.use(scope_map)
    scope.set_containers([APP, SIDECAR])
    scope.tick()
    assert scope_map.content == {number(app): 1, number(sidecar): 2}
    scope.set_containers([SIDECAR])
    scope.tick()
    assert scope_map.content == {number(sidecar): 2}
    scope.set_containers([SIDECAR, APP])
    scope.tick()
    assert scope_map.content == {number(app): 1, number(sidecar): 2}
    assert node.said == [(["sidecar"], []), ([], ["app"]), (["app"], [])]


def test_a_container_that_may_not_be_traced_does_not_join(node: Node) -> None:
    app = node.start(APP.container_id, "app")
    node.start(SIDECAR.container_id, "sidecar")
    scope = Members(
        [APP],
        node.hierarchy,
        on_change=lambda joined, left: None,
        on_begun=node.begun.append,
        complain=pytest.fail,
        permitted=lambda containers: tuple(each for each in containers if each == APP),
    )
    scope_map = FakeMap()
    scope.use(scope_map)
    scope.set_containers([APP, SIDECAR])
    scope.tick()
    assert scope_map.content == {number(app): 1}


def test_a_pod_that_is_announced_before_its_container_runs_joins_when_it_does(node: Node) -> None:
    node.start(APP.container_id, "app")
    scope, scope_map = node.members(APP), FakeMap()
    scope.use(scope_map)
    other = Container("default", "web-2", "app", "", "uid-2")
    scope.set_containers([APP, other])
    scope.tick()
    assert list(scope_map.content.values()) == [1]
    # Its pod's cgroup is one that nobody has looked at yet.
    node.pod = node.pod.parent / "poduid-2"
    node.pod.mkdir()
    cgroup = node.start("c" * 64, "app")
    scope.set_containers([APP, msgspec.structs.replace(other, container_id="c" * 64)])
    scope.tick()
    assert scope_map.content[number(cgroup)] == 2


@pytest.fixture
def harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes that stand for containers' are ours: let them seem to be kept out."""
    monkeypatch.setattr(foreign, "_is_kept_out", lambda task, target: True)
    monkeypatch.setattr(foreign, "_AT_ONCE", 60.0)


@pytest.mark.usefixtures("harmless")
def test_other_containers_are_marked_and_one_that_joins_is_in_scope(node: Node) -> None:
    app, sidecar = node.start(APP.container_id, "app"), node.start(SIDECAR.container_id, "sidecar")
    scope, scope_map = node.members(APP), FakeMap()
    scope.use(scope_map)
    assert scope_map.content == {number(app): 1}
    scope.tick()
    assert scope_map.content == {number(app): 1, number(sidecar): FOREIGN}
    scope.set_containers([APP, SIDECAR])
    tick_until(scope, lambda: scope_map.content == {number(app): 1, number(sidecar): 2})
    scope.set_containers([APP])
    scope.tick()
    assert scope_map.content == {number(app): 1}


@pytest.mark.usefixtures("harmless")
def test_a_client_that_says_the_same_again_changes_nothing(node: Node) -> None:
    app = node.start(APP.container_id, "app")
    sidecar = node.start("c" * 64, "sidecar")
    other = Container("default", "web-2", "app", "", "uid-2")
    for told in ([APP], [APP, other]):
        scope, scope_map = node.members(APP), FakeMap()
        scope.use(scope_map)
        scope.set_containers(told)
        scope.tick()
        assert scope_map.content == {number(app): 1, number(sidecar): FOREIGN}
        scope.set_containers(told)
        assert scope_map.content == {number(app): 1, number(sidecar): FOREIGN}


def test_only_a_container_that_is_new_is_searched_for(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.start(APP.container_id, "app")
    sidecar = node.start(SIDECAR.container_id, "sidecar")
    scope, scope_map = node.members(APP), FakeMap()
    scope.use(scope_map)
    searched = []
    search = cgroups.directory

    def directory(root: Path, container_id: str) -> Path | None:
        searched.append(container_id)
        return search(root, container_id)

    monkeypatch.setattr(cgroups, "directory", directory)
    scope.set_containers([APP, SIDECAR])
    scope.tick()
    assert scope_map.content[number(sidecar)] == 2
    assert searched == [SIDECAR.container_id]


@pytest.mark.usefixtures("harmless")
def test_a_container_that_is_started_anew_is_never_foreign(node: Node) -> None:
    app = node.start(APP.container_id, "app")
    node.start(SIDECAR.container_id, "sidecar")
    scope, scope_map = node.members(APP), FakeMap()
    scope.use(scope_map)
    scope.tick()
    seen = set()
    node.end(app)
    again = node.start("c" * 64, "app")

    def is_in() -> bool:
        scope.look_soon()
        seen.add(scope_map.content.get(number(again), 0))
        return scope_map.content.get(number(again)) == 1

    tick_until(scope, is_in)
    assert FOREIGN not in seen


@pytest.mark.usefixtures("harmless")
@pytest.mark.parametrize("how", ["full", "namespace", "by cgroup v1", "by task"])
def test_where_marks_could_hurt_there_are_none(
    node: Node, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = node.start(APP.container_id, "app")
    node.start(SIDECAR.container_id, "sidecar")
    if how == "by cgroup v1":
        node.hierarchy = Hierarchy(node.hierarchy.root, "another expression")
    scope, scope_map = node.members(APP, by_task=how == "by task"), FakeMap()
    scope.use(scope_map)
    if how == "namespace":
        (instance,) = scope._instances.values()
        monkeypatch.setattr(type(instance), "namespaces", {1: os.open("/dev/null", os.O_RDONLY)})
    if how == "full":
        scope.tick()
        assert len(scope_map.content) == 2
        scope_map.room = 2
        inner = app / "inner"
        inner.mkdir()
        tick_until(scope, lambda: number(inner) in scope_map.content)
        assert scope_map.content == {number(app): 1, number(inner): 1}
    scope.tick()
    assert FOREIGN not in scope_map.content.values()


def test_by_task_the_containers_threads_are_in_scope(node: Node) -> None:
    node.start(APP.container_id, "app")
    (process,) = node.sleeping
    assert content(node.members(APP, by_task=True)) == {process.pid: 1}


def test_by_process_its_descendants_are_in_scope(node: Node) -> None:
    shell = subprocess.Popen(["sh", "-c", "echo ready; sleep 60; :"], stdout=subprocess.PIPE)
    node.sleeping.append(shell)
    assert shell.stdout is not None
    with shell.stdout as said:
        said.readline()
    scope = Members(
        [],
        None,
        on_change=node._say,
        on_begun=node.begun.append,
        complain=pytest.fail,
        by_task=True,
        root=processes.read(shell.pid),
    )
    scope_map = FakeMap()
    scope.use(scope_map)
    tick_until(scope, lambda: len(scope_map.content) == 2)
    (child,) = scope_map.content.keys() - {shell.pid}
    os.kill(child, 9)
    assert node.said == []


@pytest.mark.parametrize("by_task", [True, False])
def test_a_scope_may_be_of_nobody_for_a_while(node: Node, *, by_task: bool) -> None:
    node.start(APP.container_id, "app")
    scope = node.members(APP, by_task=by_task)
    scope_map = FakeMap()
    scope.use(scope_map)
    before = dict(scope_map.content)
    assert set(before.values()) == {1}
    scope.tick()
    scope.set_containers(())
    scope.tick()
    assert scope_map.content == {}
    scope.set_containers([APP])
    scope.tick()
    assert scope_map.content == before
    assert node.said == [([], ["app"]), (["app"], [])]
