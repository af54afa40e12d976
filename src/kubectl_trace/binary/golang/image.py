"""A Go program's file as its readers need it: bytes by address, and what loading would change."""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, Literal

from kubectl_trace.binary import elf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CHUNK = 1 << 20
_MOST_RELOCATIONS = 32 << 20
_MOST_FALSE_HITS = 1 << 16
# "The word at this address is this number, plus wherever the file was loaded": the psABI documents.
_RELATIVE = {elf.EM_X86_64: 8, elf.EM_AARCH64: 1027}
_RELOCATION = struct.Struct("<QQQ")


@dataclass(frozen=True)
class Image:
    """An ELF file, little endian; addresses are those before any relocation of the whole."""

    file: BinaryIO
    header: elf.Header
    segments: list[elf.Segment]
    sections: list[elf.Section]
    """None where they are stripped, or broken: a program runs without."""

    def at(self, address: int, size: int) -> bytes:
        """The bytes at an address, fewer where the segment or the file ends."""
        return elf.at_address(self.file, self.segments, address, size)

    def exactly(self, address: int, size: int) -> bytes:
        """The bytes at an address.

        Raises:
            MalformedError: not all of them are there.
        """
        data = self.at(address, size)
        if len(data) < size:
            raise elf.MalformedError(f"nothing is at {address:#x}")
        return data

    def is_code(self, address: int) -> bool:
        """Whether the address, or the one before it, is in an executable segment."""
        return any(
            segment.type == elf.PT_LOAD
            and segment.flags & elf.PF_X
            and segment.address <= address <= segment.address + segment.size
            for segment in self.segments
        )

    def named(self, names: Iterable[bytes]) -> list[elf.Section]:
        """The sections of these names that have content, in the order of the names."""
        return [
            section
            for name in names
            for section in self.sections
            if section.name == name and section.type != elf.SHT_NOBITS
        ]

    def relocated(self, address: int, count: int) -> list[int]:
        """Words at an address as they are when the file is loaded, but not moved.

        Args:
            address: Where they are. A relocation of the first one leads to those of the others.
            count: How many, of 8 bytes each.

        Raises:
            MalformedError: not all of them are there.
        """
        words = list(struct.unpack(f"<{count}Q", self.exactly(address, 8 * count)))
        for place, value in self._relocations_near(address, count):
            index, rest = divmod(place - address, 8)
            if not rest and 0 <= index < count:
                words[index] = value
        return words

    def pointers_to(self, address: int) -> Iterator[int]:
        """The addresses of words that hold this address once the file is loaded.

        Only where a position-independent program says so with a relocation.
        """
        pattern = struct.pack("<QQ", _RELATIVE.get(self.header.machine, 0), address)
        for at in _aligned(self._relocations, pattern, _RELOCATION.size, 8):
            yield int.from_bytes(self._relocations[at - 8 : at], "little")

    def _relocations_near(self, address: int, count: int) -> Iterator[tuple[int, int]]:
        # Linkers write a variable's relocations one after the other: GNU's sorts them all by
        # address, Go's (cmd/link/internal/ld, data.go, dynreloc) goes through the variables.
        pattern = struct.pack("<QQ", address, _RELATIVE.get(self.header.machine, 0))
        for at in _aligned(self._relocations, pattern, _RELOCATION.size, 0):
            near = self._relocations[
                max(at - count * _RELOCATION.size, 0) : at + count * _RELOCATION.size
            ]
            near = near[: len(near) // _RELOCATION.size * _RELOCATION.size]
            for place, kind, value in _RELOCATION.iter_unpack(near):
                if kind == _RELATIVE.get(self.header.machine):
                    yield place, value
            return

    @cached_property
    def _relocations(self) -> bytes:
        for section in self.named((b".rela.dyn", b".rela")):
            return elf.content(self.file, self.header, section, _MOST_RELOCATIONS)
        return b""


def open_image(file: BinaryIO) -> Image:
    """The file's headers.

    Raises:
        MalformedError: it is no ELF file, a broken one, or big endian.
    """
    header = elf.read_header(file)
    # Also where this runs: numbers are read as they are.
    if header.order != "<" or sys.byteorder != "little":
        raise elf.MalformedError("big endian")
    try:
        sections = elf.sections(file, header)
    except elf.MalformedError:
        sections = []
    return Image(file, header, elf.segments(file, header), sections)


def find(file: BinaryIO, offset: int, size: int, pattern: bytes) -> Iterator[int]:
    """Where a pattern is in a part of the file: offsets in the file, in their order."""
    end = offset + size
    while offset < end:
        # Chunks overlap, so that none cuts the pattern in two.
        chunk = elf.read_at(file, offset, min(end - offset, _CHUNK + len(pattern) - 1))
        found = chunk.find(pattern)
        while found >= 0:
            yield offset + found
            found = chunk.find(pattern, found + 1)
        if len(chunk) < _CHUNK:
            return
        offset += _CHUNK


def numbers(data: bytes, code: Literal["I", "Q"]) -> memoryview[int]:
    """The data as numbers of 4 or 8 bytes; what is left at the end is left out."""
    size = len(data) // (4 if code == "I" else 8) * (4 if code == "I" else 8)
    return memoryview(data)[:size].cast(code)


def _aligned(data: bytes, pattern: bytes, size: int, rest: int) -> Iterator[int]:
    """Where a pattern is in data of records of a size, at a place in the record."""
    misses = 0
    at = data.find(pattern)
    while at >= 0 and misses < _MOST_FALSE_HITS:
        if at % size == rest:
            yield at
        else:
            misses += 1
        at = data.find(pattern, at + 1)
