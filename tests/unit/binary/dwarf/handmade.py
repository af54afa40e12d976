"""DWARF 4 made by hand, in ELF files that have nothing else."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Abbreviation:
    """A tag, and its attributes with their forms."""

    tag: int
    has_children: bool
    attributes: tuple[tuple[int, int], ...]


def uleb(value: int) -> bytes:
    """A LEB128 number."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*found, value))


def dwarf_file(
    content: bytes | Mapping[str, bytes], abbreviations: Sequence[Abbreviation] = ()
) -> bytes:
    """An x86-64 ELF file with these debug sections; or with one unit of these entries."""
    if isinstance(content, bytes):
        table = b""
        for code, one in enumerate(abbreviations, 1):
            table += uleb(code) + uleb(one.tag) + bytes((one.has_children,))
            table += b"".join(uleb(name) + uleb(form) for name, form in one.attributes) + b"\0\0"
        unit = struct.pack("<IHIB", len(content) + 7, 4, 0, 8) + content
        content = {"info": unit, "abbrev": table + b"\0"}
    names, body, headers = b"\0", b"", [bytes(64)]
    for name, data in content.items():
        headers.append(_section(len(names), 64 + len(body), len(data)))
        names += f".debug_{name}".encode() + b"\0"
        body += data
    headers.append(_section(len(names), 64 + len(body), len(names) + 10))
    body += names + b".shstrtab\0"
    header = struct.pack(
        "<4sBBB9xHHIQQQIHHHHHH",
        b"\x7fELF",
        2,
        1,
        1,
        3,
        62,
        1,
        0,
        0,
        64 + len(body),
        0,
        64,
        56,
        0,
        64,
        len(headers),
        len(headers) - 1,
    )
    return header + body + b"".join(headers)


def _section(name: int, offset: int, size: int) -> bytes:
    return struct.pack("<IIQQQQIIQQ", name, 1, 0, 0, offset, size, 0, 0, 1, 0)
