"""Where a value is when its function begins: DWARF 5, 2.5, 2.6 and 7.7.

Only what holds at the very first instruction counts. A single location (no list) of a variable in
the function's own frame does not: the code that stores it there has not run yet. Compilers give
such ones without optimisation, LLVM's also with it. The same goes for registers that code at the
beginning sets first (the stack pointer after it made room, the frame pointer).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from kubectl_trace.binary import elf
from kubectl_trace.binary.dwarf import constants as dw
from kubectl_trace.binary.dwarf.cursor import Cursor
from kubectl_trace.binary.dwarf.ranges import base_address, indexed_offset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubectl_trace.binary.dwarf.units import Entry, Unit

_LARGEST_LIST = 1 << 20
_MOST_PIECES = 256
_BLOCKS = frozenset(
    (dw.FORM_EXPRLOC, dw.FORM_BLOCK, dw.FORM_BLOCK1, dw.FORM_BLOCK2, dw.FORM_BLOCK4)
)

# Numbers: the ABI supplements (System V x86-64, figure 3.36; Arm's "DWARF for AArch64", 4.1).
_ARGUMENT_REGISTERS = {
    elf.EM_X86_64: frozenset((1, 2, 4, 5, 8, 9, *range(17, 25))),
    elf.EM_AARCH64: frozenset((*range(9), *range(64, 72))),
}
# Frame and stack pointer: what they hold at the entry is not what they hold after it.
_FRAME_REGISTERS = {elf.EM_X86_64: frozenset((6, 7)), elf.EM_AARCH64: frozenset((29, 31))}

(
    _END_OF_LIST,
    _BASE_ADDRESSX,
    _STARTX_ENDX,
    _STARTX_LENGTH,
    _OFFSET_PAIR,
    _DEFAULT_LOCATION,
    _BASE_ADDRESS,
    _START_END,
    _START_LENGTH,
    _GNU_VIEW_PAIR,
) = range(10)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value, or a piece of one, is when its function begins.

    In a register (`register` alone); in memory at a register's value plus `offset` (C++ objects
    that go by reference); in memory at `cfa_offset` from the canonical frame address (what the
    stack pointer was before the call: on x86-64, 8 above what it is at the first instruction). All
    None: nowhere.
    """

    register: int | None
    """DWARF's number, as the machine's ABI has it."""
    cfa_offset: int | None
    size: int
    """In bytes; 0: not known."""
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class _Value:
    """What is known of a value on the expression's stack: a base and what is added to it."""

    base: str
    """`cfa`, `register` or none (a number)."""
    register: int
    added: int


class _UnknownError(Exception):
    """An expression that says nothing of the entry."""


def at_entry(
    entry: Entry, address: int, size: int, frame_base: bytes | None, in_registers: bool
) -> tuple[Place, ...] | None:
    """Where a parameter is when its function begins.

    Args:
        entry: The parameter.
        address: Of the function's first instruction.
        size: Of the parameter's type, in bytes.
        frame_base: The function's DW_AT_frame_base.
        in_registers: The arguments' homes in the caller's frame may be unset at the entry: Go's
            register ABI has the caller reserve room for what comes in registers.

    Returns:
        One place a piece; none: the value is nowhere; None: it isn't said.

    Raises:
        MalformedError: the location list is broken.
    """
    found = entry.attributes.get(dw.AT_LOCATION)
    if found is None:
        return None if entry.has(dw.AT_CONST_VALUE) else ()
    form, value = found
    unit = entry.unit
    evaluation = _Evaluation(unit, size, frame_base == bytes((dw.OP_CALL_FRAME_CFA,)))
    try:
        if isinstance(value, int):
            if form == dw.FORM_LOCLISTX:
                value = indexed_offset(unit, dw.AT_LOCLISTS_BASE, value)
            for begin, end, expression in _list(unit, value):
                if begin <= address < end:
                    return evaluation.places(expression)
            return ()
        if form not in _BLOCKS:
            return None
        places = evaluation.places(value)
    except _UnknownError:
        return None
    if evaluation.is_of_entry and len(places) == 1:
        return places
    return places if all(_is_callers(unit, place, in_registers) for place in places) else None


