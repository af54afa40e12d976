"""Who is in scope on this node: the target's containers, as they start, restart and end.

A container is known by its pod's UID and its name, so that the one which the kubelet starts after
another ended is known, too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kubectl_trace.errors import StartError
from kubectl_trace.program import scope
from kubectl_trace.runner import cgroups, foreign, processes, syscalls
from kubectl_trace.runner.instance import Instance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kubectl_trace.runner.bpfmap import Map
    from kubectl_trace.runner.cgroups import Hierarchy
    from kubectl_trace.runner.processes import Process
    from kubectl_trace.trace import Container


_PERIOD = 1.0
"""Seconds between two looks at everything, for what no event tells."""
_PERIOD_BY_TASK = 0.05
"""The same where a task that comes from outside (kubectl exec) is seen by looking only."""
_PERIOD_OF_MARKS = 5.0
"""Seconds between two looks at other containers: new ones only cost more until they are marked."""
_SHARE, _SHARE_BY_TASK = 0.02, 0.1
"""Of a CPU, at most, that looking takes where it takes long."""
_SOON = 0.005
"""Seconds until a new cgroup, whose container isn't known yet, is looked at again; then later and
later, by a part of its age."""
_PASSES = 3
"""How often a container's threads are looked for that it has forked while it left."""
_PATIENCE = 10.0
"""Seconds after which a new cgroup is none of a container: the pod's sandbox has one, too."""

# The kubelet mounts a file of its own into each container, /dev/termination-log, from
# <root>/pods/UID/containers/NAME/ID (pkg/kubelet/kubelet_getters.go: getPodContainerDir).
_KUBELETS_FILE = re.compile(r"/pods/([^/ ]+)/containers/([^/ ]+)/[0-9a-f]+ ")


def identify(pid: int) -> tuple[str, str] | None:
    """The UID of the pod and the name of the container that a process is in, if it shows."""
    try:
        mounts = Path(f"/proc/{pid}/mountinfo").read_text(errors="replace")
    except OSError:
        return None
    found = _KUBELETS_FILE.search(mounts)
    return (found[1], found[2]) if found else None


def has_begun(pid: int) -> bool:
    """Whether a container's first process runs the container's program, not the runtime's."""
    try:
        exe = os.stat(f"/proc/{pid}/exe")
        inside = os.stat(f"/proc/{pid}/root{os.readlink(f'/proc/{pid}/exe')}")
    except OSError:
        return False
    return (exe.st_dev, exe.st_ino) == (inside.st_dev, inside.st_ino)


@dataclass(frozen=True)
class Present:
    """A container of the scope that runs, or ran until now."""

    number: int
    container: Container
    pid: int
    """Its first process."""


