"""Which of the capabilities that bpftrace needs this process has (capabilities(7))."""

from __future__ import annotations

import re
from pathlib import Path

# include/uapi/linux/capability.h
_BITS = {"BPF": 39, "PERFMON": 38}
_SYS_ADMIN = 21
"""Is enough for both: before Linux 5.8 it was all there was."""


def missing(status: Path = Path("/proc/self/status")) -> list[str]:
    """Those of BPF and PERFMON that are not effective; none, if that can't be told."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", _text(status), re.MULTILINE)
    if found is None:
        return []
    effective = int(found[1], 16)
    if effective >> _SYS_ADMIN & 1:
        return []
    return [name for name, bit in _BITS.items() if not effective >> bit & 1]


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
