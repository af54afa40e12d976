"""Files from containers may be anything: broken ones are errors of one kind, soon."""

from __future__ import annotations

import io
import struct
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubectl_trace.binary import elf
from kubectl_trace.binary.dwarf import DebugInfo
from tests.unit.binary.dwarf.handmade import Abbreviation, dwarf_file, uleb
from tests.unit.binary.dwarf.programs import compiled

if TYPE_CHECKING:
    from kubectl_trace.binary.types import Type

SOURCE = """
enum color { RED, GREEN = -2 };
struct point { int x; unsigned flag : 3; double ratio; struct point *next; int grid[2][3]; };
typedef struct { char *data; unsigned long length; } text_t;
int calls;
static inline __attribute__((always_inline)) int twice(int number) { return number * 2 + calls; }
__attribute__((noinline)) long work(const char *name, struct point *p, text_t text, enum color c,
                                    double d, struct point big, int (*call)(int, ...)) {
  for (unsigned long i = 0; i < text.length; i++) calls += call(text.data[i]) + name[i];
  return twice(p->x) + c + d + big.x;
}
"""
CPP_SOURCE = """
namespace outer {
template <typename T> struct Base { T value; virtual ~Base() {} };
struct Widget : Base<long> {
  union { int a; float b; };
  int method(const Widget &other, int) const;
};
struct Copied { int a; Copied(const Copied &other); };
int calls;
int Widget::method(const Widget &other, int more) const { return other.value + more + value; }
int copy(Copied by_value, int Widget::*member, int (Widget::*function)(int)) { return by_value.a; }
}
"""
LONGEST_SECONDS = 10
FLAGS = ("-g", "-O2", "-shared", "-nostdlib", "-fPIC")
PROGRAMS = [
    ("gcc", SOURCE, "c", ("-gdwarf-5", *FLAGS)),
    ("gcc", SOURCE, "c", ("-gdwarf-4", "-fdebug-types-section", *FLAGS)),
    ("gcc", SOURCE, "c", ("-gdwarf-5", "-gz", *FLAGS)),
    ("gcc", SOURCE, "c", ("-gdwarf-2", *FLAGS)),
    ("g++", CPP_SOURCE, "cc", ("-gdwarf-5", *FLAGS)),
]


def everything(data: bytes) -> None:
    """Asks all there is to ask; nothing but MalformedError may be raised."""
    started = time.process_time()
    try:
        info = DebugInfo(io.BytesIO(data), io.BytesIO(data))
        functions = list(info.named(lambda name: True, depth=8))
        info.at([one.address for one in functions] + [0x1000, 0x1100], depth=2)
        info.inlined(lambda name: True)
    except elf.MalformedError:
        pass
    assert time.process_time() - started < LONGEST_SECONDS


def debug_sections(data: bytes) -> list[elf.Section]:
    file = io.BytesIO(data)
    every = elf.sections(file, elf.read_header(file))
    return [one for one in every if one.name.startswith((b".debug", b".zdebug")) and one.size]


@st.composite
def broken_programs(draw: st.DrawFn) -> bytes:
    data = bytearray(compiled(*draw(st.sampled_from(PROGRAMS))))
    sections = debug_sections(bytes(data))
    for _ in range(draw(st.integers(1, 12))):
        section = draw(st.sampled_from(sections))
        at = section.offset + draw(st.integers(0, section.size - 1))
        kind = draw(st.sampled_from(["byte", "bytes", "swap", "zeros"]))
        if kind == "byte":
            data[at] = draw(st.integers(0, 255))
        elif kind == "bytes":
            changed = draw(st.sampled_from([b"\xff" * 8, b"\x7f" * 4, b"\x80" * 16, b"\1\0\0\0"]))
            data[at : at + len(changed)] = changed
        elif kind == "zeros":
            data[at : at + 8] = bytes(8)
        else:
            other = section.offset + draw(st.integers(0, section.size - 1))
            data[at : at + 4], data[other : other + 4] = data[other : other + 4], data[at : at + 4]
    return bytes(data)


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(broken_programs())
def test_a_changed_program_is_an_answer_or_malformed(data: bytes) -> None:
    everything(data)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(PROGRAMS), st.data())
def test_sections_cut_short_are_an_answer_or_malformed(
    program: tuple[str, str, str, tuple[str, ...]], draws: st.DataObject
) -> None:
    data = bytearray(compiled(*program))
    header = elf.read_header(io.BytesIO(data))
    every = elf.sections(io.BytesIO(data), header)
    cut = draws.draw(st.sampled_from([one for one in every if one.name.startswith(b".debug")]))
    size_at = header.sections_at + every.index(cut) * header.section_size + 32
    struct.pack_into("<Q", data, size_at, draws.draw(st.integers(0, max(cut.size - 1, 0))))
    everything(bytes(data))


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(PROGRAMS), st.data())
def test_a_file_cut_short_is_an_answer_or_malformed(
    program: tuple[str, str, str, tuple[str, ...]], draws: st.DataObject
) -> None:
    data = compiled(*program)
    everything(data[: draws.draw(st.integers(0, len(data)))])


