"""Where Go passes arguments and results.

Go's internal ABI (cmd/compile/abi-internal.md): registers since 1.17 on amd64 and 1.18 on arm64,
before that, and in assembly always, the stack.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.binary import types
from kubectl_trace.binary.elf import EM_AARCH64, EM_X86_64
from kubectl_trace.functions import native_abi, sources
from kubectl_trace.functions.sources import WORD, Memory, Source, Unknown, Words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kubectl_trace.binary.dwarf import Parameter, Subprogram
    from kubectl_trace.binary.types import Type

_INTEGERS = {
    EM_X86_64: ("ax", "bx", "cx", "di", "si", "r8", "r9", "r10", "r11"),
    EM_AARCH64: tuple(f"r{number}" for number in range(16)),
}
_FLOATS = {EM_X86_64: 15, EM_AARCH64: 16}
_G = {EM_X86_64: "r14", EM_AARCH64: "r28"}
_REGISTERS_SINCE = {EM_X86_64: 17, EM_AARCH64: 18}
# Behind the return address, on both machines: on arm64 it is the callee that keeps it there.
_STACK_AT = WORD

DICTIONARY = ".dict"
"""The hidden parameter of a generic function: which types it is for."""
_WORD_TYPE = types.Integer("uintptr", WORD, False)


def passes_in_registers(version: str, machine: int) -> bool:
    """Whether functions written in Go have their arguments in registers. Unknown: as of late."""
    found = re.match(r"(?:go)?1\.(\d+)", version)
    return machine in _REGISTERS_SINCE and (
        found is None or int(found[1]) >= _REGISTERS_SINCE[machine]
    )


def goroutine(version: str, machine: int) -> str:
    """An expression for the address of the current goroutine's g."""
    if passes_in_registers(version, machine) or machine == EM_AARCH64:
        return sources.register(_G[machine])
    # runtime/go_tls.h: in the thread's own memory, 8 bytes below its base.
    return "(uint64)*(uint64 *)uptr((uint64)curtask->thread.fsbase - 8)"


def frame(goroutine: str) -> str:
    """An expression that is the same at a call's begin and end, also when its stack has moved.

    How far the frame is from the stack's high end: g.stack.hi is g's second word.
    """
    return f"(uint64)*(uint64 *)({goroutine} + 8) - {sources.register('sp')}"


def places_of(
    function: Subprogram, machine: int, *, in_registers: bool
) -> tuple[list[Source], list[Source]]:
    """Where a function's parameters and results are, as `places`.

    A generic function has a hidden parameter, of which only the newest compilers' debug
    information tells: the places that it does tell must agree.
    """
    parameters = [each.type for each in function.parameters]
    results = [each.type for each in function.results]
    for hidden in _hidden(function):
        with_hidden = [*parameters[:hidden], _WORD_TYPE, *parameters[hidden:]]
        for by_register in (in_registers, False) if in_registers else (False,):
            assumed = parameters if hidden < 0 else with_hidden
            first, second = places(assumed, results, machine, in_registers=by_register)
            if hidden >= 0:
                del first[hidden]
            must_tell = hidden > 0 or not by_register or (hidden == 0 and _is_method(function))
            if _agree(first, function.parameters, machine, must_tell=must_tell):
                if hidden >= 0 and _is_method(function) and not function.parameters[0].places:
                    # Before or behind the dictionary: what comes later tells nothing of it.
                    first[0] = Unknown("a generic method's receiver")
                return first, second
            if not in_registers:
                return first, second
    told = [
        native_abi.by_debug_info(each.places, each.type, machine)
        if each.places
        else Unknown("debug information and Go's rules differ")
        for each in function.parameters
    ]
    return told, [Unknown("debug information and Go's rules differ") for _ in results]


def _is_method(function: Subprogram) -> bool:
    """Whether a generic function is a method: main.(*List[...]).Push."""
    return "]" in function.name and not function.name.endswith("]")


def _hidden(function: Subprogram) -> Sequence[int]:
    """Where a hidden parameter may be: before all, behind the receiver; -1: there is none."""
    has_dictionary = any(each.name == DICTIONARY for each in function.parameters)
    if "[" not in function.name or has_dictionary:
        return (-1,)
    return (0, 1) if function.parameters else (0,)


def _agree(
    found: Sequence[Source], parameters: Sequence[Parameter], machine: int, *, must_tell: bool
) -> bool:
    """Whether debug information says nothing else. `must_tell`: it must say something at least."""
    for source, parameter in zip(found, parameters, strict=True):
        if not parameter.places:
            continue
        if isinstance(source, Memory):
            told: Source = native_abi.by_debug_info(parameter.places, parameter.type, machine)
            if told != source:
                return False
            must_tell = False
        elif isinstance(source, Words):
            if any(place.cfa_offset is not None for place in parameter.places):
                return False
            named = [
                sources.dwarf_register(machine, place.register)
                if place.register is not None
                else None
                for place in parameter.places
            ]
            told_words = [sources.register(name) if name else None for name in named]
            is_whole = all(word is None or word.startswith("reg(") for word in source.words)
            if len(told_words) == len(source.words) and is_whole:
                if told_words != list(source.words):
                    return False
                must_tell = False
    return not must_tell


@dataclass
class _Assigned:
    """The registers that are left, and the next place on the stack."""

    free: list[str]
    floats: int
    stack: int


