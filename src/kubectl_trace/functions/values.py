"""What was read of a value, as plain data for JSON and as a text."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubectl_trace.binary import types
from kubectl_trace.functions.shapes import (
    Elements,
    Group,
    Interface,
    Known,
    Missing,
    Registers,
    Scalar,
    Text,
    Variants,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kubectl_trace.binary.types import Type
    from kubectl_trace.functions.shapes import Shape

_TRUE_FALSE = ("false", "true")


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
    shown = "".join(
        each if each.isprintable() else json.dumps(each)[1:-1]
        for each in text.replace("\\", "\\\\").replace('"', '\\"')
    )
    return f'"{shown}"{"…" if is_cut else ""}{rest}'


def _text_value(each: Text, reader: Reader) -> Value:
    address = reader.number()
    length = reader.number() if each.length else None
    text = reader.string()
    if length is not None:
        text = _first(text, length)
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


def _first(text: str, length: int) -> str:
    """So many bytes of a text: where more were read, they are of something else."""
    data = text.encode(errors="surrogateescape")
    return text if len(data) <= length else data[:length].decode(errors="surrogateescape")


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
    text = _first(reader.string(), length)
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
