from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubectl_trace.binary import types
from kubectl_trace.binary.types import Member, Structure, Type
from kubectl_trace.functions import shapes, shaping, values
from kubectl_trace.functions.shapes import Limits, Missing
from kubectl_trace.functions.sources import IN_FLOAT_REGISTER, Memory, Unknown, Words
from tests.unit.functions.machine import Machine, in_words, is_right_or_unknown

INT = types.Integer("int", 4, True)
LONG = types.Integer("long", 8, True)
CHAR = types.Character("char", 1, True)
BYTE = types.Integer("uint8", 1, False)
DOUBLE = types.Float("double", 8)
COLOR = types.Enumeration("enum color", 4, True, (("RED", 1), ("GREEN", -2)))
TEXT = types.Pointer("char *", 8, CHAR)
GO_TEXT = Structure(
    "string",
    "string",
    16,
    (Member("str", types.Pointer("*uint8", 8, BYTE), 0), Member("len", LONG, 8)),
)
REGISTERS = ("di", "si")
IN_REGISTERS = Words(('reg("di")', 'reg("si")'))
AT_DI = Memory('reg("di")')


def slice_of(element: Type) -> Structure:
    first = Member("array", types.Pointer(f"*{element.name}", 8, element), 0)
    return Structure(
        "slice",
        f"[]{element.name}",
        24,
        (first, Member("len", LONG, 8), Member("cap", LONG, 16)),
    )


def structure(
    *members: tuple[str, Type], name: str = "struct s", kind: str = "struct"
) -> Structure:
    """With C's places for its members."""
    found, at, largest = [], 0, 1
    for each, member in members:
        align = alignment(member)
        at += -at % align
        found.append(Member(each, member, at))
        at += member.size
        largest = max(largest, align)
    return Structure(kind, name, at + -at % largest, tuple(found))


def alignment(kind: Type) -> int:
    match kind:
        case Structure():
            return max((alignment(each.type) for each in kind.members), default=1)
        case types.Array():
            return alignment(kind.element)
    return max(kind.size, 1)


# A type, the bytes of a value, and the value as JSON has it; None: a float that is no number.

Sample = tuple[Type, bytes, Any]


@st.composite
def integers(draw: st.DrawFn) -> Sample:
    size, is_signed = draw(st.sampled_from([1, 2, 4, 8])), draw(st.booleans())
    low, high = (-(1 << size * 8 - 1), (1 << size * 8 - 1) - 1) if is_signed else (0, 256**size - 1)
    number = draw(st.integers(low, high))
    kind = types.Integer(f"int{size}", size, is_signed)
    return kind, number.to_bytes(size, "little", signed=is_signed), number


@st.composite
def floats(draw: st.DrawFn) -> Sample:
    size = draw(st.sampled_from([4, 8]))
    number = draw(st.floats(width=32 if size == 4 else 64, allow_nan=False, allow_infinity=False))
    return types.Float("f", size), struct.pack("<f" if size == 4 else "<d", number), number


@st.composite
def enumerations(draw: st.DrawFn) -> Sample:
    number = draw(st.sampled_from([1, -2, 7]))
    shown = {1: "RED", -2: "GREEN"}.get(number, number)
    return COLOR, struct.pack("<i", number), shown


BOOLEANS: st.SearchStrategy[Sample] = st.booleans().map(
    lambda truth: (types.Boolean("bool", 1), bytes([truth]), truth)
)
POINTERS: st.SearchStrategy[Sample] = st.integers(0, 2**64 - 1).map(
    lambda number: (
        types.Pointer("void *", 8, types.Opaque("void")),
        struct.pack("<Q", number),
        f"{number:#x}" if number else None,
    )
)
SIMPLE = integers() | floats() | enumerations() | BOOLEANS
SCALARS = SIMPLE | POINTERS


@st.composite
def arrays(draw: st.DrawFn) -> Sample:
    first = draw(SIMPLE)
    kind, _, value = first
    count = draw(st.integers(0, 6))
    array = types.Array(f"{kind.name}[{count}]", kind, count, count * kind.size)
    data: Any = [value] * min(count, 4)
    return array, first[1] * count, {"length": count, "first": data} if count > 4 else data


