"""The BPF programs of a running bpftrace, and the kernel's account of what they cost (bpf(2)).

Format: <linux/bpf.h>, struct bpf_prog_info.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING

from kubectl_trace.runner import syscalls
from kubectl_trace.runner.cost import Count, Loaded

if TYPE_CHECKING:
    from collections.abc import Iterator

_FUNCTIONS = 256  # BPF_MAX_SUBPROGS, of one program


class _Info(ctypes.Structure):
    # Only what is named is read.
    _fields_ = [
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("_tag", ctypes.c_uint8 * 8),
        ("_lengths", ctypes.c_uint32 * 2),
        ("_instructions", ctypes.c_uint64 * 2),
        ("_load_time", ctypes.c_uint64),
        ("_uid", ctypes.c_uint32),
        ("_maps", ctypes.c_uint32),
        ("_map_ids", ctypes.c_uint64),
        ("name", ctypes.c_char * 16),
        ("_device", ctypes.c_uint32 * 2),
        ("_namespace", ctypes.c_uint64 * 2),
        ("places", ctypes.c_uint32),
        ("sizes", ctypes.c_uint32),
        ("places_at", ctypes.c_uint64),
        ("sizes_at", ctypes.c_uint64),
        ("_types", ctypes.c_uint32 * 2),
        ("_functions", ctypes.c_uint64),
        ("_counts", ctypes.c_uint32 * 2),
        ("_lines", ctypes.c_uint64 * 2),
        ("_sizes", ctypes.c_uint32 * 4),
        ("_tags", ctypes.c_uint64),
        ("run_time_ns", ctypes.c_uint64),
        ("run_count", ctypes.c_uint64),
    ]


class Programs:
    """The programs of a process, held, so that their account can be read after its end."""

    def __init__(self, pid: int) -> None:
        """Finds them.

        Raises:
            OSError: the kernel does not let us have the process's file descriptors.
        """
        self._fds: dict[int, int] = {}
        self.loaded: list[Loaded] = []
        pidfd = os.pidfd_open(pid)
        try:
            for number in syscalls.fds_with(pid, "prog_type"):
                self._hold(pidfd, number)
        finally:
            os.close(pidfd)
        self.loaded.sort(key=lambda each: each.id)

    def counts(self) -> dict[int, Count]:
        """What each has cost since it was loaded, by its ID."""
        found = {}
        for number, fd in self._fds.items():
            info = _info(fd)
            found[number] = Count(info.run_count, info.run_time_ns)
        return found

    def places(self) -> dict[int, list[tuple[int, int]]]:
        """Where each is in the kernel's memory, start and end of each of its functions, by its ID.

        None of those that the kernel does not say it of: that takes CAP_SYSLOG (jited_ksyms).
        """
        return {number: found for number, fd in self._fds.items() if (found := list(_places(fd)))}

    def close(self) -> None:
        """Lets go of them: a program that nothing is attached to any more is gone."""
        while self._fds:
            os.close(self._fds.popitem()[1])

    def _hold(self, pidfd: int, number: int) -> None:
        try:
            fd = syscalls.pidfd_getfd(pidfd, number)
        except OSError as error:
            if error.errno in (errno.EBADF, errno.ESRCH):  # closed, or ended, meanwhile
                return
            raise
        try:
            info = _info(fd)
        except OSError:  # another file has the number now
            os.close(fd)
            return
        if info.id in self._fds:
            os.close(fd)
            return
        self._fds[info.id] = fd
        self.loaded.append(Loaded(info.id, info.name.decode(errors="replace"), info.type))


def _places(fd: int) -> Iterator[tuple[int, int]]:
    starts, sizes = (ctypes.c_uint64 * _FUNCTIONS)(), (ctypes.c_uint32 * _FUNCTIONS)()
    info = _Info(places=_FUNCTIONS, sizes=_FUNCTIONS)
    info.places_at, info.sizes_at = ctypes.addressof(starts), ctypes.addressof(sizes)
    syscalls.bpf_info(fd, info)
    for start, size in zip(starts[: info.places], sizes[: info.sizes], strict=False):
        if start and size:
            yield start, start + size


def _info(fd: int) -> _Info:
    info = _Info()
    syscalls.bpf_info(fd, info)
    return info
