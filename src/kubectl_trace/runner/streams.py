"""Pipes in whole lines, and signals as something to be waited for."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import termios

CHUNK = 1 << 20
"""Bytes a read: a pipe's largest buffer (fs.pipe-max-size)."""

_FASTEST = 50e6
"""Bytes a second that must not have to wait for their reader: bpftrace hardly prints more."""


class Lines:
    """A stream's whole lines."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> bytes:
        """The lines that this piece completes; at the end (no data), what is left."""
        end = data.rfind(b"\n") + 1 if data else 0
        if data and not end:
            self._rest += data
            return b""
        whole = bytes(self._rest) + data[:end]
        self._rest[:] = data[end:]
        return whole


def lines_of(lines: bytes) -> list[bytes]:
    """Each line, without its end."""
    return lines.removesuffix(b"\n").split(b"\n") if lines else []


class Signals:
    """SIGTERM, SIGINT and SIGHUP as bytes on a file descriptor, for as long as it is entered."""

    _CAUGHT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def __enter__(self) -> Signals:
        self.fd, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = {number: signal.signal(number, self._ignore) for number in self._CAUGHT}
        self._wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self.fd)
        os.close(self._writing)

    @staticmethod
    def _ignore(number: int, frame: object) -> None:
        """Python writes the signal's number to the wake-up descriptor; nothing is left to do."""


def waiting(fd: int) -> int:
    """How many bytes can be read."""
    (size,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))
    return int(size)


def widened(fd: int) -> int:
    """Makes a pipe as large as it can be; its size in bytes.

    Without CAP_SYS_RESOURCE it may have to stay small: all pipes of a node's user share their
    pages (fs.pipe-user-pages-soft).
    """
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, CHUNK)
    return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)


def gathering(waiting: int, size: int) -> float:
    """Seconds to let more of a flood come before it is read: each read costs, and each record.

    Args:
        waiting: Bytes that are in the pipe. A writer may have to wait from half of its size on: a
            write that has no room in the last page begins another.
        size: The pipe's, in bytes.
    """
    room = size // 2
    return room / _FASTEST if waiting < room else 0.0


def left_in(fd: int) -> bytes:
    """What is left in a pipe."""
    os.set_blocking(fd, False)
    rest = bytearray()
    with contextlib.suppress(BlockingIOError):
        while data := os.read(fd, CHUNK):
            rest += data
    return bytes(rest)
