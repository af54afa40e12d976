from __future__ import annotations

import pytest

from kubectl_trace.binary.dwarf import Place
from kubectl_trace.binary.types import (
    Array,
    Boolean,
    Character,
    Enumeration,
    Float,
    Integer,
    Opaque,
    Pointer,
    Structure,
)
from tests.unit.binary.dwarf.programs import (
    ARGUMENTS,
    C_PROGRAM,
    XMM0,
    compiled,
    debug_info,
    function,
    is_x86_64,
    parameter,
    registers,
    symbol,
)

pytestmark = pytest.mark.skipif(not is_x86_64(), reason="the expected registers are x86-64's")

FORMATS = [
    ("-gdwarf-5",),
    ("-gdwarf-4",),
    ("-gdwarf-3",),
    ("-gdwarf-2",),
    ("-gdwarf-5", "-gdwarf64"),
    ("-gdwarf-5", "-gz"),
    ("-gdwarf-4", "-gz=zlib-gnu"),
    ("-gdwarf-4", "-fdebug-types-section"),
    ("-gdwarf-5", "-fdebug-types-section"),
]


def program(*flags: str, compiler: str = "gcc") -> bytes:
    return compiled(compiler, C_PROGRAM, "c", flags or ("-g", "-O2"))


@pytest.mark.parametrize("flags", FORMATS, ids=" ".join)
def test_an_optimised_function_s_parameters_are_in_their_registers(flags: tuple[str, ...]) -> None:
    data = program(*flags, "-O2")
    work = function(data, "work")
    assert [one.name for one in work.parameters] == [
        "name",
        "p",
        "text",
        "c",
        "d",
        "big",
        "a",
        "b",
        "last",
    ]
    assert registers(parameter(work, "name")) == ARGUMENTS[:1]
    assert registers(parameter(work, "p")) == ARGUMENTS[1:2]
    assert parameter(work, "text").places == (
        Place(ARGUMENTS[2], None, 8),
        Place(ARGUMENTS[3], None, 8),
    )
    assert registers(parameter(work, "c")) == ARGUMENTS[4:5]
    assert registers(parameter(work, "d")) == [XMM0]
    # By value on the stack; what follows fits into the last register, then behind it.
    big = parameter(work, "big")
    if flags == ("-gdwarf-2",):  # It has no way to say what the frame's address is.
        assert big.places is None
        return
    assert big.places == (Place(None, 0, big.type.size),)
    assert registers(parameter(work, "a")) == ARGUMENTS[5:]
    assert parameter(work, "b").places == (Place(None, big.type.size, 4),)


@pytest.mark.parametrize("flags", FORMATS, ids=" ".join)
def test_types_are_what_the_program_says(flags: tuple[str, ...]) -> None:
    work = function(program(*flags, "-O2"), "work")
    types = {one.name: one.type for one in work.parameters}
    name = types["name"]
    assert isinstance(name, Pointer)
    assert name == Pointer("const char *", 8, Character("const char", 1, True))
    assert types["a"] == Integer("int", 4, True)
    assert types["d"] == Float("double", 8)
    assert types["last"] == Boolean("_Bool", 1)
    colors = types["c"]
    assert isinstance(colors, Enumeration)
    assert (colors.name, colors.size, colors.values) == (
        "enum color",
        4,
        (("RED", 1), ("GREEN", -2)),
    )
    assert colors.is_signed
    text = types["text"]
    assert isinstance(text, Structure)
    assert (text.name, text.size, text.kind) == ("text_t", 16, "struct")
    assert [(one.name, one.type.name, one.offset) for one in text.members] == [
        ("data", "char *", 0),
        ("length", "long unsigned int", 8),
    ]
    assert work.returns == Integer("ssize_t", 8, True)


