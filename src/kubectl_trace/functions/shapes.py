"""How a value of a type is read when a probe fires, and shown afterwards.

A shape is made of leaves: numbers and texts that the kernel reads. Of whatever can't be read the
reason is told, never a guess.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubectl_trace.binary import types
from kubectl_trace.functions import sources
from kubectl_trace.functions.sources import Memory, Unknown, Words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kubectl_trace.binary.types import Type
    from kubectl_trace.functions.sources import Source

_MOST_MEMBERS = 12
_MOST_ELEMENTS = 4
_MOST_NESTED = 4
_MOST_VARIANTS = 8
_TRUE_FALSE = ("false", "true")


@dataclass(frozen=True)
class Leaf:
    """Something that the kernel reads: a number of 8 bytes, or a text."""

    expression: str
    is_text: bool = False
    is_result: bool = False
    """It is read when the call returns, and no argument though it may be where one was."""


@dataclass(frozen=True)
class Limits:
    """How much of values is read."""

    deep: int = 1
    """How many pointers are followed into structures."""
    string_size: int = 64
    """Bytes of a text."""


@dataclass(frozen=True)
class Scalar:
    """A number of some kind."""

    type: Type
    leaf: Leaf
    bits: int = 0
    """Of a bit field: how many; 0: all."""

    @property
    def type_name(self) -> str:
        """The type's name."""
        return self.type.name


@dataclass(frozen=True)
class Known:
    """A number that the compiler knew, so that it is passed nowhere."""

    type: Type
    number: int

    @property
    def type_name(self) -> str:
        """The type's name."""
        return self.type.name


@dataclass(frozen=True)
class Variants:
    """A Rust enum with data: a tag says which of the variants it is."""

    type_name: str
    tag: Leaf
    tag_bits: int
    variants: tuple[tuple[int | None, str, Shape], ...]
    """Tag (None: all others), name, content."""


@dataclass(frozen=True)
class Text:
    """Characters behind a pointer, up to a zero byte or, if there is a length, so many."""

    type_name: str
    pointer: Leaf
    length: Leaf | None
    text: Leaf
    most: int
    """Bytes of it that are read."""


@dataclass(frozen=True)
class Group:
    """Named parts: a structure's, perhaps behind a pointer."""

    type_name: str
    parts: tuple[tuple[str, Shape], ...]
    pointer: Leaf | None = None
    has_more: bool = False


@dataclass(frozen=True)
class Elements:
    """The first elements of a slice or an array."""

    type_name: str
    elements: tuple[Shape, ...]
    length: Leaf | None
    """None: there are as many as `count`."""
    count: int = 0


@dataclass(frozen=True)
class Interface:
    """A Go interface: the type that is in it, and of some types the value."""

    type_name: str
    word: Leaf
    """Zero: nil."""
    type_address: Leaf
    data: Leaf
    first: Leaf
    """The first 8 bytes of what `data` points to."""
    length: Leaf
    """The second."""
    text: Leaf
    """The text of that length that the first points to, should they be a string."""
    most: int


@dataclass(frozen=True)
class Registers:
    """Registers of a function about whose arguments nothing is known."""

    type_name: str
    names: tuple[str, ...]
    leaves: tuple[Leaf, ...]
    texts: tuple[tuple[int, Leaf], ...] = ()
    """Of Go: which register may be the first of a string, and the text that it would be."""
    most: int = 0


@dataclass(frozen=True)
class Missing:
    """A value that can't be had."""

    type_name: str
    reason: str


Shape = Scalar | Known | Variants | Text | Group | Elements | Interface | Registers | Missing


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
    # The size that str takes counts the zero byte that ends its result.
    size = f"{length} + 1" if length else str(most + 1)
    return Text(
        name,
        Leaf(pointer),
        Leaf(length) if length else None,
        Leaf(f"str({pointer}, {size})", is_text=True),
        most,
    )


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
            to, Memory(expression), Limits(limits.deep - 1, limits.string_size), nested + 1
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
    shallow = Limits(0, limits.string_size)
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
    shallow = Limits(0, limits.string_size)
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
        Leaf(f"str({first}, {length} + 1)", is_text=True),
        limits.string_size,
    )


def leaves(each: Shape) -> list[Leaf]:
    """All that is read of it, in order."""
    match each:
        case Scalar(leaf=leaf):
            return [leaf]
        case Variants():
            return [each.tag, *(leaf for *_, part in each.variants for leaf in leaves(part))]
        case Text():
            return [each.pointer, *([each.length] if each.length else []), each.text]
        case Group():
            inner = [leaf for _, part in each.parts for leaf in leaves(part)]
            return [each.pointer, *inner] if each.pointer else inner
        case Elements():
            inner = [leaf for part in each.elements for leaf in leaves(part)]
            return [each.length, *inner] if each.length else inner
        case Interface():
            return [
                *(each.word, each.type_address, each.data, each.first, each.length),
                each.text,
            ]
        case Registers():
            return [*each.leaves, *(leaf for _, leaf in each.texts)]
    return []


