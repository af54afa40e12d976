"""Go programs, and libraries with Go code in them."""

from __future__ import annotations

from typing import BinaryIO

from kubectl_trace.binary import elf
from kubectl_trace.binary.golang import build_info

# Go's linker makes them, also where another linker does the rest (cgo): cmd/link/internal/ld,
# data.go and elf.go. The third is the second in position-independent programs.
_SECTIONS = frozenset(
    (b".go.buildinfo", b".gopclntab", b".data.rel.ro.gopclntab", b".note.go.buildid")
)
_NOTE_NAME = b"Go\0\0"


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
    return not names and next(build_info.places(file, segments), None) is not None