@settings(deadline=None)
@given(st.binary(max_size=400), st.binary(max_size=200))
def test_any_bytes_in_the_sections_are_an_answer_or_malformed(info: bytes, abbrev: bytes) -> None:
    everything(dwarf_file({"info": info, "abbrev": abbrev}))
    # With a header that fits, so that more of it is read.
    unit = struct.pack("<IHIB", len(info) + 7, 4, 0, 8) + info
    everything(dwarf_file({"info": unit, "abbrev": abbrev}))


NAME, TYPE, LOW, HIGH, SIZE, ORIGIN, LOCATION = 0x03, 0x49, 0x11, 0x12, 0x0B, 0x31, 0x02
STRING, REF4, ADDR, DATA8, DATA4, EXPRLOC = 0x08, 0x13, 0x01, 0x07, 0x06, 0x18
UNIT = Abbreviation(0x11, True, ((LOW, ADDR), (HIGH, DATA8)))
FUNCTION = Abbreviation(0x2E, True, ((LOW, ADDR), (HIGH, DATA8), (NAME, STRING)))
PARAMETER = Abbreviation(0x05, False, ((TYPE, REF4), (LOCATION, EXPRLOC)))
HEADER = 11  # Of a unit of DWARF 4.
TOP = b"\1" + struct.pack("<QQ", 0x1000, 0x1000)


def with_a_parameter(
    of: bytes, abbreviations: list[Abbreviation], expression: bytes = b"\x50"
) -> bytes:
    """A function f(parameter), and the entries of the parameter's type."""
    head = TOP + b"\2" + struct.pack("<QQ", 0x1000, 16) + b"f\0" + b"\3"
    location = uleb(len(expression)) + expression
    assert types_at(expression) == HEADER + len(head) + 4 + len(location) + 1
    entries = head + struct.pack("<I", types_at(expression)) + location + b"\0" + of + b"\0"
    return dwarf_file(entries, [UNIT, FUNCTION, PARAMETER, *abbreviations])


def types_at(expression: bytes = b"\x50") -> int:
    return HEADER + len(TOP) + 1 + 16 + 2 + 1 + 4 + 1 + len(expression) + 1


def parameter_type(data: bytes) -> Type:
    found = DebugInfo(io.BytesIO(data)).at([0x1000], depth=8)
    return found[0x1000].parameters[0].type


def test_a_hand_made_function_is_read() -> None:
    base = Abbreviation(0x24, False, ((NAME, STRING), (SIZE, 0x0B), (0x3E, 0x0B)))
    data = with_a_parameter(b"\4int\0\4\5", [base])
    assert parameter_type(data).name == "int"


@pytest.mark.parametrize("tag", [0x16, 0x0F, 0x26, 0x10, 0x01, 0x04, 0x15, 0x1F])
def test_a_type_that_is_of_itself_ends(tag: int) -> None:
    itself = Abbreviation(tag, False, ((TYPE, REF4),))
    data = with_a_parameter(b"\4" + struct.pack("<I", types_at()), [itself])
    assert len(parameter_type(data).name) < 2000


def test_structures_in_themselves_end() -> None:
    structure = Abbreviation(0x13, True, ((NAME, STRING),))
    member = Abbreviation(0x0D, False, ((TYPE, REF4),))
    inner = (b"\5" + struct.pack("<I", types_at())) * 50
    data = with_a_parameter(b"\4s\0" + inner + b"\0", [structure, member])
    assert parameter_type(data).name == "s"


def test_a_thousand_typedefs_one_after_the_other_end() -> None:
    step = Abbreviation(0x16, False, ((TYPE, REF4),))
    entries = b"".join(
        b"\4" + struct.pack("<I", types_at() + 5 * (index + 1)) for index in range(1000)
    )
    parameter_type(with_a_parameter(entries, [step]))


def test_types_that_multiply_with_each_step_end_soon() -> None:
    # Each of 60 structures has 60 members of the next one, and each function type 60 of the next.
    for tag, part in ((0x13, 0x0D), (0x15, 0x05)):
        outer = Abbreviation(tag, True, ())
        inner = Abbreviation(part, False, ((TYPE, REF4),))
        size = 1 + 60 * 5 + 1
        entries = b"".join(
            b"\4" + (b"\5" + struct.pack("<I", types_at() + size * (index + 1))) * 60 + b"\0"
            for index in range(60)
        )
        started = time.process_time()
        everything(with_a_parameter(entries, [outer, inner]))
        assert time.process_time() - started < LONGEST_SECONDS


