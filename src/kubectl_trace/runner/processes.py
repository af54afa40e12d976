"""A container's processes, read from /proc. Every process may vanish while it is read.

Formats: proc_pid_stat(5), proc_pid_stat(5), cgroups(7).
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kubectl_trace.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROC = Path("/proc")

MONITOR = "conmon"
"""In the name of the cgroup of CRI-O's monitor, which has the container's ID, too."""

_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")  # containerd's, CRI-O's and Docker's
_ID_IN_CGROUPS = re.compile(_CONTAINER_ID.pattern.encode())


@dataclass(frozen=True)
class Process:
    """A process as /proc shows it."""

    pid: int
    """On the node: in the PID namespace that this /proc belongs to."""
    parent: int
    start_time: int
    """In clock ticks since boot."""
    pid_in_container: int
    """In its innermost PID namespace."""
    comm: str
    exe: str
    """As the container sees the path; empty if it can't be read."""
    cmdline: str
    """Arguments, joined by spaces."""


def read(pid: int, proc: Path = PROC) -> Process | None:
    """The process with this PID, or None when there is none any more."""
    directory = proc / str(pid)
    try:
        comm, fields = _stat(pid, proc)
        cmdline = (directory / "cmdline").read_bytes()
        status = (directory / "status").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    namespaced = re.search(r"^NSpid:.*?(\d+)$", status, re.MULTILINE)
    try:
        exe = str((directory / "exe").readlink())
    except OSError:
        exe = ""
    return Process(
        pid=pid,
        parent=int(fields[1]),
        start_time=int(fields[19]),
        pid_in_container=int(namespaced[1]) if namespaced else pid,
        comm=comm,
        exe=exe.removesuffix(" (deleted)"),
        cmdline=cmdline.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace"),
    )


def of_container(container_id: str, proc: Path = PROC) -> list[Process]:
    """The container's processes, as `of_containers` finds them."""
    return of_containers((container_id,), proc).get(container_id, [])


def of_containers(container_ids: Iterable[str], proc: Path = PROC) -> dict[str, list[Process]]:
    """The processes of those containers that have some, first started first; /proc is read once.

    A process belongs to the container whose ID is in one of its cgroups' paths. That holds for
    every runtime, for cgroup v1 and v2, and for static pods, whose path has another UID than the
    API's.
    """
    wanted = {each.encode(): each for each in container_ids if each}
    members: dict[bytes, list[bytes]] = {}  # many processes are in the same cgroups
    found: dict[str, list[Process]] = {}
    for pid, memberships in _memberships(proc):
        if memberships not in members:
            lines = [line for line in memberships.splitlines() if MONITOR.encode() not in line]
            there = b"\n".join(lines)
            members[memberships] = [each for each in wanted if each in there]
        ids = members[memberships]
        if ids and (process := read(pid, proc)):
            for each in ids:
                found.setdefault(wanted[each], []).append(process)
    return {
        each: sorted(there, key=lambda process: (process.start_time, process.pid))
        for each, there in found.items()
    }


def by_container(proc: Path = PROC) -> dict[str, int]:
    """Container IDs, and one process of each."""
    found: dict[str, int] = {}
    for pid, memberships in _memberships(proc):
        if ids := _ID_IN_CGROUPS.findall(memberships):
            found.setdefault(ids[-1].decode(), pid)
    return found


def _pids(proc: Path) -> Iterator[int]:
    return (int(name) for name in os.listdir(proc) if name.isdigit())


def _memberships(proc: Path) -> Iterator[tuple[int, bytes]]:
    """The processes, and what /proc says of their cgroups."""
    for pid in _pids(proc):
        try:
            # Not by pathlib, which takes longer than the kernel does.
            with open(f"{proc}/{pid}/cgroup", "rb") as file:
                memberships = file.read()
        except (FileNotFoundError, ProcessLookupError):
            continue
        yield pid, memberships


def container_id(cgroup: str) -> str:
    """The container ID in a cgroup's name; the name where there is none."""
    found = _CONTAINER_ID.search(cgroup)
    return found.group() if found else cgroup


