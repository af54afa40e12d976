"""ELF files: header, sections, segments and notes. Format: elf(5).

32 and 64 bit, either byte order. Extended numbering (more than 65,000 sections or segments) is not
read: only object files and core dumps have it.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PT_LOAD, PT_NOTE = 1, 4
PF_X, PF_W = 1, 2
SHT_NOBITS = 8
SHF_COMPRESSED = 1 << 11
EM_X86_64, EM_AARCH64 = 62, 183

# Linux loads no program with larger program headers (fs/binfmt_elf.c, load_elf_phdrs).
_MOST_PROGRAM_HEADERS = 65536
_MOST_SECTION_NAMES = 4 << 20
_LONGEST_SECTION_NAME = 64
_MOST_NOTES = 65536
_ELFCOMPRESS_ZLIB = 1


class MalformedError(ValueError):
    """The file is no ELF file, or a broken one."""


@dataclass(frozen=True)
class Header:
    """What an ELF file's header says."""

    order: str
    """`<` or `>`, for struct."""
    is_64_bit: bool
    machine: int
    """`EM_X86_64`, `EM_AARCH64` or another of elf.h's."""
    segments_at: int
    segment_size: int
    segment_count: int
    sections_at: int
    section_size: int
    section_count: int
    names_index: int
    """Which section holds the sections' names."""


@dataclass(frozen=True)
class Segment:
    """A program header: offsets and sizes in bytes, in the file."""

    type: int
    flags: int
    offset: int
    address: int
    size: int
    align: int


@dataclass(frozen=True, slots=True)
class Section:
    """A section header: offset and size in bytes, in the file."""

    name: bytes
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    """The section that this one refers to: a symbol table's names."""
    entry_size: int


@dataclass(frozen=True)
class Note:
    """A note of a PT_NOTE segment. The name keeps the zero bytes that end it."""

    name: bytes
    type: int


def read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    """The bytes there, fewer at the end of the file."""
    if offset >= 1 << 63:  # More than an off_t holds.
        return b""
    try:
        file.seek(offset)
    except OSError:  # More than the file system can count.
        return b""
    return file.read(size)


def read_header(file: BinaryIO) -> Header:
    """The header.

    Raises:
        MalformedError: it is no ELF file.
    """
    data = read_at(file, 0, 64)
    if data[:4] != b"\x7fELF" or len(data) < 52 or data[4] not in (1, 2) or data[5] not in (1, 2):
        raise MalformedError("no ELF header")
    is_64_bit, order = data[4] == 2, "<" if data[5] == 1 else ">"
    layout = struct.Struct(order + ("QQIHHHHHH" if is_64_bit else "IIIHHHHHH"))
    if len(data) < (32 if is_64_bit else 28) + layout.size:
        raise MalformedError("the ELF header is cut short")
    (
        segments_at,
        sections_at,
        _flags,
        _header_size,
        segment_size,
        segment_count,
        section_size,
        section_count,
        names_index,
    ) = layout.unpack_from(data, 32 if is_64_bit else 28)
    return Header(
        order,
        is_64_bit,
        struct.unpack_from(order + "H", data, 18)[0],
        segments_at,
        segment_size,
        segment_count,
        sections_at,
        section_size,
        section_count,
        names_index,
    )


def segments(file: BinaryIO, header: Header) -> list[Segment]:
    """The program headers.

    Raises:
        MalformedError: they are cut short, or too many to be loaded.
    """
    layout = struct.Struct(header.order + ("IIQQQQQQ" if header.is_64_bit else "IIIIIIII"))
    size = header.segment_count * layout.size
    if size > _MOST_PROGRAM_HEADERS:
        raise MalformedError("too many program headers")
    if size and header.segment_size != layout.size:
        raise MalformedError("program headers of another size")
    data = read_at(file, header.segments_at, size)
    if len(data) < size:
        raise MalformedError("the program headers are cut short")
    found = []
    for fields in layout.iter_unpack(data):
        if header.is_64_bit:
            kind, flags, offset, address, _physical, in_file, _in_memory, align = fields
        else:
            kind, offset, address, _physical, in_file, _in_memory, flags, align = fields
        found.append(Segment(kind, flags, offset, address, in_file, align))
    return found


