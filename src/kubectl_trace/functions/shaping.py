"""How a value of a type is read that is at some place.

Of whatever can't be read the reason is told, never a guess.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from kubectl_trace.binary import types
from kubectl_trace.functions import sources
from kubectl_trace.functions.shapes import (
    Elements,
    Group,
    Interface,
    Leaf,
    Limits,
    Missing,
    Scalar,
    Text,
    Variants,
)
from kubectl_trace.functions.sources import Memory, Unknown, Words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kubectl_trace.binary.types import Type
    from kubectl_trace.functions.shapes import Shape
    from kubectl_trace.functions.sources import Source

_MOST_MEMBERS = 12
_MOST_ELEMENTS = 4
_MOST_NESTED = 4
_MOST_VARIANTS = 8


def shape(kind: Type, source: Source, limits: Limits, nested: int = 0) -> Shape:
    """How a value of this type at this place is read."""
    name = kind.name
    if isinstance(source, Unknown):
        return Missing(name, source.reason)
    if nested > _MOST_NESTED:
        return Missing(name, "nested too deep")
    match kind:
        case types.Structure(kind="string"):
            return _text(name, source, sources.part(source, sources.WORD), limits)
        case types.Structure(kind="slice"):
            return _slice(kind, source, limits, nested)
        case types.Structure(kind="interface" | "eface"):
            return _interface(kind, source, limits)
        case types.Structure():
            return _structure(kind, source, limits, nested)
        case types.Pointer():
            return _pointer(kind, source, limits, nested)
        case types.Array():
            return _array(kind, source, limits, nested)
        case types.Opaque():
            return _opaque(kind, source)
    return _scalar(kind, source)


def _scalar(kind: Type, source: Source) -> Shape:
    if isinstance(kind, types.Float) and (kind.size < 4 or "complex" in kind.name):
        return Missing(kind.name, "a floating-point number of this kind is not read")
    expression = sources.number(source, 0, kind.size)
    if expression is None:
        is_float = isinstance(kind, types.Float) and isinstance(source, Words)
        reason = sources.IN_FLOAT_REGISTER if is_float else f"{kind.size} bytes are not read"
        return Missing(kind.name, reason)
    return Scalar(kind, Leaf(expression))


def _opaque(kind: types.Opaque, source: Source) -> Shape:
    if kind.size == sources.WORD and (found := sources.number(source, 0, sources.WORD)):
        return Scalar(types.Pointer(kind.name, sources.WORD, kind), Leaf(found))
    return Missing(kind.name, "its type is not known")


def _text(name: str, pointer_at: Source, length_at: Source | None, limits: Limits) -> Shape:
    pointer = sources.number(pointer_at, 0, sources.WORD)
    length = sources.number(length_at, 0, sources.WORD) if length_at is not None else None
    if pointer is None or (length_at is not None and length is None):
        return Missing(name, "not in integer registers")
    most = limits.string_size
    taken = size(length, limits) if length else str(most + 1)
    return Text(
        name,
        Leaf(pointer),
        Leaf(length) if length else None,
        Leaf(f"str({pointer}, {taken})", is_text=True),
        most,
    )


def size(length: str, limits: Limits) -> str:
    """What str() takes for a text of that length."""
    return f"{length} + 1" if limits.counts_zero else length


def _pointer(kind: types.Pointer, source: Source, limits: Limits, nested: int) -> Shape:
    expression = sources.number(source, 0, kind.size)
    if expression is None:
        return Missing(kind.name, "not in integer registers")
    if kind.name.startswith("map["):
        # How many entries there are comes first: runtime, map.go, hmap; internal/runtime/maps, Map.
        return Elements(kind.name, (), Leaf(f"(uint64)*(uint64 *)({expression})"))
    to = kind.to
    if kind.name.startswith("chan "):
        return Scalar(kind, Leaf(expression))
    if isinstance(to, types.Character) and to.size == 1 and "unsigned" not in to.name:
        return _text(kind.name, source, None, limits)
    if isinstance(to, types.Structure) and limits.deep > 0:
        inner = shape(
            to, Memory(expression), dataclasses.replace(limits, deep=limits.deep - 1), nested + 1
        )
        if isinstance(inner, Group):
            return Group(kind.name, inner.parts, Leaf(expression), inner.has_more)
        if isinstance(inner, Text | Elements | Interface):
            return Group(kind.name, (("", inner),), Leaf(expression))
    return Scalar(kind, Leaf(expression))


def _structure(kind: types.Structure, source: Source, limits: Limits, nested: int) -> Shape:
    name = kind.name
    if kind.kind == "variants":
        return _variants(kind, source, limits, nested)
    if kind.kind == "union":
        return Missing(name, "a union")
    if (library := _library_type(kind, source, limits, nested)) is not None:
        return library
    parts: list[tuple[str, Shape]] = []
    for member in kind.members[:_MOST_MEMBERS]:
        if member.name.startswith("_vptr"):
            continue
        if member.bits:
            inner = _bit_field(member, source)
        else:
            inner = _member(member, source, limits, nested)
        if isinstance(inner, Group) and member.name == member.type.name and not inner.pointer:
            parts += inner.parts  # a base class
        else:
            parts.append((member.name, inner))
    return Group(name, tuple(parts), None, len(kind.members) > _MOST_MEMBERS)


def _bit_field(member: types.Member, source: Source) -> Shape:
    expression = sources.number(source, member.offset, member.type.size)
    if expression is None or member.bit_offset + member.bits > member.type.size * 8:
        return Missing(member.type.name, "a bit field that is not in one number")
    mask = (1 << member.bits) - 1
    return Scalar(
        member.type, Leaf(f"(({expression} >> {member.bit_offset}) & {mask:#x})"), member.bits
    )


def _variants(kind: types.Structure, source: Source, limits: Limits, nested: int) -> Shape:
    """Which variant it is says the first member, a number; perhaps a part of another's content."""
    if not kind.members or not isinstance(kind.members[0].type, _SIMPLE | types.Pointer):
        return Missing(kind.name, "which variant it is can't be told")
    first, *others = kind.members
    tag = sources.number(source, first.offset, first.type.size)
    if tag is None or len(others) > _MOST_VARIANTS:
        return Missing(kind.name, "which variant it is can't be told")
    found = tuple((each.tag, each.name, _member(each, source, limits, nested)) for each in others)
    return Variants(kind.name, Leaf(tag), first.type.size * 8, found)


