"""Function symbols of an ELF file: what a uprobe can be put on by name.

Formats: elf(5); `.gnu_debugdata`: https://sourceware.org/gdb/current/onlinedocs/gdb.html/MiniDebugInfo.html
"""

from __future__ import annotations

import io
import lzma
import struct
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from kubectl_trace.binary import elf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_SHT_SYMTAB, _SHT_DYNSYM = 2, 11
_STT_FUNC, _STT_GNU_IFUNC = 2, 10

# What a reader needs of memory: the names, and about 100 bytes for each function that is wanted.
_MOST_SYMBOLS = 2 << 20
_MOST_NAMES = 256 << 20
_CHUNK = 65536
"""How many symbols are read at a time, so that no whole table is in memory."""
_MOST_DEBUG_DATA = 16 << 20
_MOST_DECOMPRESSED = 64 << 20
# xz's largest preset, -9, needs 65 MiB.
_MOST_XZ_MEMORY = 80 << 20

_IS_TYPE = {
    kind: bytes(info & 15 == kind for info in range(256)) for kind in (_STT_FUNC, _STT_GNU_IFUNC)
}
_IS_NOT_ZERO = bytes(value != 0 for value in range(256))

_REPEATED = 128
"""Bytes of a name that don't count where many symbols share one, as static functions do."""


# A tuple, since a frozen dataclass takes four times as long to make: half a second in a program
# with 500,000 functions.
class Symbol(NamedTuple):
    """A function that an ELF file defines."""

    name: str
    """As in the file, mangled, without a version (`@GLIBC_2.2.5`). Bytes that are no UTF-8 are
    shown as `\\xff`."""
    address: int
    """Virtual, before any relocation of the whole file: `st_value`."""
    size: int
    """In bytes; 0 where the file doesn't say it, as for some functions in assembly."""


def functions(
    file: BinaryIO, matching: Callable[[bytes], object] | None = None
) -> Iterator[Symbol]:
    """The functions that the file defines, each name and address once.

    They come from `.symtab`, `.dynsym` and `.gnu_debugdata` (MiniDebugInfo of Fedora and others),
    in this order. Those whose address the program asks a function for (IFUNC, as glibc's
    `memcpy`) are left out: `resolvers` has them.

    Args:
        file: The ELF file, or a file with its debug information.
        matching: Whether a name is wanted. Much faster than to look at every `Symbol`.

    Raises:
        MalformedError: no ELF file, or a broken or a too large table; what was found in the tables
            before it has been given.
        OSError: the file can't be read.
    """
    return _symbols(file, _STT_FUNC, matching)


def resolvers(
    file: BinaryIO, matching: Callable[[bytes], object] | None = None
) -> Iterator[Symbol]:
    """The functions that choose one of several implementations, under the chosen one's name.

    A probe on such an address (STT_GNU_IFUNC) sees one call, of the resolver, when the program
    starts, and never the calls of what it is named after.

    Args:
        file: The ELF file.
        matching: Whether a name is wanted.

    Raises:
        MalformedError: as `functions` does.
        OSError: the file can't be read.
    """
    return _symbols(file, _STT_GNU_IFUNC, matching)


def file_offset(segments: Sequence[elf.Segment], address: int) -> int | None:
    """Where in the file the code at an address is: what the kernel puts a uprobe on.

    Args:
        segments: Those of the program or library itself; a separate debug file's are empty.
        address: Virtual, as a symbol has it.

    Returns:
        Bytes from the file's beginning; None where no code is loaded from the file.
    """
    for segment in segments:
        inside = address - segment.address
        if 0 <= inside < segment.size and is_code(segment):
            return segment.offset + inside
    return None


def is_code(segment: elf.Segment) -> bool:
    """Whether it is loaded and may be run."""
    return segment.type == elf.PT_LOAD and bool(segment.flags & elf.PF_X)


@dataclass(frozen=True, slots=True)
class _Table:
    """A symbol table, and the section with its names."""

    file: BinaryIO
    header: elf.Header
    symbols: elf.Section
    names: elf.Section


