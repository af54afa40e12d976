"""The kernel's own account of what BPF programs cost (BPF_ENABLE_STATS, Linux 5.8)."""

from __future__ import annotations

import contextlib
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kubectl_trace.runner import statistics

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Cost:
    """What a process's BPF programs have cost since they were loaded."""

    runs: int
    nanoseconds: int

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.runs - other.runs, self.nanoseconds - other.nanoseconds)


@contextmanager
def counted() -> Iterator[None]:
    """The kernel counts inside, and only there: counting has its own cost.

    Until this file descriptor is closed, whatever ends us; the sysctl stays as it is.
    """
    fd = statistics.enable()
    try:
        yield
    finally:
        if fd is not None:
            os.close(fd)


def cost(pid: int) -> Cost:
    """What the programs that a process holds have cost."""
    runs = nanoseconds = 0
    programs: set[str] = set()
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            fields = dict(re.findall(r"^(\w+):\s*(\S+)$", entry.read_text(), re.MULTILINE))
            if "run_cnt" in fields and fields["prog_id"] not in programs:
                programs.add(fields["prog_id"])
                runs += int(fields["run_cnt"])
                nanoseconds += int(fields["run_time_ns"])
    return Cost(runs, nanoseconds)
