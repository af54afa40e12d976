"""A map of a running bpftrace, changed from outside (bpf(2), <linux/bpf.h>)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from dataclasses import dataclass

from kubectl_trace.runner import syscalls

_UPDATE_ELEM, _DELETE_ELEM, _GET_NEXT_KEY = 2, 3, 4
_NAME_SIZE = 16  # BPF_OBJ_NAME_LEN, the final 0 included


class _ElementAttributes(ctypes.Structure):
    _fields_ = [
        ("map_fd", ctypes.c_uint32),
        ("key", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    ]


class _MapInfo(ctypes.Structure):  # the beginning of struct bpf_map_info (Linux 4.15)
    _fields_ = [
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("name", ctypes.c_char * _NAME_SIZE),
    ]


@dataclass(frozen=True)
class Map:
    """A map from integers to integers."""

    fd: int
    key_size: int
    value_size: int

    def set(self, key: int, value: int) -> None:
        """Sets a key's value.

        Raises:
            OSError: E2BIG, the map is full.
        """
        content = ctypes.create_string_buffer(value.to_bytes(self.value_size, "little"))
        self._call(_UPDATE_ELEM, key, ctypes.addressof(content))

    def remove(self, key: int) -> None:
        """Removes a key, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._call(_DELETE_ELEM, key, 0)

    def clear(self) -> None:
        """Removes all keys."""
        key, following = (ctypes.create_string_buffer(self.key_size) for _ in range(2))
        found = self._next(0, key)
        while found:
            # Of a key that is not there any more the next one would be the first.
            found = self._next(ctypes.addressof(key), following)
            self.remove(int.from_bytes(key.raw, "little"))
            key, following = following, key

    def _next(self, key_address: int, following: ctypes.Array[ctypes.c_char]) -> bool:
        """Whether there is a key behind one, or behind none (0) a first one; fills it in."""
        attributes = _ElementAttributes(self.fd, key_address, ctypes.addressof(following), 0)
        try:
            syscalls.bpf(_GET_NEXT_KEY, attributes)
        except FileNotFoundError:
            return False
        return True

    def _call(self, command: int, key: int, value_address: int) -> None:
        name = ctypes.create_string_buffer(key.to_bytes(self.key_size, "little"))
        address = ctypes.addressof(name)
        syscalls.bpf(command, _ElementAttributes(self.fd, address, value_address, 0))


def find(pid: int, name: str) -> Map | None:
    """A map of bpftrace's by its name in the program (`@name`); None as long as there is none.

    bpftrace calls `@name` `AT_name`, cut at 15 characters, in the kernel. Only the process's own
    maps are looked at: another trace's may have the same name.

    Raises:
        OSError: the kernel does not let us have the process's file descriptors.
    """
    wanted = ("AT_" + name.removeprefix("@")).encode()[: _NAME_SIZE - 1]
    for entry in syscalls.fds_with(pid, "map_id"):
        try:
            fd = _fd_of(pid, entry)
        except OSError as error:
            if error.errno in (errno.EBADF, errno.ESRCH):  # closed, or ended, meanwhile
                continue
            raise
        info = _info(fd)
        if info is not None and info.name == wanted:
            return Map(fd, info.key_size, info.value_size)
        os.close(fd)
    return None


def _fd_of(pid: int, fd: int) -> int:
    pidfd = os.pidfd_open(pid)
    try:
        return syscalls.pidfd_getfd(pidfd, fd)
    finally:
        os.close(pidfd)


def _info(fd: int) -> _MapInfo | None:
    info = _MapInfo()
    try:
        syscalls.bpf_info(fd, info)
    except OSError:
        return None  # no map any more
    return info
