"""The kernel's statistics of BPF programs: whether it counts what each of them costs.

BPF_ENABLE_STATS: Linux 5.8, with CAP_SYS_ADMIN.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kubectl_trace.errors import ForbiddenError
from kubectl_trace.runner import syscalls

if TYPE_CHECKING:
    from kubectl_trace.trace import Limits

_ENABLE_STATS, _RUN_TIME = 32, 0
_SYSCTL = Path("/proc/sys/kernel/bpf_stats_enabled")


class _StatsAttributes(ctypes.Structure):
    _fields_ = [("type", ctypes.c_uint32)]


def enable() -> int | None:
    """Lets the kernel count until this file descriptor is closed; None: it counts already.

    Raises:
        OSError: EPERM, it takes CAP_SYS_ADMIN; EINVAL, a kernel before 5.8.
    """
    try:
        return syscalls.bpf(_ENABLE_STATS, _StatsAttributes(_RUN_TIME))
    except OSError:
        if _is_enabled():
            return None
        raise


def _is_enabled() -> bool:
    try:
        return _SYSCTL.read_text().strip() == "1"
    except OSError:
        return False


class Statistics:
    """The kernel's statistics, on for as long as this is open, or what can be had instead."""

    def __init__(self, limits: Limits) -> None:
        """Switches them on, if the limits take them.

        Raises:
            ForbiddenError: they can't be, and the user asked for what takes them.
        """
        self.limits = limits
        self._fd: int | None = None
        self.is_on = False
        self.is_sampled = False
        """Instead of statistics there are samples."""
        if not (limits.overhead or limits.statistics):
            return
        try:
            self._fd = enable()
            self.is_on = True
        except OSError as error:
            if limits.needs_statistics:
                raise ForbiddenError(
                    f"the kernel gives no statistics of BPF programs here ({error.strerror}), "
                    "which --stats and --max-overhead need: CAP_SYS_ADMIN and Linux 5.8, or "
                    "sysctl kernel.bpf_stats_enabled=1 on the node"
                ) from error
            self.is_sampled = True

    def close(self) -> None:
        """Switches them off, unless somebody else has them on."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