@pytest.mark.parametrize("flags", FORMATS, ids=" ".join)
def test_a_structure_has_its_members_arrays_unions_and_bit_fields(flags: tuple[str, ...]) -> None:
    pointer = parameter(function(program(*flags, "-O2"), "work"), "p").type
    assert isinstance(pointer, Pointer)
    point = pointer.to
    assert isinstance(point, Structure)
    members = {one.name: one for one in point.members}
    assert point.name == "struct point"
    assert (members["flag"].offset, members["flag"].bits, members["flag"].bit_offset) == (4, 3, 0)
    assert (members["mode"].offset, members["mode"].bits, members["mode"].bit_offset) == (4, 5, 3)
    assert members["ratio"].offset == 8
    inside = members["inside"].type
    assert isinstance(inside, Structure)
    assert inside.members[1].type == Array("char[6]", Character("char", 1, True), 6, 6)
    union = members[""].type
    assert isinstance(union, Structure)
    assert (union.kind, union.name, union.size) == ("union", "union {...}", 4)
    assert [(one.name, one.offset) for one in union.members] == [("number", 0), ("real", 0)]
    grid = members["grid"].type
    assert isinstance(grid, Array)
    assert (grid.name, grid.count, grid.size) == ("int[2][3]", 2, 24)
    assert grid.element == Array("int[3]", Integer("int", 4, True), 3, 12)


@pytest.mark.parametrize(("depth", "resolved"), [(0, 0), (1, 1), (2, 2), (5, 5)])
def test_a_list_is_followed_for_as_many_pointers_as_asked(depth: int, resolved: int) -> None:
    data = program()
    address = symbol(data, "work")
    work = debug_info(data).at([address], depth=depth)[address]
    pointer, followed = parameter(work, "p").type, 0
    while isinstance(pointer, Pointer) and isinstance(pointer.to, Structure):
        pointer = next(one.type for one in pointer.to.members if one.name == "next")
        followed += 1
    assert isinstance(pointer, Pointer)
    assert isinstance(pointer.to, Opaque)
    assert (pointer.to.name, followed) == ("struct point", resolved)
    assert pointer.to.size == 64


@pytest.mark.parametrize("compiler", ["gcc", "clang-14"])
def test_without_optimisation_nothing_is_said_of_the_entry(compiler: str) -> None:
    work = function(program("-g", "-O0", compiler=compiler), "work")
    places = {one.name: one.places for one in work.parameters}
    for name in ("name", "p", "text", "c", "d", "a"):
        assert places[name] is None, name
    # gcc says that these are the caller's; clang counts from the frame pointer, not yet set.
    assert places["b"] == (None if compiler != "gcc" else (Place(None, 64, 4),))
    assert work.is_optimized is (False if compiler == "gcc" else None)
    assert work.parameters[1].type.name == "struct point *"


def test_clang_s_registers_are_the_same() -> None:
    work = function(program("-g", "-O2", compiler="clang-14"), "work")
    assert registers(parameter(work, "name")) == ARGUMENTS[:1]
    assert registers(parameter(work, "p")) == ARGUMENTS[1:2]
    assert registers(parameter(work, "d")) == [XMM0]
    assert registers(parameter(work, "c")) == ARGUMENTS[4:5]
    assert (work.language, work.is_optimized) == ("C", None)


def test_a_function_says_where_and_how_it_was_made() -> None:
    data = program("-g", "-O2")
    work, hidden = function(data, "work"), function(data, "hidden")
    assert (work.name, work.qualified_name, work.linkage_name) == ("work", "work", "")
    assert (work.language, work.is_optimized, work.is_external) == ("C", True, True)
    assert work.producer.startswith("GNU C")
    assert work.file.endswith("/program.c")
    assert C_PROGRAM.splitlines()[work.line - 1].startswith("NOINLINE ssize_t work(")
    assert work.ranges == ((work.address, work.address + work.size),)
    assert not work.parameters[0].is_artificial
    assert (hidden.is_external, hidden.is_standard_call) == (False, True)


def test_functions_without_parameters_with_any_number_and_with_callbacks() -> None:
    data = program()
    nothing, variadic = function(data, "nothing"), function(data, "variadic")
    assert (nothing.parameters, nothing.returns, nothing.is_variadic) == ((), None, False)
    assert variadic.is_variadic
    call = parameter(variadic, "call").type
    assert isinstance(call, Pointer)
    assert (call.name, call.to.name) == ("callback_t", "int (const char *, int)")


def test_several_functions_are_found_at_once_and_other_addresses_not() -> None:
    data = program()
    wanted = {symbol(data, name): name for name in ("work", "caller", "main")}
    info = debug_info(data)
    found = info.at([*wanted, 1, symbol(data, "work") + 1, 2**64 - 1])
    assert {address: one.name for address, one in found.items()} == wanted
    assert info.at([]) == {}


