"""Where the limits of the runner's container have bitten: killed for memory, throttled for CPU.

Formats: cgroup-v1/memory.rst (memory.oom_control), cgroup-v2.rst (memory.events, cpu.stat),
scheduler/sched-bwc.rst (cpu.stat) of the kernel's documentation.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")

_SHARE, _LEAST = 0.05, 0.5
"""Of the time, and in seconds: less of it is not worth a word."""


@dataclass(frozen=True)
class Bites:
    """What the limits have done since the container began."""

    killed: int = 0
    """Processes that were killed because there was not enough memory."""
    throttled: float = 0
    """Seconds in which threads had to wait for their next share of CPU time; each counts."""


def read(root: Path = ROOT, pid: int | None = None, proc: Path = Path("/proc")) -> Bites:
    """What the limits of this process's own cgroups have done; nothing where they don't say."""
    pid = os.getpid() if pid is None else pid
    killed = throttled = 0.0
    for directory in _cgroups(root, pid, proc):
        for file, name in (("memory.events", "oom_kill"), ("memory.oom_control", "oom_kill")):
            killed += _value(directory / file, name)
        throttled += _value(directory / "cpu.stat", "throttled_usec") / 1e6
        throttled += _value(directory / "cpu.stat", "throttled_time") / 1e9
    return Bites(int(killed), throttled)


def throttling_note(bites: Bites, seconds: float, cpu: str) -> str:
    """What to say about CPU time; empty if it does not matter.

    Args:
        bites: What happened.
        seconds: How long the trace has run.
        cpu: The limit, as the user writes it.
    """
    if bites.throttled < max(_LEAST, _SHARE * seconds):
        return ""
    return (
        f"the runner was throttled for {min(bites.throttled, seconds):.1f} s of {seconds:.0f} s by "
        f"--cpu {cpu}; events may have been lost, and maps come late: raise it, or trace less"
    )


def _cgroups(root: Path, pid: int, proc: Path) -> list[Path]:
    """The directories of a process's cgroups.

    The paths in /proc/PID/cgroup begin at the reader's cgroup namespace, the directories at the
    node's: where a path leads nowhere, the directory that has the process is looked for.
    """
    try:
        lines = (proc / str(pid) / "cgroup").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        names = set(controllers.split(","))
        if controllers and not names & {"cpu", "memory"}:
            continue
        tops = [root, root / "unified"] if not controllers else [root / name for name in names]
        for top in tops:
            directory = _directory(top, path, pid)
            if directory is not None:
                found.append(directory)
                break
    # cpu and cpuacct may be one hierarchy with two names.
    return list(dict.fromkeys(found))


def _directory(top: Path, path: str, pid: int) -> Path | None:
    if not (top / "cgroup.procs").is_file():
        return None
    given = top / path.lstrip("/")
    if path != "/" and _has(given, pid):
        return given
    for name, _, files in os.walk(top):
        if "cgroup.procs" in files and _has(Path(name), pid):
            return Path(name)
    return None


def _has(directory: Path, pid: int) -> bool:
    try:
        return str(pid) in (directory / "cgroup.procs").read_text().split()
    except OSError:
        return False


def _value(file: Path, name: str) -> float:
    try:
        for line in file.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return float(value)
    except (OSError, ValueError):
        return 0.0
    return 0.0
