"""Types, out of their entries: DWARF 5, chapter 5."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kubectl_trace.binary.dwarf import constants as dw
from kubectl_trace.binary.dwarf.cursor import uleb
from kubectl_trace.binary.types import (
    Array,
    Boolean,
    Character,
    Enumeration,
    Float,
    Integer,
    Member,
    Opaque,
    Pointer,
    Structure,
    Type,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_trace.binary.dwarf.units import Entry

# How deep types are in each other, pointers or not, typedefs too. Real ones: under 30.
_DEEPEST = 64
_MOST_MEMBERS = 1024
_MOST_ENUMERATORS = 4096
_LONGEST_NAME = 1024
_MOST_DIMENSIONS = 8
_MOST_NAMED_PARAMETERS = 32
# Larger is taken as not known: no program has it, and others multiply with it.
_LARGEST_SIZE = _LARGEST_COUNT = 1 << 40
# Of all that one function's types consist of; what is beyond is opaque.
_MOST_TYPES = 10_000
_MOST_KEPT = 50_000

_QUALIFIERS = {
    dw.TAG_CONST_TYPE: "const",
    dw.TAG_VOLATILE_TYPE: "volatile",
    dw.TAG_RESTRICT_TYPE: "restrict",
    dw.TAG_ATOMIC_TYPE: "_Atomic",
    dw.TAG_PACKED_TYPE: "",
    dw.TAG_SHARED_TYPE: "",
    dw.TAG_IMMUTABLE_TYPE: "",
}
_POINTERS = {
    dw.TAG_POINTER_TYPE: "*",
    dw.TAG_REFERENCE_TYPE: "&",
    dw.TAG_RVALUE_REFERENCE_TYPE: "&&",
}
_STRUCTURES = {
    dw.TAG_STRUCTURE_TYPE: "struct",
    dw.TAG_CLASS_TYPE: "class",
    dw.TAG_UNION_TYPE: "union",
    dw.TAG_INTERFACE_TYPE: "class",
}
_PARTS = frozenset((dw.TAG_MEMBER, dw.TAG_INHERITANCE, dw.TAG_VARIANT_PART, dw.TAG_SUBPROGRAM))
_FLOATS = frozenset(
    (dw.ATE_COMPLEX_FLOAT, dw.ATE_FLOAT, dw.ATE_IMAGINARY_FLOAT, dw.ATE_DECIMAL_FLOAT)
)
_SIGNED = frozenset((dw.ATE_SIGNED, dw.ATE_SIGNED_CHAR, dw.ATE_SIGNED_FIXED))
_CHARACTERS = frozenset((dw.ATE_SIGNED_CHAR, dw.ATE_UNSIGNED_CHAR, dw.ATE_UTF))

# Go: internal/abi, type.go (reflect's kinds), which the linker puts into DW_AT_go_kind.
_GO_KIND_MASK = 31
_GO_INTERFACE = 20
_GO_KINDS = {23: "slice", 24: "string"}
_GO_EMPTY_INTERFACE = "runtime.eface"


class TypeReader:
    """Reads types, each of them once.

    Args:
        find: An entry by its reference. None: it is in a file that is not here.
        by_signature: A type unit's type by its signature; None: it is not here.
        scoped_name: A type's own name with those of what it is in.
    """

    def __init__(
        self,
        find: Callable[[int], Entry | None],
        by_signature: Callable[[int], Entry | None],
        scoped_name: Callable[[Entry], str],
    ) -> None:
        self._find, self._by_signature, self._scoped_name = find, by_signature, scoped_name
        self._names: dict[int, str] = {}
        self._known: dict[tuple[int, int], Type] = {}
        self._left = _MOST_TYPES

    def begin(self) -> None:
        """Begins with another function: no other's types count."""
        self._left = _MOST_TYPES
        if len(self._known) + len(self._names) > _MOST_KEPT:
            self._known.clear()
            self._names.clear()

    def of(self, entry: Entry, depth: int) -> Type | None:
        """The type that the entry's DW_AT_type names; None: it has none.

        Args:
            entry: A parameter, a function, a member.
            depth: How many pointers to follow.

        Raises:
            MalformedError: the type's entries are broken.
        """
        return self._read(entry, depth, 0) if entry.has(dw.AT_TYPE) else None

    def _target(self, entry: Entry) -> Entry | None:
        """The entry that DW_AT_type refers to, the definition where that is in a type unit."""
        target = self._resolved(entry, dw.AT_TYPE)
        if target is not None and target.has(dw.AT_SIGNATURE):
            return self._resolved(target, dw.AT_SIGNATURE) or target
        return target

    def _resolved(self, entry: Entry, attribute: int) -> Entry | None:
        reference = entry.reference_to(attribute)
        if reference is not None:
            return self._find(reference)
        signature = entry.integer(attribute)
        return None if signature is None else self._by_signature(signature)

    def _read(self, user: Entry, depth: int, nesting: int) -> Type:
        target = self._target(user)
        if target is None:
            # Without the attribute it is void; else in a file that is not here.
            return Opaque("?" if user.has(dw.AT_TYPE) else "void")
        key = target.reference, depth
        if key not in self._known:
            self._left -= 1
            if self._left < 0 or nesting >= _DEEPEST:
                return Opaque(self._name(target))
            # A type that is in itself by value has no size: such a file is broken, yet ends here.
            self._known[key] = Opaque(self._name(target))
            self._known[key] = self._make(target, depth, nesting)
        return self._known[key]

    def _make(self, entry: Entry, depth: int, nesting: int) -> Type:
        tag = entry.tag
        if tag == dw.TAG_BASE_TYPE:
            return _base(entry)
        if tag == dw.TAG_TYPEDEF or tag in _QUALIFIERS:
            return self._renamed(entry, self._read(entry, depth, nesting + 1))
        if tag in _POINTERS:
            size = _size(entry) or entry.unit.layout.address_size
            return Pointer(self._name(entry), size, self._behind(entry, depth, nesting))
        if tag in _STRUCTURES:
            return self._structure(entry, depth, nesting)
        if tag == dw.TAG_ENUMERATION_TYPE:
            return self._enumeration(entry, nesting)
        if tag == dw.TAG_ARRAY_TYPE:
            return self._array(entry, depth, nesting)
        if tag == dw.TAG_SUBROUTINE_TYPE:
            # Go's function values: a pointer to a closure. C's are behind a pointer of their own.
            name, size = self._name(entry), _size(entry)
            return Pointer(name, size, Opaque("code")) if size else Opaque(name)
        size = _size(entry)
        if tag == dw.TAG_PTR_TO_MEMBER_TYPE and not size:
            # Itanium C++ ABI, 2.3: an offset; of functions, an address and an offset.
            target = self._target(entry)
            is_function = target is not None and target.tag == dw.TAG_SUBROUTINE_TYPE
            size = entry.unit.layout.address_size * (1 + is_function)
        return Opaque(self._name(entry), size)

    def _renamed(self, entry: Entry, made: Type) -> Type:
        """The type behind a typedef or qualifiers, with the name that the program gives it."""
        name = self._name(entry)
        if isinstance(made, Structure) and _go_kind(entry) == _GO_INTERFACE:
            kind = "eface" if made.name == _GO_EMPTY_INTERFACE else "interface"
            return replace(made, kind=kind, name=name)
        return made if made.name == name else replace(made, name=name)

    def _behind(self, entry: Entry, depth: int, nesting: int) -> Type:
        if depth > 0:
            return self._read(entry, depth - 1, nesting + 1)
        # Characters and numbers end there: worth knowing even where no pointer is followed.
        target = self._target(entry)
        for _ in range(_DEEPEST):
            if target is None or not (target.tag == dw.TAG_TYPEDEF or target.tag in _QUALIFIERS):
                break
            target = self._target(target)
        if target is not None and target.tag == dw.TAG_BASE_TYPE:
            return self._read(entry, 0, nesting + 1)
        return Opaque(self._name_behind(entry, 0), _size(target) if target else 0)

    def _structure(self, entry: Entry, depth: int, nesting: int) -> Type:
        if entry.has(dw.AT_DECLARATION):  # Defined in another unit, which it does not say.
            return Opaque(self._name(entry))
        kind, name = _STRUCTURES[entry.tag], self._name(entry)
        members: list[Member] = []
        is_special = entry.has(dw.AT_CONTAINING_TYPE)  # It has virtual functions.
        copying: list[Entry] = []
        for part in entry.unit.children(entry, _PARTS):
            if part.tag == dw.TAG_SUBPROGRAM:
                if self._is_copying(entry, part):
                    copying.append(part)
            elif part.tag == dw.TAG_VARIANT_PART:
                kind = "variants"
                members = self._variants(part, depth, nesting)
            elif len(members) < _MOST_MEMBERS and not _is_static(part):
                members += self._member(part, depth, nesting)
        convention = entry.integer(dw.AT_CALLING_CONVENTION)
        if convention is None:
            # gcc 12 does not say it. The rule: Itanium C++ ABI, 1.1, "non-trivial for calls".
            is_special = is_special or _is_written(copying)
            is_trivial = not is_special and all(_goes_as_in_c(member.type) for member in members)
        else:
            is_trivial = convention != dw.CC_PASS_BY_REFERENCE
        kind = _GO_KINDS.get(_go_kind(entry), kind)
        return Structure(kind, name, _size(entry), tuple(members), is_trivial)

    def _is_copying(self, structure: Entry, function: Entry) -> bool:
        """Whether a class's function is its destructor, or a copy or move constructor."""
        name = function.string(dw.AT_NAME)
        if name.startswith("~"):
            return True
        if not name or name.partition("<")[0] != structure.string(dw.AT_NAME).partition("<")[0]:
            return False
        parameters = function.unit.children(function, frozenset((dw.TAG_FORMAL_PARAMETER,)))
        first = next((one for one in parameters if not one.has(dw.AT_ARTIFICIAL)), None)
        referred = first and self._target(first)
        if not referred or referred.tag not in (
            dw.TAG_REFERENCE_TYPE,
            dw.TAG_RVALUE_REFERENCE_TYPE,
        ):
            return False
        to = self._target(referred)
        if to is not None and to.tag in _QUALIFIERS:
            to = self._target(to)
        return to is not None and to.reference == structure.reference

    def _member(self, entry: Entry, depth: int, nesting: int) -> list[Member]:
        """A member; none where its place isn't known (a virtual base)."""
        made = self._read(entry, depth, nesting + 1)
        name = entry.string(dw.AT_NAME)
        if entry.tag == dw.TAG_INHERITANCE:
            name = made.name
        offset, bits = _member_offset(entry), entry.integer(dw.AT_BIT_SIZE) or 0
        if not bits:
            return [] if offset is None else [Member(name, made, offset)]
        placed = entry.integer(dw.AT_DATA_BIT_OFFSET)
        storage = entry.integer(dw.AT_BYTE_SIZE) or made.size or 1
        if placed is None:
            # Until DWARF 3: from the storage's highest bit to the field's highest.
            shift = 8 * storage - (entry.integer(dw.AT_BIT_OFFSET) or 0) - bits
            return [Member(name, made, offset or 0, bits, max(shift, 0))]
        at = placed // (8 * storage) * storage
        if placed - 8 * at + bits > 8 * storage:  # Packed, across the storage's end.
            at = placed // 8
        return [Member(name, made, at, bits, placed - 8 * at)]

    def _variants(self, part: Entry, depth: int, nesting: int) -> list[Member]:
        """A variant part: its tag, where it has one, then its variants. DWARF 5, 5.7.10."""
        found: list[Member] = []
        unit = part.unit
        tag = part.reference_to(dw.AT_DISCR)
        for child in unit.children(part, frozenset((dw.TAG_MEMBER, dw.TAG_VARIANT))):
            if len(found) >= _MOST_MEMBERS:
                break
            if child.tag == dw.TAG_MEMBER:
                if child.reference == tag:
                    made = self._member(child, depth, nesting)
                    found += [Member("", one.type, one.offset) for one in made]
                continue
            value = child.integer(dw.AT_DISCR_VALUE)
            for inner in unit.children(child, frozenset((dw.TAG_MEMBER,))):
                for member in self._member(inner, depth, nesting):
                    name = member.name or member.type.name
                    found.append(Member(name, member.type, member.offset, tag=value))
        return found

    def _enumeration(self, entry: Entry, nesting: int) -> Enumeration:
        underlying = self._read(entry, 0, nesting + 1) if entry.has(dw.AT_TYPE) else None
        values: list[tuple[str, int]] = []
        is_signed = isinstance(underlying, Integer | Character) and underlying.is_signed
        for child in entry.unit.children(entry, frozenset((dw.TAG_ENUMERATOR,))):
            value = child.signed(dw.AT_CONST_VALUE) if is_signed else None
            if value is None:
                value = child.integer(dw.AT_CONST_VALUE) or 0
            if len(values) < _MOST_ENUMERATORS:
                values.append((child.string(dw.AT_NAME), value))
        is_signed = is_signed or any(value < 0 for _, value in values)
        size = _size(entry) or (underlying.size if underlying else 0)
        return Enumeration(self._name(entry), size, is_signed, tuple(values))

    def _array(self, entry: Entry, depth: int, nesting: int) -> Type:
        element = self._read(entry, depth, nesting + 1)
        counts: list[int] = []
        for child in entry.unit.children(entry, frozenset((dw.TAG_SUBRANGE_TYPE,))):
            count = child.integer(dw.AT_COUNT)
            if count is None:
                bound = child.integer(dw.AT_UPPER_BOUND)
                count = -1 if bound is None else bound + 1
            counts.append(count if 0 <= count <= _LARGEST_COUNT else -1)
            if len(counts) == _MOST_DIMENSIONS:
                break
        name, whole = self._name(entry), _size(entry)
        if entry.has(dw.AT_GNU_VECTOR):
            size = element.size
            for count in counts:
                size *= max(count, 0)
            return Opaque(name, whole or size)
        made: Type = element
        for index, count in enumerate(reversed(counts or [-1])):
            is_outermost = index == max(len(counts) - 1, 0)
            size = made.size * max(count, 0)
            its_name = name if is_outermost else f"{made.name}[{count if count >= 0 else ''}]"
            made = Array(its_name, made, count, (whole or size) if is_outermost else size)
        return made

    def _name(self, entry: Entry, nesting: int = 0) -> str:
        """A type as the program writes it."""
        known = self._names.get(entry.reference)
        if known is None:
            if nesting >= _DEEPEST:
                return "?"
            # What a name that is in itself reads.
            self._names[entry.reference] = "?"
            known = self._names[entry.reference] = self._text(entry, nesting)[:_LONGEST_NAME]
        return known

    def _text(self, entry: Entry, nesting: int) -> str:
        tag = entry.tag
        if tag == dw.TAG_BASE_TYPE or tag == dw.TAG_UNSPECIFIED_TYPE:
            return entry.string(dw.AT_NAME) or "?"
        if entry.has(dw.AT_NAME):
            return self._scoped_name(entry)
        if tag in _STRUCTURES:
            return f"{_STRUCTURES[tag]} {{...}}"
        if tag == dw.TAG_ENUMERATION_TYPE:
            return "enum {...}"
        if tag == dw.TAG_SUBROUTINE_TYPE:
            return self._function_text(entry, "", nesting)
        pointer = _POINTERS.get(tag, "")
        if tag == dw.TAG_PTR_TO_MEMBER_TYPE:
            inside = self._resolved(entry, dw.AT_CONTAINING_TYPE)
            pointer = f"{self._name(inside, nesting + 1) if inside else '?'}::*"
        target = self._target(entry)
        if pointer and target is not None and target.tag == dw.TAG_SUBROUTINE_TYPE:
            return self._function_text(target, f"({pointer})", nesting)
        text = self._name_behind(entry, nesting)
        if pointer:
            return text + ("" if text.endswith(("*", "&")) else " ") + pointer
        if tag in _QUALIFIERS:
            word = _QUALIFIERS[tag]
            return f"{text}{word}" if text.endswith(("*", "&", ")")) else f"{word} {text}".strip()
        if tag == dw.TAG_ARRAY_TYPE:
            ranges = entry.unit.children(entry, frozenset((dw.TAG_SUBRANGE_TYPE,)))
            for index, one in enumerate(ranges):
                bound = one.integer(dw.AT_UPPER_BOUND)
                count = one.integer(dw.AT_COUNT) if bound is None else bound + 1
                text += f"[{'' if count is None else count}]"
                if index == _MOST_DIMENSIONS:
                    break
            return text
        return "?"

    def _name_behind(self, entry: Entry, nesting: int) -> str:
        target = self._target(entry)
        if target is None:
            return "?" if entry.has(dw.AT_TYPE) else "void"
        return self._name(target, nesting + 1)

    def _function_text(self, entry: Entry, middle: str, nesting: int) -> str:
        parts: list[str] = []
        wanted = frozenset((dw.TAG_FORMAL_PARAMETER, dw.TAG_UNSPECIFIED_PARAMETERS))
        for child in entry.unit.children(entry, wanted):
            if child.has(dw.AT_ARTIFICIAL):
                continue
            is_open = child.tag == dw.TAG_UNSPECIFIED_PARAMETERS
            parts.append("..." if is_open else self._name_behind(child, nesting))
            if len(parts) == _MOST_NAMED_PARAMETERS:
                break
        returned = self._name_behind(entry, nesting)
        return f"{returned} {middle}({', '.join(parts)})"