@st.composite
def structures(draw: st.DrawFn, inner: st.SearchStrategy[Sample], most: int = 4) -> Sample:
    parts = draw(st.lists(inner, min_size=1, max_size=most))
    kind = structure(*((f"m{number}", part[0]) for number, part in enumerate(parts)))
    data = bytearray(draw(st.sampled_from([b"\0", b"\xff"])) * kind.size)
    for member, (_, content, _) in zip(kind.members, parts, strict=True):
        data[member.offset : member.offset + len(content)] = content
    return kind, bytes(data), {f"m{number}": part[2] for number, part in enumerate(parts)}


ANY = SCALARS | arrays() | structures(SCALARS | arrays() | structures(SCALARS))


@given(ANY)
@settings(max_examples=50)
def test_a_value_in_memory_is_shown_as_what_it_is(sample: Sample) -> None:
    kind, data, value = sample
    machine = Machine()
    machine.registers["di"] = machine.put(data)
    assert machine.shown(kind, AT_DI).data == value


@given(SCALARS | arrays() | structures(SCALARS | structures(SCALARS, 2), 3))
@settings(max_examples=50)
def test_a_value_in_registers_is_shown_as_what_it_is_or_not_at_all(sample: Sample) -> None:
    kind, data, value = sample
    if kind.size <= 16:
        machine = Machine()
        in_words(machine, data, REGISTERS)
        assert is_right_or_unknown(machine.shown(kind, IN_REGISTERS).data, value)


@given(SCALARS)
@settings(max_examples=50)
def test_a_scalar_in_a_register_is_always_shown(sample: Sample) -> None:
    kind, data, value = sample
    machine = Machine()
    in_words(machine, data, REGISTERS)
    assert machine.shown(kind, IN_REGISTERS).data == value


@given(structures(SCALARS, 2))
@settings(max_examples=50)
def test_numbers_of_a_structure_in_registers_are_all_shown(sample: Sample) -> None:
    kind, data, value = sample
    machine = Machine()
    in_words(machine, data, REGISTERS)
    assert machine.shown(kind, IN_REGISTERS).data == value


@given(structures(SCALARS), st.integers(0, 2))
@settings(max_examples=50)
def test_a_structure_is_shown_behind_as_many_pointers_as_are_followed(
    sample: Sample, deep: int
) -> None:
    kind, data, value = sample
    machine = Machine()
    address = machine.put(data)
    outer = structure(("next", types.Pointer("struct s *", 8, kind)), ("n", INT))
    machine.registers["di"] = machine.put(struct.pack("<Qi4x", address, 5))
    pointer = types.Pointer("struct t *", 8, outer)
    machine.registers["si"] = machine.registers["di"]
    found = machine.shown(pointer, Words(('reg("si")',)), deep)
    inner = {0: f"{machine.registers['di']:#x}", 1: {"next": f"{address:#x}", "n": 5}}
    assert found.data == inner.get(deep, {"next": value, "n": 5})
    machine.registers["si"] = 0
    assert machine.shown(pointer, Words(('reg("si")',)), deep).data is None


# Texts.


def shown_text(content: bytes, size: int = 64, kind: str = "C") -> values.Value:
    machine = Machine(most=size + 1)
    address = machine.put(content + b"\0")
    if kind == "C":
        machine.registers["di"] = address
        return machine.shown(TEXT, IN_REGISTERS, size=size)
    in_words(machine, struct.pack("<QQ", address, len(content)), REGISTERS)
    return machine.shown(GO_TEXT, IN_REGISTERS, size=size)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=15))
@pytest.mark.parametrize("kind", ["C", "Go"])
def test_a_short_text_is_shown_whole(kind: str, text: str) -> None:
    found = shown_text(text.encode(), kind=kind)
    assert (found.data, found.is_cut) == (text, False)
    assert found.text.isprintable()
    assert found.text.startswith('"')
    assert found.text.endswith('"')


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=20))
def test_of_a_long_text_it_is_said_that_there_is_more(text: str) -> None:
    content = text.encode()
    found = shown_text(content, 16, "Go")
    assert found.is_cut
    assert f"({len(content)} bytes)" in found.text
    assert shown_text(content, 16).is_cut


@given(st.binary(min_size=1, max_size=40).filter(lambda content: 0 not in content))
def test_bytes_that_are_no_utf8_are_shown_and_long_texts_cut(content: bytes) -> None:
    found = shown_text(content, 16, "Go")
    assert found.is_cut == (len(content) > 16)
    assert found.text.isprintable()


