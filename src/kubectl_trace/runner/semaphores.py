"""Semaphores of USDT probes, raised in the traced processes while somebody listens.

A program with a semaphore fires its probe only while that is not 0 (SystemTap wiki,
UserSpaceProbeImplementation). The kernel raises it for a uprobe that perf_event_open defines, which
takes CAP_SYS_ADMIN; for one of tracefs, as a runner in a pod has, somebody else must.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubectl_trace.runner.signals import ENDING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIZE = 2  # bytes: an unsigned short
_GREATEST = 0xFFFF
_LONGEST_WAIT = 1.0  # seconds: each has it for some microseconds
_LOOK_AGAIN = 0.005  # seconds

_TRACEFS = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
"""What all runners of a node have, wherever they run, and only root can open."""


@dataclass
class Semaphores:
    """Those that are raised; `close` lowers them again.

    So does a signal that ends the process while no supervisor takes it.
    """

    _raised: list[tuple[int, int]] = field(default_factory=list)
    """Processes as descriptors of their memory, and addresses."""
    _memories: dict[int, int] = field(default_factory=dict)
    _handlers: dict[signal.Signals, Any] = field(default_factory=dict)
    """What the signals did before."""

    def lift(self, pid: int, address: int) -> bool:
        """Raises a semaphore; False: the process's memory can't be written."""
        with _undisturbed():
            if not self._handlers:
                self._handlers = {number: signal.signal(number, self._end) for number in ENDING}
            try:
                if pid not in self._memories:
                    self._memories[pid] = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
                memory = self._memories[pid]
                _add(memory, address, 1)
            except OSError:
                return False
            self._raised.append((memory, address))
            return True

    def close(self) -> None:
        """Lowers them; a process that has ended needs none."""
        with _undisturbed():
            for memory, address in self._raised:
                with contextlib.suppress(OSError):
                    _add(memory, address, -1)
            self._raised.clear()
            for memory in self._memories.values():
                os.close(memory)
            self._memories.clear()
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._handlers.clear()

    def _end(self, number: int, frame: object) -> None:
        self.close()
        signal.raise_signal(number)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """No signal comes between what is raised and what is known of it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """No other runner of this node changes a semaphore."""
    shared = next((path for path in _TRACEFS if (path / "events").is_dir()), None)
    with contextlib.ExitStack() as stack:
        if shared is not None:
            with contextlib.suppress(OSError):
                fd = os.open(shared, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, fd)
                _lock(fd)
        yield


def _lock(fd: int) -> None:
    """Waits for the others, but not for one that has been halted."""
    end = time.monotonic() + _LONGEST_WAIT
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return
            time.sleep(_LOOK_AGAIN)
        else:
            return


def _add(memory: int, address: int, number: int) -> None:
    with _alone():
        data = os.pread(memory, _SIZE, address)
        if len(data) < _SIZE:
            raise OSError("no such address")
        value = min(max(int.from_bytes(data, "little") + number, 0), _GREATEST)
        os.pwrite(memory, value.to_bytes(_SIZE, "little"), address)
