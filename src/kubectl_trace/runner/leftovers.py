"""Probe definitions in tracefs that a killed bpftrace leaves behind.

Where bpftrace may not open uprobes by perf_event_open(2), it defines them in tracefs and takes the
definitions back when it ends: not when it is killed. A definition whose process is gone does
nothing, but stays until somebody removes it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

TRACEFS = Path("/sys/kernel/tracing")


def remove(pid: int, tracefs: Path = TRACEFS) -> None:
    """Removes the definitions of a bpftrace that has ended; those in use can't be removed.

    Their names end in `_bcc_PID` (iovisor/bcc src/cc/libbpf.c, create_probe_event).
    """
    for file in (tracefs / "uprobe_events", tracefs / "kprobe_events"):
        try:
            definitions = file.read_text(errors="replace").splitlines()
        except OSError:
            continue  # no tracefs, or a kernel without such probes
        for definition in definitions:
            # p:uprobes/p__proc_1_exe_0x10_0_bcc_42 /proc/1/exe:0x10
            name = definition.partition(" ")[0].partition(":")[2]
            if name.endswith(f"_bcc_{pid}"):
                with contextlib.suppress(OSError), file.open("a") as writing:
                    writing.write(f"-:{name}\n")
