"""How a function is traced: where its calls begin and end, where its arguments and results are."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

from kubectl_trace.binary import elf, returns
from kubectl_trace.binary.elf import EM_X86_64
from kubectl_trace.binary.golang import prologue
from kubectl_trace.functions import go_abi, native_abi, shapes, shaping, sources
from kubectl_trace.functions.shapes import Leaf, Missing, Registers
from kubectl_trace.functions.writing import Parameter, Traced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_trace.binary.dwarf import Subprogram
    from kubectl_trace.binary.types import Type
    from kubectl_trace.functions.catalog import Binary, Function
    from kubectl_trace.functions.shapes import Limits
    from kubectl_trace.functions.sources import Source

_THREAD = "((uint64)pid << 32) | (uint64)tid"
_STACK = sources.register("sp")
_RAW = "not known: registers"


def traced(
    binary: Binary,
    function: Function,
    path: str,
    described: Subprogram | None,
    limits: Limits,
    *,
    has_types: bool = True,
) -> Traced:
    """A function as it is traced.

    Args:
        binary: The file that it is in.
        function: Which one.
        path: The file, as bpftrace is to find it.
        described: What debug information says of it; None: nothing.
        limits: How much of values is read.
        has_types: bpftrace knows the kernel's types; a goroutine of Go before 1.17 is not found
            without them.
    """
    if function.language == "Go":
        return _go(binary, function, path, described, limits, has_types=has_types)
    return _native(binary, function, path, described, limits)


def _native(
    binary: Binary, function: Function, path: str, described: Subprogram | None, limits: Limits
) -> Traced:
    machine = binary.header.machine
    language = function.language or (described.language if described else "")
    may_unwind = language in ("C++", "Rust") or binary.unwinds
    sites, tails, is_all = _ends(binary, function)
    # An exception that passes through a uretprobe ends the process: the unwinder finds the
    # kernel's return address where the caller's should be. And where a function goes on in
    # another one, that one's return is its own: only a uretprobe sees it.
    by_sites = may_unwind or (bool(sites) and is_all and not tails)
    uses_uretprobe = not by_sites
    if described is not None:
        arguments = _arguments(
            described, native_abi.arguments(described, machine, function.symbol), limits
        )
        results = _native_result(described, machine, function.symbol, limits)
    else:
        arguments = _raw(native_abi.raw(machine))
        results = _raw(native_abi.raw_result(machine))
    return Traced(
        name=function.name,
        path=path,
        language=language,
        start=function.address,
        entry=function.address,
        returns=sites if by_sites else (),
        tail_jumps=tails if by_sites else (),
        uses_uretprobe=uses_uretprobe,
        who=_THREAD,
        frame=_STACK,
        # A uretprobe fires after the return: on amd64 the return address has left the stack.
        frame_after=f"{_STACK} - 8" if machine == EM_X86_64 else _STACK,
        arguments=arguments,
        results=results,
        may_unwind=may_unwind,
        # The kernel forgets uretprobes of recursion deeper than 64, and where stacks are switched.
        ends_known=is_all and by_sites,
    )


def _native_result(
    described: Subprogram, machine: int, symbol: str, limits: Limits
) -> tuple[Parameter, ...]:
    kind = described.returns
    if kind is None:
        return ()
    return _parameters([("", kind)], [native_abi.result(described, machine, symbol)], limits)


def _go(
    binary: Binary,
    function: Function,
    path: str,
    described: Subprogram | None,
    limits: Limits,
    *,
    has_types: bool,
) -> Traced:
    machine = binary.header.machine
    version = binary.go_version
    is_assembly = binary.is_go_assembly(function)
    in_registers = go_abi.passes_in_registers(version, machine) and not is_assembly
    sites, tails, is_all = _ends(binary, function)
    entry = function.address
    if code := binary.code(function):
        # Where the stack must grow the function begins anew: what comes after that check, once.
        entry = prologue.after_stack_check(code, function.address, machine)
    if is_assembly:
        # It may use the goroutine's register for what it likes; nor does it let its stack move.
        who, frame = _THREAD, _STACK
    elif in_registers or has_types:
        who = go_abi.goroutine(version, machine)
        frame = go_abi.frame(who)
    else:
        who, frame = _THREAD, _STACK
    if described is not None:
        first, second = go_abi.places_of(described, machine, in_registers=in_registers)
        named = [(each.name, each.type) for each in described.parameters]
        arguments = tuple(
            each for each in _parameters(named, first, limits) if each.name != go_abi.DICTIONARY
        )
        named = [(each.name, each.type) for each in described.results]
        results = _parameters(named, second, limits)
    else:
        arguments = _go_raw(go_abi.raw(machine, in_registers=in_registers), limits)
        results = _go_raw(go_abi.raw(machine, in_registers=in_registers, results=True), limits)
    return Traced(
        name=function.name,
        path=path,
        language="Go",
        start=function.address,
        entry=entry,
        returns=sites,
        tail_jumps=tails,
        uses_uretprobe=False,
        who=who,
        frame=frame,
        frame_after=frame,
        arguments=arguments,
        results=results,
        may_unwind=True,
        ends_known=is_all,
    )


@dataclasses.dataclass(frozen=True)
class GoEnds:
    """Where a Go function returns, and an expression for its first result; empty: not known."""

    sites: tuple[int, ...]
    result: str


def go_ends(binary: Binary, function: Function, described: Subprogram | None) -> GoEnds:
    """Where a Go function returns.

    Args:
        binary: The file that it is in.
        function: Which one.
        described: What debug information says of it; None: nothing.
    """
    machine = binary.header.machine
    in_registers = go_abi.passes_in_registers(binary.go_version, machine)
    sites, _, _ = _ends(binary, function)
    result = ""
    if described is not None:
        _, places = go_abi.places_of(described, machine, in_registers=in_registers)
        size = described.results[0].type.size if places else 0
        result = sources.number(places[0], 0, min(size, sources.WORD)) or "" if places else ""
    elif in_registers:
        result = go_abi.raw(machine, in_registers=True, results=True)[0][1]
    return GoEnds(sites, result)


def _ends(binary: Binary, function: Function) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    """Where the function returns; where it goes on in another one; whether that is all."""
    parts = [function, *filter(None, [binary.cold_part(function)])]
    sites: list[int] = []
    jumps: list[int] = []
    is_all = True
    for part in parts:
        code = binary.code(part)
        try:
            found = returns.returns(code, part.address, binary.header.machine)
        except elf.MalformedError:
            return (), (), False
        is_all = is_all and found.is_complete and bool(code)
        sites += found.sites
        for jump in found.tail_jumps:
            if any(each.contains(jump.target) for each in parts):
                continue
            if jump.target is None or jump.is_conditional:
                # Computed, it may be a switch's; on a condition, it may not be taken.
                is_all = False
            else:
                jumps.append(jump.address)
    return tuple(sites), tuple(jumps), is_all


def _arguments(
    function: Subprogram, places: Sequence[Source], limits: Limits
) -> tuple[Parameter, ...]:
    return tuple(
        Parameter(
            each.name,
            shapes.Known(each.type, each.constant)
            if each.constant is not None and not each.places
            else shaping.shape(each.type, place, limits),
        )
        for each, place in zip(function.parameters, places, strict=True)
    )


def _parameters(
    named: Sequence[tuple[str, Type]], places: Sequence[Source], limits: Limits
) -> tuple[Parameter, ...]:
    return tuple(
        Parameter(name, shaping.shape(kind, place, limits))
        for (name, kind), place in zip(named, places, strict=True)
    )


def _raw(registers: Sequence[tuple[str, str]]) -> tuple[Parameter, ...]:
    names = tuple(name for name, _ in registers)
    leaves = tuple(Leaf(expression) for _, expression in registers)
    return (Parameter("", Registers(_RAW, names, leaves)),)


def _go_raw(registers: Sequence[tuple[str, str]], limits: Limits) -> tuple[Parameter, ...]:
    """Registers, and what would be strings if two of them were a string's pointer and length."""
    if not registers:
        return (Parameter("", Missing(_RAW, "there is no debug information")),)
    names = tuple(name for name, _ in registers)
    leaves = tuple(Leaf(expression) for _, expression in registers)
    texts = tuple(
        (
            index,
            Leaf(
                f"str({pointer.expression}, {shaping.size(length.expression, limits)})",
                is_text=True,
            ),
        )
        for index, (pointer, length) in enumerate(itertools.pairwise(leaves[:3]))
    )
    return (Parameter("", Registers(_RAW, names, leaves, texts, limits.string_size)),)


def at_entries(function: Traced) -> Traced:
    """A function as a bpftrace traces it that attaches only to where functions begin and end."""
    return dataclasses.replace(
        function,
        entry=function.start,
        returns=(),
        tail_jumps=(),
        uses_uretprobe=not function.may_unwind,
        ends_known=False,
    )


def attached(binary: Binary, functions: Sequence[Traced]) -> tuple[list[Traced], list[str]]:
    """The functions of a file with their addresses made what bpftrace attaches to.

    Also the names of those that bpftrace can't be told: it would attach to others.
    """
    wanted = [
        address
        for each in functions
        for address in (each.start, each.entry, *each.returns, *each.tail_jumps)
    ]
    numbers = binary.attach_numbers(wanted)
    found, ambiguous = [], []
    for each in functions:
        places = (each.start, each.entry, *each.returns, *each.tail_jumps)
        if not all(place in numbers for place in places):
            ambiguous.append(each.name)
            continue
        found.append(
            dataclasses.replace(
                each,
                start=numbers[each.start],
                entry=numbers[each.entry],
                returns=tuple(numbers[address] for address in each.returns),
                tail_jumps=tuple(numbers[address] for address in each.tail_jumps),
            )
        )
    return found, ambiguous
