"""Go programs, and libraries with Go code in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from kubectl_trace.binary import elf

if TYPE_CHECKING:
    from collections.abc import Iterable

# Go's linker makes them, also where another linker does the rest (cgo): cmd/link/internal/ld,
# data.go and elf.go. The third is the second in position-independent programs.
_SECTIONS = frozenset(
    (b".go.buildinfo", b".gopclntab", b".data.rel.ro.gopclntab", b".note.go.buildid")
)
_NOTE_NAME = b"Go\0\0"

# Go 1.13 and newer; aligned: debug/buildinfo, buildinfo.go.
_MAGIC = b"\xff Go buildinf:"
_MAGIC_ALIGN = 16
_CHUNK = 1 << 20
_MOST_SEARCHED = 16 << 20


def is_go(file: BinaryIO) -> bool:
    """Whether the ELF file holds Go code, stripped or not; False for what is no ELF file.

    It matters since a uretprobe in Go code can crash the program: Go moves its stacks.

    Raises:
        OSError: the file can't be read.
    """
    try:
        header = elf.read_header(file)
    except elf.MalformedError:
        return False
    try:
        names = {section.name for section in elf.sections(file, header)}
    except elf.MalformedError:
        names = set()
    if names & _SECTIONS:
        return True
    try:
        segments = elf.segments(file, header)
    except elf.MalformedError:
        return False
    if any(note.name == _NOTE_NAME for note in elf.notes(file, header, segments)):
        return True
    # Where sections have names, they have said it. A file stripped of the section headers may have
    # no note either (-ldflags=-buildid=).
    return not names and _has_build_info(file, segments)


def _has_build_info(file: BinaryIO, segments: Iterable[elf.Segment]) -> bool:
    """Whether the magic bytes of Go's build information are in a data segment.

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
                if (segment.address + at + found) % _MAGIC_ALIGN == 0:
                    return True
                found = chunk.find(_MAGIC, found + 1)
            at += _CHUNK
            left -= _CHUNK
    return False
