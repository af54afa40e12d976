"""Where in a native function's first instructions a probe costs least.

A probe's instruction is run by the kernel out of its place, in a single step, unless the kernel
emulates it, as it does `push` (Linux 5.1, arch/x86/kernel/uprobes.c: push_setup_xol_ops). Compilers
put `endbr64` before it (-fcf-protection), which does nothing and is not emulated.
"""

from __future__ import annotations

import re

from kubectl_trace.binary import elf

MACHINE = elf.EM_X86_64
"""Of which machine's code it is known: an ELF file's."""
LONGEST = 6
"""Bytes of code that are looked at."""

# endbr64; push of any register. Intel SDM, volume 2, ENDBR64 and PUSH.
_MARKED_PUSH = re.compile(rb"(\xf3\x0f\x1e\xfa)\x41?[\x50-\x57]")


def emulated(code: bytes) -> int:
    """How many bytes behind a function's start the kernel emulates what is there; 0: unknown.

    Up to there nothing is done: no register, nothing in memory and no flag is another one.
    """
    found = _MARKED_PUSH.match(code)
    return found.end(1) if found else 0