def _member(member: types.Member, source: Source, limits: Limits, nested: int) -> Shape:
    kind = member.type
    if isinstance(source, Words) and member.offset % sources.WORD:
        # Within a word of a register: only what is one number.
        expression = sources.number(source, member.offset, kind.size)
        is_number = not isinstance(kind, types.Structure | types.Array | types.Opaque)
        if expression is None or not is_number:
            return Missing(kind.name, "in a part of a register")
        return Scalar(kind, Leaf(expression))
    return shape(kind, sources.part(source, member.offset), limits, nested + 1)


def _library_type(
    kind: types.Structure, source: Source, limits: Limits, nested: int
) -> Shape | None:
    """Strings and vectors of the languages' own libraries, by where their parts are."""
    own = {member.name: member.offset for member in kind.members}
    if "_M_string_length" in own and "_M_dataplus" in own:  # libstdc++, ABI of C++11
        pointer, length = own["_M_dataplus"], own["_M_string_length"]
        return _joined_text("std::string", pointer, length, source, limits)
    if "_M_len" in own and "_M_str" in own:  # libstdc++'s string_view
        return _joined_text(kind.name, own["_M_str"], own["_M_len"], source, limits)
    flat = list(_flat(kind, 0))
    head = kind.name.partition("<")[0].removeprefix("const ").rpartition("::")[2]
    if head in _SMART_POINTERS:
        pointers = [(at, each) for at, _, each in flat if isinstance(each, types.Pointer)]
        if pointers:
            # The tuple of a unique_ptr and its deleter begins with the last part.
            offset, owned = pointers[-1 if head == "unique_ptr" else 0]
            return shape(owned, sources.part(source, offset), limits, nested)
    if head == "vector":
        where = {name: (at, each) for at, name, each in flat}
        if "_M_start" in where and "_M_finish" in where:
            return _cpp_vector(kind, where, source, limits, nested)
    return _fat_pointer(kind, flat, source, limits, nested)


_SMART_POINTERS = ("unique_ptr", "shared_ptr", "weak_ptr")


def _joined_text(name: str, text: int, length: int, source: Source, limits: Limits) -> Shape:
    return _text(name, sources.part(source, text), sources.part(source, length), limits)


def _cpp_vector(
    kind: types.Structure,
    where: dict[str, tuple[int, Type]],
    source: Source,
    limits: Limits,
    nested: int,
) -> Shape:
    (start_at, pointer), (finish_at, _) = where["_M_start"], where["_M_finish"]
    start = sources.number(source, start_at, sources.WORD)
    finish = sources.number(source, finish_at, sources.WORD)
    if start is None or finish is None or not isinstance(pointer, types.Pointer):
        return Missing(kind.name, "not in integer registers")
    if not pointer.to.size:
        return Missing(kind.name, "the type of its elements is not known")
    count = f"(({finish} - {start}) / {pointer.to.size})"
    return _elements(kind.name, pointer.to, start, count, limits, nested)