def sections(file: BinaryIO, header: Header) -> list[Section]:
    """The sections, in their order, their names cut after 64 bytes; none where they are stripped.

    Raises:
        MalformedError: the section headers or the names are not all in the file.
    """
    if not header.sections_at or not header.section_count:
        return []
    layout = struct.Struct(header.order + ("IIQQQQIIQQ" if header.is_64_bit else "IIIIIIIIII"))
    if header.section_size != layout.size or header.names_index >= header.section_count:
        raise MalformedError("section headers of another size, or without names")
    data = read_at(file, header.sections_at, header.section_count * layout.size)
    if len(data) < header.section_count * layout.size:
        raise MalformedError("the section headers are cut short")
    _, _, _, _, names_at, names_size, *_ = layout.unpack_from(
        data, header.names_index * layout.size
    )
    if names_size > _MOST_SECTION_NAMES:
        raise MalformedError("too many section names")
    names = read_at(file, names_at, names_size)
    found = []
    for fields in layout.iter_unpack(data):
        name, kind, flags, address, offset, size, link, _info, _align, entry_size = fields
        if name >= len(names):
            raise MalformedError("a section's name is outside of the names")
        text = names[name : name + _LONGEST_SECTION_NAME].partition(b"\0")[0]
        found.append(Section(text, kind, flags, address, offset, size, link, entry_size))
    return found


def content(file: BinaryIO, header: Header, section: Section, most: int) -> bytes:
    """A section's bytes, decompressed (ELF's own compression, and GNU's older `.zdebug_`).

    Raises:
        MalformedError: more than `most` bytes, or they can't be decompressed.
    """
    if section.type == SHT_NOBITS:
        return b""
    if section.size > most:
        raise MalformedError(f"{section.name!a} is larger than {most >> 20} MiB")
    data = read_at(file, section.offset, section.size)
    if section.flags & SHF_COMPRESSED:
        layout = struct.Struct(header.order + ("IIQQ" if header.is_64_bit else "III"))
        if len(data) < layout.size:
            raise MalformedError(f"{section.name!a} is cut short")
        kind, *_, size, _align = layout.unpack_from(data)
        return _decompressed(data[layout.size :], kind, size, section, most)
    if section.name.startswith(b".zdebug_") and data[:4] == b"ZLIB":
        size = int.from_bytes(data[4:12], "big")
        return _decompressed(data[12:], _ELFCOMPRESS_ZLIB, size, section, most)
    return data


def _decompressed(data: bytes, kind: int, size: int, section: Section, most: int) -> bytes:
    if size > most:
        raise MalformedError(f"{section.name!a} is larger than {most >> 20} MiB")
    if kind != _ELFCOMPRESS_ZLIB:
        # 2 is zstd, which no distribution's packages used as of 2026.
        raise MalformedError(f"{section.name!a} is compressed in a way that is not known ({kind})")
    try:
        return zlib.decompressobj().decompress(data, size) if size else b""
    except zlib.error as error:
        raise MalformedError(f"{section.name!a} can't be decompressed") from error


def at_address(file: BinaryIO, loaded: Sequence[Segment], address: int, size: int) -> bytes:
    """The bytes that are at an address when the file is loaded; fewer where the segment ends.

    Args:
        file: The ELF file.
        loaded: Its segments.
        address: Before any relocation of the whole.
        size: How many bytes.
    """
    for segment in loaded:
        inside = address - segment.address
        if segment.type == PT_LOAD and 0 <= inside < segment.size:
            return read_at(file, segment.offset + inside, min(size, segment.size - inside))
    return b""


def notes(file: BinaryIO, header: Header, loaded: list[Segment]) -> Iterator[Note]:
    """The notes in the first 64 KiB of PT_NOTE segments. One cut short ends its segment."""
    layout = struct.Struct(header.order + "III")
    left = _MOST_NOTES
    for segment in loaded:
        if segment.type != PT_NOTE:
            continue
        data = read_at(file, segment.offset, min(segment.size, left))
        left -= len(data)
        # Linux and binutils: 8 only where the segment says so, 4 in all other cases.
        align = 8 if segment.align == 8 else 4
        at = 0
        while at + layout.size <= len(data):
            name_size, content_size, kind = layout.unpack_from(data, at)
            content_at = at + layout.size + name_size
            content_at += -content_at % align
            if content_at > len(data):
                break
            yield Note(data[at + layout.size : at + layout.size + name_size], kind)
            at = content_at + content_size
            at += -at % align
