"""The testbed's cgroups: every process is in them, so that none is missed when it ends."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .settings import CGROUP

if TYPE_CHECKING:
    from collections.abc import Iterator


def hierarchies() -> list[Path]:
    """Where cgroup v1's hierarchies and cgroup2 are mounted."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _source, options = after.split()[:3]
        root, mount_point = before.split()[3:5]
        # The same hierarchy may be mounted more than once, and a part of it for a container.
        if kind in ("cgroup", "cgroup2") and root == "/":
            found.setdefault(f"{kind} {options}", Path(mount_point))
    return list(found.values())


def make(name: str) -> list[Path]:
    """Make a cgroup in every hierarchy and give their folders."""
    folders = [root / name for root in hierarchies()]
    for root, folder in zip(hierarchies(), folders, strict=True):
        for step in reversed([folder, *folder.parents]):
            if step != root and root in step.parents:
                _enable_controllers(step.parent)
                step.mkdir(exist_ok=True)
                _copy_cpuset(step)
    return folders


def destroy(bound: float = 20.0) -> list[str]:
    """Kill what runs in the testbed's cgroups, remove them; give what is left after `bound` s."""
    deadline = time.monotonic() + bound
    while True:
        for pid in processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for folder in _folders():
            with suppress(OSError):
                folder.rmdir()
        left = [f"cgroup {folder}" for folder in _folders()]
        if not left or time.monotonic() > deadline:
            return left + [f"process {pid}" for pid in processes()]
        time.sleep(0.05)


def exist() -> bool:
    """Whether anything of the testbed's cgroups is there."""
    return any((root / CGROUP).exists() for root in hierarchies())


def processes(name: str = CGROUP) -> set[int]:
    """The processes in a cgroup and below it, in any hierarchy."""
    pids: set[int] = set()
    for folder in _folders(name):
        with suppress(OSError):
            pids.update(int(pid) for pid in (folder / "cgroup.procs").read_text().split())
    return pids - {0}


def _folders(name: str = CGROUP) -> Iterator[Path]:
    """A cgroup's folders, children before their parents."""
    for root in hierarchies():
        for folder, _children, _files in os.walk(root / name, topdown=False):
            yield Path(folder)


def _copy_cpuset(folder: Path) -> None:
    """A new v1 cpuset is empty, and an empty one takes no process."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = folder / name
        with suppress(OSError):
            if not file.read_text().strip() and not (folder / "cgroup.controllers").exists():
                file.write_text((folder.parent / name).read_text())


def _enable_controllers(folder: Path) -> None:
    """In cgroup2, children have the controllers that their parent hands down."""
    with suppress(OSError):
        for controller in (folder / "cgroup.controllers").read_text().split():
            with suppress(OSError):
                (folder / "cgroup.subtree_control").write_text(f"+{controller}")
