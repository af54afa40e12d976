"""Units and their entries: DWARF 5, 7.5.

A reference to an entry is one number in all of a `DebugInfo`: its offset in its section, and above
that which section it is in (`TYPES`, `ALTERNATIVE`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kubectl_trace.binary import elf
from kubectl_trace.binary.dwarf import abbreviations as ab
from kubectl_trace.binary.dwarf import constants as dw
from kubectl_trace.binary.dwarf.cursor import Cursor, uleb
from kubectl_trace.binary.dwarf.sections import LONGEST_STRING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from kubectl_trace.binary.dwarf.sections import Budget, Section, Sections

TYPES = 1 << 60
"""References into .debug_types: DWARF 4 has a section of its own for them."""
ALTERNATIVE = 1 << 61
"""References into the other file that dwz moved entries to, which several files share."""
_OFFSET = TYPES - 1

_MOST_UNITS = 1 << 20
# What is kept of units that were looked at: of those that refer to each other, all.
_MOST_KEPT = 4096
_MOST_KEPT_ATTRIBUTES = 1 << 19
_MOST_KEPT_BYTES = 32 << 20
_MOST_SEARCHED = 64
_MOST_SCOPES = 1 << 20
_STEPS_AT_ONCE = 4096
_PADDING_STEPS = 64
_DEEPEST = 256
_LONGEST_HEADER = 40

_STRING_INDEXES = frozenset(
    (
        dw.FORM_STRX,
        dw.FORM_STRX1,
        dw.FORM_STRX2,
        dw.FORM_STRX3,
        dw.FORM_STRX4,
        dw.FORM_GNU_STR_INDEX,
    )
)
_ADDRESS_INDEXES = frozenset(
    (
        dw.FORM_ADDRX,
        dw.FORM_ADDRX1,
        dw.FORM_ADDRX2,
        dw.FORM_ADDRX3,
        dw.FORM_ADDRX4,
        dw.FORM_GNU_ADDR_INDEX,
    )
)


_DATA_BITS = {dw.FORM_DATA1: 8, dw.FORM_DATA2: 16, dw.FORM_DATA4: 32, dw.FORM_DATA8: 64}
_SCOPES = frozenset(
    (
        dw.TAG_NAMESPACE,
        dw.TAG_MODULE,
        dw.TAG_CLASS_TYPE,
        dw.TAG_STRUCTURE_TYPE,
        dw.TAG_UNION_TYPE,
        dw.TAG_INTERFACE_TYPE,
        dw.TAG_SUBPROGRAM,
    )
)


@dataclass(frozen=True, slots=True)
class _Scopes:
    """The entries of a unit that others are named after.

    Where they begin, where they end, and which of them (-1: none) each is in itself.
    """

    begins: list[int]
    ends: list[int]
    parents: list[int]


@dataclass(frozen=True, slots=True)
class Entry:
    """A debugging information entry."""

    unit: Unit
    reference: int
    tag: int
    attributes: dict[int, tuple[int, int | bytes]]
    """By their numbers: form and value. References are those of this package already."""
    children_at: int
    """Where in the unit's data the first child is; 0: it has none."""

    def has(self, attribute: int) -> bool:
        """Whether the attribute is there."""
        return attribute in self.attributes

    def integer(self, attribute: int) -> int | None:
        """The attribute's number; None where it has none."""
        value = self.attributes.get(attribute, (0, None))[1]
        return value if isinstance(value, int) else None

    def signed(self, attribute: int) -> int | None:
        """The same, where data forms may stand for negative numbers."""
        form, value = self.attributes.get(attribute, (0, None))
        if not isinstance(value, int):
            return None
        bits = _DATA_BITS.get(form)
        return value - (1 << bits) if bits and value >> (bits - 1) else value

    def block(self, attribute: int) -> bytes | None:
        """The attribute's bytes; None where it has none."""
        value = self.attributes.get(attribute, (0, None))[1]
        return value if isinstance(value, bytes) else None

    def reference_to(self, attribute: int) -> int | None:
        """The entry that the attribute refers to, but not by a type's signature."""
        form, value = self.attributes.get(attribute, (0, None))
        return value if isinstance(value, int) and form != dw.FORM_REF_SIG8 else None

    def string(self, attribute: int) -> str:
        """The attribute's text, empty where there is none or it isn't known."""
        found = self.attributes.get(attribute)
        return self.unit.string(*found) if found else ""

    def address(self, attribute: int) -> int | None:
        """The address that the attribute is; None where it is none."""
        form, value = self.attributes.get(attribute, (0, None))
        if not isinstance(value, int):
            return None
        if form == dw.FORM_ADDR:
            return value
        return self.unit.indexed_address(value) if form in _ADDRESS_INDEXES else None


