"""Where a value is when a probe fires, as expressions of bpftrace's language."""

from __future__ import annotations

from dataclasses import dataclass

from kubectl_trace.binary.elf import EM_AARCH64, EM_X86_64

WORD = 8
"""Bytes of a register, on both machines."""

IN_FLOAT_REGISTER = "in a floating-point register"
"""Which BPF programs can't read."""

# Names of registers in bpftrace: src/arch/x86_64.cpp and aarch64.cpp, the same from 0.17 to 0.27.
# The order is that of DWARF's numbers: System V ABI for AMD64, figure 3.36; DWARF for the Arm
# 64-bit Architecture, 4.1.
_DWARF_REGISTERS = {
    EM_X86_64: (
        *("ax", "dx", "cx", "bx", "si", "di", "bp", "sp"),
        *(f"r{number}" for number in range(8, 16)),
    ),
    EM_AARCH64: (*(f"r{number}" for number in range(31)), "sp"),
}


@dataclass(frozen=True)
class Words:
    """In registers: an expression for every 8 bytes, the lowest first.

    None: that part can't be read.
    """

    words: tuple[str | None, ...]
    holes: tuple[tuple[int, int], ...] = ()
    """Bytes, from and to, of which nothing is known."""


@dataclass(frozen=True)
class Memory:
    """In the process's memory."""

    address: str


@dataclass(frozen=True)
class Unknown:
    """Not to be had, and why."""

    reason: str


Source = Words | Memory | Unknown


def register(name: str) -> str:
    """The expression for a register."""
    return f'reg("{name}")'


def dwarf_register(machine: int, number: int) -> str | None:
    """Bpftrace's name of the register that DWARF calls so; None: the kernel does not show it."""
    names = _DWARF_REGISTERS.get(machine, ())
    return names[number] if 0 <= number < len(names) else None


def at(address: str, offset: int) -> str:
    """An expression for an address so many bytes further."""
    return f"({address} + {offset})" if offset else address


def number(source: Source, offset: int, size: int) -> str | None:
    """An expression for the unsigned number of 1, 2, 4 or 8 bytes there; None: it can't be read."""
    if size not in (1, 2, 4, 8):
        return None
    if isinstance(source, Memory):
        return f"(uint64)*(uint{size * 8} *){at(source.address, offset)}"
    if isinstance(source, Unknown) or offset // WORD >= len(source.words):
        return None
    if any(begin < offset + size and offset < end for begin, end in source.holes):
        return None
    word = source.words[offset // WORD]
    shift = offset % WORD * 8
    if word is None or shift + size * 8 > WORD * 8:
        return None
    if shift:
        word = f"({word} >> {shift})"
    return word if size == WORD and not shift else f"({word} & {(1 << size * 8) - 1:#x})"


def part(source: Source, offset: int) -> Source:
    """The source of what is so many bytes into a value; in registers whole words only."""
    if isinstance(source, Memory):
        return Memory(at(source.address, offset))
    if isinstance(source, Words):
        if offset % WORD:
            return Unknown("between the words of registers")
        holes = tuple((begin - offset, end - offset) for begin, end in source.holes)
        return Words(source.words[offset // WORD :], holes)
    return source