class Members:
    """Keeps a program's scope map up to date."""

    def __init__(
        self,
        containers: Sequence[Container],
        hierarchy: Hierarchy | None,
        *,
        on_change: Callable[[list[Present], list[Present]], None],
        on_begun: Callable[[Present], None],
        complain: Callable[[str], None],
        by_task: bool = False,
        root: Process | None = None,
        permitted: Callable[[Iterable[Container]], tuple[Container, ...]] = tuple,
    ) -> None:
        """Begins with what runs now.

        Args:
            containers: The target's; their numbers are their places here, from 1.
            hierarchy: Where they have cgroups; None: nobody knows.
            on_change: Called with the containers that came and those that went.
            on_begun: Called with a container that came, once it runs its own program.
            complain: Called with what the user should know.
            by_task: The map's keys are thread IDs, not namespaces and cgroups.
            root: Instead of containers, this process and those that it starts; by task only.
            permitted: Those of the containers that come later which may be in scope.
        """
        self._permitted = permitted
        self._told = tuple(containers)
        self.containers = list(containers)
        self._by_process = root is not None
        self._inactive: set[int] = set()
        self._hierarchy = hierarchy
        self._by_task = by_task
        is_seen_by_looking = by_task and root is None
        self._period = _PERIOD_BY_TASK if is_seen_by_looking else _PERIOD
        self._share = _SHARE_BY_TASK if is_seen_by_looking else _SHARE
        self._on_change = on_change
        self._on_begun = on_begun
        self._complain = complain
        self._beginning: dict[Present, float] = {}
        self._map: Map | None = None
        self._marks: foreign.Marks | None = None
        self._marks_next = 0.0
        self._full = False
        self._instances: dict[str, Instance] = {}
        self._undecided: dict[Path, float] = {}
        self._others: set[Path] = set()  # of the target's pods, but not in scope
        self._pods: set[Path] = set()
        self._epoll = select.epoll()
        self._inotify = syscalls.inotify_init()
        self._epoll.register(self._inotify, select.EPOLLIN)
        self._firsts: set[int] = set()  # pidfds of first processes
        self._next = 0.0
        found: dict[str, Path] = {}
        if hierarchy is not None:
            ids = [container.container_id for container in self.containers]
            found = cgroups.directories(hierarchy.root, ids)
        for number, container in enumerate(self.containers, 1):
            self._add(container.container_id, number, found.get(container.container_id))
        if root is not None:
            self._instances[""] = Instance(1, "", root=root)
        self._look()

    @property
    def in_use(self) -> bool:
        """Whether there is a map to keep up to date."""
        return self._map is not None

    def fileno(self) -> int:
        """Becomes readable when it is time for `tick`."""
        return self._epoll.fileno()

    def use(self, scope_map: Map) -> None:
        """Writes all to the program's map, and keeps it up to date from now on.

        Raises:
            StartError: the map is too small.
        """
        self._map = scope_map
        if self._hierarchy and self._hierarchy.expression == scope.CGROUP2 and not self._by_task:
            self._marks = foreign.Marks(scope_map, self._hierarchy.root, identify)
        for instance in self._instances.values():
            if not self._put(instance.keys, instance.number):
                raise StartError(
                    "the program's maps are too small for the scope (BPFTRACE_MAX_MAP_KEYS)"
                )
        self.look_soon()

    def look_soon(self) -> None:
        """Lets the next `tick` look at everything."""
        self._next = 0.0

    def drop_ended(self) -> None:
        """Takes threads out that ended before the program could see it."""
        for instance in self._instances.values():
            if self._by_task:
                self._take_out(key for key in instance.keys if not Path(f"/proc/{key}").exists())
        self.look_soon()

    def clear(self) -> None:
        """Takes everything out of the program's map, also what the program itself put in."""
        self._marks = None
        if self._map is not None:
            self._map.clear()

    def close(self) -> None:
        """Lets go of everything."""
        for instance in self._instances.values():
            instance.end()
            instance.release()
        for fd in (*self._firsts, self._inotify):
            os.close(fd)
        self._epoll.close()
        if self._map is not None:
            os.close(self._map.fd)
            self._map = None

    def set_containers(self, containers: Iterable[Container]) -> None:
        """Lets these containers be the scope; those that were in it keep their numbers."""
        told = tuple(containers)
        if told == self._told:  # a client says the same again and again
            return
        self._told = told
        wanted = {_name(container): container for container in self._permitted(told)}
        for number, container in enumerate(self.containers, 1):
            if new := wanted.pop(_name(container), None):
                self._inactive.discard(number)
                if new.container_id:  # it had none before it ran, and another one after a restart
                    self.containers[number - 1] = new
            else:
                self._inactive.add(number)
        self.containers += wanted.values()
        for number, container in enumerate(self.containers, 1):
            if number not in self._inactive:
                self._add(container.container_id, number)
        self._others.clear()
        if self._marks is not None:
            self._marks.drop()
            self._marks_next = 0.0
        self.look_soon()

    def tick(self) -> float:
        """Looks at what has happened, if anything did; seconds until the next time."""
        before = self._present()
        now = time.monotonic()
        pods = {cgroup.parent for cgroup in self._undecided}
        if self._happened() or now >= self._next or any(list(map(self._look_for_new, pods))):
            self._look()
            self._next = now + max(self._period, (time.monotonic() - now) / self._share)
        after = self._present()
        joined = [present for key, present in after.items() if key not in before]
        left = [present for key, present in before.items() if key not in after]
        if joined or left:
            self._on_change(joined, left)
            self._beginning |= dict.fromkeys(joined, now)
        self._look_at_beginning(now)
        self._mark_others()
        return min(self._next - now, *(max(_SOON, age / 20) for age in self._ages(now)), _PERIOD)

    def _ages(self, now: float) -> Iterator[float]:
        return (now - since for since in self._undecided.values())

    def _present(self) -> dict[str, Present]:
        """The containers that run, by container ID."""
        return {
            instance.container_id: Present(
                instance.number,
                msgspec.structs.replace(
                    self.containers[instance.number - 1], container_id=instance.container_id
                ),
                instance.first_pid,
            )
            for instance in self._instances.values()
            if instance.keys and instance.root is None
        }

    def _look_at_beginning(self, now: float) -> None:
        for present, since in list(self._beginning.items()):
            if has_begun(present.pid) or now - since > _PATIENCE:
                del self._beginning[present]
                self._on_begun(present)

    def _happened(self) -> bool:
        """Whether a cgroup came or went or a container's first process ended."""
        ready = [fd for fd, _ in self._epoll.poll(0)]
        with contextlib.suppress(BlockingIOError):
            while os.read(self._inotify, 65536):
                pass
        for fd in ready:
            if fd in self._firsts:
                self._epoll.unregister(fd)
                self._firsts.discard(fd)
                os.close(fd)
        return bool(ready)

    # What there is.

    def _add(self, container_id: str, number: int, cgroup: Path | None = None) -> None:
        if not container_id or container_id in self._instances:
            return
        if cgroup is None and self._hierarchy is not None:
            cgroup = cgroups.directory(self._hierarchy.root, container_id)  # looks at all there are
        if cgroup in self._cgroups():
            return
        self._instances[container_id] = Instance(number, container_id, cgroup)
        if cgroup is not None:
            self._pods.add(cgroup.parent)
            self._watch(cgroup.parent)

    def _cgroups(self) -> set[Path]:
        return {each.cgroup for each in self._instances.values() if each.cgroup is not None}

    def _look(self) -> None:
        for pod in list(self._pods):
            self._look_for_new(pod)
        for container_id, instance in list(self._instances.items()):
            pids = [] if instance.number in self._inactive else instance.pids()
            if pids:
                self._update(instance, pids)
            elif instance.cgroup is None or not instance.cgroup.exists() or instance.keys:
                self._leave(instance)
                del self._instances[container_id]
        if self._hierarchy is None and not self._by_process:
            self._look_at_all()

    def _look_for_new(self, pod: Path) -> bool:
        """Finds containers of the target among the cgroups of a pod; whether there are new ones."""
        found = False
        known = self._cgroups()
        try:
            children = [Path(entry.path) for entry in os.scandir(pod) if entry.is_dir()]
        except FileNotFoundError:
            self._pods.discard(pod)
            return False
        now = time.monotonic()
        for child in children:
            if child in known or child in self._others:
                continue
            identity = next(filter(None, map(identify, cgroups.processes(child))), None)
            if identity is None:
                since = self._undecided.setdefault(child, now)
                if now - since > _PATIENCE:
                    del self._undecided[child]
                    self._others.add(child)
                continue
            self._undecided.pop(child, None)
            number = self._number(identity)
            if number:
                self._add(processes.container_id(child.name), number, child)
                found = True
            else:
                self._others.add(child)
        for gone in [path for path in self._undecided if path not in children]:
            if gone.parent == pod:
                del self._undecided[gone]
        return found

    def _look_at_all(self) -> None:
        """Finds containers of the target by their processes, where no cgroups are to be seen."""
        ids = {container.container_id for container in self.containers}
        for container_id, pid in processes.by_container().items():
            if container_id in self._instances or container_id in ids:
                continue
            identity = identify(pid)
            if identity and (number := self._number(identity)):
                self._add(container_id, number)

    def _number(self, identity: tuple[str, str]) -> int:
        for number, container in enumerate(self.containers, 1):
            if (container.pod_uid, container.container) == identity:
                return 0 if number in self._inactive else number
        return 0

    def _mark_others(self) -> None:
        """Marks the node's other containers in the map, so that their tasks cost little."""
        now = time.monotonic()
        if self._marks is None or now < self._marks_next:
            return
        is_done = not self._is_marking_safe() or self._marks.look(
            self._target(), lambda identity: self._number(identity) != 0
        )
        pause = _PERIOD_OF_MARKS if is_done else 0
        self._marks_next = now + max(pause, (time.monotonic() - now) / _SHARE)

    def _is_marking_safe(self) -> bool:
        """Whether others can't enter the target's mount namespaces (see `foreign`)."""
        assert self._marks is not None
        namespaces = [fd for each in self._instances.values() for fd in each.namespaces.values()]
        if all(map(foreign.is_owned_by_ours, namespaces)):
            return True
        self._marks.end()
        self._marks = None
        return False

    def _target(self) -> foreign.Target:
        every = list(self._instances.values())
        return foreign.Target(
            cgroups=frozenset(self._cgroups()),
            container_ids=frozenset(
                (*self._instances, *(each.container_id for each in self.containers))
            ),
            keys=frozenset(key for each in every for key in each.keys),
            pid_namespaces=frozenset(
                foreign.pid_namespaces(pid for each in every for pid in each.pids())
            ),
        )

    # What belongs to a container that runs.

    def _update(self, instance: Instance, pids: list[int]) -> None:
        if instance.cgroup is not None:
            for cgroup in cgroups.descendants(instance.cgroup):
                self._watch(cgroup)
        if not instance.first_pid:
            self._watch_first(instance, pids)
        if self._by_task:
            # Those that are gone, the program itself takes out.
            self._put_new(instance.look_at_threads(pids), instance.number)
            return
        new, gone = instance.look(pids)
        self._take_out(gone)
        if self._marks is not None and new:
            self._is_marking_safe()
        self._put_new(new, instance.number)
        instance.release()

    def _put(self, keys: Iterable[int], number: int) -> bool:
        """Puts keys into the map, if it is there; whether they have room."""
        if self._map is None:
            return True
        for key in keys:
            if not self._set(key, number):
                return False
            if self._by_task and not Path(f"/proc/{key}").exists():
                self._map.remove(key)  # it ended before it was in
        return True

    def _set(self, key: int, number: int) -> bool:
        assert self._map is not None
        if self._marks is not None:
            self._marks.forget(key)
        while True:
            try:
                self._map.set(key, number)
            except OSError as error:
                if error.errno != errno.E2BIG:
                    raise
                # Who is in scope comes before who is not.
                if self._marks is None or not self._marks.end():
                    return False
            else:
                return True

    def _put_new(self, keys: Iterable[int], number: int) -> None:
        """Puts keys into the map while the program runs; says once if they have no room."""
        if not self._put(keys, number) and not self._full:
            self._full = True
            self._complain(
                "not all of the target is in scope: the program's maps are too small for it "
                "(BPFTRACE_MAX_MAP_KEYS)"
            )

    def _take_out(self, keys: Iterable[int]) -> None:
        if self._map is not None:
            for key in keys:
                self._map.remove(key)

    def _leave(self, instance: Instance) -> None:
        if self._by_task and instance.number in self._inactive:
            # It goes on running, and what it forks until its own threads are out is in, too.
            self._take_out(instance.keys)
            for _ in range(_PASSES):
                self._take_out(instance.look_at_threads(instance.pids()))
        gone = instance.end()
        if not self._by_task:
            self._take_out(gone)
        instance.release()

    def _watch(self, cgroup: Path) -> None:
        with contextlib.suppress(OSError):
            mask = syscalls.IN_CREATE | syscalls.IN_DELETE
            syscalls.inotify_add_watch(self._inotify, cgroup, mask)

    def _watch_first(self, instance: Instance, pids: list[int]) -> None:
        """Wakes us when the container's first process ends."""
        found = [process for process in map(processes.read, pids) if process]
        if not found:
            return
        instance.first_pid = processes.first_process(found).pid
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(instance.first_pid)
            self._firsts.add(fd)
            self._epoll.register(fd, select.EPOLLIN)


def _name(container: Container) -> tuple[str, str]:
    return container.pod_uid, container.container