def _is_callers(unit: Unit, place: Place, in_registers: bool) -> bool:
    """Whether a single location holds before the function has done anything: its caller set it."""
    if place.cfa_offset is not None:
        return place.cfa_offset >= 0 and not in_registers
    if place.register is None:
        return True
    return place.register in _ARGUMENT_REGISTERS.get(unit.sections.header.machine, ())


def _list(unit: Unit, offset: int) -> Iterator[tuple[int, int, bytes]]:
    """A location list: begin and end of addresses, and the expression that holds there."""
    sections = unit.sections
    section = sections.location_lists if unit.version >= 5 else sections.locations
    data, at = section.window(offset, _LARGEST_LIST)
    cursor = Cursor(data, at, unit.order, _LARGEST_LIST)
    base = base_address(unit)
    return (_entries if unit.version >= 5 else _triples)(cursor, unit, base)


def _triples(cursor: Cursor, unit: Unit, base: int) -> Iterator[tuple[int, int, bytes]]:
    size = unit.layout.address_size
    new_base = (1 << 8 * size) - 1
    while True:
        unit.budget.spend()
        begin, end = cursor.unsigned(size), cursor.unsigned(size)
        if begin == new_base:
            base = end
        elif not begin and not end:
            return
        else:
            yield base + begin, base + end, cursor.block(cursor.unsigned(2))


def _entries(cursor: Cursor, unit: Unit, base: int) -> Iterator[tuple[int, int, bytes]]:
    size = unit.layout.address_size
    while True:
        unit.budget.spend()
        kind = cursor.unsigned(1)
        if kind == _END_OF_LIST:
            return
        if kind == _BASE_ADDRESSX:
            base = unit.indexed_address(cursor.uleb())
            continue
        if kind == _BASE_ADDRESS:
            base = cursor.unsigned(size)
            continue
        if kind == _GNU_VIEW_PAIR:
            cursor.uleb()
            cursor.uleb()
            continue
        begin, end = 0, 0  # The default location holds where no other does: never here.
        if kind == _STARTX_ENDX:
            begin, end = (unit.indexed_address(cursor.uleb()) for _ in range(2))
        elif kind == _STARTX_LENGTH:
            begin = unit.indexed_address(cursor.uleb())
            end = begin + cursor.uleb()
        elif kind == _OFFSET_PAIR:
            begin, end = base + cursor.uleb(), base + cursor.uleb()
        elif kind == _START_END:
            begin, end = cursor.unsigned(size), cursor.unsigned(size)
        elif kind == _START_LENGTH:
            begin = cursor.unsigned(size)
            end = begin + cursor.uleb()
        elif kind != _DEFAULT_LOCATION:
            raise elf.MalformedError(f"a location list entry that is not known ({kind})")
        yield begin, end, cursor.block(cursor.uleb())


