"""Where C, C++ and Rust pass arguments and results: at a function's entry, and at its return.

System V ABI for AMD64, 3.2.3; Procedure Call Standard for the Arm 64-bit Architecture, 6.8. Where
the debug information says where an argument is at the entry, that is believed: compilers change the
signatures of functions that only they see. Rust's own ABI is not written down: only what is one or
two words is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kubectl_trace.binary import types
from kubectl_trace.binary.elf import EM_AARCH64, EM_X86_64
from kubectl_trace.functions import sources
from kubectl_trace.functions.sources import WORD, Memory, Source, Unknown, Words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubectl_trace.binary.dwarf import Parameter, Place, Subprogram
    from kubectl_trace.binary.types import Type

_INTEGER_REGISTERS = {
    EM_X86_64: ("di", "si", "dx", "cx", "r8", "r9"),
    EM_AARCH64: tuple(f"r{number}" for number in range(8)),
}
_RESULT_REGISTERS = {EM_X86_64: ("ax", "dx"), EM_AARCH64: ("r0", "r1")}
_FLOAT_REGISTERS = 8
# Where the first argument on the stack is at the entry: on AMD64 behind the return address.
_STACK_AT = {EM_X86_64: 8, EM_AARCH64: 0}

_OPTIMISED_OUT = "optimised out"
_CHANGED = "the compiler changed how this function is called"
_NOT_FIXED = "Rust does not say how it passes this"
# GCC makes these of functions that it changes: their arguments are not those of the source.
_CLONES = (".isra.", ".constprop.", ".part.")


@dataclass
class _Registers:
    """Those that are left, and the place on the stack that comes next."""

    machine: int
    free: list[str]
    floats: int = _FLOAT_REGISTERS
    stack: int = 0
    lost: str = ""
    """Why it isn't known any more what is where."""
    _taken: list[str] = field(default_factory=list)

    def words(self, count: int) -> Words | None:
        """The next so many registers; None: so many are not left."""
        if count > len(self.free):
            if self.machine == EM_AARCH64:
                self.free = []  # C.13: nothing goes into registers after this
            return None
        taken, self.free = self.free[:count], self.free[count:]
        return Words(tuple(map(sources.register, taken)))

    def memory(self, size: int, align: int = WORD) -> Memory:
        """The next place on the stack."""
        self.stack += -self.stack % max(align, WORD)
        at = _STACK_AT[self.machine] + self.stack
        self.stack += size + -size % WORD
        return Memory(sources.at(sources.register("sp"), at))


def arguments(function: Subprogram, machine: int, symbol: str = "") -> list[Source]:
    """Where each parameter is when the function begins. `symbol`: the linker's name."""
    by_abi = (
        [Unknown(_CHANGED) for _ in function.parameters]
        if _is_changed(function, symbol)
        else _by_abi(function, machine)
    )
    return [
        source if each.places is None else by_debug_info(each.places, each.type, machine)
        for each, source in zip(function.parameters, by_abi, strict=True)
    ]


def _is_changed(function: Subprogram, symbol: str) -> bool:
    """Whether the compiler, seeing all callers, calls the function in a way of its own."""
    return not function.is_standard_call or any(mark in symbol for mark in _CLONES)


def result(function: Subprogram, machine: int, symbol: str = "") -> Source:
    """Where the result is when the function returns, in `returns`'s type.

    One that a function puts where its caller asked it to is behind the first result register.
    """
    registers = _RESULT_REGISTERS.get(machine)
    kind = function.returns
    if registers is None or kind is None:
        return Unknown("no result")
    if _is_changed(function, symbol):
        return Unknown(_CHANGED)
    if _is_returned_in_memory(function, kind):
        if function.language == "Rust" and kind.size <= 2 * WORD:
            return Unknown(_NOT_FIXED)
        if machine != EM_X86_64:
            return Unknown("in memory that x8 pointed to at the entry")
        return Memory(sources.register(registers[0]))
    if function.language == "Rust" and not _is_scalar_or_pair(kind):
        return Unknown(_NOT_FIXED)
    left = iter(registers)
    classes = _classes(kind, machine)
    return Words(tuple(None if is_float else sources.register(next(left)) for is_float in classes))


