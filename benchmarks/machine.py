"""The machine that the figures are of, and how busy it was beside them."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path


def describe() -> str:
    """Its processors, memory and kernel, and that it is a virtual one where that shows."""
    cpus = Path("/proc/cpuinfo").read_text()
    model = next(
        (line.partition(":")[2].strip() for line in cpus.splitlines() if "model name" in line),
        platform.machine(),
    )
    virtual = ", virtual" if " hypervisor" in cpus else ""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{os.cpu_count()} x {model}{virtual}, {memory:.0f} GiB, "
        f"Linux {platform.release()}, Python {platform.python_version()}"
    )


@dataclass(frozen=True)
class Load:
    """What all processors have done since boot, in clock ticks."""

    busy: int
    stolen: int
    """Time in which the host gave a processor to others."""
    total: int
    own: float
    """Seconds of this process and of those that it has waited for."""
    time: float

    @classmethod
    def now(cls) -> Load:
        """As it is."""
        first = Path("/proc/stat").read_text().split("\n", 1)[0]
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, first.split()[1:9])
        busy = user + nice + system + irq + softirq
        total = busy + idle + iowait + steal
        times = os.times()
        return cls(busy, steal, total, sum(times[:4]), time.monotonic())


def noise(before: Load, after: Load) -> str:
    """What went on beside the benchmarks between two moments, in words."""
    ticks = os.sysconf("SC_CLK_TCK")
    seconds = after.time - before.time
    others = (after.busy - before.busy) / ticks - (after.own - before.own)
    stolen = (after.stolen - before.stolen) / ticks
    return (
        f"in {seconds:.0f} s, other processes used {max(others, 0) / seconds:.2f} of "
        f"{os.cpu_count()} processors (the traced cluster and its nodes' runners among them), "
        f"the host took {stolen / seconds:.2f} away"
    )
