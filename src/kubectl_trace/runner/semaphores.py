"""Semaphores of USDT probes, raised in the traced processes while somebody listens.

A program with a semaphore fires its probe only while that is not 0 (SystemTap wiki,
UserSpaceProbeImplementation). The kernel raises it for a uprobe that perf_event_open defines, which
takes CAP_SYS_ADMIN; for one of tracefs, as a runner in a pod has, somebody else must.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

_SIZE = 2  # bytes: an unsigned short


@dataclass
class Semaphores:
    """Those that are raised; `close` lowers them again."""

    _raised: list[tuple[int, int]] = field(default_factory=list)
    """Processes as descriptors of their memory, and addresses."""
    _memories: dict[int, int] = field(default_factory=dict)

    def lift(self, pid: int, address: int) -> bool:
        """Raises a semaphore; False: the process's memory can't be written."""
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
        for memory, address in self._raised:
            try:
                _add(memory, address, -1)
            except OSError:
                continue
        self._raised.clear()
        for memory in self._memories.values():
            os.close(memory)
        self._memories.clear()


def _add(memory: int, address: int, number: int) -> None:
    data = os.pread(memory, _SIZE, address)
    if len(data) < _SIZE:
        raise OSError("no such address")
    value = (int.from_bytes(data, "little") + number) & 0xFFFF
    os.pwrite(memory, value.to_bytes(_SIZE, "little"), address)