class Unit:
    """A unit: its header, and its entries read one by one."""

    __slots__ = (
        "_abbreviations",
        "_list",
        "_scopes",
        "_start",
        "_top",
        "at",
        "base",
        "data",
        "end",
        "layout",
        "order",
        "sections",
        "type_at",
        "type_signature",
        "unit_type",
        "version",
    )

    def __init__(self, units: UnitList, offset: int, first: bytes) -> None:
        self._list, self.sections = units, units.sections
        self.order: Literal["little", "big"] = (
            "little" if units.sections.header.order == "<" else "big"
        )
        cursor = Cursor(first, 0, self.order)
        length, offset_size = cursor.unsigned(4), 4
        if length == 0xFFFFFFFF:
            length, offset_size = cursor.unsigned(8), 8
        elif length >= 0xFFFFFFF0:
            raise elf.MalformedError("a unit of a reserved length")
        size = cursor.at + length
        self.version = cursor.unsigned(2)
        if not 2 <= self.version <= 5:
            raise elf.MalformedError(f"DWARF of a version that is not known ({self.version})")
        self.unit_type = dw.UT_TYPE if units.base & TYPES else 1
        if self.version >= 5:
            self.unit_type, address_size = cursor.unsigned(1), cursor.unsigned(1)
            abbreviations_at = cursor.unsigned(offset_size)
        else:
            abbreviations_at, address_size = cursor.unsigned(offset_size), cursor.unsigned(1)
        self.type_signature = self.type_at = 0
        if self.unit_type in (dw.UT_TYPE, dw.UT_SPLIT_TYPE):
            self.type_signature, self.type_at = cursor.unsigned(8), cursor.unsigned(offset_size)
        elif self.unit_type in (dw.UT_SKELETON, dw.UT_SPLIT_COMPILE):
            cursor.unsigned(8)
        if address_size not in (4, 8):
            raise elf.MalformedError(f"addresses of {address_size} bytes")
        global_size = address_size if self.version == 2 else offset_size
        self.layout = ab.Layout(address_size, offset_size, global_size)
        # An entry's reference is its place in `data` and `base`.
        self.data, at = units.section.window(offset, size)
        self.base = units.base + offset - at
        self._start = units.base + offset
        self.at, self.end = at + cursor.at, at + size
        if self.end > len(self.data):
            raise elf.MalformedError("a unit is cut short")
        self._abbreviations = units.abbreviations(abbreviations_at, self.layout)
        self._top: Entry | None = None
        self._scopes: _Scopes | None = None

    @property
    def budget(self) -> Budget:
        """What may still be spent."""
        return self._list.budget

    @property
    def type_reference(self) -> int:
        """The type that a type unit is for."""
        return self._start + self.type_at

    def top(self) -> Entry:
        """Its first entry, which all others are below of."""
        if self._top is None:
            self._top = self.entry(self.base + self.at)
        return self._top

    def entry(self, reference: int) -> Entry:
        """The entry at a place.

        Raises:
            MalformedError: there is none.
        """
        self.budget.spend()
        at, end, data = reference - self.base, self.end, self.data
        if not self.at <= at < end:
            raise elf.MalformedError("a reference to outside of its unit")
        code, at = uleb(data, at, end)
        abbreviation = self._abbreviations.get(code)
        if abbreviation is None:
            raise elf.MalformedError("a reference to what is no entry")
        cursor = Cursor(data, at, self.order, end - at)
        attributes: dict[int, tuple[int, int | bytes]] = {}
        for attribute in abbreviation.attributes:
            form, kind, size = attribute.form, attribute.kind, attribute.size
            while kind == ab.INDIRECT:
                form = cursor.uleb()
                kind, size = self.layout.reading(form)
            attributes[attribute.number] = form, self._value(cursor, kind, size)
        # Many attributes and long names take time, too.
        self.budget.spend((len(attributes) >> 1) + (cursor.at - at >> 8))
        return Entry(
            self, reference, abbreviation.tag, attributes, cursor.at * abbreviation.has_children
        )

    def _value(self, cursor: Cursor, kind: int, size: int) -> int | bytes:
        if kind == ab.FIXED:
            return cursor.unsigned(size)
        if kind == ab.CONSTANT:
            return size
        if kind == ab.REFERENCE:
            return self._start + cursor.unsigned(size)
        if kind == ab.STRING:
            return cursor.string()
        if kind == ab.ULEB:
            return cursor.uleb()
        if kind == ab.BLOCK:
            return cursor.block(cursor.uleb())
        if kind == ab.GLOBAL_REFERENCE:
            return (self._list.base & ALTERNATIVE) + cursor.unsigned(size)
        if kind == ab.SIZED_BLOCK:
            return cursor.block(cursor.unsigned(size))
        if kind == ab.SLEB:
            return cursor.sleb()
        if kind == ab.ULEB_REFERENCE:
            return self._start + cursor.uleb()
        if kind == ab.ALTERNATIVE_REFERENCE:
            return ALTERNATIVE + cursor.unsigned(size)
        if kind == ab.BYTES:
            return cursor.block(size)
        raise elf.MalformedError(f"a form that is not known ({size:#x})")

    def walk(
        self,
        wanted: frozenset[int],
        begin: int,
        into: frozenset[int] | None,
        closings: bool = False,
    ) -> Iterator[tuple[int, int, int]]:
        """The entries with wanted tags: reference, tag, and how deep below the beginning (0).

        Args:
            wanted: Tags.
            begin: Where in the data to begin; ends with the entry that has its siblings end.
            into: The children of others are passed over where the file says how far; None: of none.
            closings: Says also where a wanted entry's children end, with 0 as the tag.

        Raises:
            MalformedError: the entries are cut short, or in each other deeper than any program's.
        """
        data, end, at, base, order = self.data, self.end, begin, self.base, self.order
        table, budget, start = self._abbreviations, self._list.budget, self._start - self.base
        find, number = data.find, int.from_bytes
        depth = count = 0
        open_at: list[int] = []
        try:
            while at < end:
                count += 1
                if count >= _STEPS_AT_ONCE:
                    budget.spend(count)
                    count = 0
                here, code = at, data[at]
                at += 1
                if not code:
                    depth -= 1
                    if depth < 0:
                        return
                    if closings and open_at and open_at[-1] == depth:
                        open_at.pop()
                        yield base + here, 0, depth
                    continue
                if code > 0x7F:
                    code, at = uleb(data, here, end)
                abbreviation = table[code]
                tag = abbreviation.tag
                if tag in wanted:
                    yield base + here, tag, depth
                    if closings and abbreviation.has_children:
                        open_at.append(depth)
                if abbreviation.fixed_size >= 0:
                    at += abbreviation.fixed_size
                else:
                    count += len(abbreviation.steps) >> 2
                    for forward, kind, size in abbreviation.steps:
                        at += forward
                        if kind == ab.STRING:
                            at = find(b"\0", at, end) + 1
                            if not at:
                                raise elf.MalformedError("a name without an end")
                        elif kind == ab.BLOCK:
                            if data[at] < 0x80:
                                at += 1 + data[at]
                            else:
                                length, at = uleb(data, at, end)
                                at += length
                        elif kind in (ab.ULEB, ab.SLEB, ab.ULEB_REFERENCE):
                            while data[at] > 0x7F:
                                at += 1
                            at += 1
                        elif kind == ab.SIZED_BLOCK:
                            at += size + number(data[at : at + size], order)
                        elif kind != ab.CONSTANT:
                            at = self._pass_over(at, kind, size)
                if abbreviation.has_children:
                    back = abbreviation.sibling_back
                    if back and into is not None and tag not in into:
                        sibling = start + number(data[at - back : at - back + 4], order)
                        if not at < sibling <= end:
                            raise elf.MalformedError("an entry whose next one is before it")
                        at = sibling
                    else:
                        depth += 1
                        if depth > _DEEPEST:
                            raise elf.MalformedError("entries too deep in each other")
        except (IndexError, KeyError) as error:
            raise elf.MalformedError("entries that are none") from error
        finally:
            budget.left -= count

    def mentions(self, references: Collection[int], tag: int, attribute: int) -> bool:
        """Whether an entry with this tag may refer to any of these in an attribute: a quick look.

        Searches for the bytes of the references; a found one may be anything.
        """
        forms = {
            one.form
            for abbreviation in self._abbreviations.values()
            if abbreviation.tag == tag
            for one in abbreviation.attributes
            if one.number == attribute
        }
        if not forms <= {dw.FORM_REF4, dw.FORM_REF_ADDR} or len(references) > _MOST_SEARCHED:
            return bool(forms)
        self.budget.spend((self.end - self.at) * len(references) >> 12)
        for reference in references:
            for value in (reference - self._start, reference & _OFFSET):
                if 0 <= value < 1 << 32:
                    needle = value.to_bytes(4, self.order)
                    if self.data.find(needle, self.at, self.end) >= 0:
                        return True
        return False

    def _pass_over(self, at: int, kind: int, size: int) -> int:
        cursor = Cursor(self.data, at, self.order, self.end - at)
        while kind == ab.INDIRECT:
            kind, size = self.layout.reading(cursor.uleb())
        self._value(cursor, kind, size)
        return cursor.at

    def read_form(self, cursor: Cursor, form: int, offset_size: int) -> int | bytes:
        """A value of a form that stands in another section, whose offsets may have another size.

        Raises:
            MalformedError: it is cut short, or of an unknown form.
        """
        layout = ab.Layout(self.layout.address_size, offset_size, offset_size)
        return self._value(cursor, *layout.reading(form))

    def children(self, entry: Entry, wanted: frozenset[int]) -> Iterator[Entry]:
        """An entry's own children with wanted tags."""
        if entry.children_at:
            for reference, _, depth in self.walk(wanted, entry.children_at, frozenset()):
                if depth == 0:
                    yield self.entry(reference)

    def scopes_of(self, reference: int) -> list[Entry]:
        """The namespaces, classes and functions that an entry is in, the innermost first."""
        if self._scopes is None:
            self._scopes = self._read_scopes()
        scopes = self._scopes
        index = bisect_left(scopes.begins, reference) - 1
        found: list[Entry] = []
        while index >= 0:
            if scopes.ends[index] > reference:
                found.append(self.entry(scopes.begins[index]))
            index = scopes.parents[index]
        return found

    def _read_scopes(self) -> _Scopes:
        begins: list[int] = []
        ends: list[int] = []
        parents: list[int] = []
        inside: list[tuple[int, int]] = []
        last = self.base + self.end
        for reference, tag, depth in self.walk(_SCOPES, self.at, None, closings=True):
            # Those without children have no end of their own: they end where they begin.
            while inside and inside[-1][1] >= depth:
                index, begun_at = inside.pop()
                ends[index] = reference if not tag and begun_at == depth else begins[index]
            if len(begins) >= _MOST_SCOPES:
                raise elf.MalformedError("too many classes and functions in a unit")
            if tag:
                parents.append(inside[-1][0] if inside else -1)
                inside.append((len(begins), depth))
                begins.append(reference)
                ends.append(last)
        return _Scopes(begins, ends, parents)

    def string(self, form: int, value: int | bytes) -> str:
        """An attribute's value as text; empty where it is none, or in a file that is not here."""
        if isinstance(value, int):
            text = self._string_at(form, value)
        elif form == dw.FORM_STRING:
            text = value[:LONGEST_STRING].decode(errors="replace")
        else:
            return ""
        # They take memory more than time.
        self.budget.spend(len(text) >> 4)
        return text

    def _string_at(self, form: int, value: int) -> str:
        sections = self.sections
        if form == dw.FORM_STRP:
            return sections.strings.string(value)
        if form == dw.FORM_LINE_STRP:
            return sections.line_strings.string(value)
        if form in _STRING_INDEXES:
            size = self.layout.offset_size
            base = self.top().integer(dw.AT_STR_OFFSETS_BASE)
            if base is None:
                # DWARF 5 without one: after the header of the only table. GNU's before: no header.
                base = 2 * size if self.version >= 5 else 0
            at = sections.number(sections.string_offsets, base + value * size, size)
            return sections.strings.string(at)
        if form in (dw.FORM_STRP_SUP, dw.FORM_GNU_STRP_ALT):
            alternative = self._list.alternative
            return alternative.strings.string(value) if alternative else ""
        return ""

    def indexed_address(self, index: int) -> int:
        """The address with this number in the unit's part of .debug_addr.

        Raises:
            MalformedError: there is none.
        """
        top = self.top()
        base = top.integer(dw.AT_ADDR_BASE)
        if base is None:
            base = top.integer(dw.AT_GNU_ADDR_BASE) or 0
        size = self.layout.address_size
        return self.sections.number(self.sections.addresses, base + index * size, size)