def test_a_text_cut_within_a_character_is_cut() -> None:
    # 16 of 17 bytes are read; half a character comes as four visible ones.
    found = shown_text(b"a" * 15 + "é".encode(), 16, "Go")
    assert found.is_cut


def test_a_go_text_with_a_zero_byte_is_not_said_to_be_whole() -> None:
    found = shown_text(b"ab\0cd", kind="Go")
    assert (found.data, found.is_cut) == ("ab", True)
    assert found.text == '"ab"… (5 bytes)'


def test_no_text_is_told_from_an_empty_one() -> None:
    machine = Machine({"di": 0})
    assert machine.shown(TEXT, IN_REGISTERS).data is None
    assert shown_text(b"").data == ""
    assert shown_text(b"", kind="Go").text == '""'


@given(st.text(st.characters(), max_size=30))
def test_quotes_within_a_text_do_not_end_it(text: str) -> None:
    shown = values.quoted(text)
    assert shown.isprintable()
    inside = shown[1:-1].replace("\\\\", "")
    assert '"' not in inside.replace('\\"', "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('a"b', r'"a\"b"'),
        ("a\\b", r'"a\\b"'),
        ("a\nb\x1b[31m", r'"a\nb\u001b[31m"'),
        ("é€", '"é€"'),
        ("\udcff", r'"\udcff"'),
        ("\u202e", r'"\u202e"'),
    ],
)
def test_what_does_not_print_is_escaped(text: str, shown: str) -> None:
    assert values.quoted(text) == shown


def test_an_array_of_characters_is_a_text_of_no_more_than_its_size() -> None:
    machine = Machine()
    machine.registers["di"] = machine.put(b"abcdefgh")
    name = types.Array("char[4]", CHAR, 4, 4)
    assert machine.shown(name, AT_DI).data == "abcd"
    machine.registers["di"] = machine.put(b"ab\0defgh")
    found = machine.shown(name, AT_DI)
    assert (found.data, found.is_cut) == ("ab", False)


def test_a_pointer_to_bytes_is_no_text() -> None:
    unsigned = types.Character("unsigned char", 1, False)
    machine = Machine({"di": 0x10})
    assert machine.shown(types.Pointer("unsigned char *", 8, unsigned), IN_REGISTERS).data == "0x10"


# Libraries' own types.


def test_a_string_of_cpp_is_its_text() -> None:
    data = structure(("_M_p", TEXT), name="_Alloc_hider")
    kind = Structure(
        "class",
        "std::__cxx11::basic_string<char>",
        32,
        (Member("_M_dataplus", data, 0), Member("_M_string_length", LONG, 8)),
    )
    machine = Machine()
    machine.registers["di"] = machine.put(struct.pack("<QQ16x", machine.put(b"hello\0more"), 5))
    found = machine.shown(types.Pointer("std::string &", 8, kind), IN_REGISTERS)
    assert found.data == "hello"
    assert machine.shown(kind, AT_DI).text == '"hello"'


def test_a_vector_of_cpp_is_its_first_elements() -> None:
    pointer = types.Pointer("int *", 8, INT)
    inner = structure(("_M_start", pointer), ("_M_finish", pointer), ("_M_end_of_storage", pointer))
    kind = Structure("class", "vector<int, std::allocator<int> >", 24, (Member("_M", inner, 0),))
    machine = Machine()
    at = machine.put(struct.pack("<6i", 1, 2, 3, 4, 5, 6))
    for count, text in ((0, "[]"), (2, "[1, 2]"), (6, "[1, 2, 3, 4, … 6 in all]")):
        machine.registers["di"] = machine.put(struct.pack("<QQQ", at, at + 4 * count, at + 64))
        found = machine.shown(kind, AT_DI)
        assert (found.text, found.is_cut) == (text, count > 4)


def smart(name: str, *members: tuple[str, Type]) -> Structure:
    """As libstdc++ has them: the parts are some structures deep."""
    return structure(("_M_t", structure(("_M_t", structure(*members)))), name=name)


