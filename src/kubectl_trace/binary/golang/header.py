"""Where a Go program keeps its table of functions (pclntab), and what its header says.

Format: debug/gosym, pclntab.go, and runtime, symtab.go, of Go 1.15, 1.19, 1.24 and 1.27.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from kubectl_trace.binary import elf
from kubectl_trace.binary.golang import image as images

if TYPE_CHECKING:
    from collections.abc import Iterator

# The first version of Go with this form, as a second number: 1.2, 1.16, 1.18, 1.20.
_FORMS = {0xFFFFFFFB: 2, 0xFFFFFFFA: 16, 0xFFFFFFF0: 18, 0xFFFFFFF1: 20}
_SECTIONS = (b".gopclntab", b".data.rel.ro.gopclntab")
# Where another linker has put it (cgo).
_MERGED_SECTIONS = (b".data.rel.ro", b".rodata")
_CODE_ALIGNMENT = {elf.EM_X86_64: 1, elf.EM_AARCH64: 4}
_HEADER_SIZE = 8 + 8 * 8
_MOST_SEARCHED = 512 << 20
_MOST_HITS = 1 << 16
_MOST_CANDIDATES = 256
# The largest known programs have some 500,000.
_MOST_FUNCTIONS = 1 << 20
_LARGEST = 512 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """What the table's header says. Places of parts are relative to the table."""

    since: int
    """The first Go 1.x of this form: 2, 16, 18 or 20."""
    address: int
    """Where the table is."""
    size: int
    """Of the table, or up to where it could reach."""
    function_count: int
    text: int
    """Where code begins; 0: not said here."""
    names_at: int
    units_at: int
    files_at: int
    values_at: int
    functions_at: int

    @property
    def records_at(self) -> int:
        """What the offsets of functions' records are relative to, itself relative to the table."""
        return self.functions_at if self.since >= 16 else 0

    @property
    def entry_is_offset(self) -> bool:
        """Whether functions' addresses are relative to where code begins."""
        return self.since >= 18


def find(image: images.Image) -> Header:
    """The table of functions of an amd64 or arm64 program, stripped or not.

    Raises:
        MalformedError: there is none.
    """
    alignment = _CODE_ALIGNMENT.get(image.header.machine)
    if alignment is None:
        raise elf.MalformedError("neither amd64 nor arm64")
    for section in image.named(_SECTIONS):
        header = _read(image, section.address, section.size)
        if header:
            return header
    # The rest of the magic number, and the header's bytes that don't differ.
    pattern = bytes((0xFF, 0xFF, 0xFF, 0, 0, alignment, 8))
    hits = islice(_hits(image, pattern), _MOST_HITS)
    aligned = ((address, size) for address, size in hits if address % 8 == 0)
    for address, size in islice(aligned, _MOST_CANDIDATES):
        header = _read(image, address, size)
        if header:
            return header
    raise elf.MalformedError("no table of Go functions")


def _hits(image: images.Image, pattern: bytes) -> Iterator[tuple[int, int]]:
    """Where the table may begin, and how long it is at most."""
    parts = [
        (section.address, section.offset, section.size) for section in image.named(_MERGED_SECTIONS)
    ]
    if not parts:
        loaded = (segment for segment in image.segments if segment.type == elf.PT_LOAD)
        parts = [
            (segment.address, segment.offset, segment.size)
            for segment in sorted(loaded, key=lambda segment: segment.flags & elf.PF_X)
        ]
    left = _MOST_SEARCHED
    for address, offset, size in parts:
        for found in images.find(image.file, offset, min(size, left), pattern):
            inside = found - 1 - offset
            if inside >= 0:
                yield address + inside, size - inside
        left -= min(size, left)


def _read(image: images.Image, address: int, size: int) -> Header | None:
    """The header there, None where it can't be one."""
    data = image.at(address, _HEADER_SIZE)
    if len(data) < _HEADER_SIZE or address + _LARGEST >= 1 << 64:
        return None
    size = min(size, _LARGEST)
    since = _FORMS.get(int.from_bytes(data[:4], "little"))
    if since is None or data[4:6] != b"\0\0" or data[7] != 8:
        return None
    values = struct.unpack_from("<8Q", data, 8)
    if since == 2:
        # Names and functions are anywhere, relative to the table.
        text, parts = 0, [0, 0, 0, 0, 16]
    elif since == 16:
        text, parts = 0, [*values[2:7]]
    else:
        text, parts = values[2], [*values[3:8]]
    header = Header(since, address, size, values[0], text, *parts)
    is_in_order = parts == sorted(parts) and parts[-1] < size
    return header if is_in_order and 0 < header.function_count <= _MOST_FUNCTIONS else None