def _is_written(copying: list[Entry]) -> bool:
    """Whether the program has a destructor, copy or move constructor of its own, or forbids all."""
    deleted = [one for one in copying if one.has(dw.AT_DELETED)]
    left = [one for one in copying if not one.has(dw.AT_DELETED)]
    written = [one for one in left if not (one.has(dw.AT_ARTIFICIAL) or one.has(dw.AT_DEFAULTED))]
    constructors = [one for one in left if not one.string(dw.AT_NAME).startswith("~")]
    return bool(written) or (bool(deleted) and not constructors)


def _goes_as_in_c(made: Type) -> bool:
    while isinstance(made, Array):
        made = made.element
    return not isinstance(made, Structure) or made.is_trivial


def _base(entry: Entry) -> Type:
    """A base type: DWARF 5, 5.1."""
    name, size = entry.string(dw.AT_NAME) or "?", _size(entry)
    encoding = entry.integer(dw.AT_ENCODING) or 0
    if not size:  # Rust's ().
        return Opaque(name)
    if encoding == dw.ATE_BOOLEAN:
        return Boolean(name, size)
    if encoding in _FLOATS:
        return Float(name, size)
    if encoding in _CHARACTERS:
        return Character(name, size, encoding in _SIGNED)
    return Integer(name, size, encoding in _SIGNED)


def _size(entry: Entry) -> int:
    size = entry.integer(dw.AT_BYTE_SIZE) or 0
    return size if 0 <= size <= _LARGEST_SIZE else 0


def _go_kind(entry: Entry) -> int:
    return (entry.integer(dw.AT_GO_KIND) or 0) & _GO_KIND_MASK


def _is_static(entry: Entry) -> bool:
    return entry.has(dw.AT_EXTERNAL) or entry.has(dw.AT_DECLARATION)


def _member_offset(entry: Entry) -> int | None:
    """Where in its structure a member is, in bytes; None where that is computed."""
    expression = entry.block(dw.AT_DATA_MEMBER_LOCATION)
    if expression is None:
        return entry.integer(dw.AT_DATA_MEMBER_LOCATION) or 0
    if not expression or expression[0] != dw.OP_PLUS_UCONST:  # Until DWARF 3.
        return None
    value, end = uleb(expression, 1, len(expression))
    return value if end == len(expression) else None
