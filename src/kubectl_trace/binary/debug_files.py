"""Which separate file has a program's debug information, and whether a file is that one.

Formats and places: https://sourceware.org/gdb/current/onlinedocs/gdb.html/Separate-Debug-Files.html,
and dwz(1) for `.gnu_debugaltlink`.

Names in a file are its maker's choice. They become parts of paths only where they can't lead out of
the directories that are searched.
"""

from __future__ import annotations

import os.path
import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from kubectl_trace.binary import elf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DIRECTORY = "/usr/lib/debug"
"""Where distributions put the files; gdb's debug-file-directory."""

_NT_GNU_BUILD_ID = 3
# SHA-1 has 20 bytes, as most build IDs; others are chosen with --build-id=0x….
_LONGEST_BUILD_ID = 64
_SHORTEST_BUILD_ID = 2
_MOST_NOTES = 65536
_MOST_LINK = 8192
_LONGEST_FILE_NAME = 255
_CHUNK = 1 << 20
_MOST_CHECKED = 2 << 30


class NoteContent(NamedTuple):
    """A note with its content."""

    name: bytes
    """With the zero byte that ends it."""
    type: int
    content: bytes


def note_contents(data: bytes, order: str, align: int = 4) -> Iterator[NoteContent]:
    """The notes in a note section's or segment's bytes; one that is cut short ends them.

    Args:
        data: The section's bytes.
        order: The file's byte order, `<` or `>`.
        align: 8 where the section says so, 4 in all other cases.
    """
    layout = struct.Struct(order + "III")
    at = 0
    while at + layout.size <= len(data):
        name_size, content_size, kind = layout.unpack_from(data, at)
        name_at = at + layout.size
        content_at = name_at + name_size
        content_at += -content_at % align
        end = content_at + content_size
        if end > len(data):
            break
        yield NoteContent(data[name_at : name_at + name_size], kind, data[content_at:end])
        at = end + -end % align


def build_id(file: BinaryIO) -> bytes:
    """The build ID, the same in a program and in its debug file; empty if there is none.

    Raises:
        MalformedError: no ELF file, or a broken one.
        OSError: the file can't be read.
    """
    header = elf.read_header(file)
    left = _MOST_NOTES
    for segment in elf.segments(file, header):
        if segment.type == elf.PT_NOTE:
            data = elf.read_at(file, segment.offset, min(segment.size, left))
            left -= len(data)
            found = _build_id(note_contents(data, header.order, 8 if segment.align == 8 else 4))
            if found:
                return found
    # dwz's files have no segments.
    section = _section(file, header, b".note.gnu.build-id")
    if section is None:
        return b""
    data = elf.content(file, header, section, _MOST_NOTES)
    return _build_id(note_contents(data, header.order))


def debug_link(file: BinaryIO) -> tuple[str, int] | None:
    """The debug file's name and its CRC-32, of `.gnu_debuglink`; None if there is none.

    Raises:
        MalformedError: no ELF file, or a broken one; the name is not one of a file, but a path.
        OSError: the file can't be read.
    """
    header = elf.read_header(file)
    section = _section(file, header, b".gnu_debuglink")
    if section is None:
        return None
    data = elf.content(file, header, section, _MOST_LINK)
    name, end, _ = data.partition(b"\0")
    checksum_at = len(name) + 1
    checksum_at += -checksum_at % 4
    if not end or checksum_at + 4 > len(data):
        raise elf.MalformedError(".gnu_debuglink is cut short")
    text = _text(name, ".gnu_debuglink")
    if not _is_file_name(text):
        raise elf.MalformedError(f".gnu_debuglink names no file: {text[:100]!a}")
    return text, struct.unpack_from(header.order + "I", data, checksum_at)[0]


