from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubectl_trace.binary import types
from kubectl_trace.binary.dwarf import Parameter, Place
from kubectl_trace.binary.elf import EM_AARCH64, EM_X86_64
from kubectl_trace.binary.types import Structure, Type
from kubectl_trace.functions import go_abi, patterns, sources
from kubectl_trace.functions.catalog import Binary
from kubectl_trace.functions.sources import Memory, Source, Unknown, Words
from tests.unit.binary.dwarf.programs import compiled, is_x86_64
from tests.unit.functions.machine import Machine, is_right_or_unknown
from tests.unit.functions.test_native_abi import function, registers, stack
from tests.unit.functions.test_shapes import (
    GO_TEXT,
    SCALARS,
    Sample,
    arrays,
    integers,
    interface,
    slice_of,
    structure,
    structures,
)

INT = types.Integer("int", 8, True)
BYTE = types.Integer("uint8", 1, False)
SMALL = types.Integer("int16", 2, True)
HALF = types.Integer("int32", 4, True)
FLOAT = types.Float("float64", 8)
COMPLEX = types.Float("complex128", 16)
AX, BX, CX = (registers(name) for name in ("ax", "bx", "cx"))
INTEGERS = ("ax", "bx", "cx", "di", "si", "r8", "r9", "r10", "r11")


def array(kind: Type, count: int) -> types.Array:
    return types.Array(f"[{count}]{kind.name}", kind, count, kind.size * count)


def amd64(*kinds: Type, results: tuple[Type, ...] = ()) -> tuple[list[Source], list[Source]]:
    return go_abi.places(kinds, results, EM_X86_64, in_registers=True)


def first(*kinds: Type) -> list[Source]:
    return amd64(*kinds)[0]


# cmd/compile/abi-internal.md.


def test_the_example_of_gos_own_document_comes_out() -> None:
    # func f(a1 uint8, a2 [2]uintptr, a3 uint8) (r1 struct { x uintptr; y [2]uintptr }, r2 string)
    pair = array(INT, 2)
    result = structure(("x", INT), ("y", pair))
    parameters, results = amd64(BYTE, pair, BYTE, results=(result, GO_TEXT))
    assert parameters == [AX, stack(8), BX]
    assert results == [stack(24), registers("ax", "bx")]


def test_integers_have_nine_registers_and_then_the_stack() -> None:
    found = first(*[INT] * 11)
    assert found == [*map(registers, INTEGERS), stack(8), stack(16)]


@pytest.mark.parametrize(
    ("kind", "count"), [(GO_TEXT, 2), (slice_of(INT), 3), (interface("interface"), 2)]
)
def test_strings_slices_and_interfaces_have_a_register_a_word(kind: Type, count: int) -> None:
    assert first(kind, INT) == [registers(*INTEGERS[:count]), registers(INTEGERS[count])]


def test_an_argument_that_does_not_fit_goes_whole_and_leaves_the_registers_to_others() -> None:
    found = first(*[INT] * 8, GO_TEXT, INT, BYTE, INT)
    assert found[8:] == [stack(8), registers("r11"), stack(24), stack(32)]


def test_an_array_of_one_is_as_its_element_and_longer_ones_are_on_the_stack() -> None:
    assert first(array(INT, 1), array(INT, 2), INT) == [AX, stack(8), BX]
    assert first(array(GO_TEXT, 1), INT) == [registers("ax", "bx"), CX]


def test_values_without_bytes_have_no_register() -> None:
    assert first(structure(), array(INT, 0), INT) == [Words(()), Words(()), AX]


def test_floats_have_registers_of_their_own() -> None:
    assert first(INT, FLOAT, INT, COMPLEX, INT) == [
        *(AX, registers(None), BX, registers(None, None), CX)
    ]
    assert first(*[FLOAT] * 16)[15] == stack(8)
    # Of 15 one is left, a complex number needs two.
    found = first(*[FLOAT] * 14, COMPLEX, FLOAT, FLOAT)
    assert found[14:] == [stack(8), registers(None), stack(24)]