def _fat_pointer(
    kind: types.Structure,
    flat: Sequence[tuple[int, str, Type]],
    source: Source,
    limits: Limits,
    nested: int,
) -> Shape | None:
    """Rust's `&str`, `String`, `&[T]` and `Vec<T>`: wherever pointer and length are."""
    is_text = kind.name in ("&str", "&mut str") or kind.name.split("::")[-1] == "String"
    is_slice = kind.name.startswith(("&[", "&mut [")) or kind.name.split("<")[0].endswith("Vec")
    if not (is_text or is_slice):
        return None
    pointers = [(at, each) for at, _, each in flat if isinstance(each, types.Pointer)]
    lengths = [at for at, name, _ in flat if name in ("length", "len")]
    if not pointers or not lengths:
        return Missing(kind.name, "its layout is not known")
    (at, pointer), length = pointers[0], lengths[0]
    if is_text:
        return _joined_text(kind.name, at, length, source, limits)
    found = sources.number(source, at, sources.WORD)
    count = sources.number(source, length, sources.WORD)
    if found is None or count is None:
        return Missing(kind.name, "not in integer registers")
    return _elements(kind.name, pointer.to, found, count, limits, nested)


def _flat(kind: types.Structure, base: int, depth: int = 0) -> Iterator[tuple[int, str, Type]]:
    """Its members and theirs, with their offsets."""
    if depth > 8:
        return
    for member in kind.members:
        if isinstance(member.type, types.Structure):
            yield from _flat(member.type, base + member.offset, depth + 1)
        else:
            yield base + member.offset, member.name, member.type


def _slice(kind: types.Structure, source: Source, limits: Limits, nested: int) -> Shape:
    pointer = sources.number(source, 0, sources.WORD)
    length = sources.number(source, sources.WORD, sources.WORD)
    if pointer is None or length is None:
        return Missing(kind.name, "not in integer registers")
    first = kind.members[0].type if kind.members else None
    element = first.to if isinstance(first, types.Pointer) else types.Opaque("")
    if isinstance(element, types.Integer) and element.size == 1:
        return _text(kind.name, source, sources.part(source, sources.WORD), limits)
    return _elements(kind.name, element, pointer, length, limits, nested)


def _elements(
    name: str, element: Type, pointer: str, length: str, limits: Limits, nested: int
) -> Shape:
    shallow = dataclasses.replace(limits, deep=0)
    few = _MOST_ELEMENTS if isinstance(element, _SIMPLE) and element.size else 0
    inner = tuple(
        shape(element, Memory(sources.at(pointer, number * element.size)), shallow, nested + 1)
        for number in range(few)
    )
    return Elements(name, inner, Leaf(length))


_SIMPLE = types.Integer | types.Boolean | types.Character | types.Float | types.Enumeration


def _array(kind: types.Array, source: Source, limits: Limits, nested: int) -> Shape:
    element = kind.element
    if isinstance(element, types.Character) and element.size == 1 and isinstance(source, Memory):
        most = min(limits.string_size, max(kind.count, 0))
        if not most:
            return Missing(kind.name, "its length is not known")
        text = Leaf(f"str({source.address}, {most + 1})", is_text=True)
        return Text(kind.name, Leaf(source.address), None, text, most)
    if not isinstance(element, _SIMPLE) or not element.size or kind.count < 0:
        return Missing(kind.name, "an array")
    shallow = dataclasses.replace(limits, deep=0)
    inner = tuple(
        shape(element, sources.part(source, number * element.size), shallow, nested + 1)
        for number in range(min(kind.count, _MOST_ELEMENTS))
    )
    return Elements(kind.name, inner, None, kind.count)


def _interface(kind: types.Structure, source: Source, limits: Limits) -> Shape:
    word = sources.number(source, 0, sources.WORD)
    data = sources.number(source, sources.WORD, sources.WORD)
    if word is None or data is None:
        return Missing(kind.name, "not in integer registers")
    # An itab has its type after that of the interface: runtime2.go, itab; abi.ITab since 1.22.
    address = word if kind.kind == "eface" else f"(uint64)*(uint64 *)({word} + 8)"
    first = f"(uint64)*(uint64 *){data}"
    length = f"(uint64)*(uint64 *)({data} + 8)"
    return Interface(
        kind.name,
        Leaf(word),
        Leaf(address),
        Leaf(data),
        Leaf(first),
        Leaf(length),
        Leaf(f"str({first}, {size(length, limits)})", is_text=True),
        limits.string_size,
    )
