"""Small ELF files, made by hand after elf(5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """A segment with what it holds."""

    type: int
    flags: int
    content: bytes
    address: int = 0
    align: int = 4


def note(name: bytes, kind: int, content: bytes, order: str = "<", align: int = 4) -> bytes:
    """A note, padded."""
    data = struct.pack(order + "III", len(name), len(content), kind) + name
    data += bytes(-len(data) % align) + content
    return data + bytes(-len(data) % align)


def elf_file(
    sections: tuple[bytes, ...] = (),
    segments: tuple[Segment, ...] = (),
    bits: int = 64,
    order: str = "<",
) -> bytes:
    """An ELF file with empty sections of these names, and these segments."""
    wide = bits == 64
    header_size, segment_size, section_size = (64, 56, 64) if wide else (52, 32, 40)
    body = b""
    program_headers = b""
    body_at = header_size + len(segments) * segment_size
    for segment in segments:
        offset, size = body_at + len(body), len(segment.content)
        if wide:
            fields = (segment.type, segment.flags, offset, segment.address, 0, size, size)
            program_headers += struct.pack(order + "IIQQQQQQ", *fields, segment.align)
        else:
            head = (segment.type, offset, segment.address, 0, size, size, segment.flags)
            program_headers += struct.pack(order + "IIIIIIII", *head, segment.align)
        body += segment.content
    section_headers = b""
    count = 0
    if sections:
        every = (b"", *sections, b".shstrtab")
        names = b"".join(name + b"\0" for name in every)
        names_at, at = body_at + len(body), 0
        body += names
        for name in every:
            place = (names_at, len(names)) if name == b".shstrtab" else (0, 0)
            section_headers += struct.pack(
                order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII"), at, 1, 0, 0, *place, 0, 0, 1, 0
            )
            at += len(name) + 1
        count = len(every)
    header = struct.pack(
        order + "4sBBB9xHHI" + ("QQQ" if wide else "III") + "IHHHHHH",
        b"\x7fELF",
        2 if wide else 1,
        1 if order == "<" else 2,
        1,
        3,
        62,
        1,
        0,
        header_size,
        body_at + len(body) if sections else 0,
        0,
        header_size,
        segment_size,
        len(segments),
        section_size,
        count,
        max(count - 1, 0),
    )
    return header + program_headers + body + section_headers