class _Evaluation:
    """Runs expressions as far as they say something of the function's entry.

    The operations: 2.5.1 and 2.6.1.
    """

    def __init__(self, unit: Unit, size: int, frame_base_is_cfa: bool) -> None:
        self._unit, self._size, self._frame_base_is_cfa = unit, size, frame_base_is_cfa
        self.is_of_entry = False
        """Whether the expression is of what a register held at the entry, wherever it is used."""

    def places(self, expression: bytes) -> tuple[Place, ...]:
        """Where the expression says that the value is.

        Raises:
            _UnknownError: it does not say that for the entry.
        """
        cursor = Cursor(expression, 0, self._unit.order)
        places: list[Place] = []
        stack: list[_Value] = []
        simple: Place | None = None
        try:
            while cursor.at < cursor.end:
                operation = cursor.unsigned(1)
                if operation == dw.OP_PIECE:
                    size = cursor.uleb()
                    place = simple or self._memory(stack) or Place(None, None, size)
                    places.append(Place(place.register, place.cfa_offset, size, place.offset))
                    if len(places) > _MOST_PIECES:
                        raise _UnknownError
                    simple = None
                    stack.clear()
                elif simple:
                    raise _UnknownError
                elif dw.OP_REG0 <= operation < dw.OP_BREG0:
                    simple = Place(operation - dw.OP_REG0, None, self._size)
                elif operation == dw.OP_REGX:
                    simple = Place(cursor.uleb(), None, self._size)
                elif operation in (dw.OP_ENTRY_VALUE, dw.OP_GNU_ENTRY_VALUE):
                    stack.append(self._entry_value(cursor.block(cursor.uleb())))
                elif operation == dw.OP_STACK_VALUE:
                    simple = self._in_register(stack)
                else:
                    self._operate(operation, cursor, stack)
        except elf.MalformedError as error:
            raise _UnknownError from error
        rest = simple or self._memory(stack)
        if not places:
            return (rest,) if rest else ()
        if rest:
            raise _UnknownError
        return self._whole(places)

    def _whole(self, places: list[Place]) -> tuple[Place, ...]:
        """The pieces, not larger than the value; Go 1.19 writes those of interfaces twice."""
        if self._size and sum(place.size for place in places) > self._size:
            places = [place for place, _ in groupby(places)]
            if sum(place.size for place in places) > self._size:
                raise _UnknownError
        return tuple(places)

    def _operate(self, operation: int, cursor: Cursor, stack: list[_Value]) -> None:
        if dw.OP_BREG0 <= operation < dw.OP_REGX:
            stack.append(self._based(operation - dw.OP_BREG0, cursor.sleb()))
        elif operation == dw.OP_BREGX:
            stack.append(self._based(cursor.uleb(), cursor.sleb()))
        elif operation == dw.OP_FBREG and self._frame_base_is_cfa:
            stack.append(_Value("cfa", 0, cursor.sleb()))
        elif operation == dw.OP_CALL_FRAME_CFA:
            stack.append(_Value("cfa", 0, 0))
        elif dw.OP_LIT0 <= operation < dw.OP_REG0:
            stack.append(_Value("", 0, operation - dw.OP_LIT0))
        elif operation == dw.OP_CONSTS:
            stack.append(_Value("", 0, cursor.sleb()))
        elif operation == dw.OP_PLUS_UCONST and stack:
            top = stack.pop()
            stack.append(_Value(top.base, top.register, top.added + cursor.uleb()))
        elif operation == dw.OP_PLUS and len(stack) >= 2 and not stack[-1].base:
            added, top = stack.pop().added, stack.pop()
            stack.append(_Value(top.base, top.register, top.added + added))
        elif operation != dw.OP_NOP:
            raise _UnknownError

    def _based(self, register: int, added: int) -> _Value:
        if register in _FRAME_REGISTERS.get(self._unit.sections.header.machine, ()):
            raise _UnknownError
        return _Value("register", register, added)

    def _entry_value(self, expression: bytes) -> _Value:
        cursor = Cursor(expression, 0, self._unit.order)
        operation = cursor.unsigned(1)
        register = cursor.uleb() if operation == dw.OP_REGX else operation - dw.OP_REG0
        if cursor.at < cursor.end or register < 0:
            raise _UnknownError
        self.is_of_entry = True
        return _Value("register", register, 0)

    def _in_register(self, stack: list[_Value]) -> Place:
        if not stack or stack[-1].base != "register" or stack[-1].added:
            raise _UnknownError
        return Place(stack[-1].register, None, self._size)

    def _memory(self, stack: list[_Value]) -> Place | None:
        if not stack:
            return None
        top = stack[-1]
        if top.base == "cfa":
            return Place(None, top.added, self._size)
        if top.base == "register":
            return Place(top.register, None, self._size, top.added)
        raise _UnknownError
