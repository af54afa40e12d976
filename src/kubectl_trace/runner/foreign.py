"""Containers of the node that are none of the scope's, marked in its map: their tasks cost little.

A marked cgroup's tasks are not asked for their mount namespace, so none of them may ever have one
of the scope's. That needs setns(2), and for it (fs/namespace.c: mntns_install) CAP_SYS_ADMIN in the
user namespace that owns the mount namespace. So a cgroup is marked only if

- it is a container's of another one than the target, as the kubelet has named it,
- no task in it has that capability or can get it back, has a mount namespace of the scope, or sees
  the target's processes (a PID namespace above theirs, or the same),
- the mount namespaces of the scope are owned by the user namespace that we are in.

All else is left out and decided by its namespace: pods with privileges, what runs outside of pods,
a pod's sandbox, cgroups below a container's. What only root on the node can do, put a task with a
mount namespace of the target into the cgroup of another container, makes it that container's.

A mark need not be removed before its number means something else: since Linux 5.5 it is counted up
in 64 bits and never comes again (fs/kernfs/dir.c: kernfs_new_node); before, BPF code sees numbers
that have the upper bits, too, and stat(2) has not, so that no mark meets a task.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kubectl_trace.program import scope
from kubectl_trace.runner import cgroups, processes
from kubectl_trace.runner.processes import PROC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kubectl_trace.runner.bpfmap import Map

    Identity = tuple[str, str]

_MOST = 1024
"""Marks in a map, which has room for 4,096 keys unless the user says something else."""
_AT_ONCE = 0.02
"""Seconds that a look may take; the next one goes on."""
_MANY = 500
"""Tasks. A container that has more is left out: looking at it would take too long."""
_PASSES = 3
"""How often a container's tasks are listed until there are no new ones."""
_CAP_SYS_ADMIN = 1 << 21  # <linux/capability.h>
_NS_GET_USERNS, _NS_GET_PARENT = 0xB701, 0xB702  # <linux/nsfs.h>
_SETS = ("Inh", "Prm", "Bnd")  # the others are parts of the permitted one: capabilities(7)
_CAPABILITIES = re.compile(rf"^Cap(?:{'|'.join(_SETS)}):\s*([0-9a-f]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Target:
    """What others must have nothing of."""

    cgroups: frozenset[Path]
    container_ids: frozenset[str]
    keys: frozenset[int]
    """Of mount namespaces and cgroups."""
    pid_namespaces: frozenset[int]
    """From which its processes are to be seen."""


class Marks:
    """The marks in one map."""

    def __init__(
        self,
        scope_map: Map,
        root: Path,
        identify: Callable[[int], Identity | None],
        proc: Path = PROC,
    ) -> None:
        """Begins without any.

        Args:
            scope_map: The map.
            root: Of the hierarchy of cgroups.
            identify: Which container a process is of; None: it does not show.
            proc: Where processes are to be seen.
        """
        self._map = scope_map
        self._root = root
        self._identify = identify
        self._proc = proc
        self._keys: dict[Path, int] = {}
        self._left: list[Path] = []
        """To be looked at in this round."""
        self._ended = False

    def look(self, target: Target, is_target: Callable[[Identity], bool]) -> bool:
        """Marks containers that came and takes out those that went; whether all are looked at.

        Args:
            target: What is in scope.
            is_target: Whether a container is to be in scope, by what `identify` says.
        """
        if self._ended:
            return True
        end = time.monotonic() + _AT_ONCE
        if not self._left:
            there = set(_neighbours(target.cgroups, self._root))
            for gone in self._keys.keys() - there:
                self._map.remove(self._keys.pop(gone))
            self._left = sorted(there - self._keys.keys())
        while self._left and len(self._keys) < _MOST:
            cgroup = self._left.pop()
            if not _is_of(cgroup, target) and self._is_foreign(cgroup, target, is_target):
                self._mark(cgroup)
            if time.monotonic() > end:
                return not self._left
        self._left.clear()
        return True

    def forget(self, key: int) -> None:
        """Knows that the map has something else there."""
        for cgroup in [cgroup for cgroup, mark in self._keys.items() if mark == key]:
            del self._keys[cgroup]

    def drop(self) -> bool:
        """Takes them out of the map, to be made anew; whether there were any."""
        had = bool(self._keys)
        for key in self._keys.values():
            self._map.remove(key)
        self._keys.clear()
        self._left.clear()
        return had

    def end(self) -> bool:
        """Takes them out of the map and makes none any more; whether there were any."""
        self._ended = True
        return self.drop()

    def _mark(self, cgroup: Path) -> None:
        try:
            number = cgroups.number(cgroup)
            self._map.set(number, scope.FOREIGN)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            self.end()
        else:
            self._keys[cgroup] = number

    def _is_foreign(
        self, cgroup: Path, target: Target, is_target: Callable[[Identity], bool]
    ) -> bool:
        """Whether all its tasks are of one other container and can't be in scope, now or later."""
        found: dict[int, Identity | None] = {}
        seen: set[tuple[int, int]] = set()
        for _ in range(_PASSES):
            # What these fork meanwhile, the next pass sees.
            try:
                new = set(itertools.islice(self._tasks(cgroup), _MANY + 1)) - seen
            except OSError:
                return False  # such as a threaded cgroup's, whose processes are not to be had
            if len(seen) + len(new) > _MANY:
                return False
            if not new:
                identities = set(found.values())
                return len(identities) == 1 and not any(
                    identity is None or is_target(identity) for identity in identities
                )
            for pid, tid in new:
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                    if not _is_kept_out(self._proc / f"{pid}/task/{tid}", target):
                        return False
                    if pid not in found:
                        found[pid] = self._identify(pid)
            seen |= new
        return False

    def _tasks(self, cgroup: Path) -> Iterator[tuple[int, int]]:
        """The threads of a cgroup and those below, with their processes."""
        for pid in cgroups.processes(cgroup):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                yield from ((pid, int(tid)) for tid in os.listdir(self._proc / f"{pid}/task"))


def pid_namespaces(pids: Iterable[int]) -> Iterator[int]:
    """The PID namespaces from which processes are to be seen: theirs, and those above."""
    for pid in pids:
        try:
            fd = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        while fd >= 0:
            yield os.fstat(fd).st_ino
            above = _related(fd, _NS_GET_PARENT)
            os.close(fd)
            fd = above


def is_owned_by_ours(namespace: int) -> bool:
    """Whether a mount namespace, given as a file descriptor, is of the user namespace we are in."""
    owner = _related(namespace, _NS_GET_USERNS)
    if owner < 0:
        return False
    try:
        return os.fstat(owner).st_ino == os.stat("/proc/self/ns/user").st_ino
    finally:
        os.close(owner)


def _related(namespace: int, request: int) -> int:
    """A namespace's owner or parent as a file descriptor; -1: it is not to be had (ioctl_ns(2))."""
    try:
        return fcntl.ioctl(namespace, request)
    except OSError:
        return -1


def _neighbours(known: Iterable[Path], root: Path) -> Iterator[Path]:
    """The cgroups of containers below the same `kubepods` as these."""
    above = (
        [each for each in cgroup.parents if root in each.parents and "kubepods" in each.name]
        for cgroup in known
    )
    for top in {found[-1] for found in above if found}:
        for path, names, _ in os.walk(top):
            containers = {name for name in names if processes.has_container_id(name)}
            names[:] = [name for name in names if name not in containers]
            yield from (Path(path, name) for name in containers if processes.MONITOR not in name)


def _is_of(cgroup: Path, target: Target) -> bool:
    return (
        processes.container_id(cgroup.name) in target.container_ids
        or cgroup in target.cgroups
        or not target.cgroups.isdisjoint(cgroup.parents)
    )


def _is_kept_out(task: Path, target: Target) -> bool:
    """Whether a thread is in no mount namespace of the scope and can enter none.

    Raises:
        FileNotFoundError, ProcessLookupError: it has ended.
    """
    try:
        mount, above = _namespace(task / "ns" / "mnt"), _namespace(task / "ns" / "pid")
        found = _CAPABILITIES.findall((task / "status").read_text(errors="replace"))
    except (FileNotFoundError, ProcessLookupError):
        raise
    except OSError:
        return False
    return (
        len(found) == len(_SETS)
        and not any(int(each, 16) & _CAP_SYS_ADMIN for each in found)
        and mount not in target.keys
        and above not in target.pid_namespaces
    )


def _namespace(link: Path) -> int:
    """Its number, which the link has in brackets: namespaces(7)."""
    return int(os.readlink(link).partition("[")[2].rstrip("]"))