def test_functions_are_found_by_name() -> None:
    found = debug_info(program()).named(lambda name: name in ("work", "hidden", "twice"))
    assert sorted(one.name for one in found) == ["hidden", "work"]


@pytest.mark.parametrize("flags", [("-gdwarf-5",), ("-gdwarf-4",)], ids=" ".join)
def test_an_inlined_function_is_said_to_be_with_its_places(flags: tuple[str, ...]) -> None:
    data = program(*flags, "-O2")
    (twice,) = debug_info(data).inlined(lambda name: name == "twice")
    lines = C_PROGRAM.splitlines()
    assert (twice.name, twice.qualified_name) == ("twice", "twice")
    assert "int twice" in lines[twice.line - 1]
    caller = symbol(data, "caller")
    assert {(one.function, one.address) for one in twice.places} == {("caller", caller)}
    assert ["twice" in lines[one.line - 1] for one in twice.places] == [True, True]
    assert len({one.line for one in twice.places}) == 2


def test_what_was_not_inlined_is_not_said_to_be() -> None:
    assert debug_info(program()).inlined(lambda name: name == "work") == []


def test_a_parameter_that_a_specialised_function_does_without_is_a_constant() -> None:
    source = """
    int calls;
    static __attribute__((noinline)) int part(int value, int always, int unused) {
      for (int i = 0; i < value; i++) calls += i * always;
      return calls;
    }
    int main(int count, char **arguments) { return part(count, 7, 1) + part(count + 1, 7, 2); }
    """
    data = compiled("gcc", source, "c", ("-g", "-O2"))
    (part,) = debug_info(data).named(lambda name: name == "part")
    assert [one.name for one in part.parameters] == ["value", "always", "unused"]
    value, always, unused = part.parameters
    assert registers(value) == ARGUMENTS[:1]
    assert (always.constant, always.places) == (7, None)
    assert registers(unused) is None


def test_a_function_whose_unlikely_part_is_elsewhere_begins_at_its_first_part() -> None:
    source = """
    #include <stdio.h>
    #include <stdlib.h>
    __attribute__((cold, noinline)) void fail(const char *why) { puts(why); exit(1); }
    __attribute__((noinline)) int parted(int value, const char *why) {
      if (value > 5) { for (int i = 0; i < value; i++) puts(why); fail(why); }
      return value + printf("%s", why);
    }
    int main(int count, char **arguments) { return parted(count, arguments[0]); }
    """
    parted = function(compiled("gcc", source, "c", ("-g", "-O2")), "parted")
    assert len(parted.ranges) == 2
    assert parted.ranges[0] == (parted.address, parted.address + parted.size)
    assert registers(parameter(parted, "why")) == ARGUMENTS[1:2]


def test_nested_functions_are_found() -> None:
    source = """
    int calls;
    int main(int count, char **arguments) {
      __attribute__((noinline)) int nested(int value) { return value + calls++ + count; }
      return nested(3) + nested(count);
    }
    """
    data = compiled("gcc", source, "c", ("-g", "-O0"))
    address = next(one for one in (symbol(data, name) for name in ("nested.0",)))
    assert debug_info(data).at([address])[address].name == "nested"


def test_what_the_linker_left_out_is_not_found() -> None:
    source = """
    int calls;
    __attribute__((noinline)) int unused(int value) { return value + calls; }
    int main(int count, char **arguments) { return count; }
    """
    flags = ("-g", "-O2", "-ffunction-sections", "-Wl,--gc-sections")
    info = debug_info(compiled("gcc", source, "c", flags))
    assert [one.name for one in info.named(lambda name: True)] == ["main"]


def test_a_vector_is_no_array_since_it_goes_in_a_register() -> None:
    source = """
    typedef float four __attribute__((vector_size(16)));
    __attribute__((noinline)) four scaled(four values) { return values * 2; }
    int main(int count, char **arguments) { return (int)scaled((four){count})[0]; }
    """
    scaled = function(compiled("gcc", source, "c", ("-g", "-O2")), "scaled")
    assert parameter(scaled, "values").type == Opaque("four", 16)


def test_a_stripped_program_has_no_functions() -> None:
    info = debug_info(program("-O2", "-s"))
    assert not info.has_functions
    assert info.at([0x1000]) == {}
    assert list(info.named(lambda name: True)) == []
    assert info.inlined(lambda name: True) == []