def test_of_a_structure_with_a_float_the_rest_is_known() -> None:
    (found, after) = first(structure(("n", INT), ("f", FLOAT), ("m", INT)), INT)
    assert (found, after) == (registers("ax", None, "bx"), CX)


def test_a_structure_is_on_the_stack_where_one_field_can_not_be_in_registers() -> None:
    assert first(structure(("n", INT), ("a", array(INT, 2))), INT) == [stack(8), AX]


def test_results_have_the_registers_anew_and_a_place_behind_the_arguments() -> None:
    parameters, results = amd64(*[INT] * 9, BYTE, results=(*[INT] * 9, SMALL, INT))
    assert parameters[9:] == [stack(8)]
    assert results == [*map(registers, INTEGERS), stack(16), stack(24)]


def test_arm64_has_sixteen_registers() -> None:
    found, results = go_abi.places([INT] * 17, [INT], EM_AARCH64, in_registers=True)
    assert found[:16] == [registers(f"r{number}") for number in range(16)]
    assert found[16] == stack(8)
    assert results == [registers("r0")]


def test_a_type_that_is_not_known_makes_all_that_comes_after_it_unknown() -> None:
    found, results = amd64(INT, types.Opaque("main.T"), INT, results=(INT,))
    assert found[0] == AX
    assert all(isinstance(each, Unknown) for each in found[1:])
    assert results == [AX]


def test_a_machine_that_is_not_known_is_unknown() -> None:
    found, results = go_abi.places([INT], [INT], 40, in_registers=True)
    assert isinstance(found[0], Unknown)
    assert isinstance(results[0], Unknown)


def test_before_1_17_all_is_on_the_stack_one_behind_the_other() -> None:
    found, results = go_abi.places(
        [BYTE, SMALL, INT, GO_TEXT, BYTE], [HALF, INT], EM_X86_64, in_registers=False
    )
    assert found == [stack(8), stack(10), stack(16), stack(24), stack(40)]
    # Results begin at a multiple of 8.
    assert results == [stack(48), stack(56)]


# A small model of the same rules, and values that it puts where they belong.


def parts(kind: Type, base: int = 0) -> list[tuple[int, Type]] | None:
    """The numbers that a value is made of; None: it is not for registers."""
    if isinstance(kind, Structure):
        found: list[tuple[int, Type]] = []
        for member in kind.members:
            inner = parts(member.type, base + member.offset)
            if inner is None:
                return None
            found += inner
        return found
    if isinstance(kind, types.Array):
        if kind.count > 1:
            return None
        return parts(kind.element, base) if kind.count else []
    return [(base, kind)]


def alignment(kind: Type) -> int:
    if isinstance(kind, Structure):
        return max((alignment(each.type) for each in kind.members), default=1)
    return alignment(kind.element) if isinstance(kind, types.Array) else kind.size


def passed(samples: list[Sample], *, in_registers: bool) -> Machine:
    machine = Machine()
    free = list(INTEGERS) if in_registers else []
    floats = 15 if in_registers else 0
    memory = bytearray(8)  # the return address
    for kind, data, _ in samples:
        found = parts(kind)
        wanted = len([part for _, part in found or () if not isinstance(part, types.Float)])
        in_floats = len(found or ()) - wanted
        if found is not None and wanted <= len(free) and in_floats <= floats and in_registers:
            floats -= in_floats
            for at, part in found:
                if not isinstance(part, types.Float):
                    content = data[at : at + part.size].ljust(8, b"\xa5")
                    machine.registers[free.pop(0)] = int.from_bytes(content, "little")
        elif kind.size:
            memory += bytes(-(len(memory) - 8) % alignment(kind)) + data
    machine.registers["sp"] = machine.put(bytes(memory) + bytes(64))
    return machine


VALUES = SCALARS | arrays() | structures(SCALARS | arrays() | structures(SCALARS))


@given(st.lists(VALUES, max_size=8), st.booleans())
@settings(max_examples=40)
def test_arguments_are_shown_as_what_they_are_or_not_at_all(
    samples: list[Sample], in_registers: bool
) -> None:
    samples = [sample for sample in samples if sample[0].size]
    machine = passed(samples, in_registers=in_registers)
    kinds = [sample[0] for sample in samples]
    found, _ = go_abi.places(kinds, [], EM_X86_64, in_registers=in_registers)
    for (kind, _, value), place in zip(samples, found, strict=True):
        shown = machine.shown(kind, place)
        assert is_right_or_unknown(shown.data, value)
        if not in_registers:
            assert shown.data == value


