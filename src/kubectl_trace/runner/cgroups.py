"""Containers' cgroups: where they are, who is in them, how BPF code names them.

Formats: cgroups(7), proc_pid_mountinfo(5).
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kubectl_trace.program import scope
from kubectl_trace.runner.processes import MONITOR, PROC

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LINKS_OF_A_LEAF = 2


@dataclass(frozen=True)
class Hierarchy:
    """A hierarchy in which containers have cgroups of their own."""

    root: Path
    expression: str
    """The current task's cgroup there, for a program (see `program.scope`)."""


def hierarchy(pid: int, container_id: str, proc: Path = PROC) -> Hierarchy | None:
    """A hierarchy in which the container of this process has a cgroup; None if none is mounted."""
    try:
        membership = (proc / str(pid) / "cgroup").read_text(errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    mounted = dict(_mounted(proc))
    numbers = _subsystems(proc)
    # The unified hierarchy is the last line: 0::/path
    for line in reversed(membership):
        _, controllers, path = line.split(":", 2)
        if container_id not in path:
            continue
        if not controllers and "" in mounted:
            return Hierarchy(mounted[""], scope.CGROUP2)
        for controller in controllers.split(","):
            if controller in mounted and controller in numbers:
                return Hierarchy(mounted[controller], scope.cgroup1(numbers[controller]))
    return None


def directory(root: Path, container_id: str) -> Path | None:
    """The container's cgroup, as `directories` finds it."""
    return directories(root, (container_id,)).get(container_id)


def directories(root: Path, container_ids: Iterable[str]) -> dict[str, Path]:
    """The containers' cgroups: the directories whose names have their IDs; all are found at once.

    A path in /proc/PID/cgroup would not do: it begins at the reader's own cgroup namespace.
    """
    missing = set(filter(None, container_ids))
    found: dict[str, Path] = {}
    for folder in _below(root) if missing else ():
        container_id = next((each for each in missing if each in folder.name), None)
        if container_id is not None and MONITOR not in folder.name:
            found[container_id] = Path(folder.path)
            missing.discard(container_id)
            if not missing:
                break
    return found


def _below(root: Path) -> Iterator[os.DirEntry[str]]:
    """The cgroups below one, those above others first."""
    paths = [str(root)]
    for path in paths:
        try:
            # A cgroup has two links, and one for each cgroup in it (fs/kernfs/inode.c,
            # kernfs_refresh_inode): of most there is nothing to read, which takes a while.
            if os.stat(path).st_nlink == _LINKS_OF_A_LEAF:
                continue
            with os.scandir(path) as entries:
                inside = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:  # gone meanwhile
            continue
        yield from inside
        paths += [entry.path for entry in inside]


def descendants(cgroup: Path) -> Iterator[Path]:
    """The cgroup and those below it."""
    for path, _, _ in os.walk(cgroup):
        yield Path(path)


def processes(cgroup: Path) -> list[int]:
    """The PIDs of the processes in a cgroup and below; none if it is gone."""
    found: list[int] = []
    for each in descendants(cgroup):
        try:
            found += map(int, (each / "cgroup.procs").read_text().split())
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # ENODEV: gone while it was open
                raise
    return found


def number(cgroup: Path) -> int:
    """The cgroup's number, as BPF code sees it.

    Raises:
        FileNotFoundError: it is gone.
    """
    return cgroup.stat().st_ino


def _mounted(proc: Path) -> Iterator[tuple[str, Path]]:
    """The hierarchies mounted whole here, by controller; the unified one by the empty string."""
    for line in (proc / "self" / "mountinfo").read_text(errors="surrogateescape").splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        root, point = fields.split(" ")[3:5]
        if kind == "cgroup2":
            yield "", Path(point)
        elif kind == "cgroup" and root == "/":
            for option in options.split(","):
                yield option, Path(point)


def _subsystems(proc: Path) -> dict[str, int]:
    """The kernel's numbers of the controllers: their order in /proc/cgroups.

    From Linux 6.13 on, controllers without version 1 are left out there but keep their numbers.
    Those that can be so are cpuset and memory.
    """
    try:
        lines = (proc / "cgroups").read_text().splitlines()
    except FileNotFoundError:
        return {}
    names = [line.split()[0] for line in lines if not line.startswith("#")]
    if "cpuset" not in names or "memory" not in names:
        return {}
    return {name: number for number, name in enumerate(names)}
