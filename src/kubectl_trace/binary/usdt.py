"""USDT probes: places in a program where its authors put a name for tracers.

Format: https://sourceware.org/systemtap/wiki/UserSpaceProbeImplementation
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from kubectl_trace.binary import elf
from kubectl_trace.binary.debug_files import note_contents

if TYPE_CHECKING:
    from collections.abc import Iterator

_NT_STAPSDT = 3
# OpenJDK's libjvm, with 560 probes, has 56 KiB.
_MOST_NOTES = 8 << 20

# The size may be left out, as SystemTap's first format did. An operand has blanks within brackets
# only: `[sp, 16]` on arm64. Brackets don't nest; a pattern that lets them takes quadratic time.
_ARGUMENT = re.compile(
    r"(?:(?P<sign>-?)(?P<size>\d{1,3})(?P<float>f?)@)?"
    r"(?P<text>(?:\[[^][]*\]|\([^()]*\)|\S)+)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class UsdtArgument:
    """Where an argument is when the probe is reached."""

    size: int
    """In bytes; 0 where the file doesn't say it."""
    is_signed: bool
    is_float: bool
    text: str
    """The operand in the assembler's syntax: `%edi`, `8(%rsp)`, `$5`; of arm64 `[sp, 16]`."""


@dataclass(frozen=True, slots=True)
class Usdt:
    """A probe; the same provider and name may be at several addresses."""

    provider: str
    name: str
    address: int
    """Virtual, before any relocation of the whole file."""
    semaphore: int
    """The virtual address of the 16-bit counter that turns the probe on; 0: it is always on."""
    arguments: tuple[UsdtArgument, ...]


def probes(file: BinaryIO) -> Iterator[Usdt]:
    """The probes in `.note.stapsdt`, in the file's order.

    Raises:
        MalformedError: no ELF file, or a broken one.
        OSError: the file can't be read.
    """
    header = elf.read_header(file)
    # Backwards, so that of several sections with one name the first counts.
    named = {section.name: section for section in reversed(elf.sections(file, header))}
    section, base = named.get(b".note.stapsdt"), named.get(b".stapsdt.base")
    if section is None:
        return
    addresses = struct.Struct(header.order + ("QQQ" if header.is_64_bit else "III"))
    mask = (1 << 8 * (addresses.size // 3)) - 1
    for note in note_contents(elf.content(file, header, section, _MOST_NOTES), header.order):
        if note.name != b"stapsdt\0" or note.type != _NT_STAPSDT:
            continue
        texts = note.content[addresses.size :].split(b"\0", 3)
        if len(texts) < 4:  # Each of the three ends with a zero byte.
            raise elf.MalformedError("a USDT probe is cut short")
        address, linked_base, semaphore = addresses.unpack_from(note.content)
        # prelink moves a library, but can't know what is in the notes.
        moved = base.address - linked_base if base else 0
        provider, name, operands = (text.decode("utf-8", "backslashreplace") for text in texts[:3])
        yield Usdt(
            provider,
            name,
            (address + moved) & mask,
            (semaphore + moved) & mask if semaphore else 0,
            arguments(operands),
        )


def arguments(text: str) -> tuple[UsdtArgument, ...]:
    """The arguments of a probe, as the assembler wrote them: `-4@%edi 8f@%xmm0 8@8(%rsp)`."""
    return tuple(
        UsdtArgument(
            int(found["size"] or 0), found["sign"] == "-", found["float"] == "f", found["text"]
        )
        for found in _ARGUMENT.finditer(text)
    )
