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

    def word(self) -> str:
        """The next word, in a register or on the stack."""
        found = self.words(1)
        if found is not None and found.words[0] is not None:
            return found.words[0]
        return f"(uint64)*(uint64 *){self.memory(WORD).address}"

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
    if _is_returned_in_memory(function, machine):
        if function.language == "Rust" and kind.size <= 2 * WORD:
            return Unknown(_NOT_FIXED)
        if machine != EM_X86_64:
            return Unknown("in memory that x8 pointed to at the entry")
        return Memory(sources.register(registers[0]))
    if function.language == "Rust" and not _is_scalar_or_pair(kind):
        return Unknown(_NOT_FIXED)
    left = iter(registers)
    classes = _classes(kind, machine)
    if classes.count(_INTEGER) > len(registers):
        return Unknown("in more registers than there are")
    return Words(
        tuple(sources.register(next(left)) if each == _INTEGER else None for each in classes)
    )


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
    if function.returns is not None and _is_returned_in_memory(function, machine):
        if is_rust and function.returns.size <= 2 * WORD:
            registers.lost = _NOT_FIXED
        elif machine == EM_X86_64:
            registers.words(1)
    return [_argument(parameter, registers, is_rust=is_rust) for parameter in function.parameters]


def _argument(parameter: Parameter, registers: _Registers, *, is_rust: bool) -> Source:
    kind = parameter.type
    if registers.lost:
        return Unknown(registers.lost)
    if not kind.size and is_rust and isinstance(kind, types.Structure):
        return Words(())  # a value without bytes is passed nowhere
    if not kind.size or any(isinstance(each, types.Opaque) for _, each in _scalars(kind, 0)):
        # Also a vector, which has registers of its own.
        registers.lost = f"after {parameter.name}, whose type is not known"
        return Unknown("its type is not known")
    if is_rust:
        return _argument_of_rust(kind, registers)
    if isinstance(kind, types.Structure) and not kind.is_trivial:
        return _behind_pointer(registers)
    if registers.machine == EM_AARCH64:
        if kind.size > 2 * WORD and not _is_float_group(kind):
            return _behind_pointer(registers)
    elif kind.size > 2 * WORD or _is_in_memory(kind):
        return registers.memory(kind.size, 16 if _has_long_double(kind) else WORD)
    return _in_registers(kind, registers)


def _argument_of_rust(kind: Type, registers: _Registers) -> Source:
    if not _is_scalar_or_pair(kind):
        if kind.size > 2 * WORD:
            return _behind_pointer(registers)
        registers.lost = _NOT_FIXED
        return Unknown(_NOT_FIXED)
    if kind.size <= WORD:
        return _in_registers(kind, registers)
    # The two words are arguments of their own: one may be in a register, the other not.
    return Words(tuple(registers.word() for _ in range(2)))


def _in_registers(kind: Type, registers: _Registers) -> Source:
    classes = _classes(kind, registers.machine)
    integers, floats = classes.count(_INTEGER), classes.count(_FLOAT)
    is_wide = isinstance(kind, types.Integer) and kind.size > WORD
    if registers.machine == EM_AARCH64 and is_wide and len(registers.free) % 2:
        registers.words(1)  # C.8: it begins at an even register
    if floats > registers.floats or integers > len(registers.free):
        if _NONE in classes:
            registers.lost = "how a value with padding is aligned is not told"
            return Unknown(registers.lost)
        if registers.machine == EM_AARCH64 and floats:
            registers.floats = 0
        elif registers.machine == EM_AARCH64:
            registers.free = []
        return registers.memory(kind.size, kind.size if is_wide else WORD)
    registers.floats -= floats
    words = registers.words(integers)
    assert words is not None
    taken = iter(words.words)
    return Words(tuple(next(taken) if each == _INTEGER else None for each in classes))


def _behind_pointer(registers: _Registers) -> Source:
    return Memory(registers.word())


def _is_returned_in_memory(function: Subprogram, machine: int) -> bool:
    kind = function.returns
    assert kind is not None
    if isinstance(kind, types.Structure) and not kind.is_trivial:
        return True
    if function.language == "Rust":
        return not _is_scalar_or_pair(kind) and kind.size > 0
    if isinstance(kind, types.Float):
        return False
    if machine == EM_AARCH64:
        return kind.size > 2 * WORD and not _is_float_group(kind)
    return kind.size > 2 * WORD or (isinstance(kind, types.Structure) and _is_in_memory(kind))


_INTEGER, _FLOAT, _NONE = "integer", "float", "none"


def _classes(kind: Type, machine: int) -> list[str]:
    """Of which kind of register each 8 bytes of a value are; padding has none."""
    if machine == EM_AARCH64:
        if _is_float_group(kind):
            return [_FLOAT] * sum(1 for _ in _scalars(kind, 0))
        return [_INTEGER] * max(1, -(-kind.size // WORD))
    scalars = list(_scalars(kind, 0))
    classes = []
    for begin in range(0, max(kind.size, 1), WORD):
        inside = [
            each for at, each in scalars if at < begin + WORD and begin < at + max(each.size, 1)
        ]
        is_float = all(isinstance(each, types.Float) for each in inside)
        classes.append((_FLOAT if is_float else _INTEGER) if inside else _NONE)
    return classes


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


def _is_in_memory(kind: Type) -> bool:
    """Whether AMD64 passes a value of two words at most on the stack all the same."""
    return _has_long_double(kind) or any(
        at % min(max(each.size, 1), WORD) for at, each in _scalars(kind, 0)
    )


def _has_long_double(kind: Type) -> bool:
    return any(
        isinstance(each, types.Float) and each.size == 16 and "long double" in each.name
        for _, each in _scalars(kind, 0)
    )


def _is_scalar_or_pair(kind: Type) -> bool:
    """Whether Rust's compiler passes a value as one or two words: a scalar, or a fat pointer."""
    if isinstance(kind, types.Structure):
        return kind.size == 2 * WORD and kind.name.startswith(("&", "*", "alloc::boxed::Box<dyn"))
    return not isinstance(kind, types.Array) and kind.size <= WORD