@dataclass(frozen=True)
class Value:
    """A value as it is shown: plain data for JSON, and a text."""

    data: Any
    text: str
    is_cut: bool = False
    """There is more of it than was read."""


@dataclass(frozen=True)
class Reader:
    """The leaves of one call, taken in order."""

    numbers: Iterator[int]
    texts: Iterator[str]
    type_name: Callable[[int], str]
    """The name of the Go type at an address of the process; empty: not known."""
    null: str = "NULL"
    """What the language calls a pointer to nothing."""

    def number(self) -> int:
        """The next leaf that is a number."""
        return next(self.numbers, 0)

    def string(self) -> str:
        """The next leaf that is a text."""
        return next(self.texts, "")


def value(each: Shape, reader: Reader) -> Value:
    """The value whose leaves come next."""
    match each:
        case Scalar():
            return scalar(each.type, reader.number(), reader.null, each.bits)
        case Known():
            return scalar(each.type, each.number, reader.null)
        case Variants():
            return _variants_value(each, reader)
        case Text():
            return _text_value(each, reader)
        case Group():
            return _group_value(each, reader)
        case Elements():
            return _elements_value(each, reader)
        case Interface():
            return _interface_value(each, reader)
        case Registers():
            return _registers_value(each, reader)
        case Missing():
            return Value(None, f"<unknown: {each.reason}>")
    raise AssertionError(each)


def scalar(kind: Type, raw: int, null: str = "NULL", bits: int = 0) -> Value:
    """A number as its type means it; `bits`: of a bit field, how many."""
    size = max(kind.size, 1)
    bits = bits or size * 8
    raw &= (1 << bits) - 1
    match kind:
        case types.Integer(is_signed=is_signed):
            return _plain(_signed(raw, bits) if is_signed else raw)
        case types.Boolean():
            return Value(bool(raw), _TRUE_FALSE[bool(raw)])
        case types.Character(size=1, is_signed=is_signed):
            shown = chr(raw) if raw < 128 else ""
            number = _signed(raw, 8) if is_signed else raw
            return Value(number, f"{shown!r}" if shown else str(number))
        case types.Character():
            shown = chr(raw) if raw < 0x110000 and not 0xD800 <= raw < 0xE000 else ""
            return Value(shown or raw, f"{shown!r}" if shown else f"{raw:#x}")
        case types.Float(size=4 | 8):
            (number,) = struct.unpack("<f" if size == 4 else "<d", raw.to_bytes(size, "little"))
            text = f"{number:.7g}" if size == 4 else repr(number)
            # JSON has no infinities.
            return Value(number if abs(number) < float("inf") else text, text)
        case types.Enumeration():
            number = _signed(raw, bits) if kind.is_signed else raw
            name = next((name for name, each in kind.values if each == number), "")
            return Value(name or number, name or str(number))
    return Value(f"{raw:#x}", f"{raw:#x}") if raw else Value(None, null)


def _plain(number: int) -> Value:
    return Value(number, str(number))


def _signed(raw: int, bits: int) -> int:
    return raw - (1 << bits) if raw >> (bits - 1) else raw


def quoted(text: str, *, is_cut: bool = False, rest: str = "") -> str:
    """A text in quotes, everything in it escaped that does not print."""
    import json

    shown = "".join(
        each if each.isprintable() else json.dumps(each)[1:-1]
        for each in text.replace("\\", "\\\\").replace('"', '\\"')
    )
    return f'"{shown}"{"…" if is_cut else ""}{rest}'


def _text_value(each: Text, reader: Reader) -> Value:
    address = reader.number()
    length = reader.number() if each.length else None
    text = reader.string()
    size = len(text.encode(errors="surrogateescape"))
    if length is None:
        if not address:
            return Value(None, reader.null)
        is_cut = size >= each.most
        return Value(text, quoted(text, is_cut=is_cut), is_cut)
    if length <= min(size, each.most):
        return Value(text, quoted(text))
    # Longer than what is read, or with a zero byte in it.
    return Value(text, quoted(text, is_cut=True, rest=f" ({length} bytes)"), is_cut=True)


