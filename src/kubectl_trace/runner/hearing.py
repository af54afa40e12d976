"""Whether a bpftrace has heard its SIGINT.

In 0.17, one that comes while bpftrace does not wait for events is noted, but not looked at before
another signal interrupts that wait (src/bpftrace.cpp: poll_perf_events). Seen in 1 of 150 traces,
and in each second one where processors are short; never with 0.23 and 0.27. Another SIGINT helps;
but one that comes once bpftrace prints its maps, when it has no handler any more, would lose
them.
"""

from __future__ import annotations

import os
import re
import signal

PATIENCE = 0.3
"""Seconds in which one that has heard it has begun to detach."""

_CAUGHT = re.compile(r"^SigCgt:\s*([0-9a-f]+)$", re.MULTILINE)


def open_files(pid: int) -> int:
    """How many files a process has open; probes that are attached are among them.

    Raises:
        OSError: it has ended.
    """
    return len(os.listdir(f"/proc/{pid}/fd"))


def is_deaf(pid: int, files: int) -> bool:
    """Whether a process that had so many files when it got a SIGINT does not do what it should.

    It still handles the signal (proc_pid_status(5)), and has not detached a probe.
    """
    try:
        with open(f"/proc/{pid}/status") as status:
            caught = _CAUGHT.search(status.read())
        handles = caught is not None and bool(int(caught[1], 16) >> (signal.SIGINT - 1) & 1)
        return handles and open_files(pid) >= files
    except OSError:
        return False