@given(st.lists(integers() | structures(integers()), max_size=6))
@settings(max_examples=40)
def test_structures_of_small_numbers_with_a_register_each_are_shown_whole(
    samples: list[Sample],
) -> None:
    machine = passed(samples, in_registers=True)
    found, _ = go_abi.places([sample[0] for sample in samples], [], EM_X86_64, in_registers=True)
    for (kind, _, value), place in zip(samples, found, strict=True):
        assert machine.shown(kind, place).data == value


# What debug information says of it, and generic functions.

NUMBERS = {"ax": 0, "bx": 3, "cx": 2, "di": 5, "si": 4, "r8": 8}


def go(name: str, *parameters: tuple[str, str | None], results: int = 1, **options: Any) -> Any:
    """A function of integers, and where debug information has each; empty: optimised out."""
    listed = tuple(
        Parameter(
            each,
            INT,
            False,
            None if place is None else ((Place(NUMBERS[place], None, 8),) if place else ()),
        )
        for each, place in parameters
    )
    found = tuple(Parameter(f"~r{number}", INT, False, None) for number in range(results))
    return function(name=name, language="Go", parameters=listed, results=found, **options)


def places_of(described: Any, *, in_registers: bool = True) -> tuple[list[Source], list[Source]]:
    return go_abi.places_of(described, EM_X86_64, in_registers=in_registers)


@pytest.mark.parametrize("place", ["ax", "", None])
def test_a_plain_function_is_as_the_rules_say(place: str | None) -> None:
    assert places_of(go("main.F", ("a", place), ("b", "bx"))) == ([AX, BX], [AX])


def test_where_debug_information_says_something_else_it_is_believed() -> None:
    found, results = places_of(go("main.F", ("a", "cx"), ("b", "")))
    assert found[0] == CX
    assert isinstance(found[1], Unknown)
    assert isinstance(results[0], Unknown)


def test_functions_in_assembly_have_their_arguments_on_the_stack() -> None:
    listed = tuple(
        Parameter(name, INT, False, (Place(None, at, 8),)) for name, at in (("a", 0), ("b", 8))
    )
    described = function(name="main.asm", language="Go", parameters=listed)
    assert places_of(described)[0] == [stack(8), stack(16)]


def test_a_generic_function_has_a_hidden_parameter_before_its_own() -> None:
    found, results = places_of(go("main.Map[...]", ("a", "bx"), ("b", "cx")))
    assert (found, results) == ([BX, CX], [AX])


def test_a_hidden_parameter_that_is_told_is_counted_once() -> None:
    described = go("main.Map[...]", (go_abi.DICTIONARY, "ax"), ("a", "bx"))
    assert places_of(described)[0] == [AX, BX]


def test_a_method_of_a_generic_type_may_have_it_behind_the_receiver() -> None:
    found, _ = places_of(go("main.(*List[...]).Push", ("l", "ax"), ("v", "cx")))
    assert found == [AX, CX]
    found, _ = places_of(go("main.(*List[...]).Push", ("l", "bx"), ("v", "cx")))
    assert found == [BX, CX]


@pytest.mark.parametrize(("place", "other"), [(None, None), ("", "cx")])
def test_a_receiver_before_or_behind_a_hidden_parameter_is_unknown_where_nothing_tells(
    place: str | None, other: str | None
) -> None:
    # Go 1.19 has it before the receiver, later ones behind it.
    found, _ = places_of(go("main.(*List[...]).Push", ("l", place), ("v", other)))
    assert isinstance(found[0], Unknown)
    assert found[1] == CX or isinstance(found[1], Unknown)