def test_an_origin_that_is_itself_ends() -> None:
    function = Abbreviation(0x2E, False, ((LOW, ADDR), (ORIGIN, REF4), (0x47, REF4)))
    itself = HEADER + len(TOP)
    entries = TOP + b"\2" + struct.pack("<QII", 0x1000, itself, itself) + b"\0"
    data = dwarf_file(entries, [UNIT, function])
    found = DebugInfo(io.BytesIO(data)).at([0x1000])
    assert found[0x1000].name == ""
    everything(data)


def test_entries_very_deep_in_each_other_are_malformed() -> None:
    nested = Abbreviation(0x39, True, ())
    data = dwarf_file(TOP + b"\2" * 100_000, [UNIT, nested])
    with pytest.raises(elf.MalformedError, match="deep"):
        list(DebugInfo(io.BytesIO(data)).named(lambda name: True))


def test_an_unknown_form_is_no_matter_until_it_is_read() -> None:
    unknown = Abbreviation(0x2E, False, ((LOW, ADDR), (NAME, 0x7777)))
    function = Abbreviation(0x2E, False, ((LOW, ADDR), (NAME, STRING)))
    known = TOP + b"\2" + struct.pack("<Q", 0x1000) + b"f\0\0"
    found = DebugInfo(io.BytesIO(dwarf_file(known, [UNIT, function, unknown]))).at([0x1000])
    assert found[0x1000].name == "f"
    data = dwarf_file(TOP + b"\3" + struct.pack("<Q", 0x1000) + b"f\0\0", [UNIT, function, unknown])
    with pytest.raises(elf.MalformedError, match="form"):
        list(DebugInfo(io.BytesIO(data)).named(lambda name: True))


@pytest.mark.parametrize(
    ("expression", "places"),
    [
        (b"\x55", 1),  # rdi
        (b"\x53", None),  # rbx, which no caller sets
        (b"\x91\x10", None),  # without the frame's base
        (b"\x9c", 1),  # what is at the frame's address
        (b"\x9c\x11\x08\x22", 1),
        (b"\x9c\x11\x78\x22", None),  # below it: the function's own
        (b"\xa3\x01\x53\x9f", 1),  # what rbx was at the entry
        (b"\xa3\x02\xa3\x01\x9f", None),
        (b"\x75\x00", 1),  # where rdi points
        (b"\x77\x08", None),  # from the stack pointer, whenever
        (b"\x55\x93\x08\x54\x93\x08", 2),
        (b"\x93\x08\x54\x93\x08", 2),
        (b"\x30\x9f", None),
        (b"\x06", None),
        (b"\x55\x55", None),
        (b"\x91", None),
        (b"\xff", None),
        (b"", 0),
        (b"\xa3\xff\xff\xff\xff\x0f\x55", None),
    ],
)
def test_expressions_say_where_a_value_is_at_the_entry_or_nothing(
    expression: bytes, places: int | None
) -> None:
    base = Abbreviation(0x24, False, ((NAME, STRING),))
    data = with_a_parameter(b"\4int\0", [base], expression)
    (parameter,) = DebugInfo(io.BytesIO(data)).at([0x1000])[0x1000].parameters
    assert (None if parameter.places is None else len(parameter.places)) == places


def test_two_parameters_are_never_said_to_be_in_one_register() -> None:
    entries = TOP + b"\2" + struct.pack("<QQ", 0x1000, 16) + b"f\0"
    at = HEADER + len(entries) + 3 * 7 + 1
    for register in (b"\x55", b"\x54", b"\x55"):
        entries += b"\3" + struct.pack("<I", at) + b"\1" + register
    base = Abbreviation(0x24, False, ((NAME, STRING),))
    data = dwarf_file(entries + b"\0" + b"\4int\0\0", [UNIT, FUNCTION, PARAMETER, base])
    parameters = DebugInfo(io.BytesIO(data)).at([0x1000])[0x1000].parameters
    assert [one.type.name for one in parameters] == ["int"] * 3
    assert [one.places is None for one in parameters] == [True, False, True]


def test_a_million_units_of_nothing_are_malformed_soon() -> None:
    started = time.process_time()
    everything(dwarf_file({"info": struct.pack("<IHIB", 7, 4, 0, 8) * (1 << 20), "abbrev": b"\0"}))
    assert time.process_time() - started < LONGEST_SECONDS
