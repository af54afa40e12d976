"""Which addresses belong to what: .debug_aranges, .debug_ranges and .debug_rnglists.

DWARF 5: 6.1.2, 2.17.3 and 7.25; DWARF 4: 2.17.3 for .debug_ranges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_trace.binary import elf
from kubectl_trace.binary.dwarf import constants as dw
from kubectl_trace.binary.dwarf.cursor import Cursor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubectl_trace.binary.dwarf.sections import Budget, Sections
    from kubectl_trace.binary.dwarf.units import Entry, Unit

_LARGEST_LIST = 1 << 20

(
    _END_OF_LIST,
    _BASE_ADDRESSX,
    _STARTX_ENDX,
    _STARTX_LENGTH,
    _OFFSET_PAIR,
    _BASE_ADDRESS,
    _START_END,
    _START_LENGTH,
) = range(8)


def of_entry(entry: Entry) -> list[tuple[int, int]]:
    """The entry's ranges of addresses, each up to but not including its end, in the file's order.

    Raises:
        MalformedError: they are broken.
    """
    low = entry.address(dw.AT_LOW_PC)
    if entry.has(dw.AT_RANGES):
        return [(begin, end) for begin, end in _listed(entry) if begin < end]
    if low is None:
        return []
    high = entry.address(dw.AT_HIGH_PC)
    if high is None:
        # Since DWARF 4 also as a size.
        high = low + (entry.integer(dw.AT_HIGH_PC) or 0)
    return [(low, high)]


def _listed(entry: Entry) -> Iterator[tuple[int, int]]:
    unit = entry.unit
    form, value = entry.attributes[dw.AT_RANGES]
    if not isinstance(value, int):
        return iter(())
    base = base_address(unit)
    if unit.version < 5:
        data, at = unit.sections.ranges.window(value, _LARGEST_LIST)
        return _pairs(Cursor(data, at, unit.order, _LARGEST_LIST), unit, base)
    if form == dw.FORM_RNGLISTX:
        value = indexed_offset(unit, dw.AT_RNGLISTS_BASE, value)
    data, at = unit.sections.range_lists.window(value, _LARGEST_LIST)
    return _entries(Cursor(data, at, unit.order, _LARGEST_LIST), unit, base)


def base_address(unit: Unit) -> int:
    """What the unit's ranges and locations are relative to."""
    return unit.top().address(dw.AT_LOW_PC) or 0


def indexed_offset(unit: Unit, base_attribute: int, index: int) -> int:
    """Where the list with this number in the unit's table is in its section: 7.28, 7.29.

    Raises:
        MalformedError: there is none.
    """
    size = unit.layout.offset_size
    base = unit.top().integer(base_attribute)
    if base is None:
        base = 12 if size == 4 else 20  # After the header of the only table.
    sections = unit.sections
    section = (
        sections.range_lists if base_attribute == dw.AT_RNGLISTS_BASE else sections.location_lists
    )
    return base + sections.number(section, base + index * size, size)


def _pairs(cursor: Cursor, unit: Unit, base: int) -> Iterator[tuple[int, int]]:
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
            yield base + begin, base + end


def _entries(cursor: Cursor, unit: Unit, base: int) -> Iterator[tuple[int, int]]:
    size = unit.layout.address_size
    while True:
        unit.budget.spend()
        kind = cursor.unsigned(1)
        if kind == _END_OF_LIST:
            return
        if kind == _BASE_ADDRESSX:
            base = unit.indexed_address(cursor.uleb())
        elif kind == _STARTX_ENDX:
            begin = unit.indexed_address(cursor.uleb())
            yield begin, unit.indexed_address(cursor.uleb())
        elif kind == _STARTX_LENGTH:
            begin = unit.indexed_address(cursor.uleb())
            yield begin, begin + cursor.uleb()
        elif kind == _OFFSET_PAIR:
            begin = base + cursor.uleb()
            yield begin, base + cursor.uleb()
        elif kind == _BASE_ADDRESS:
            base = cursor.unsigned(size)
        elif kind == _START_END:
            begin = cursor.unsigned(size)
            yield begin, cursor.unsigned(size)
        elif kind == _START_LENGTH:
            begin = cursor.unsigned(size)
            yield begin, begin + cursor.uleb()
        else:
            raise elf.MalformedError(f"a range list entry that is not known ({kind})")


def indexed(sections: Sections, budget: Budget) -> Iterator[tuple[int, int, int]]:
    """What .debug_aranges says: begin and end of addresses, and the offset of their unit.

    Not every unit need be in it: Go's are in none, also where a linker put C's beside them.

    Raises:
        MalformedError: it is broken.
    """
    section = sections.address_ranges
    order = "little" if sections.header.order == "<" else "big"
    data, at = section.window(0, section.size())
    while at + 12 <= len(data):
        start = at
        cursor = Cursor(data, at, "little" if order == "little" else "big")
        length, offset_size = cursor.unsigned(4), 4
        if length == 0xFFFFFFFF:
            length, offset_size = cursor.unsigned(8), 8
        at = cursor.at + length
        cursor.end = min(at, len(data))
        version, unit = cursor.unsigned(2), cursor.unsigned(offset_size)
        size, segment_size = cursor.unsigned(1), cursor.unsigned(1)
        if version != 2 or size not in (4, 8) or segment_size:
            continue
        # The pairs are aligned to their own size.
        cursor.at += -(cursor.at - start) % (2 * size)
        while cursor.at + 2 * size <= cursor.end:
            budget.spend()
            begin, count = cursor.unsigned(size), cursor.unsigned(size)
            if count:
                yield begin, begin + count, unit