GO_PROGRAM = """
package main

import (
	"errors"
	"fmt"
	"strconv"
)

type point struct{ x, y int32; name string }
type List[T any] struct{ items []T }

//go:noinline
func (l *List[T]) Push(v T, n int) int { l.items = append(l.items, v); return n + len(l.items) }

//go:noinline
func many(a int8, s string, b []byte, p point, f float64, e error, m map[string]int) (int, error) {
	fmt.Println(a, s, b, p, f, e, m)
	return len(b), e
}

//go:noinline
func stacked(a, b, c, d, e, f, g, h, i int, s string, j byte) (r [2]int, k int) {
	fmt.Println(a, b, c, d, e, f, g, h, i, s, j)
	return [2]int{a, b}, c
}

func main() {
	n, _ := strconv.Atoi("7")
	fmt.Println(many(1, "x", nil, point{1, 2, "p"}, 1.5, errors.New("e"), nil))
	fmt.Println(stacked(1, 2, 3, 4, 5, 6, 7, 8, n, "s", 9))
	fmt.Println((&List[string]{}).Push("a", n), (&List[int]{}).Push(1, n))
}
"""


def test_arguments_are_where_gos_compiler_says_that_they_are() -> None:
    binary = Binary(io.BytesIO(compiled("go", GO_PROGRAM, "go")))
    if not go_abi.passes_in_registers(binary.go_version, EM_X86_64) or not is_x86_64():
        pytest.skip("this Go passes arguments on the stack")
    every = binary.functions([patterns.parse("/^(main|strconv|fmt|errors|sort|io)\\./")])
    described = binary.described([each.address for each in every], 1)
    compared = differing = 0
    for each in described.values():
        found, _ = places_of(each)
        for parameter, source in zip(each.parameters, found, strict=True):
            told = parameter.places or ()
            names = [sources.dwarf_register(EM_X86_64, place.register or 0) for place in told]
            if not told or any(place.register is None for place in told):
                continue
            assert not isinstance(source, Unknown), f"{each.name}: {parameter.name}"
            if isinstance(source, Words) and len(source.words) == len(told):
                compared += 1
                wanted = [sources.register(name) if name else None for name in names]
                differing += wanted != list(source.words)
    assert (compared > 50, differing) == (True, 0)


def test_the_frame_stays_the_same_when_the_stack_moves() -> None:
    where = go_abi.frame(go_abi.goroutine("go1.19", EM_X86_64))
    for base in (0x1000, 0x70000):
        machine = Machine({"r14": 0x10, "sp": base - 0x80}, [(0x10, struct.pack("<QQ", 0, base))])
        assert machine.number(where) == 0x80


@pytest.mark.parametrize(
    ("version", "machine", "expected"),
    [
        ("go1.16.15", EM_X86_64, False),
        ("go1.17", EM_X86_64, True),
        ("go1.17", EM_AARCH64, False),
        ("go1.18.1", EM_AARCH64, True),
        ("1.27rc1", EM_X86_64, True),
        ("", EM_X86_64, True),
        ("devel +abc", EM_AARCH64, True),
        ("go1.22", 40, False),
    ],
)
def test_go_passes_in_registers_since_1_17(version: str, machine: int, expected: bool) -> None:
    assert go_abi.passes_in_registers(version, machine) == expected


def test_raw_places_are_named_as_the_machines_own() -> None:
    named = go_abi.raw(EM_X86_64, in_registers=True)
    assert [name for name, _ in named] == ["rax", "rbx", "rcx", "rdi", "rsi"]
    assert [name for name, _ in go_abi.raw(EM_AARCH64, in_registers=True)][:2] == ["x0", "x1"]
    on_stack = go_abi.raw(EM_X86_64, in_registers=False)
    machine = Machine({"sp": 0x100}, [(0x100, struct.pack("<6Q", 9, 1, 2, 3, 4, 5))])
    assert [machine.number(each) for _, each in on_stack] == [1, 2, 3, 4, 5]
    assert go_abi.raw(EM_X86_64, in_registers=False, results=True) == []
    assert len(go_abi.raw(EM_X86_64, in_registers=True, results=True)) == 3


def test_memory_of_arguments_is_behind_the_return_address() -> None:
    (found,), _ = go_abi.places([INT], [], EM_X86_64, in_registers=False)
    assert found == Memory(sources.at(sources.register("sp"), 8))