def _group_value(each: Group, reader: Reader) -> Value:
    address = reader.number() if each.pointer else None
    found = [(name, value(part, reader)) for name, part in each.parts]
    if address == 0:
        return Value(None, reader.null)
    inner = ", ".join(f"{name}={part.text}" if name else part.text for name, part in found)
    data: Any = {name: part.data for name, part in found}
    if found and all(re.fullmatch(r"__\d+", name) for name, _ in found):
        return _tuple_value([part for _, part in found])
    if [name for name, _ in found] == [""]:
        data = found[0][1].data
        return Value(data, f"&{inner}" if each.pointer else inner, found[0][1].is_cut)
    more = ", …" if each.has_more else ""
    is_cut = each.has_more or any(part.is_cut for _, part in found)
    return Value(data, f"{'&' if address else ''}{{{inner}{more}}}", is_cut)


def _tuple_value(parts: Sequence[Value]) -> Value:
    inner = ", ".join(part.text for part in parts)
    return Value([part.data for part in parts], f"({inner})", any(part.is_cut for part in parts))


def _variants_value(each: Variants, reader: Reader) -> Value:
    tag = reader.number() & (1 << each.tag_bits) - 1
    found = [(of, name, value(part, reader), part) for of, name, part in each.variants]
    mask = (1 << each.tag_bits) - 1
    chosen = next((one for one in found if one[0] is not None and one[0] & mask == tag), None)
    chosen = chosen or next((one for one in found if one[0] is None), None)
    if chosen is None:
        return Value(None, f"<unknown: no variant has the tag {tag}>")
    _, name, content, part = chosen
    if isinstance(part, Group) and not part.parts:
        return Value(name, name)
    if isinstance(part, Group) and isinstance(content.data, list) and len(content.data) == 1:
        return Value({name: content.data[0]}, f"{name}{content.text}", content.is_cut)
    return Value({name: content.data}, f"{name}{content.text}", content.is_cut)


def _elements_value(each: Elements, reader: Reader) -> Value:
    count = reader.number() if each.length else each.count
    found = [value(part, reader) for part in each.elements][:count]
    if not found and count:
        return Value({"length": count}, f"[{count} elements]", is_cut=True)
    more = count > len(found)
    inner = ", ".join(part.text for part in found) + (f", … {count} in all" if more else "")
    data: Any = [part.data for part in found]
    return Value({"length": count, "first": data} if more else data, f"[{inner}]", more)


# Of these types the data is a string, or begins with the one that Error() gives.
_TEXT_TYPES = {"string", "*errors.errorString", "*fmt.wrapError", "*fmt.wrapErrors"}
_GO_NUMBERS: dict[str, Type] = {
    **{
        f"{sign}int{bits}": types.Integer(f"{sign}int{bits}", bits // 8, not sign)
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
    "int": types.Integer("int", 8, True),
    "uint": types.Integer("uint", 8, False),
    "uintptr": types.Integer("uintptr", 8, False),
    "syscall.Errno": types.Integer("syscall.Errno", 8, False),
    "bool": types.Boolean("bool", 1),
    "float32": types.Float("float32", 4),
    "float64": types.Float("float64", 8),
}


def _interface_value(each: Interface, reader: Reader) -> Value:
    word, type_address, data, first, length = (reader.number() for _ in range(5))
    text = reader.string()
    if not word:
        return Value(None, reader.null)
    name = reader.type_name(type_address)
    if not name:
        return Value({"data": f"{data:#x}"}, f"<type at {type_address:#x}>({data:#x})")
    if name in _TEXT_TYPES:
        cut = length > min(len(text.encode(errors="surrogateescape")), each.most)
        shown = quoted(text, is_cut=cut)
        return Value({"type": name, "value": text}, f"{name}({shown})", cut)
    if name in _GO_NUMBERS:
        number = scalar(_GO_NUMBERS[name], first)
        return Value({"type": name, "value": number.data}, f"{name}({number.text})")
    return Value({"type": name, "data": f"{data:#x}"}, f"{name}({data:#x})")


def _registers_value(each: Registers, reader: Reader) -> Value:
    numbers = [reader.number() for _ in each.leaves]
    texts = [(index, reader.string()) for index, _ in each.texts]
    data: dict[str, Any] = {name: f"{n:#x}" for name, n in zip(each.names, numbers, strict=True)}
    shown = {name: f"{n:#x}" for name, n in zip(each.names, numbers, strict=True)}
    for index, text in texts:
        # A guess: a pointer and its length, and as many printable characters there.
        size = len(text.encode(errors="surrogateescape"))
        if 0 < size == min(numbers[index + 1], each.most) and text.isprintable():
            name, following = each.names[index], each.names[index + 1]
            guess = quoted(text, is_cut=size < numbers[index + 1])
            shown[name] = f"{shown[name]} (string? {guess})"
            data[f"{name},{following}?"] = text
    return Value(data, ", ".join(f"{name}={text}" for name, text in shown.items()))