def test_a_smart_pointer_of_cpp_is_what_it_points_to() -> None:
    pointer = types.Pointer("big *", 8, structure(("a", INT), name="big"))
    machine = Machine()
    machine.registers["di"] = machine.put(struct.pack("<QQ", machine.put(b"\5\0\0\0"), 0x99))
    counted = types.Pointer("std::_Sp_counted_base<2> *", 8, types.Opaque("base"))
    for kind in (
        smart("std::unique_ptr<big, std::default_delete<big> >", ("_M_head_impl", pointer)),
        smart("std::shared_ptr<big>", ("_M_ptr", pointer), ("_M_pi", counted)),
    ):
        assert machine.shown(kind, AT_DI).data == {"a": 5}


def test_the_deleter_of_a_smart_pointer_is_not_what_it_points_to() -> None:
    # libstdc++'s tuple begins with its last part.
    deleter = types.Pointer("int (*)(FILE *)", 8, types.Opaque("int (FILE *)"))
    file = types.Pointer("FILE *", 8, structure(("fd", INT), name="FILE"))
    kind = smart(
        "std::unique_ptr<FILE, int (*)(FILE *)>", ("_M_head_impl", deleter), ("_M_head_impl", file)
    )
    machine = Machine()
    machine.registers["di"] = machine.put(struct.pack("<QQ", 0x99, machine.put(b"\5\0\0\0")))
    assert machine.shown(kind, AT_DI).data in ({"fd": 5}, None)


def test_members_of_a_base_class_are_the_classs_own() -> None:
    base = structure(("a", INT), name="Base", kind="class")
    kind = structure(("Base", base), ("b", INT), name="Derived", kind="class")
    machine = Machine()
    machine.registers["di"] = machine.put(struct.pack("<ii", 1, 2))
    assert machine.shown(kind, AT_DI).data == {"a": 1, "b": 2}


def test_a_tuple_of_rust_has_no_names() -> None:
    machine = Machine()
    machine.registers["di"] = machine.put(struct.pack("<ii", 1, 2))
    found = machine.shown(structure(("__0", INT), ("__1", INT), name="(i32, i32)"), AT_DI)
    assert (found.data, found.text) == ([1, 2], "(1, 2)")


def test_rusts_texts_and_slices_are_read_wherever_pointer_and_length_are() -> None:
    text = structure(
        ("data_ptr", types.Pointer("*const u8", 8, BYTE)), ("length", LONG), name="&str"
    )
    machine = Machine()
    in_words(machine, struct.pack("<QQ", machine.put(b"hello, more"), 5), REGISTERS)
    assert machine.shown(text, IN_REGISTERS).data == "hello"
    buffer = structure(("cap", LONG), ("ptr", types.Pointer("*const u8", 8, BYTE)))
    vector = structure(("buf", buffer), ("len", LONG), name="alloc::vec::Vec<u8>")
    whole = structure(("vec", vector), name="alloc::string::String")
    machine.registers["di"] = machine.put(struct.pack("<QQQ", 99, machine.put(b"owned!"), 5))
    assert machine.shown(whole, AT_DI).data == "owned"
    numbers = structure(
        ("data_ptr", types.Pointer("*const i32", 8, INT)), ("length", LONG), name="&[i32]"
    )
    in_words(machine, struct.pack("<QQ", machine.put(struct.pack("<3i", 7, -8, 9)), 2), REGISTERS)
    assert machine.shown(numbers, IN_REGISTERS).data == [7, -8]


def test_a_rust_text_of_a_layout_that_is_not_known_is_not_guessed() -> None:
    found = shaping.shape(structure(("a", LONG), name="&str"), AT_DI, Limits())
    assert isinstance(found, Missing)


# Go.


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=8))
def test_of_a_slice_the_first_elements_and_the_length_are_shown(numbers: list[int]) -> None:
    machine = Machine()
    address = machine.put(struct.pack(f"<{len(numbers)}i", *numbers) + b"\xff" * 64)
    machine.registers["di"] = machine.put(struct.pack("<QQQ", address, len(numbers), 100))
    found = machine.shown(slice_of(INT), AT_DI)
    first = numbers[:4]
    assert found.data == ({"length": len(numbers), "first": first} if len(numbers) > 4 else first)
    assert found.is_cut == (len(numbers) > 4)


def test_a_slice_of_bytes_is_a_text() -> None:
    machine = Machine()
    machine.registers["di"] = machine.put(struct.pack("<QQQ", machine.put(b"abcd"), 3, 3))
    assert machine.shown(slice_of(BYTE), AT_DI).data == "abc"