def places(
    parameters: Sequence[Type], results: Sequence[Type], machine: int, *, in_registers: bool
) -> tuple[list[Source], list[Source]]:
    """Where parameters are at the entry, and results at the return."""
    if machine not in _INTEGERS:
        unknown = Unknown("on a machine that is not known")
        return [unknown for _ in parameters], [unknown for _ in results]

    def registers() -> tuple[list[str], int]:
        return (list(_INTEGERS[machine]), _FLOATS[machine]) if in_registers else ([], 0)

    state = _Assigned(*registers(), stack=0)
    first = _assign_all(parameters, state)
    state.stack += -state.stack % WORD
    state.free, state.floats = registers()
    return first, _assign_all(results, state)


def raw(machine: int, *, in_registers: bool, results: bool = False) -> list[tuple[str, str]]:
    """The first integer registers of arguments or results: names and expressions."""
    if not in_registers:
        return (
            []
            if results
            else [
                (f"stack+{at}", f"(uint64)*(uint64 *){sources.at(sources.register('sp'), at)}")
                for at in range(_STACK_AT, _STACK_AT + 5 * WORD, WORD)
            ]
        )
    names = _INTEGERS.get(machine, ())[: 3 if results else 5]
    if machine == EM_AARCH64:
        return [(f"x{name[1:]}", sources.register(name)) for name in names]
    return [(name if name[0] == "r" else f"r{name}", sources.register(name)) for name in names]


def _assign_all(kinds: Sequence[Type], state: _Assigned) -> list[Source]:
    found: list[Source] = []
    lost = ""
    for kind in kinds:
        if not lost and not _is_known(kind):
            lost = f"{kind.name or 'a type'} is not known, nor what comes after it"
        found.append(Unknown(lost) if lost else _assign(kind, state))
    return found


def _is_known(kind: Type, depth: int = 0) -> bool:
    if depth > 8:
        return False
    match kind:
        case types.Structure():
            return all(_is_known(member.type, depth + 1) for member in kind.members)
        case types.Array():
            return kind.count >= 0 and _is_known(kind.element, depth + 1)
        case types.Opaque():
            return kind.size == WORD
    return kind.size > 0


def _assign(kind: Type, state: _Assigned) -> Source:
    before = list(state.free), state.floats
    words: list[str | None] = []
    if _fits(kind, state, words):
        whole = _as_words(kind, words)
        return whole if whole is not None else Unknown("its parts are in different registers")
    state.free, state.floats = before
    align = _alignment(kind)
    state.stack += -state.stack % align
    at = state.stack
    state.stack += kind.size
    return Memory(sources.at(sources.register("sp"), _STACK_AT + at))


def _fits(kind: Type, state: _Assigned, words: list[str | None], depth: int = 0) -> bool:
    """Assigns registers to a value part by part; False: not all of it fits."""
    if depth > 8:
        return False
    match kind:
        case types.Structure():
            return all(_fits(each.type, state, words, depth + 1) for each in kind.members)
        case types.Array():
            return kind.count == 0 or (
                kind.count == 1 and _fits(kind.element, state, words, depth + 1)
            )
        case types.Float():
            number = 2 if "complex" in kind.name else 1
            words += [None] * number
            state.floats -= number
            return state.floats >= 0
    if not state.free:
        return False
    words.append(sources.register(state.free.pop(0)))
    return True


def _as_words(kind: Type, words: list[str | None]) -> Source | None:
    """The registers as if they were the value's memory, word by word."""
    offsets = [at for at, _ in _parts(kind, 0)]
    if len(offsets) != len(words):
        return None
    if all(at == index * WORD for index, at in enumerate(offsets)):
        return Words(tuple(words))
    # Several small parts share a word in memory, but each has a register of its own.
    joined: dict[int, str | None] = {}
    for (at, part), word in zip(_parts(kind, 0), words, strict=True):
        if word is None or joined.get(at // WORD, "") is None:
            joined[at // WORD] = None
            continue
        shift = at % WORD * 8
        value = word if part.size == WORD else f"({word} & {(1 << part.size * 8) - 1:#x})"
        value = f"({value} << {shift})" if shift else value
        earlier = joined.get(at // WORD)
        joined[at // WORD] = f"({earlier} | {value})" if earlier else value
    last = max(joined, default=-1)
    return Words(tuple(joined.get(index) for index in range(last + 1)))


def _parts(kind: Type, base: int, depth: int = 0) -> Iterator[tuple[int, Type]]:
    match kind:
        case types.Structure() if depth <= 8:
            for member in kind.members:
                yield from _parts(member.type, base + member.offset, depth + 1)
        case types.Array() if depth <= 8:
            for index in range(min(kind.count, 1)):
                yield from _parts(kind.element, base + index, depth + 1)
        case types.Float() if "complex" in kind.name:
            half = kind.size // 2
            yield base, types.Float("", half)
            yield base + half, types.Float("", half)
        case _:
            yield base, kind


def _alignment(kind: Type, depth: int = 0) -> int:
    match kind:
        case types.Structure() if depth <= 8:
            return max((_alignment(each.type, depth + 1) for each in kind.members), default=1)
        case types.Array() if depth <= 8:
            return _alignment(kind.element, depth + 1)
        case types.Float() if "complex" in kind.name:
            return kind.size // 2
    return min(kind.size, WORD) or 1
