"""Whether exceptions or panics pass through a file's functions."""

from __future__ import annotations

from typing import BinaryIO

from kubectl_trace.binary import elf

# What unwinds: Itanium C++ ABI: Exception Handling; rustc's library/std/src/sys/personality.
_PERSONALITIES = (b"__gxx_personality_v0", b"rust_eh_personality")
_NAMES = frozenset((b".dynstr", b".strtab"))
_MOST = 64 << 20


def throws(file: BinaryIO) -> bool:
    """Whether the ELF file names a function that unwinds frames of C++ or Rust.

    False for what is no ELF file, and for programs that have it inside and are stripped.

    Raises:
        OSError: the file can't be read.
    """
    try:
        header = elf.read_header(file)
        return any(
            name in elf.content(file, header, section, _MOST)
            for section in elf.sections(file, header)
            if section.name in _NAMES
            for name in _PERSONALITIES
        )
    except elf.MalformedError:
        return False