def raw(machine: int) -> list[tuple[str, str]]:
    """The integer registers of arguments: their names as the machine's, and their expressions."""
    names = _INTEGER_REGISTERS.get(machine, ())
    return [(_shown(name, machine), sources.register(name)) for name in names]


def raw_result(machine: int) -> list[tuple[str, str]]:
    """As `raw`, the register of a result."""
    names = _RESULT_REGISTERS.get(machine, ())[:1]
    return [(_shown(name, machine), sources.register(name)) for name in names]


def _shown(name: str, machine: int) -> str:
    """A register as the machine's manuals call it."""
    if machine == EM_AARCH64:
        return f"x{name[1:]}"
    return name if name.startswith("r") else f"r{name}"


def by_debug_info(places: tuple[Place, ...], kind: Type, machine: int) -> Source:
    """Where a value is at the entry, as its debug information tells."""
    if not places:
        return Unknown(_OPTIMISED_OUT)
    if len(places) == 1:
        (place,) = places
        if place.cfa_offset is not None:
            # The CFA is the stack pointer before the call.
            base = 8 if machine == EM_X86_64 else 0
            return Memory(sources.at(sources.register("sp"), place.cfa_offset + base))
        if place.register is not None and place.offset is not None:
            name = sources.dwarf_register(machine, place.register)
            if name is None:
                return Unknown(sources.IN_FLOAT_REGISTER)
            return Memory(sources.at(sources.register(name), place.offset))
    return _in_pieces(places, kind, machine)


