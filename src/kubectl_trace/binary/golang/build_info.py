"""What Go's linker says of a program: its Go version.

Format: debug/buildinfo, buildinfo.go, of Go 1.19 and 1.27. Go 1.13 to 1.17 point at two strings, Go
1.18 and newer have them in place.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, Literal

from kubectl_trace.binary import elf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Go 1.13 and newer; aligned.
_MAGIC = b"\xff Go buildinf:"
_MAGIC_ALIGN = 16
_HEADER_SIZE = 32
_INLINE = 2
_BIG_ENDIAN = 1
_CHUNK = 1 << 20
_MOST_SEARCHED = 16 << 20
_MOST_PLACES = 64
_LONGEST_VERSION = 256


def version(file: BinaryIO) -> str:
    """The version of Go that built it, as `go1.19.8`; "" where the file doesn't say.

    Raises:
        MalformedError: it is no ELF file, or a broken one.
    """
    text = _said(file)
    return text.decode("ascii") if text.isascii() and text.decode("ascii").isprintable() else ""


def places(file: BinaryIO, segments: Iterable[elf.Segment]) -> Iterator[int]:
    """The addresses in data segments where build information seems to begin.

    Looks at 16 MiB at most; the writable segments, where Go's own linker puts it first, come first.
    """
    data = [
        segment
        for segment in segments
        if segment.type == elf.PT_LOAD and not segment.flags & elf.PF_X
    ]
    left = _MOST_SEARCHED
    for segment in sorted(data, key=lambda segment: not segment.flags & elf.PF_W):
        at = 0
        while at < segment.size and left > 0:
            # Chunks overlap, so that none cuts the magic in two.
            chunk = elf.read_at(
                file, segment.offset + at, min(segment.size - at, _CHUNK + len(_MAGIC), left)
            )
            if len(chunk) < len(_MAGIC):
                break
            found = chunk.find(_MAGIC)
            while found >= 0:
                address = segment.address + at + found
                if address % _MAGIC_ALIGN == 0:
                    yield address
                found = chunk.find(_MAGIC, found + 1)
            at += _CHUNK
            left -= _CHUNK


def _said(file: BinaryIO) -> bytes:
    """The version as it stands there; empty where there is none."""
    header = elf.read_header(file)
    segments = elf.segments(file, header)
    places = islice(_candidates(file, header, segments), _MOST_PLACES)
    return next(filter(None, (_at(file, segments, place) for place in places)), b"")


def _candidates(file: BinaryIO, header: elf.Header, segments: list[elf.Segment]) -> Iterator[int]:
    for section in elf.sections(file, header):
        if section.name == b".go.buildinfo":
            yield section.address
    yield from places(file, segments)


def _at(file: BinaryIO, segments: list[elf.Segment], address: int) -> bytes:
    header = elf.at_address(file, segments, address, _HEADER_SIZE)
    if len(header) < _HEADER_SIZE or not header.startswith(_MAGIC):
        return b""
    pointer_size, flags = header[14], header[15]
    if flags & _INLINE:
        place = address + _HEADER_SIZE
        return _prefixed(elf.at_address(file, segments, place, 2 + _LONGEST_VERSION))
    if pointer_size not in (4, 8):
        return b""
    order: Literal["big", "little"] = "big" if flags & _BIG_ENDIAN else "little"

    def word(data: bytes, at: int) -> int:
        return int.from_bytes(data[at : at + pointer_size], order)

    # A Go string: an address and a length. Both the pointer to it and its own are 0 in a
    # position-independent program until it is loaded.
    words = elf.at_address(file, segments, word(header, 16), 2 * pointer_size)
    if len(words) < 2 * pointer_size or word(words, pointer_size) > _LONGEST_VERSION:
        return b""
    return elf.at_address(file, segments, word(words, 0), word(words, pointer_size))


def _prefixed(data: bytes) -> bytes:
    """The string that begins with its length, a varint; empty where it is not whole."""
    size = 0
    for at, byte in enumerate(data[:2]):
        size |= (byte & 0x7F) << 7 * at
        if not byte & 0x80:
            end = at + 1 + size
            return data[at + 1 : end] if end <= len(data) else b""
    return b""