def test_of_a_slice_of_structures_the_length_is_shown() -> None:
    machine = Machine()
    machine.registers["di"] = machine.put(struct.pack("<QQQ", 0x10, 3, 3))
    found = machine.shown(slice_of(GO_TEXT), AT_DI)
    assert (found.data, found.text, found.is_cut) == ({"length": 3}, "[3 elements]", True)


def test_a_map_is_shown_by_how_many_entries_it_has() -> None:
    kind = types.Pointer("map[string]int", 8, types.Opaque("hmap"))
    machine = Machine()
    machine.registers["di"] = machine.put(struct.pack("<QQ", 3, 99))
    assert machine.shown(kind, IN_REGISTERS).text == "[3 elements]"


def interface(kind: str = "eface") -> Structure:
    pointer = types.Pointer("*T", 8, types.Opaque("T"))
    return structure(("tab", pointer), ("data", pointer), name="error", kind=kind)


def shown_interface(name: str, content: bytes, kind: str = "eface", size: int = 64) -> values.Value:
    machine = Machine(most=size + 1)
    described = machine.put(b"type")
    word = described if kind == "eface" else machine.put(struct.pack("<QQ", 1, described))
    in_words(machine, struct.pack("<QQ", word, machine.put(content)), REGISTERS)
    shape = shaping.shape(interface(kind), IN_REGISTERS, Limits(1, size))
    return machine.value(shape, lambda address: name if address == described else "")


@pytest.mark.parametrize("kind", ["eface", "interface"])
@pytest.mark.parametrize(
    ("name", "content", "value", "text"),
    [
        ("int", struct.pack("<q", -5), -5, "int(-5)"),
        ("uint8", b"\xff\xff", 255, "uint8(255)"),
        ("bool", b"\1", True, "bool(true)"),
        ("float64", struct.pack("<d", 1.5), 1.5, "float64(1.5)"),
        ("syscall.Errno", struct.pack("<q", 2), 2, "syscall.Errno(2)"),
    ],
)
def test_numbers_in_interfaces_are_shown(
    kind: str, name: str, content: bytes, value: object, text: str
) -> None:
    found = shown_interface(name, content, kind)
    assert (found.data, found.text) == ({"type": name, "value": value}, text)


@pytest.mark.parametrize("name", ["string", "*errors.errorString", "*fmt.wrapError"])
def test_texts_in_interfaces_are_shown(name: str) -> None:
    machine = Machine()
    described = machine.put(b"type")
    data = machine.put(struct.pack("<QQ", machine.put(b"not found, and more"), 9))
    in_words(machine, struct.pack("<QQ", described, data), REGISTERS)
    for size, text, is_cut in ((64, "not found", False), (4, "not ", True)):
        machine.most = size + 1
        shape = shaping.shape(interface(), IN_REGISTERS, Limits(1, size))
        found = machine.value(shape, {described: name}.__getitem__)
        assert (found.data, found.is_cut) == ({"type": name, "value": text}, is_cut)


def test_of_other_types_in_interfaces_only_name_and_address_are_shown() -> None:
    found = shown_interface("*main.Error", b"x")
    assert found.data["type"] == "*main.Error"
    assert "value" not in found.data
    assert "type at 0x" in shown_interface("", b"x").text


def test_an_empty_interface_is_nil() -> None:
    found = Machine({"di": 0, "si": 0}).shown(interface("interface"), IN_REGISTERS)
    assert (found.data, found.text) == (None, "nil")


# What can't be had.


@pytest.mark.parametrize(
    ("kind", "source", "reason"),
    [
        (INT, Unknown("why"), "why"),
        (DOUBLE, Words((None,)), IN_FLOAT_REGISTER),
        (TEXT, Words((None,)), "not in integer registers"),
        (types.Integer("__int128", 16, True), AT_DI, "16 bytes are not read"),
        (types.Float("long double", 16), AT_DI, "16 bytes are not read"),
        (types.Opaque("struct x"), AT_DI, "its type is not known"),
        (Structure("union", "union u", 4, (Member("a", INT, 0),)), AT_DI, "a union"),
        (Structure("variants", "Option<T>", 16, ()), AT_DI, "which variant it is can't be told"),
        (types.Array("int[]", INT, -1, 0), AT_DI, "an array"),
        (GO_TEXT, Words((None, 'reg("si")')), "not in integer registers"),
        (GO_TEXT, Words(('reg("si")',)), "not in integer registers"),
        (slice_of(INT), Words(('reg("si")', None)), "not in integer registers"),
        (interface(), Words(('reg("si")',)), "not in integer registers"),
    ],
)
def test_of_what_can_not_be_had_the_reason_is_told(kind: Type, source: Any, reason: str) -> None:
    found = shaping.shape(kind, source, Limits())
    assert found == Missing(kind.name, reason)
    shown = Machine().value(found)
    assert (shown.data, shown.text) == (None, f"<unknown: {reason}>")