def _in_pieces(places: tuple[Place, ...], kind: Type, machine: int) -> Source:
    """A value of which each part has a register."""
    words: dict[int, str] = {}
    holes: list[tuple[int, int]] = []
    at = 0
    for place in places:
        size = place.size or kind.size
        name = (
            sources.dwarf_register(machine, place.register)
            if place.register is not None and place.offset is None
            else None
        )
        if name is None or at % WORD + size > WORD:
            holes.append((at, at + size))
        else:
            part = sources.register(name)
            if size < WORD and len(places) > 1:
                part = f"({part} & {(1 << size * 8) - 1:#x})"
            if at % WORD:
                part = f"({part} << {at % WORD * 8})"
            before = words.get(at // WORD)
            words[at // WORD] = f"({before} | {part})" if before else part
        at += size
    if at < kind.size:
        return Unknown("in a part of a register")
    count = max(1, -(-at // WORD))
    return Words(tuple(words.get(index) for index in range(count)), tuple(holes))


def _by_abi(function: Subprogram, machine: int) -> list[Source]:
    if machine not in _INTEGER_REGISTERS:
        return [Unknown("on a machine that is not known")] * len(function.parameters)
    registers = _Registers(machine, list(_INTEGER_REGISTERS[machine]))
    is_rust = function.language == "Rust"
    if is_rust and "closure" in function.linkage_name:
        registers.lost = "what a closure captured comes first, of which debug information is silent"
    if function.returns is not None and _is_returned_in_memory(function, function.returns):
        if is_rust and function.returns.size <= 2 * WORD:
            registers.lost = _NOT_FIXED
        elif machine == EM_X86_64:
            registers.words(1)
    return [_argument(parameter, registers, is_rust=is_rust) for parameter in function.parameters]


def _argument(parameter: Parameter, registers: _Registers, *, is_rust: bool) -> Source:
    kind = parameter.type
    if registers.lost:
        return Unknown(registers.lost)
    if not kind.size:
        if is_rust and isinstance(kind, types.Structure):
            return Words(())  # a value without bytes is passed nowhere
        registers.lost = f"after {parameter.name}, whose type is not known"
        return Unknown("its type is not known")
    if is_rust and not _is_scalar_or_pair(kind):
        if kind.size <= 2 * WORD:
            registers.lost = _NOT_FIXED
            return Unknown(_NOT_FIXED)
        return _behind_pointer(registers)
    if isinstance(kind, types.Structure) and not kind.is_trivial:
        return _behind_pointer(registers)
    if kind.size > 2 * WORD:
        if registers.machine == EM_AARCH64 and not _is_float_group(kind):
            return _behind_pointer(registers)
        return registers.memory(kind.size, 16 if _is_long_double(kind) else WORD)
    if _is_long_double(kind):
        return registers.memory(kind.size, 16)
    return _in_registers(kind, registers)


def _in_registers(kind: Type, registers: _Registers) -> Source:
    classes = _classes(kind, registers.machine)
    integers, floats = classes.count(False), classes.count(True)
    if floats > registers.floats or integers > len(registers.free):
        if registers.machine == EM_AARCH64 and floats:
            registers.floats = 0
        elif registers.machine == EM_AARCH64:
            registers.free = []
        return registers.memory(kind.size)
    registers.floats -= floats
    words = registers.words(integers)
    assert words is not None
    taken: Iterator[str | None] = iter(words.words)
    return Words(tuple(None if is_float else next(taken) for is_float in classes))


def _behind_pointer(registers: _Registers) -> Source:
    words = registers.words(1)
    if words is not None and words.words[0] is not None:
        return Memory(words.words[0])
    address = sources.number(registers.memory(WORD), 0, WORD)
    assert address is not None
    return Memory(address)


def _is_returned_in_memory(function: Subprogram, kind: Type) -> bool:
    if isinstance(kind, types.Structure) and not kind.is_trivial:
        return True
    if function.language == "Rust":
        return not _is_scalar_or_pair(kind) and kind.size > 0
    return kind.size > 2 * WORD and not (isinstance(kind, types.Float) or _is_float_group(kind))


def _classes(kind: Type, machine: int) -> list[bool]:
    """For every 8 bytes of a value in registers, whether they are in a floating-point one."""
    if machine == EM_AARCH64 and _is_float_group(kind):
        return [True] * sum(1 for _ in _scalars(kind, 0))
    words = max(1, -(-kind.size // WORD))
    return [
        all(isinstance(each, types.Float) for at, each in inside)
        if (inside := [found for found in _scalars(kind, 0) if found[0] // WORD == word])
        else False
        for word in range(words)
    ]


def _scalars(kind: Type, base: int, depth: int = 0) -> Iterator[tuple[int, Type]]:
    if depth > 8:
        yield base, types.Opaque("")
    elif isinstance(kind, types.Structure):
        for member in kind.members:
            yield from _scalars(member.type, base + member.offset, depth + 1)
    elif isinstance(kind, types.Array) and kind.element.size:
        for index in range(min(max(kind.count, 0), 16)):
            yield from _scalars(kind.element, base + index * kind.element.size, depth + 1)
    else:
        yield base, kind


def _is_float_group(kind: Type) -> bool:
    """AAPCS64's homogeneous aggregate, or one floating-point number."""
    found = [each for _, each in _scalars(kind, 0)]
    return 0 < len(found) <= 4 and all(
        isinstance(each, types.Float) and each.size == found[0].size for each in found
    )


def _is_long_double(kind: Type) -> bool:
    return isinstance(kind, types.Float) and kind.size == 16 and "long double" in kind.name


def _is_scalar_or_pair(kind: Type) -> bool:
    """Whether Rust's compiler passes a value as one or two words: a scalar, or a fat pointer."""
    if isinstance(kind, types.Structure):
        return kind.size == 2 * WORD and kind.name.startswith(("&", "*", "alloc::boxed::Box<dyn"))
    return not isinstance(kind, types.Array) and kind.size <= WORD