def alternative(file: BinaryIO) -> tuple[str, bytes] | None:
    """Path and build ID of the file that several debug files share parts of, made by dwz.

    The path, of `.gnu_debugaltlink`, is absolute or relative to the debug file, and not to be
    opened as it is: `alternative_candidates`.

    Raises:
        MalformedError: no ELF file, or a broken one.
        OSError: the file can't be read.
    """
    header = elf.read_header(file)
    section = _section(file, header, b".gnu_debugaltlink")
    if section is None:
        return None
    name, end, identity = elf.content(file, header, section, _MOST_LINK).partition(b"\0")
    if not end or not _SHORTEST_BUILD_ID <= len(identity) <= _LONGEST_BUILD_ID:
        raise elf.MalformedError(".gnu_debugaltlink is cut short")
    return _text(name, ".gnu_debugaltlink"), identity


def matches(file: BinaryIO, identity: bytes) -> bool:
    """Whether this is an ELF file with this build ID; never where it is empty.

    Raises:
        OSError: the file can't be read.
    """
    try:
        return bool(identity) and build_id(file) == identity
    except elf.MalformedError:
        return False


def has_checksum(file: BinaryIO, checksum: int) -> bool:
    """Whether the whole file has this CRC-32, as `.gnu_debuglink` demands.

    Reads all of it, about a second a GiB; a file of more than 2 GiB has none.

    Raises:
        OSError: the file can't be read.
    """
    file.seek(0)
    found = 0
    for _ in range(_MOST_CHECKED // _CHUNK):
        data = file.read(_CHUNK)
        if not data:
            return found == checksum
        found = zlib.crc32(data, found)
    return False


def candidates(path: str, identity: bytes, link: str | None) -> list[str]:
    """Where the debug file of a program may be, in gdb's order.

    Only the first is by build ID. What is at the others must be checked with `matches`, or with
    `has_checksum` where the program has no build ID.

    Args:
        path: The program's or library's, absolute, without symbolic links.
        identity: Its build ID, or nothing.
        link: The name in its `.gnu_debuglink`; one that is a path is left out.
    """
    found = _by_build_id(identity)
    if link is not None and _is_file_name(link):
        directory = os.path.dirname(path)
        found += [
            os.path.join(directory, link),
            os.path.join(directory, ".debug", link),
            os.path.join(DIRECTORY, directory.lstrip("/"), link),
        ]
    # A link to itself would have the right build ID and nothing in it.
    return [place for place in found if place != path]


def alternative_candidates(name: str, identity: bytes) -> list[str]:
    """Where the file that dwz made may be: by its build ID, then under `/usr/lib/debug/.dwz`.

    Args:
        name: As `alternative` gives it. Of `../../.dwz/x86_64-linux-gnu/libc6.debug`, as of an
            absolute path, what follows the last `.dwz` is used.
        identity: Its build ID.
    """
    found = _by_build_id(identity)
    parts = name.rpartition("/.dwz/")[2].split("/")
    if all(_is_file_name(part) for part in parts):
        found.append(os.path.join(DIRECTORY, ".dwz", *parts))
    return found


def _by_build_id(identity: bytes) -> list[str]:
    if not _SHORTEST_BUILD_ID <= len(identity) <= _LONGEST_BUILD_ID:
        return []
    digits = identity.hex()
    return [f"{DIRECTORY}/.build-id/{digits[:2]}/{digits[2:]}.debug"]


def _build_id(notes: Iterable[NoteContent]) -> bytes:
    for note in notes:
        if note.name == b"GNU\0" and note.type == _NT_GNU_BUILD_ID:
            return note.content if len(note.content) <= _LONGEST_BUILD_ID else b""
    return b""


def _section(file: BinaryIO, header: elf.Header, name: bytes) -> elf.Section | None:
    for section in elf.sections(file, header):
        if section.name == name:
            return section
    return None


def _text(name: bytes, where: str) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise elf.MalformedError(f"the name in {where} is no text") from error


def _is_file_name(name: str) -> bool:
    return (
        name not in ("", ".", "..")
        and "/" not in name
        and "\0" not in name
        and len(name.encode("utf-8", "surrogateescape")) <= _LONGEST_FILE_NAME
    )
