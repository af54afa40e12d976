"""System calls that Python has no functions for, each raising OSError as os' functions do."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from pathlib import Path
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)

# The same on every architecture since they are newer than the common table (Linux 5.1).
_PIDFD_GETFD = 438
_BPF = {"x86_64": 321, "aarch64": 280}
_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
_PERF_FLAG_FD_CLOEXEC = 8
_BPF_OBJ_GET_INFO_BY_FD = 15
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

IN_CREATE = 0x100  # <linux/inotify.h>
IN_DELETE = 0x200
_IN_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """A file descriptor of another process, as one of ours (Linux 5.6)."""
    return _checked(_libc.syscall(_PIDFD_GETFD, pidfd, fd, 0))


def bpf(command: int, attributes: Any) -> int:
    """A command to the kernel's BPF; the attributes are a ctypes structure (bpf(2))."""
    size = ctypes.sizeof(attributes)
    return _checked(
        _libc.syscall(_BPF[platform.machine()], command, ctypes.byref(attributes), size)
    )


def bpf_info(fd: int, info: ctypes.Structure) -> None:
    """Fills in what the kernel knows of a map or program, up to the structure's size (bpf(2))."""
    bpf(
        _BPF_OBJ_GET_INFO_BY_FD,
        _InfoAttributes(fd, ctypes.sizeof(info), ctypes.addressof(info)),
    )


class _InfoAttributes(ctypes.Structure):
    _fields_ = [
        ("fd", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
        ("info", ctypes.c_uint64),
    ]


class PerfEvent(ctypes.Structure):
    """What to count or to sample: struct perf_event_attr as of its first version, 64 bytes."""

    _fields_ = [
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_frequency", ctypes.c_uint64),
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("_rest", ctypes.c_uint64 * 2),
    ]


def perf_event_open(event: PerfEvent, cpu: int) -> int:
    """A file descriptor for an event on a CPU, of all tasks (perf_event_open(2))."""
    event.size = ctypes.sizeof(event)
    number = _PERF_EVENT_OPEN[platform.machine()]
    return _checked(_libc.syscall(number, ctypes.byref(event), -1, cpu, -1, _PERF_FLAG_FD_CLOEXEC))


def inotify_init() -> int:
    """A file descriptor for inotify(7) that doesn't block."""
    return _checked(_libc.inotify_init1(_IN_FLAGS))


def inotify_add_watch(fd: int, path: os.PathLike[str], mask: int) -> int:
    """Watches a directory; the watch's number, the same one for a directory watched already."""
    return _checked(_libc.inotify_add_watch(fd, os.fsencode(path), mask))


def die_with_parent(number: int) -> None:
    """Lets this process get a signal when the thread that started it ends (prctl(2))."""
    _libc.prctl(_PR_SET_PDEATHSIG, number)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def fds_with(pid: int, key: str) -> list[int]:
    """The descriptors of a process whose fdinfo has a key (proc(5)); none if it has ended."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if f"\n{key}:" in entry.read_text():
                    found.append(int(entry.name))
    return found
