"""Processes that outlive the command that starts them: started, recorded, watched."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import cgroups
from .commands import last_lines
from .errors import TestbedError
from .settings import CGROUP, LOGS, STATE

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

_RECORDS = STATE / "processes"
# The process joins the cgroups before it becomes the component: no child is born outside.
_JOIN = 'while [ "$1" != -- ]; do echo 0 > "$1/cgroup.procs" || exit; shift; done; shift; exec "$@"'


@dataclass(frozen=True)
class Process:
    """A process, told from a later one of its number by its start (clock ticks since boot)."""

    pid: int
    started: int
    boot: str

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return _identify(self.pid) == self


def start(name: str, argv: Sequence[str | os.PathLike[str]]) -> Process:
    """Start a component in the testbed's cgroups, away from this shell, its output in its log."""
    LOGS.mkdir(parents=True, exist_ok=True)
    _RECORDS.mkdir(parents=True, exist_ok=True)
    folders = cgroups.make(f"{CGROUP}/components")
    with log_path(name).open("ab") as log:
        child = subprocess.Popen(
            ["sh", "-c", _JOIN, "sh", *folders, "--", *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
        )
    process = _identify(child.pid)
    if process is None:
        raise TestbedError(f"{name} ended at once; its log says\n{log_tail(name)}")
    (_RECORDS / name).write_text(json.dumps(asdict(process)))
    return process


def find(name: str) -> Process | None:
    """The running process of a component, or None."""
    try:
        process = Process(**json.loads((_RECORDS / name).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return process if process.alive else None


def require(name: str) -> Process:
    """The running process of a component.

    Raises:
        TestbedError: it does not run.
    """
    process = find(name)
    if process is None:
        raise TestbedError(f"{name} does not run; its log says\n{log_tail(name)}")
    return process


def wait_ready(name: str, ready: Callable[[], bool], bound: float) -> None:
    """Wait until a component is ready.

    Raises:
        TestbedError: it died, or was not ready after `bound` seconds; its log's end says why.
    """
    deadline = time.monotonic() + bound
    while not ready():
        require(name)
        if time.monotonic() > deadline:
            raise TestbedError(
                f"{name} is not ready after {bound:g} s; its log says\n{log_tail(name)}"
            )
        time.sleep(0.1)


def log_path(name: str) -> Path:
    """The file that a component's output goes to."""
    return LOGS / f"{name}.log"


def log_tail(name: str) -> str:
    """The last lines of a component's log, to be shown below a message."""
    try:
        return last_lines(log_path(name).read_text(errors="replace"))
    except OSError as error:
        return f"  (no log: {error})"


def _identify(pid: int) -> Process | None:
    """The process with this number, or None if it has ended (a zombie has)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # The name, in brackets, may hold anything.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else Process(pid, int(fields[18]), boot)