@pytest.mark.parametrize(
    "kind",
    [
        types.Float("complex64", 8),
        types.Float("complex float", 8),
        types.Float("_Float16", 2),
        types.Float("__bf16", 2),
    ],
)
@pytest.mark.parametrize("content", [bytes(8), struct.pack("<ff", 1.5, 2.5)])
def test_a_number_of_two_parts_or_of_half_the_size_is_not_shown_as_another(
    kind: Type, content: bytes
) -> None:
    machine = Machine()
    machine.registers["di"] = machine.put(content)
    found = machine.shown(kind, AT_DI)
    assert found.data is None
    assert found.text.startswith("<unknown")


@given(st.integers(0, 2**32 - 1), st.integers(1, 31), st.booleans(), st.booleans())
def test_bit_fields_are_cut_out_of_their_number(
    number: int, bits: int, is_signed: bool, in_register: bool
) -> None:
    field = types.Integer("int", 4, is_signed)
    kind = Structure(
        "struct",
        "struct s",
        8,
        (
            Member("low", field, 0, bits=bits),
            Member("high", field, 0, bits=32 - bits, bit_offset=bits),
            Member("n", INT, 4),
        ),
    )
    machine = Machine()
    data = struct.pack("<Ii", number, -5)
    machine.registers["di"] = machine.put(data)
    if in_register:
        in_words(machine, data, ["di"])
    found = machine.shown(kind, IN_REGISTERS if in_register else AT_DI)
    low, high = number & (1 << bits) - 1, number >> bits
    if is_signed:
        low -= low >> bits - 1 << bits
        high -= high >> 31 - bits << 32 - bits
    assert found.data == {"low": low, "high": high, "n": -5}


def test_a_bit_field_across_two_numbers_is_unknown() -> None:
    kind = Structure("struct", "struct s", 8, (Member("f", INT, 0, bits=20, bit_offset=16),))
    found = Machine().shown(kind, AT_DI)
    assert found.data == {"f": None}
    assert "<unknown" in found.text


def test_what_the_compiler_knew_is_shown_without_being_read() -> None:
    known = shapes.Known(INT, -3)
    assert shapes.leaves(known) == []
    assert Machine().value(known).data == -3


# Rust's enums.

NOTHING = structure(name="Option::None")


def some(kind: Type) -> Structure:
    return structure(("__0", kind), name="Option::Some")


@pytest.mark.parametrize(("tag", "shown"), [(0, "None"), (1, {"Some": 7})])
def test_an_enum_with_a_tag_is_shown_as_the_variant_that_it_is(tag: int, shown: object) -> None:
    content = Structure("struct", "Some", 8, (Member("__0", INT, 4),))
    kind = Structure(
        "variants",
        "Option<i32>",
        8,
        (
            Member("", types.Integer("u32", 4, False), 0),
            Member("None", structure(name="None"), 0, tag=0),
            Member("Some", content, 0, tag=1),
        ),
    )
    machine = Machine()
    machine.registers["di"] = machine.put(struct.pack("<Ii", tag, 7))
    assert machine.shown(kind, AT_DI).data == shown
    in_words(machine, struct.pack("<Ii", tag, 7), ["si"])
    assert machine.shown(kind, Words(('reg("si")',))).data == shown


def test_an_enum_whose_tag_is_part_of_its_content_is_shown_as_the_variant_that_it_is() -> None:
    pointer = types.Pointer("&T", 8, types.Opaque("T"))
    kind = Structure(
        "variants",
        "Option<&T>",
        8,
        (
            Member("", types.Integer("u64", 8, False), 0),
            Member("None", NOTHING, 0, tag=0),
            Member("Some", some(pointer), 0),
        ),
    )
    assert Machine({"di": 0}).shown(kind, IN_REGISTERS).data == "None"
    assert Machine({"di": 0x10}).shown(kind, IN_REGISTERS).text == "Some(0x10)"


