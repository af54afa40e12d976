"""What Go's linker tells the runtime of a program: moduledata, or as much as is of use here.

Format: runtime, symtab.go, of Go 1.19, 1.24 and 1.27, and cmd/link/internal/ld, symtab.go, that
writes it.
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

    from kubectl_trace.binary.golang.header import Header

# Go 1.26 and newer.
_SECTION = b".go.module"
_MOST_SEARCHED = 256 << 20
_MOST_HITS = 1 << 16
# A program has one word or two that point at the table.
_MOST_CANDIDATES = 8


@dataclass(frozen=True, slots=True)
class Module:
    """Addresses, before any relocation of the whole."""

    text: int
    """Where code begins."""
    types: int
    """Where types begin: their names are relative to it."""
    types_end: int
    function_data: int
    """What functions' data is relative to; 0 before Go 1.18."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which word is what. Words before these are the same since Go 1.16."""

    types: int
    types_end: int
    function_data: int | None
    text_sections: int
    """A slice: a pointer, its length, its capacity."""


_NAMES, _FUNCTION_TABLE, _FUNCTION_COUNT, _TEXT = 1, 16, 17, 22
_LAYOUTS = (
    _Layout(37, 39, 43, 45),  # Go 1.27
    _Layout(37, 38, 40, 42),  # Go 1.26
    _Layout(37, 38, 40, 41),  # Go 1.20
    _Layout(35, 36, 38, 39),  # Go 1.18
    _Layout(35, 36, None, 37),  # Go 1.16
)
_WORDS = 48


def find(image: images.Image, header: Header) -> Module:
    """The module of that table of functions.

    Raises:
        MalformedError: it can't be found: also in position-independent programs that are stripped
            of section headers, and before Go 1.16.
    """
    hits = islice(_hits(image, header), _MOST_HITS)
    aligned = (address for address in hits if address % 8 == 0)
    for address in islice(aligned, _MOST_CANDIDATES):
        module = _read(image, header, address)
        if module:
            return module
    raise elf.MalformedError("no module data of Go")


def _hits(image: images.Image, header: Header) -> Iterator[int]:
    for section in image.named((_SECTION,)):
        yield section.address
    yield from image.pointers_to(header.address)
    # It begins with a pointer to the table.
    pattern = struct.pack("<Q", header.address)
    left = _MOST_SEARCHED
    for segment in image.segments:
        if segment.type != elf.PT_LOAD or not segment.flags & elf.PF_W:
            continue
        for found in images.find(image.file, segment.offset, min(segment.size, left), pattern):
            yield segment.address + found - segment.offset
        left -= min(segment.size, left)


def _read(image: images.Image, header: Header, address: int) -> Module | None:
    """The module there, None where it can't be one."""
    try:
        words = image.relocated(address, _WORDS)
    except elf.MalformedError:
        return None
    is_of_table = (
        words[0] == header.address
        and words[_NAMES] == header.address + header.names_at
        and words[_FUNCTION_TABLE] == header.address + header.functions_at
        and words[_FUNCTION_COUNT] == header.function_count + 1
        and image.is_code(words[_TEXT])
    )
    if not is_of_table:
        return None
    for layout in _LAYOUTS:
        place, length, capacity = words[layout.text_sections : layout.text_sections + 3]
        types, types_end = words[layout.types], words[layout.types_end]
        # More sections are only in huge programs on other machines, and functions' offsets would
        # mean something else: cmd/link/internal/ld, data.go, splitTextSections.
        if (
            length == capacity == 1
            and types < types_end
            and image.at(types, 1)
            and _begins_text_section(image, place, words[_TEXT])
        ):
            data = words[layout.function_data] if layout.function_data is not None else 0
            return Module(words[_TEXT], types, types_end, data)
    return None


def _begins_text_section(image: images.Image, place: int, text: int) -> bool:
    try:
        # Behind where the section was before it was linked, and where it ended.
        (base,) = image.relocated(place + 16, 1)
    except elf.MalformedError:
        return False
    return base == text