class UnitList:
    """The units of a section, each read when it is asked for."""

    def __init__(
        self,
        sections: Sections,
        section: Section,
        base: int,
        budget: Budget,
        alternative: Sections | None,
    ) -> None:
        self.sections, self.section, self.base = sections, section, base
        self.budget, self.alternative = budget, alternative
        self._offsets: list[int] | None = None
        self._units: dict[int, Unit] = {}
        self._kept_bytes = self._kept_attributes = 0
        self._last: Unit | None = None
        self._tables: dict[tuple[int, ab.Layout], dict[int, ab.Abbreviation]] = {}

    def abbreviations(self, offset: int, layout: ab.Layout) -> dict[int, ab.Abbreviation]:
        """A table of them, which units may share."""
        key = offset, layout
        table = self._tables.get(key)
        if table is None:
            table = ab.read_table(self.sections.abbrev, offset, layout, self.budget)
            self._kept_attributes += sum(len(one.attributes) for one in table.values())
            if self._kept_attributes > _MOST_KEPT_ATTRIBUTES:
                self._forget()
            self._tables[key] = table
        return table

    def _forget(self) -> None:
        self._units.clear()
        self._tables.clear()
        self._kept_bytes = self._kept_attributes = 0

    def offsets(self) -> list[int]:
        """Where the units are in the section, ascending.

        Raises:
            MalformedError: they are more than any program's.
        """
        if self._offsets is None:
            offsets: list[int] = []
            at, size, section = 0, self.section.size(), self.section
            order: Literal["little", "big"] = (
                "little" if self.sections.header.order == "<" else "big"
            )
            while at + 11 <= size:
                head = section.read(at, 12)
                length = int.from_bytes(head[:4], order)
                if length == 0xFFFFFFFF:
                    length = 8 + int.from_bytes(head[4:], order)
                if length:
                    offsets.append(at)
                else:
                    self.budget.spend(_PADDING_STEPS)
                at += 4 + length
                if len(offsets) > _MOST_UNITS:
                    raise elf.MalformedError("too many units")
                self.budget.spend()
            self._offsets = offsets
        return self._offsets

    def at(self, offset: int) -> Unit:
        """The unit whose header is there.

        Raises:
            MalformedError: it is broken.
        """
        unit = self._units.get(offset)
        if unit is None:
            self.budget.spend()
            unit = Unit(self, offset, self.section.read(offset, _LONGEST_HEADER))
            # Units of a section that is in memory share its bytes.
            self._kept_bytes += unit.end - unit.at if unit.base != self.base else 0
            if self._kept_bytes > _MOST_KEPT_BYTES or len(self._units) >= _MOST_KEPT:
                self._forget()
            self._units[offset] = unit
        self._last = unit
        return unit

    def holding(self, reference: int) -> Unit:
        """The unit that an entry is in.

        Raises:
            MalformedError: none is.
        """
        last = self._last
        if last and last.at <= reference - last.base < last.end:
            return last
        offset = reference & _OFFSET
        index = bisect_right(self.offsets(), offset) - 1
        if index < 0:
            raise elf.MalformedError("a reference to where no unit is")
        return self.at(self.offsets()[index])

    def each(self) -> Iterator[Unit]:
        """All units."""
        for offset in self.offsets():
            yield self.at(offset)