def _symbols(
    file: BinaryIO, kind: int, matching: Callable[[bytes], object] | None
) -> Iterator[Symbol]:
    # Hashes: the names themselves would be as much memory again. Two of a million functions have
    # the same one in one of ten million files, and Python's are not predictable.
    seen: set[int] = set()
    for table in _tables(file):
        for name, address, size in _entries(table, kind):
            if matching is not None and not matching(name):
                continue
            key = hash((address, name))
            if key not in seen:
                seen.add(key)
                yield Symbol(name.decode("utf-8", "backslashreplace"), address, size)


def _tables(file: BinaryIO) -> Iterator[_Table]:
    header = elf.read_header(file)
    sections = elf.sections(file, header)
    yield from _of_type(file, header, sections, _SHT_SYMTAB)
    yield from _of_type(file, header, sections, _SHT_DYNSYM)
    for section in sections:
        if section.name == b".gnu_debugdata":
            inner = io.BytesIO(_decompressed(file, header, section))
            inner_header = elf.read_header(inner)
            yield from _of_type(inner, inner_header, elf.sections(inner, inner_header), _SHT_SYMTAB)
            break


def _of_type(
    file: BinaryIO, header: elf.Header, sections: list[elf.Section], kind: int
) -> Iterator[_Table]:
    """The table of this type; elf(5): there is one at most. Others would only take time."""
    for section in sections:
        if section.type == kind:
            if section.link >= len(sections):
                raise elf.MalformedError("a symbol table without names")
            yield _Table(file, header, section, sections[section.link])
            break


def _decompressed(file: BinaryIO, header: elf.Header, section: elf.Section) -> bytes:
    data = elf.content(file, header, section, _MOST_DEBUG_DATA)
    try:
        # The limit is there twice: a small file may ask for a large window, or unpack to a lot.
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_XZ_MEMORY)
        unpacked = decompressor.decompress(data, _MOST_DECOMPRESSED)
    except lzma.LZMAError as error:
        raise elf.MalformedError(".gnu_debugdata can't be decompressed") from error
    if not decompressor.eof:
        raise elf.MalformedError(".gnu_debugdata is cut short or too large")
    return unpacked


def _entries(table: _Table, kind: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, address and size of the defined symbols of this type."""
    # Name, address and size, the rest is looked at in `_wanted`. elf(5): the order differs.
    is_64_bit = table.header.is_64_bit
    layout = struct.Struct(table.header.order + ("I4xQQ" if is_64_bit else "III4x"))
    info_at, index_at = (4, 6) if is_64_bit else (12, 14)
    at, end = table.symbols.offset, table.symbols.offset + table.symbols.size
    if table.symbols.entry_size != layout.size:
        raise elf.MalformedError("symbols of another size")
    if table.symbols.size > _MOST_SYMBOLS * layout.size:
        raise elf.MalformedError("too many symbols")
    names = elf.content(table.file, table.header, table.names, _MOST_NAMES)
    # Linkers write a name once, and may let it be the end of another. A table where every symbol
    # has the same name of megabytes would take hours.
    left = 2 * len(names) + _REPEATED * (table.symbols.size // layout.size)
    while at < end:
        size = min(_CHUNK * layout.size, end - at)
        data = elf.read_at(table.file, at, size)
        if len(data) < size or size % layout.size:
            raise elf.MalformedError("the symbol table is cut short")
        at += size
        wanted = _wanted(data, layout.size, info_at, index_at, kind)
        for name_at, address, length in compress(layout.iter_unpack(data), wanted):
            name_end = names.find(b"\0", name_at)
            left -= name_end - name_at
            if name_end < 0 or left < 0:
                raise elf.MalformedError("names of symbols are outside of their table, or overlap")
            name = names[name_at:name_end]
            if b"@" in name:  # foo@VERSION, foo@@VERSION
                name = name.partition(b"@")[0]
            if name:
                yield name, address, length


def _wanted(data: bytes, size: int, info_at: int, index_at: int, kind: int) -> bytes:
    """A byte a symbol, 1 where it is of this type and defined.

    By operations on all of them at once: a test of each in Python would take twice as long.
    """
    right_type = int.from_bytes(data[info_at::size].translate(_IS_TYPE[kind]))
    # The section's index, 16 bits in either order, is not 0 (SHN_UNDEF).
    defined = int.from_bytes(data[index_at::size].translate(_IS_NOT_ZERO))
    defined |= int.from_bytes(data[index_at + 1 :: size].translate(_IS_NOT_ZERO))
    return (right_type & defined).to_bytes(len(data) // size)
