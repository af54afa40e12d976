"""Abbreviations: how the entries of a unit are laid out. DWARF 5, 7.5.3 and 7.5.6.

Each form becomes a kind of reading and a size, and each abbreviation the steps that pass over an
entry of it, so that passing over most entries is one addition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.binary import elf
from kubectl_trace.binary.dwarf import constants as dw
from kubectl_trace.binary.dwarf.cursor import Cursor

if TYPE_CHECKING:
    from kubectl_trace.binary.dwarf.sections import Budget, Section

(
    FIXED,
    REFERENCE,
    GLOBAL_REFERENCE,
    ALTERNATIVE_REFERENCE,
    ULEB,
    SLEB,
    STRING,
    ULEB_REFERENCE,
    BLOCK,
    SIZED_BLOCK,
    BYTES,
    CONSTANT,
    INDIRECT,
    UNKNOWN,
) = range(14)
"""How a form is read. FIXED, BYTES and the references before ULEB have a size; SIZED_BLOCK has that
of its size; CONSTANT has its value instead."""

_SIZED = {
    dw.FORM_DATA1: 1,
    dw.FORM_DATA2: 2,
    dw.FORM_DATA4: 4,
    dw.FORM_DATA8: 8,
    dw.FORM_FLAG: 1,
    dw.FORM_REF_SIG8: 8,
    dw.FORM_STRX1: 1,
    dw.FORM_STRX2: 2,
    dw.FORM_STRX3: 3,
    dw.FORM_STRX4: 4,
    dw.FORM_ADDRX1: 1,
    dw.FORM_ADDRX2: 2,
    dw.FORM_ADDRX3: 3,
    dw.FORM_ADDRX4: 4,
}
_OFFSETS = frozenset(
    (
        dw.FORM_STRP,
        dw.FORM_LINE_STRP,
        dw.FORM_STRP_SUP,
        dw.FORM_SEC_OFFSET,
        dw.FORM_GNU_STRP_ALT,
    )
)
_REFERENCES = {dw.FORM_REF1: 1, dw.FORM_REF2: 2, dw.FORM_REF4: 4, dw.FORM_REF8: 8}
_ULEBS = frozenset(
    (
        dw.FORM_UDATA,
        dw.FORM_STRX,
        dw.FORM_ADDRX,
        dw.FORM_LOCLISTX,
        dw.FORM_RNGLISTX,
        dw.FORM_GNU_ADDR_INDEX,
        dw.FORM_GNU_STR_INDEX,
    )
)
_OTHERS = {
    dw.FORM_SDATA: (SLEB, 0),
    dw.FORM_STRING: (STRING, 0),
    dw.FORM_EXPRLOC: (BLOCK, 0),
    dw.FORM_BLOCK: (BLOCK, 0),
    dw.FORM_BLOCK1: (SIZED_BLOCK, 1),
    dw.FORM_BLOCK2: (SIZED_BLOCK, 2),
    dw.FORM_BLOCK4: (SIZED_BLOCK, 4),
    dw.FORM_REF_UDATA: (ULEB_REFERENCE, 0),
    dw.FORM_REF_SUP4: (ALTERNATIVE_REFERENCE, 4),
    dw.FORM_REF_SUP8: (ALTERNATIVE_REFERENCE, 8),
    dw.FORM_DATA16: (BYTES, 16),
    dw.FORM_FLAG_PRESENT: (CONSTANT, 1),
    dw.FORM_INDIRECT: (INDIRECT, 0),
}
_MOST_ABBREVIATIONS = 1 << 16
_MOST_ATTRIBUTES = 256
_MOST_IN_ALL = 1 << 17
_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Layout:
    """The sizes that a unit's forms have, in bytes."""

    address_size: int
    offset_size: int
    global_reference_size: int
    """Of DW_FORM_ref_addr: an address in DWARF 2, an offset since."""

    def reading(self, form: int) -> tuple[int, int]:
        """How a form is read: its kind and its size."""
        if size := _SIZED.get(form):
            return FIXED, size
        if size := _REFERENCES.get(form):
            return REFERENCE, size
        if form in _OFFSETS:
            return FIXED, self.offset_size
        if form == dw.FORM_ADDR:
            return FIXED, self.address_size
        if form in _ULEBS:
            return ULEB, 0
        if form == dw.FORM_REF_ADDR:
            return GLOBAL_REFERENCE, self.global_reference_size
        if form == dw.FORM_GNU_REF_ALT:
            return ALTERNATIVE_REFERENCE, self.offset_size
        return _OTHERS.get(form, (UNKNOWN, form))


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of an abbreviation: what it is, and how it is read."""

    number: int
    form: int
    kind: int
    size: int
    """The value itself, where the kind is CONSTANT."""


@dataclass(frozen=True, slots=True)
class Abbreviation:
    """The layout of an entry."""

    tag: int
    has_children: bool
    attributes: tuple[Attribute, ...]
    fixed_size: int
    """Of all the attributes, or -1 where it depends on their values."""
    steps: tuple[tuple[int, int, int], ...]
    """To pass over the attributes: bytes to go on, then what to pass over: its kind and size."""
    sibling_back: int
    """How far before the end of the attributes it says (in 4 bytes) where the next entry on the
    same level is; 0: it doesn't, or not at a fixed place."""