def has_container_id(cgroup: str) -> bool:
    """Whether there is a container ID in a cgroup's name."""
    return _CONTAINER_ID.search(cgroup) is not None


def descendants(pid: int, proc: Path = PROC) -> list[int]:
    """The process and those that it or they started, as far as their parents still run."""
    children: dict[int, list[int]] = {}
    for each in _pids(proc):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            _, fields = _stat(each, proc)
            children.setdefault(int(fields[1]), []).append(each)
    found = [pid]
    for each in found:
        found += children.get(each, ())
    return found


def _stat(pid: int, proc: Path) -> tuple[str, list[bytes]]:
    """A process's name, and the fields behind it in /proc/PID/stat: state, parent, ...

    Raises:
        FileNotFoundError, ProcessLookupError: there is none any more.
    """
    with open(f"{proc}/{pid}/stat", "rb") as file:
        # The name may hold spaces and parentheses: the fields go on after the last one.
        head, _, tail = file.read().rpartition(b")")
    return head.partition(b"(")[2].decode(errors="replace"), tail.split()


def first_process(processes: Iterable[Process]) -> Process:
    """The container's first process: the one that the runtime started, not by a fork inside.

    A process that `kubectl exec` started has its parent outside, too, but starts later.

    Raises:
        ValueError: there are no processes.
    """
    every = list(processes)
    pids = {process.pid for process in every}
    roots = [process for process in every if process.parent not in pids] or every
    return min(roots, key=lambda process: (process.start_time, process.pid))


def parse_selector(selector: str) -> dict[str, str]:
    """The clauses of a process selector, such as `pid=last,comm=nginx`.

    Keys: `pid` (a number, `first` or `last`), `exe` (path or base name), `comm`, `cmdline` (a part
    of it). A value may hold `=` and commas: a clause starts at a comma before a key.

    Raises:
        UsageError: an unknown key, a key given twice, or a `pid` that is none.
    """
    clauses: dict[str, str] = {}
    for clause in re.split(r",(?=\w+=)", selector) if selector else []:
        key, equals, value = clause.partition("=")
        if not equals or not value or key not in ("pid", "exe", "comm", "cmdline"):
            raise UsageError(
                f"process selector: {clause!r} is none of pid=N, pid=first, pid=last, exe=PATH, "
                "comm=NAME, cmdline=TEXT"
            )
        if key in clauses:
            raise UsageError(f"process selector: {key} is given twice")
        if key == "pid" and value not in ("first", "last") and not value.isdigit():
            raise UsageError(f"process selector: pid={value} is neither a number, first nor last")
        clauses[key] = value
    return clauses


def select(processes: Iterable[Process], selector: str) -> Process:
    """The one process that the selector means; the first process where it is empty.

    `pid=N` is the PID on the node or, where no process has that, the PID inside the container.

    Raises:
        UsageError: the selector can't be read.
        NotFoundError: no process, or several, match; the message lists what there is.
    """
    every = list(processes)
    clauses = parse_selector(selector)
    matching = [process for process in every if _matches(process, clauses)]
    pid = clauses.get("pid", "first")
    if pid.isdigit():
        matching = [process for process in matching if process.pid == int(pid)] or [
            process for process in matching if process.pid_in_container == int(pid)
        ]
    if not matching:
        there_are = "; ".join(f"{process.pid} {process.comm}" for process in every) or "none"
        raise NotFoundError(
            f"no process of the container matches {selector!r}; its processes: {there_are}"
        )
    if pid == "last":
        return max(matching, key=lambda process: (process.start_time, process.pid))
    return first_process(matching)


def _matches(process: Process, clauses: dict[str, str]) -> bool:
    exe = clauses.get("exe")
    return (
        (exe is None or exe in (process.exe, process.exe.rpartition("/")[2]))
        and clauses.get("comm") in (None, process.comm)
        and clauses.get("cmdline", "") in process.cmdline
    )