def test_a_tag_of_no_variant_is_said_to_be_one() -> None:
    tag = Member("", types.Integer("u8", 1, False), 0)
    kind = Structure("variants", "E", 1, (tag, Member("A", structure(name="A"), 0, tag=1)))
    found = Machine({"di": 9}).shown(kind, IN_REGISTERS)
    assert (found.data, found.text) == (None, "<unknown: no variant has the tag 9>")


def test_a_tag_may_be_a_negative_number() -> None:
    tag = Member("", types.Integer("i8", 1, True), 0)
    kind = Structure("variants", "E", 1, (tag, Member("A", structure(name="A"), 0, tag=-1)))
    assert Machine({"di": 0xFF}).shown(kind, IN_REGISTERS).data == "A"


def test_of_structures_with_many_members_the_first_are_shown() -> None:
    kind = structure(*((f"m{number}", BYTE) for number in range(40)))
    machine = Machine()
    machine.registers["di"] = machine.put(bytes(range(40)))
    found = machine.shown(kind, AT_DI)
    assert found.is_cut
    assert list(found.data.values()) == list(range(12))
    assert found.text.endswith(", …}")


def test_a_structure_of_itself_ends() -> None:
    inner: Type = types.Opaque("struct node")
    for _ in range(20):
        inner = structure(("next", types.Pointer("struct node *", 8, inner)), name="struct node")
    every = shapes.leaves(shaping.shape(inner, AT_DI, Limits(100, 64)))
    assert len(every) < 20


def test_a_value_with_one_member_without_a_name_is_no_pointer() -> None:
    kind = structure(("", structure(("a", INT))))
    machine = Machine()
    machine.registers["di"] = machine.put(struct.pack("<i", 5))
    assert not machine.shown(kind, AT_DI).text.startswith("&")
    assert machine.shown(types.Pointer("struct s *", 8, kind), IN_REGISTERS).text.startswith("&")


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_floats_that_json_does_not_have_are_texts(number: float) -> None:
    machine = Machine()
    in_words(machine, struct.pack("<d", number), REGISTERS)
    found = machine.shown(DOUBLE, IN_REGISTERS)
    assert found.data == found.text == repr(number)


@pytest.mark.parametrize(
    ("kind", "raw", "data", "text"),
    [
        (CHAR, ord("a"), 97, "'a'"),
        (CHAR, 10, 10, r"'\n'"),
        (CHAR, 0xFF, -1, "-1"),
        (types.Character("char", 4, False), 0x1F600, "😀", "'😀'"),
        (types.Character("char", 4, False), 0xD800, 0xD800, "0xd800"),
        (types.Character("char", 4, False), 0x110000, 0x110000, "0x110000"),
        (INT, 0xFFFF_FFFF_0000_0005, 5, "5"),
        (types.Boolean("bool", 1), 0xFF00, False, "false"),
        (COLOR, 0xFFFF_FFFE, "GREEN", "GREEN"),
        (COLOR, 5, 5, "5"),
    ],
)
def test_numbers_are_shown_as_their_types_mean_them(
    kind: Type, raw: int, data: object, text: str
) -> None:
    found = values.scalar(kind, raw)
    assert (found.data, found.text) == (data, text)


# Registers of functions of which nothing is known.


@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=3), st.text(max_size=8), st.booleans()
)
@settings(max_examples=50)
def test_registers_are_shown_and_a_text_is_only_guessed_where_its_length_fits(
    numbers: list[int], text: str, fits: bool
) -> None:
    size = len(text.encode(errors="surrogateescape")) if max(text, default="a") < "\ud800" else 0
    numbers[1] = size + (0 if fits else 70)
    shape = shapes.Registers(
        "r",
        ("rax", "rbx", "rcx"),
        tuple(shapes.Leaf(name) for name in "abc"),
        ((0, shapes.Leaf("t", is_text=True)),),
        64,
    )
    found = values.value(shape, values.Reader(iter(numbers), iter([text]), lambda _: ""))
    assert {name: found.data[name] for name in shape.names} == {
        name: f"{number:#x}" for name, number in zip(shape.names, numbers, strict=True)
    }
    is_guessed = "rax,rbx?" in found.data
    assert is_guessed == (fits and bool(text) and text.isprintable() and size > 0)
    assert ("string?" in found.text) == is_guessed
