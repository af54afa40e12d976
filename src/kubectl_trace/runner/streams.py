"""Pipes in whole lines, and how much of a flood is read at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
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
