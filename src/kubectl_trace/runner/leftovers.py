"""Probe definitions in tracefs that a killed bpftrace leaves behind.

Where bpftrace may not open uprobes by perf_event_open(2), it defines them in tracefs and takes the
definitions back when it ends: not when it is killed. A definition whose process is gone does
nothing, but stays until somebody removes it.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TRACEFS = Path("/sys/kernel/tracing")

_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # include/linux/proc_ns.h, PROC_PID_INIT_INO

_OWNER = re.compile(r"_bcc_(\d+)$")
"""How the names of definitions end (iovisor/bcc src/cc/libbpf.c, create_probe_event)."""


def remove(pid: int, tracefs: Path = TRACEFS) -> None:
    """Removes the definitions of a bpftrace that has ended; those in use can't be removed."""
    _remove(lambda owner: owner == pid, tracefs)


def remove_all(tracefs: Path = TRACEFS, proc: Path = Path("/proc")) -> int:
    """Removes the definitions of all processes that have ended; how many.

    Only where all processes can be seen: elsewhere each would look as if it had ended.
    """
    try:
        if (proc / "self/ns/pid").stat().st_ino != _INITIAL_PID_NAMESPACE:
            return 0
    except OSError:
        return 0
    return _remove(lambda owner: not (proc / str(owner)).exists(), tracefs)


def _remove(chosen: Callable[[int], bool], tracefs: Path) -> int:
    removed = 0
    for file in (tracefs / "uprobe_events", tracefs / "kprobe_events"):
        try:
            definitions = file.read_text(errors="replace").splitlines()
        except OSError:
            continue  # no tracefs, or a kernel without such probes
        for definition in definitions:
            # p:uprobes/p__proc_1_exe_0x10_0_bcc_42 /proc/1/exe:0x10
            name = definition.partition(" ")[0].partition(":")[2]
            owner = _OWNER.search(name)
            if owner is None or not chosen(int(owner[1])):
                continue
            with contextlib.suppress(OSError), file.open("a") as writing:
                writing.write(f"-:{name}\n")
                removed += 1
    return removed
