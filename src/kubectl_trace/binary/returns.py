"""Where a function returns: its return instructions, and its jumps to other code.

At such an instruction, before it runs, the stack pointer is what it was when the function was
entered, on amd64 and, since a function's end moves it before, on arm64; results are in their
registers.

A probe in the middle of an instruction would break the program. So code is read first as it is
reached from the function's start. What is left is reached in ways that it doesn't say (a switch's
table of jumps, a caught exception, Go's recover): it counts where all of it, up to the next
instruction that is known, can be instructions.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING

from kubectl_trace.binary import elf

if TYPE_CHECKING:
    from collections.abc import Callable

_LARGEST = 4 << 20
# Bounds the time, at 2 seconds or so.
_MOST_INSTRUCTIONS = 1 << 20
_AT_A_TIME = 64
_LONGEST_INSTRUCTION = 15
_AMD64_STOPS = frozenset(
    ("hlt", "int3", "iret", "iretq", "ljmp", "retf", "retfq", "ud0", "ud1", "ud2")
)
# ret, retaa, retab. A ret by another register than x30 leads to where the function wasn't called:
# Go's runtime.asyncPreempt has one.
_ARM64_RETURNS = frozenset((0xD65F03C0, 0xD65F0BFF, 0xD65F0FFF))


@dataclass(frozen=True, slots=True)
class TailJump:
    """A jump out of the function, conditional or not."""

    address: int
    target: int | None
    """None: it is computed, and may be a switch's table of jumps inside of the function."""
    is_conditional: bool = False


@dataclass(frozen=True, slots=True)
class Returns:
    """How a function ends: addresses, in their order."""

    sites: tuple[int, ...]
    """Of the return instructions."""
    tail_jumps: tuple[TailJump, ...]
    is_complete: bool = True
    """Whether all of the function's instructions could be read."""


class _Kind(Enum):
    RETURN = auto()
    JUMP = auto()
    BRANCH = auto()
    """A jump on a condition."""
    STOP = auto()
    """Nothing runs behind it."""
    UNKNOWN = auto()
    """No instruction, or one that isn't known."""


@dataclass(frozen=True, slots=True)
class _End:
    """An instruction that the next one need not follow."""

    kind: _Kind
    target: int | None = None
    """Of a jump, from the function's start; None: computed."""


# Mask, bits, and where in the word how many bits of the distance are: none where it is computed.
_ARM64_JUMPS = (
    (0xFC000000, 0x14000000, _Kind.JUMP, 0, 26),  # b
    (0xFF000000, 0x54000000, _Kind.BRANCH, 5, 19),  # b.cond, bc.cond
    (0x7E000000, 0x34000000, _Kind.BRANCH, 5, 19),  # cbz, cbnz
    (0x7E000000, 0x36000000, _Kind.BRANCH, 5, 14),  # tbz, tbnz
    (0xFEFFF000, 0xD61F0000, _Kind.JUMP, 0, 0),  # br, braa, brab
)


def returns(code: bytes, address: int, machine: int) -> Returns:
    """How a function of any language ends.

    Args:
        code: The function, as in the file.
        address: Where it begins.
        machine: `EM_X86_64` or `EM_AARCH64` of elf.py.

    Raises:
        MalformedError: it is larger than 4 MiB, or of another machine.
    """
    if len(code) > _LARGEST:
        raise elf.MalformedError(f"a function larger than {_LARGEST >> 20} MiB")
    if machine == elf.EM_X86_64:
        ends, is_complete = _ends(len(code), _Amd64(code).at)
    elif machine == elf.EM_AARCH64:
        ends, is_complete = _ends(len(code), partial(_arm64, code))
    else:
        raise elf.MalformedError("neither amd64 nor arm64")
    sites = [at for at, end in ends.items() if end.kind is _Kind.RETURN]
    jumps = [
        TailJump(
            address + at,
            None if end.target is None else address + end.target,
            end.kind is _Kind.BRANCH,
        )
        for at, end in sorted(ends.items(), key=itemgetter(0))
        if end.kind in (_Kind.JUMP, _Kind.BRANCH)
        and (end.target is None or not 0 <= end.target < len(code))
    ]
    return Returns(tuple(address + at for at in sorted(sites)), tuple(jumps), is_complete)


