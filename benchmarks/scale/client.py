"""The installed command as a user starts it, watched from outside: what it says, what it takes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Sequence

_FILES = 1024
"""Files that the command may open: the limit of a usual shell, which a process may raise itself."""
_LOOK_AGAIN = 0.1  # seconds


@dataclass(frozen=True)
class Run:
    """One run of the command."""

    attached: float
    """Seconds from its start until it said that all is attached."""
    stopped: float
    """Seconds from Ctrl-C to its exit."""
    memory: float
    """MB at most, of the command and all that it started, each at its own highest."""
    memory_of: dict[str, float]
    """The same by program."""
    processor: float
    """Seconds of processor time, of all of them."""
    output: str
    errors: str


def run(argv: Sequence[str], *, until: str, timeout: float) -> Run:
    """Runs a command, presses Ctrl-C when its stderr has the text `until`, waits for its end.

    Raises:
        BenchmarkError: it failed, or was too slow.
    """
    begun = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_limit_files,
    )
    memory = _Memory(process.pid)
    errors: list[str] = []
    output: list[str] = []
    assert process.stdout is not None
    assert process.stderr is not None
    reader = threading.Thread(
        target=lambda stream: output.append(stream.read()), args=[process.stdout]
    )
    reader.start()
    killer = threading.Timer(timeout, process.kill)
    killer.start()
    attached = stopped = 0.0
    with memory:
        for line in process.stderr:
            errors.append(line)
            if until in line and not attached:
                attached = time.monotonic()
                process.send_signal(signal.SIGINT)
        process.wait()
        stopped = time.monotonic()
    killer.cancel()
    reader.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if not attached or process.returncode != 0:
        said = "".join(errors)[-2000:]
        raise BenchmarkError(
            f"exit status {process.returncode} within {timeout:g} s; it said\n{said}"
        )
    return Run(
        attached=attached - begun,
        stopped=stopped - attached,
        memory=sum(memory.highest.values()),
        memory_of=memory.by_name(),
        processor=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        output="".join(output),
        errors="".join(errors),
    )


def _limit_files() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, hard))


class _Memory:
    """Looks at a process and its descendants for as long as it is entered."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._names: dict[int, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.highest: dict[int, float] = {}
        """MB by PID, as the kernel keeps it (`VmHWM`, proc(5))."""

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def by_name(self) -> dict[str, float]:
        """The same by program; of several of one name, their sum."""
        found: dict[str, float] = {}
        for pid, megabytes in self.highest.items():
            found[self._names[pid]] = found.get(self._names[pid], 0.0) + megabytes
        return found

    def _look(self) -> None:
        while not self._over.wait(_LOOK_AGAIN):
            for pid in _family(self._pid):
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                fields = dict(line.split(":", 1) for line in status.splitlines())
                if "VmHWM" in fields:
                    self._names[pid] = fields["Name"].strip()
                    self.highest[pid] = int(fields["VmHWM"].split()[0]) * 1024 / 1e6


def _family(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        for task in os.listdir(f"/proc/{each}/task") if os.path.exists(f"/proc/{each}") else ():
            try:
                children = Path(f"/proc/{each}/task/{task}/children").read_text()
            except OSError:
                continue
            found += [int(child) for child in children.split()]
    return found
