"""A container that runs, and what makes a task belong to it.

Its mount namespaces, its cgroups or, where the kernel's types can't be used in programs, the IDs of
its threads: the keys of a program's scope map (see `program.scope`).
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kubectl_trace.runner import cgroups, processes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_MNT_NAMESPACE = re.compile(r"mnt:\[(\d+)\]")


@dataclass
class Instance:
    """What the runtime knows by one container ID; or a process and those that it starts."""

    number: int
    container_id: str
    cgroup: Path | None = None
    root: processes.Process | None = None
    """Not a container, but this process and its descendants."""
    first_pid: int = 0
    keys: set[int] = field(default_factory=set)
    """What is in scope of it, as of the last look."""
    _held: dict[int, int] = field(default_factory=dict)
    """Mount namespaces, by number, as file descriptors. While one is open, the kernel gives its
    number to no other."""
    _shared: set[tuple[int, int]] = field(default_factory=set)
    """Processes and their namespaces, which others outside have, too."""

    @property
    def namespaces(self) -> dict[int, int]:
        """Its mount namespaces, by number, as file descriptors."""
        return dict(self._held)

    def pids(self) -> list[int]:
        """Its processes."""
        if self.root is not None:
            now = processes.read(self.root.pid)
            same = now is not None and now.start_time == self.root.start_time
            return processes.descendants(self.root.pid) if same else []
        if self.cgroup is not None:
            return cgroups.processes(self.cgroup)
        return [process.pid for process in processes.of_container(self.container_id)]

    def look_at_threads(self, pids: Iterable[int]) -> set[int]:
        """Finds out what is in scope, by thread; the keys that are new."""
        found = set(_threads(pids))
        new = found - self.keys
        self.keys = found
        return new

    def look(self, pids: list[int]) -> tuple[set[int], set[int]]:
        """Finds out what is in scope, by mount namespace and cgroup; keys that are new, and gone.

        Those that are gone must be out of the scope's map before `release` is called.
        """
        found = {inum for pid in pids if (inum := self._hold(pid, pids)) is not None}
        if self.cgroup is not None:
            for cgroup in cgroups.descendants(self.cgroup):
                with contextlib.suppress(FileNotFoundError):
                    found.add(cgroups.number(cgroup))
        new, gone = found - self.keys, self.keys - found
        self.keys = found
        return new, gone

    def end(self) -> set[int]:
        """Lets nothing be in scope any more; the keys that are gone."""
        gone, self.keys = self.keys, set()
        return gone

    def release(self) -> None:
        """Closes the namespaces that are not in scope any more."""
        for inum in self._held.keys() - self.keys:
            os.close(self._held.pop(inum))

    def _hold(self, pid: int, pids: list[int]) -> int | None:
        """Holds a process's mount namespace open; its number, unless others outside have it, too.

        One in the container's cgroup may be on its way in or out, such as runc, or nsenter.
        """
        inum = _mount_namespace(pid)
        if inum is None or inum in self._held:
            return inum
        if (pid, inum) in self._shared:
            return None
        try:
            fd = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        # From now on nobody else gets the number: was it the container's process that had it?
        now = self.pids()
        if pid not in now or _mount_namespace(pid) != inum or os.fstat(fd).st_ino != inum:
            os.close(fd)
            return None
        if _has_others(inum, {*pids, *now}):
            os.close(fd)
            self._shared.add((pid, inum))
            return None
        self._held[inum] = fd
        return inum


def _mount_namespace(pid: int) -> int | None:
    try:
        found = _MNT_NAMESPACE.fullmatch(os.readlink(f"/proc/{pid}/ns/mnt"))
    except OSError:
        return None
    return int(found[1]) if found else None


def _has_others(inum: int, pids: set[int]) -> bool:
    """Whether a process that is none of these has the mount namespace."""
    return any(
        int(name) not in pids and _mount_namespace(int(name)) == inum
        for name in os.listdir("/proc")
        if name.isdigit()
    )


def _threads(pids: Iterable[int]) -> Iterator[int]:
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield from map(int, os.listdir(f"/proc/{pid}/task"))