def _ends(size: int, at: Callable[[int], tuple[int, _End | None]]) -> tuple[dict[int, _End], bool]:
    """The ends in a function of this size by where they are, and whether these are all.

    Args:
        size: In bytes.
        at: The instruction at a place: its size, and its end if it is one.
    """
    found: dict[int, _End] = {}
    reached = bytearray(size)
    left = [0]
    while left:
        place = left.pop()
        while place < size and not reached[place]:
            length, end = at(place)
            reached[place] = 1
            if end:
                found[place] = end
                if end.target is not None and 0 <= end.target < size:
                    left.append(end.target)
                if end.kind is not _Kind.BRANCH:
                    break
            place += length
    is_complete = True
    place = 0
    while place < size:
        if reached[place]:
            place += at(place)[0]
            continue
        next_reached = reached.find(1, place)
        gap_end = next_reached if next_reached >= 0 else size
        ends = _ends_between(place, gap_end, at)
        # Behind what isn't known, an instruction may begin anywhere.
        before = found.get(place - 1)
        if ends is None or (before and before.kind is _Kind.UNKNOWN):
            is_complete = False
        else:
            found.update(ends)
        place = gap_end
    is_complete = is_complete and all(end.kind is not _Kind.UNKNOWN for end in found.values())
    return found, is_complete


def _ends_between(
    start: int, end: int, at: Callable[[int], tuple[int, _End | None]]
) -> dict[int, _End] | None:
    """The ends in a part of a function, None if it isn't made of whole instructions."""
    found = {}
    while start < end:
        length, instruction = at(start)
        if start + length > end or (instruction and instruction.kind is _Kind.UNKNOWN):
            return None
        if instruction:
            found[start] = instruction
        start += length
    return found


class _Amd64:
    """Instructions of amd64, decoded some at a time."""

    def __init__(self, code: bytes) -> None:
        # Its import takes 70 ms.
        import capstone

        self._engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._code = code
        self._sizes = bytearray(len(code))
        self._ends: dict[int, _End] = {}
        self._decoded = 0

    def at(self, place: int) -> tuple[int, _End | None]:
        if not self._sizes[place]:
            self._decode(place)
        return self._sizes[place], self._ends.get(place)

    def _decode(self, place: int) -> None:
        data = self._code[place : place + _AT_A_TIME * _LONGEST_INSTRUCTION]
        for at, size, mnemonic, operands in self._engine.disasm_lite(data, place, _AT_A_TIME):
            self._decoded += 1
            if self._sizes[at]:
                break
            self._sizes[at] = size
            # Before it may be prefixes: bnd, notrack, rep.
            end = _amd64_end(mnemonic.rpartition(" ")[2], operands)
            if end:
                self._ends[at] = end
        if not self._sizes[place]:
            self._sizes[place] = 1
            self._ends[place] = _End(_Kind.UNKNOWN)
        if self._decoded > _MOST_INSTRUCTIONS:
            raise elf.MalformedError("a function with too many instructions")


def _amd64_end(mnemonic: str, operands: str) -> _End | None:
    if mnemonic == "ret":
        return _End(_Kind.RETURN)
    if mnemonic.startswith(("j", "loop")):
        kind = _Kind.JUMP if mnemonic == "jmp" else _Kind.BRANCH
        if not operands[:1].isdigit():
            return _End(kind)
        target = int(operands, 0)
        # Before the function's start: a negative number, without a sign.
        return _End(kind, target - (target >> 63 << 64))
    if mnemonic in _AMD64_STOPS:
        return _End(_Kind.STOP)
    return None


def _arm64(code: bytes, place: int) -> tuple[int, _End | None]:
    """The instruction there. Format: Arm Architecture Reference Manual, C4.1, branches."""
    if place + 4 > len(code):
        return len(code) - place, _End(_Kind.UNKNOWN)
    word = int.from_bytes(code[place : place + 4], "little")
    if word in _ARM64_RETURNS:
        return 4, _End(_Kind.RETURN)
    for mask, bits, kind, shift, width in _ARM64_JUMPS:
        if word & mask == bits:
            if not width:
                return 4, _End(kind)
            words = word >> shift & ((1 << width) - 1)
            return 4, _End(kind, place + 4 * (words - (words >> width - 1 << width)))
    # udf, brk, ret by another register.
    if not word >> 16 or word & 0xFFE0001F == 0xD4200000 or word & 0xFFFFFC1F == 0xD65F0000:
        return 4, _End(_Kind.STOP)
    return 4, None