# CONSTANT as a step: nothing but the bytes to go on.
_FIXED_SIZE = frozenset((FIXED, REFERENCE, GLOBAL_REFERENCE, ALTERNATIVE_REFERENCE, BYTES))


def _abbreviation(tag: int, has_children: bool, attributes: list[Attribute]) -> Abbreviation:
    steps: list[tuple[int, int, int]] = []
    fixed = sibling_back = 0
    for attribute in attributes:
        if attribute.kind in _FIXED_SIZE:
            fixed += attribute.size
            if attribute.number == dw.AT_SIBLING and attribute.form == dw.FORM_REF4:
                sibling_back = attribute.size
            elif sibling_back:
                sibling_back += attribute.size
        elif attribute.kind != CONSTANT:
            steps.append((fixed, attribute.kind, attribute.size))
            fixed = sibling_back = 0
    if steps and fixed:
        steps.append((fixed, CONSTANT, 0))
    return Abbreviation(
        tag,
        has_children,
        tuple(attributes),
        -1 if steps else fixed,
        tuple(steps),
        sibling_back,
    )


def read_table(
    section: Section, offset: int, layout: Layout, budget: Budget
) -> dict[int, Abbreviation]:
    """The abbreviations that begin at an offset of .debug_abbrev, by their codes.

    Raises:
        MalformedError: they are cut short or too many.
    """
    data, at = section.window(offset, _LARGEST)
    cursor = Cursor(data, at, "little", _LARGEST)
    table: dict[int, Abbreviation] = {}
    count = 0
    while code := cursor.uleb():
        budget.spend()
        if len(table) >= _MOST_ABBREVIATIONS:
            raise elf.MalformedError("too many abbreviations")
        tag, has_children = cursor.uleb(), cursor.unsigned(1) != 0
        attributes: list[Attribute] = []
        while True:
            number, form = cursor.uleb(), cursor.uleb()
            if form == dw.FORM_IMPLICIT_CONST:
                attributes.append(Attribute(number, form, CONSTANT, cursor.sleb()))
            elif not number and not form:
                break
            else:
                attributes.append(Attribute(number, form, *layout.reading(form)))
            if len(attributes) > _MOST_ATTRIBUTES:
                raise elf.MalformedError("an abbreviation with too many attributes")
        budget.spend(len(attributes))
        count += len(attributes)
        if count > _MOST_IN_ALL:
            raise elf.MalformedError("too many attributes of abbreviations")
        table[code] = _abbreviation(tag, has_children, attributes)
    return table
