from __future__ import annotations

import io
import platform
import random
import struct
import subprocess
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from kubectl_trace.binary import types
from kubectl_trace.binary.dwarf import DebugInfo, Parameter, Place, Subprogram
from kubectl_trace.binary.elf import EM_AARCH64, EM_X86_64
from kubectl_trace.functions import native_abi, sources
from kubectl_trace.functions.sources import IN_FLOAT_REGISTER, Memory, Source, Unknown, Words
from tests.unit.binary.dwarf.programs import compiler
from tests.unit.functions.machine import Machine, is_right_or_unknown
from tests.unit.functions.test_shapes import structure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kubectl_trace.binary.types import Type

INT = types.Integer("int", 4, True)
LONG = types.Integer("long", 8, True)
DOUBLE = types.Float("double", 8)
FLOAT = types.Float("float", 4)
LONG_DOUBLE = types.Float("long double", 16)
POINTER = types.Pointer("void *", 8, types.Opaque("void"))
BIG = structure(*((f"m{number}", LONG) for number in range(5)))
PAIR = structure(("a", LONG), ("b", LONG))
MIXED = structure(("d", DOUBLE), ("n", LONG))
TEXT = structure(("data_ptr", POINTER), ("length", LONG), name="&str")


def function(*kinds: Type, returns: Type | None = None, **fields: Any) -> Subprogram:
    """A function whose debug information says nothing of places."""
    parameters = tuple(
        Parameter(f"p{number}", kind, False, None) for number, kind in enumerate(kinds)
    )
    whole: dict[str, Any] = {
        "name": "f",
        "qualified_name": "f",
        "linkage_name": "",
        "address": 0x1000,
        "size": 16,
        "ranges": ((0x1000, 0x1010),),
        "language": "C",
        "producer": "",
        "is_optimized": True,
        "file": "f.c",
        "line": 1,
        "is_external": True,
        "is_standard_call": True,
        "parameters": parameters,
        "returns": returns,
        "results": (),
        "is_variadic": False,
    }
    return Subprogram(**{**whole, **fields})


def placed(*places: Sequence[Place] | None, kind: Type = LONG, **fields: Any) -> Subprogram:
    """A function with parameters at these places."""
    parameters = tuple(
        Parameter(f"p{number}", kind, False, None if each is None else tuple(each))
        for number, each in enumerate(places)
    )
    return function(parameters=parameters, **fields)


def registers(*names: str | None) -> Words:
    return Words(tuple(sources.register(name) if name else None for name in names))


def stack(offset: int) -> Memory:
    return Memory(sources.at(sources.register("sp"), offset))


def amd64(*kinds: Type, **fields: Any) -> list[Source]:
    return native_abi.arguments(function(*kinds, **fields), EM_X86_64)


def arm64(*kinds: Type, **fields: Any) -> list[Source]:
    return native_abi.arguments(function(*kinds, **fields), EM_AARCH64)


# The rules, by hand.


def test_integers_have_the_registers_in_their_order_and_then_the_stack() -> None:
    assert amd64(*[INT] * 9) == [
        *(registers(name) for name in ("di", "si", "dx", "cx", "r8", "r9")),
        *(stack(offset) for offset in (8, 16, 24)),
    ]


def test_floats_do_not_use_up_registers_of_integers() -> None:
    assert amd64(INT, DOUBLE, INT, FLOAT, POINTER) == [
        *(registers("di"), registers(None), registers("si"), registers(None), registers("dx")),
    ]


def test_the_ninth_float_is_on_the_stack() -> None:
    found = amd64(*[DOUBLE] * 10, INT)
    assert found[7:] == [registers(None), stack(8), stack(16), registers("di")]


def test_a_structure_of_two_words_has_a_register_a_word() -> None:
    assert amd64(PAIR, INT) == [registers("di", "si"), registers("dx")]
    assert amd64(MIXED, INT) == [registers(None, "di"), registers("si")]
    assert amd64(structure(("n", LONG), ("x", FLOAT), ("y", FLOAT)), INT) == [
        registers("di", None),
        registers("si"),
    ]


def test_a_word_with_a_number_and_a_float_is_in_an_integer_register() -> None:
    assert amd64(structure(("x", FLOAT), ("n", INT)), INT) == [registers("di"), registers("si")]


def test_a_structure_of_floats_is_in_floating_point_registers() -> None:
    assert amd64(structure(("x", FLOAT), ("y", FLOAT)), INT) == [registers(None), registers("di")]


def test_a_large_structure_is_on_the_stack_and_takes_no_register() -> None:
    assert amd64(INT, BIG, INT) == [registers("di"), stack(8), registers("si")]
    assert amd64(BIG, *[INT] * 7)[-1] == stack(48)


def test_a_structure_that_does_not_fit_goes_whole_and_leaves_the_registers_to_others() -> None:
    found = amd64(*[LONG] * 5, PAIR, INT, INT)
    assert found[5:] == [stack(8), registers("r9"), stack(24)]


def test_a_structure_of_two_words_on_the_stack_is_at_a_multiple_of_8() -> None:
    found = amd64(*[LONG] * 7, PAIR, MIXED, LONG)
    assert found[6:] == [stack(8), stack(16), stack(32), stack(48)]


def test_a_hidden_pointer_to_the_result_comes_first() -> None:
    assert amd64(INT, returns=BIG) == [registers("si")]
    assert amd64(INT, returns=PAIR) == [registers("di")]
    assert amd64(INT, returns=LONG_DOUBLE) == [registers("di")]
    guarded = replace(structure(("a", INT)), is_trivial=False)
    assert amd64(INT, returns=guarded) == [registers("si")]


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("kind", [DOUBLE, FLOAT])
def test_floats_that_need_more_than_two_words_are_returned_in_memory(
    kind: Type, count: int
) -> None:
    group = structure(*((f"m{number}", kind) for number in range(count)))
    is_large = group.size > 16
    assert amd64(INT, returns=group) == [registers("si" if is_large else "di")]
    found = native_abi.result(function(returns=group), EM_X86_64)
    assert found == (Memory(sources.register("ax")) if is_large else registers(None, None))


def test_a_packed_structure_is_returned_in_memory() -> None:
    members = types.Member("a", INT, 0), types.Member("b", LONG, 4)
    packed = types.Structure("struct", "struct s", 12, members)
    assert amd64(INT, returns=packed) == [registers("si")]
    found = native_abi.result(function(returns=packed), EM_X86_64)
    assert found == Memory(sources.register("ax"))


def test_what_cpp_copies_by_its_own_code_is_behind_a_hidden_reference() -> None:
    guarded = replace(PAIR, is_trivial=False)
    assert amd64(guarded, INT) == [Memory(sources.register("di")), registers("si")]
    found = amd64(*[LONG] * 6, guarded)
    assert found[6] == Memory('(uint64)*(uint64 *)(reg("sp") + 8)')


def test_a_long_double_is_on_the_stack_at_a_multiple_of_16() -> None:
    found = amd64(*[LONG] * 7, LONG_DOUBLE, INT)
    assert found[6:] == [stack(8), stack(24), stack(40)]


def test_named_arguments_of_variadic_functions_are_as_others() -> None:
    assert amd64(POINTER, DOUBLE, INT, is_variadic=True) == amd64(POINTER, DOUBLE, INT)


def test_a_type_that_is_not_known_makes_all_that_comes_after_it_unknown() -> None:
    found = amd64(INT, types.Opaque("struct secret"), INT)
    assert found[0] == registers("di")
    assert all(isinstance(each, Unknown) for each in found[1:])


@pytest.mark.parametrize(
    "symbol", ["f.isra.0", "f.constprop.0", "f.part.0", "f.constprop.0.isra.0"]
)
def test_of_functions_that_the_compiler_changed_nothing_is_known(symbol: str) -> None:
    changed = function(INT, INT, returns=INT)
    assert all(
        isinstance(each, Unknown) for each in native_abi.arguments(changed, EM_X86_64, symbol)
    )
    assert isinstance(native_abi.result(changed, EM_X86_64, symbol), Unknown)


def test_of_changed_functions_what_debug_information_says_is_known() -> None:
    changed = placed([Place(4, None, 8)], None, [])
    first, *others = native_abi.arguments(changed, EM_X86_64, "f.isra.0")
    assert first == registers("si")
    assert all(isinstance(each, Unknown) for each in others)


def test_functions_that_are_not_called_as_the_abi_says_are_unknown() -> None:
    changed = function(INT, returns=INT, is_standard_call=False)
    assert isinstance(native_abi.arguments(changed, EM_X86_64)[0], Unknown)
    assert isinstance(native_abi.result(changed, EM_X86_64), Unknown)


def test_a_machine_that_is_not_known_is_unknown() -> None:
    assert isinstance(native_abi.arguments(function(INT), 40)[0], Unknown)
    assert isinstance(native_abi.result(function(returns=INT), 40), Unknown)
    assert native_abi.raw(40) == native_abi.raw_result(40) == []


# What debug information says.


def test_places_of_debug_information_are_preferred() -> None:
    found = native_abi.arguments(placed([Place(1, None, 8)], [Place(None, 0, 8)]), EM_X86_64)
    assert found == [registers("dx"), stack(8)]
    (found_arm,) = native_abi.arguments(placed([Place(None, 16, 8)]), EM_AARCH64)
    assert found_arm == stack(16)


def test_what_debug_information_has_no_place_for_is_unknown() -> None:
    found = native_abi.arguments(placed([], [Place(None, None, 8)]), EM_X86_64)
    assert isinstance(found[0], Unknown)
    assert sources.number(found[1], 0, 8) is None


def test_a_float_register_of_debug_information_can_not_be_read() -> None:
    (found,) = native_abi.arguments(placed([Place(17, None, 8)], kind=DOUBLE), EM_X86_64)
    assert sources.number(found, 0, 8) is None


def test_an_object_by_reference_is_where_the_register_points() -> None:
    (found,) = native_abi.arguments(placed([Place(5, None, 0, 0)], kind=BIG), EM_X86_64)
    assert found == Memory(sources.register("di"))
    (found,) = native_abi.arguments(placed([Place(17, None, 0, 0)], kind=BIG), EM_X86_64)
    assert found == Unknown(IN_FLOAT_REGISTER)


def test_pieces_are_put_together() -> None:
    machine = Machine({"di": 0xFFFF_FFFF_0000_0005, "si": 7, "dx": 0x99})
    kind = structure(("a", INT), ("b", INT), ("c", LONG))
    pieces = [Place(5, None, 4), Place(4, None, 4), Place(1, None, 8)]
    (found,) = native_abi.arguments(placed(pieces, kind=kind), EM_X86_64)
    assert machine.shown(kind, found).data == {"a": 5, "b": 7, "c": 0x99}


def test_a_piece_that_is_nowhere_is_unknown_and_the_others_are_not() -> None:
    machine = Machine({"di": 5, "dx": 0x99})
    kind = structure(("a", INT), ("b", INT), ("c", LONG))
    pieces = [Place(5, None, 4), Place(None, None, 4), Place(1, None, 8)]
    (found,) = native_abi.arguments(placed(pieces, kind=kind), EM_X86_64)
    assert machine.shown(kind, found).data == {"a": 5, "b": None, "c": 0x99}


def test_a_value_larger_than_its_register_is_unknown() -> None:
    (found,) = native_abi.arguments(placed([Place(5, None, 8)], kind=PAIR), EM_X86_64)
    assert isinstance(found, Unknown)


# Rust.


def rust(*kinds: Type, **fields: Any) -> list[Source]:
    return native_abi.arguments(function(*kinds, language="Rust", **fields), EM_X86_64)


def test_rusts_scalars_and_fat_pointers_are_in_registers() -> None:
    boxed = replace(TEXT, name="alloc::boxed::Box<dyn core::any::Any>")
    assert rust(INT, TEXT, DOUBLE, boxed, POINTER) == [
        registers("di"),
        registers("si", "dx"),
        registers(None),
        registers("cx", "r8"),
        registers("r9"),
    ]


def test_what_rust_does_not_fix_is_unknown_and_so_is_all_after_it() -> None:
    for kind in (PAIR, structure(("a", INT)), types.Array("[u8; 4]", INT, 1, 4)):
        found = rust(INT, kind, INT)
        assert found[0] == registers("di")
        assert all(isinstance(each, Unknown) for each in found[1:])


def test_rusts_large_values_are_behind_a_pointer() -> None:
    assert rust(BIG, INT) == [Memory(sources.register("di")), registers("si")]


def test_rusts_values_without_bytes_are_passed_nowhere() -> None:
    assert rust(structure(), INT)[1] == registers("di")


def test_arguments_of_rusts_closures_are_unknown() -> None:
    found = rust(INT, linkage_name="_ZN4main4main28_$u7b$$u7b$closure$u7d$$u7d$17h0E")
    assert isinstance(found[0], Unknown)


def test_rusts_results_of_a_word_or_a_pair_are_known_and_small_others_are_not() -> None:
    def result(kind: Type) -> Source:
        return native_abi.result(function(returns=kind, language="Rust"), EM_X86_64)

    assert result(INT) == registers("ax")
    assert result(TEXT) == registers("ax", "dx")
    assert isinstance(result(PAIR), Unknown)
    assert result(BIG) == Memory(sources.register("ax"))
    # It may come with a hidden pointer, or without.
    assert all(isinstance(each, Unknown) for each in rust(INT, returns=PAIR))
    assert rust(INT, returns=BIG) == [registers("si")]


def test_the_second_word_of_rusts_fat_pointer_may_be_on_the_stack_alone() -> None:
    # Seen with rustc -O: xor %r9,%rax … xor 0x8(%rsp),%rax.
    *_, found, after = rust(*[LONG] * 5, TEXT, LONG)
    if not isinstance(found, Unknown):
        assert sources.number(found, 0, 8) in (None, sources.register("r9"))
        assert after in (stack(16),) or isinstance(after, Unknown)


# arm64.


def test_arm64_has_eight_registers_and_then_the_stack() -> None:
    assert arm64(*[LONG] * 10) == [
        *(registers(f"r{number}") for number in range(8)),
        stack(0),
        stack(8),
    ]
    assert arm64(DOUBLE, INT, FLOAT, INT)[1::2] == [registers("r0"), registers("r1")]


def test_arm64_puts_large_structures_behind_a_pointer() -> None:
    assert arm64(BIG, INT) == [Memory(sources.register("r0")), registers("r1")]
    assert arm64(INT, returns=BIG) == [registers("r0")]


def test_arm64_gives_up_registers_once_a_structure_did_not_fit() -> None:
    found = arm64(*[LONG] * 7, PAIR, INT)
    assert found[7:] == [stack(0), stack(16)]


@pytest.mark.parametrize("kind", [DOUBLE, FLOAT])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_arm64_has_groups_of_floats_in_floating_point_registers(kind: Type, count: int) -> None:
    group = structure(*((f"m{number}", kind) for number in range(count)))
    found, after = arm64(group, INT)
    assert after == registers("r0")
    assert all(sources.number(found, at, kind.size) is None for at in range(0, group.size, 4))


@pytest.mark.parametrize("kind", [MIXED, structure(("d", DOUBLE), ("x", FLOAT))])
def test_arm64_has_other_structures_with_floats_in_integer_registers(kind: Type) -> None:
    assert arm64(kind, INT) == [registers("r0", "r1"), registers("r2")]
    found = native_abi.result(function(returns=kind), EM_AARCH64)
    assert found == registers("r0", "r1")


def test_arm64_begins_numbers_of_16_bytes_at_an_even_register() -> None:
    wide = types.Integer("__int128", 16, True)
    assert arm64(INT, wide, INT)[2] == registers("r4")


def test_arm64_has_long_doubles_in_floating_point_registers() -> None:
    found = arm64(LONG_DOUBLE, *[LONG] * 9)
    assert found[-1] == stack(0)


def test_arm64s_large_results_can_not_be_found_when_it_returns() -> None:
    assert isinstance(native_abi.result(function(returns=BIG), EM_AARCH64), Unknown)
    group = structure(*((f"m{number}", DOUBLE) for number in range(4)))
    found = native_abi.result(function(returns=group), EM_AARCH64)
    assert sources.number(found, 0, 8) is None


# Results.


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        (INT, registers("ax")),
        (DOUBLE, registers(None)),
        (PAIR, registers("ax", "dx")),
        (MIXED, registers(None, "ax")),
        (structure(("n", LONG), ("d", DOUBLE)), registers("ax", None)),
        (BIG, Memory(sources.register("ax"))),
        (replace(PAIR, is_trivial=False), Memory(sources.register("ax"))),
    ],
)
def test_results_are_where_the_abi_says(kind: Type, source: Source) -> None:
    assert native_abi.result(function(returns=kind), EM_X86_64) == source


def test_a_function_without_a_result_has_none() -> None:
    assert isinstance(native_abi.result(function(), EM_X86_64), Unknown)


def test_raw_registers_have_the_machines_own_names() -> None:
    assert native_abi.raw(EM_X86_64)[0] == ("rdi", sources.register("di"))
    assert native_abi.raw(EM_X86_64)[-1] == ("r9", sources.register("r9"))
    assert native_abi.raw(EM_AARCH64)[7] == ("x7", sources.register("r7"))
    assert native_abi.raw_result(EM_X86_64) == [("rax", sources.register("ax"))]


# The compiler itself: what it passes to a function that writes down its registers and its stack.


@dataclass(frozen=True)
class Passed:
    """A value in a program."""

    kind: str
    value: str
    data: Any
    """As it is to be shown; parts may be unknown where they are in floating-point registers."""


ANYTHING = object()
TYPES = """
#include <cstdio>
struct pair { long a, b; };
struct small { short a; signed char b; int c; };
struct mixed { double d; long n; };
struct turned { int n; double d; };
struct floats { float x, y; };
struct doubles { double x, y; };
struct both { float x; int n; };
struct big { long a[5]; };
struct inner { struct { int a; float b; } p; char *c; };
struct three { long a; int b; double c; };
struct texts { char t[12]; };
struct wide { long double x; };
struct __attribute__((packed)) packed { int a; long b; };
struct aligned { alignas(16) int a; };
struct empty {};
struct guarded { int a; ~guarded() {} };
union either { int n; float x; };
union words { double d[2]; long n; };
enum color { RED = 1, GREEN = -2 };
typedef int vector __attribute__((vector_size(16)));
"""
VALUES = (
    Passed("int", "-5", -5),
    Passed("unsigned char", "200", 200),
    Passed("signed char", "-7", -7),
    Passed("short", "-300", -300),
    Passed("long", "-5000000000L", -5000000000),
    Passed("bool", "true", True),
    Passed("color", "GREEN", "GREEN"),
    Passed("void *", "(void *)0x1234", "0x1234"),
    Passed("double", "2.5", 2.5),
    Passed("float", "1.5f", 1.5),
    Passed("long double", "1.5L", None),
    Passed("float _Complex", "1.0f", None),
    Passed("pair", "pair{3, -4}", {"a": 3, "b": -4}),
    Passed("small", "small{-1, -2, 70000}", {"a": -1, "b": -2, "c": 70000}),
    Passed("mixed", "mixed{1.5, 9}", {"d": 1.5, "n": 9}),
    Passed("turned", "turned{9, 1.5}", {"n": 9, "d": 1.5}),
    Passed("floats", "floats{1.5, 2.5}", {"x": 1.5, "y": 2.5}),
    Passed("doubles", "doubles{1.5, 2.5}", {"x": 1.5, "y": 2.5}),
    Passed("both", "both{1.5, 6}", {"x": 1.5, "n": 6}),
    Passed("big", "big{{1, 2, 3, 4, 5}}", {"a": {"length": 5, "first": [1, 2, 3, 4]}}),
    Passed("inner", "inner{{4, 0.5}, 0}", {"p": {"a": 4, "b": 0.5}, "c": None}),
    Passed("three", "three{1, 2, 0.5}", {"a": 1, "b": 2, "c": 0.5}),
    Passed("texts", 'texts{"hello"}', ANYTHING),
    Passed("either", "either{5}", None),
    Passed("words", "words{{1.5, 2.5}}", None),
    Passed("guarded", "guarded{77}", {"a": 77}),
)
NUMBERS = VALUES[:8]
LAST = Passed("int", "123456", 123456)
# What few functions have, each between others so that a wrong count shows.
RARE = {
    "a complex number": Passed("double _Complex", "1.0", None),
    "a structure with a long double": Passed("wide", "wide{1.0L}", {"x": None}),
    "a packed structure": Passed("packed", "packed{5, 6}", {"a": 5, "b": 6}),
    "a structure with padding of a word": Passed("aligned", "aligned{5}", {"a": 5}),
    "an empty class": Passed("empty", "empty{}", {}),
    "a vector": Passed("vector", "vector{1, 2, 3, 4}", None),
    "a float of 128 bits": Passed("__float128", "1.5Q", None),
    "an integer of 128 bits": Passed("__int128", "5", None),
}
WHERE: dict[str, Callable[[Passed], tuple[Passed, ...]]] = {
    "among registers": lambda rare: (LAST, rare, LAST, LAST),
    "on the stack": lambda rare: (*[LAST] * 7, rare, LAST, LAST),
    "across": lambda rare: (*[LAST] * 5, rare, LAST, LAST),
}


def signatures() -> list[tuple[Passed, ...]]:
    chosen = random.Random(5)
    found = [tuple(chosen.choices(VALUES, k=chosen.randint(1, 12))) for _ in range(60)]
    found += [tuple(chosen.choices(NUMBERS, k=chosen.randint(1, 12))) for _ in range(10)]
    return found + [place(rare) for rare in RARE.values() for place in WHERE.values()]


SIGNATURES = signatures()
MOST = 1024
SEEN = f"long seen[8]; unsigned char stack_seen[{MOST}]; long result[2]; char room[64];"
STUB = f"""
asm(".text\\nwritten:\\n"
    "mov %rdi, seen(%rip)\\nmov %rsi, seen+8(%rip)\\nmov %rdx, seen+16(%rip)\\n"
    "mov %rcx, seen+24(%rip)\\nmov %r8, seen+32(%rip)\\nmov %r9, seen+40(%rip)\\n"
    "mov %rsp, seen+48(%rip)\\nmov %rsp, %rsi\\nlea stack_seen(%rip), %rdi\\n"
    "mov ${MOST // 8}, %ecx\\nrep movsq\\nxor %eax, %eax\\nret\\n");
extern "C" void written();
static void say() {{
  fwrite(seen, 8, 8, stdout);
  fwrite(stack_seen, 1, sizeof stack_seen, stdout);
}}
static void returned(void *f) {{
  asm volatile("call *%2" : "=a"(result[0]), "=d"(result[1]) : "r"(f), "D"(room)
               : "rcx", "rsi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "st", "memory");
  long where = (long)room;
  fwrite(result, 8, 2, stdout); fwrite(&where, 8, 1, stdout); fwrite(room, 1, sizeof room, stdout);
}}
"""
RETURNED = [value for value in VALUES if "_Complex" not in value.kind]


def source() -> str:
    lines = [TYPES, SEEN, STUB]
    for number, passed in enumerate(SIGNATURES):
        kinds = ", ".join(each.kind for each in passed)
        named = ", ".join(f"{each.kind} p{index}" for index, each in enumerate(passed))
        values = ", ".join(each.value for each in passed)
        lines += [
            f'extern "C" void f{number}({named}) {{}}',
            f"static void call{number}() {{ ((void (*)({kinds}))written)({values}); say(); }}",
        ]
    for number, each in enumerate(RETURNED):
        lines.append(f'extern "C" {each.kind} r{number}(int n) {{ return {each.value}; }}')
    calls = [f"call{number}();" for number in range(len(SIGNATURES))]
    calls += [f"returned((void *)r{number});" for number in range(len(RETURNED))]
    # What is above is read of the stack, too.
    return "\n".join([*lines, f"int main() {{ char room[{MOST}]; {' '.join(calls)} }}"])


@dataclass(frozen=True)
class Ran:
    """A program's functions as debug information describes them, and what it has seen."""

    described: dict[str, Subprogram]
    output: bytes


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    if platform.machine() != "x86_64":
        pytest.skip("what is compiled here is of another machine")
    folder: Path = tmp_path_factory.mktemp("abi")
    (folder / "p.cc").write_text(source())
    flags = ("-std=gnu++17", "-w", "-O0", "-g", "-mno-red-zone", "-fno-pie", "-no-pie")
    command = [compiler("g++"), *flags, "p.cc", "-o", "p"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    listed = subprocess.run(["nm", "p"], check=True, capture_output=True, text=True, cwd=folder)
    addresses = {
        line.split()[2]: int(line.split()[0], 16)
        for line in listed.stdout.splitlines()
        if len(line.split()) == 3
    }
    names = [f"f{number}" for number in range(len(SIGNATURES))]
    names += [f"r{number}" for number in range(len(RETURNED))]
    info = DebugInfo(io.BytesIO((folder / "p").read_bytes()))
    found = info.at([addresses[name] for name in names], depth=1)
    output = subprocess.run([folder / "p"], check=True, capture_output=True).stdout
    return Ran({name: found[addresses[name]] for name in names}, output)


def check(ran: Ran, number: int) -> None:
    size = 64 + MOST
    data = ran.output[size * number : size * (number + 1)]
    names = ("di", "si", "dx", "cx", "r8", "r9", "sp")
    values = dict(zip(names, struct.unpack_from("<7Q", data), strict=True))
    machine = Machine(values, [(values["sp"], data[64:])])
    described = ran.described[f"f{number}"]
    bare = [replace(each, places=None) for each in described.parameters]
    by_abi = replace(described, parameters=tuple(bare))
    for one in (described, by_abi):
        places = native_abi.arguments(one, EM_X86_64)
        for each, place, passed in zip(one.parameters, places, SIGNATURES[number], strict=True):
            shown = machine.shown(each.type, place)
            where = f"{each.name} of f({', '.join(p.kind for p in SIGNATURES[number])}): {place}"
            assert is_right(shown.data, passed), where


def is_right(found: object, passed: Passed) -> bool:
    if passed.data is ANYTHING:
        return True
    if passed in NUMBERS:
        return bool(found == passed.data)
    return is_right_or_unknown(found, passed.data)


COMMON = len(SIGNATURES) - len(RARE) * len(WHERE)


def test_arguments_are_where_the_compiler_passes_them(ran: Ran) -> None:
    for number in range(COMMON):
        check(ran, number)


@pytest.mark.parametrize(
    ("rare", "where"), [(rare, where) for rare in RARE for where in WHERE], ids=str
)
def test_what_comes_after_a_rare_argument_is_where_the_compiler_passes_it(
    ran: Ran, rare: str, where: str
) -> None:
    check(ran, COMMON + list(RARE).index(rare) * len(WHERE) + list(WHERE).index(where))


def test_results_are_where_the_compiler_returns_them(ran: Ran) -> None:
    size = 24 + 64
    start = len(SIGNATURES) * (64 + MOST)
    for number, returned in enumerate(RETURNED):
        data = ran.output[start + size * number : start + size * (number + 1)]
        ax, dx, where = struct.unpack_from("<3Q", data)
        machine = Machine({"ax": ax, "dx": dx}, [(where, data[24:])])
        kind = ran.described[f"r{number}"].returns
        assert kind is not None
        shown = machine.shown(kind, native_abi.result(ran.described[f"r{number}"], EM_X86_64))
        assert is_right(shown.data, returned), returned.kind


# What the optimiser does.

OPTIMISED = """
volatile long sink;
static __attribute__((noinline)) long scaled(long a, long k, long n) {
  sink = n + k;
  return a + n * k;
}
struct point { long x, y, unused; };
static __attribute__((noinline)) long taken(struct point *p) { sink = p->x; return p->x * p->y; }
int main(int c, char **v) {
  struct point p = {c, c + 1, 0};
  return scaled(c, 7, c + 2) + scaled(c + 3, 7, c + 5) + taken(&p);
}
"""


@cache
def optimised() -> bytes:
    from tests.unit.binary.dwarf.programs import compiled

    return compiled("gcc", OPTIMISED, "c", ("-O2", "-g", "-fno-pie", "-no-pie"))


def test_a_value_that_the_compiler_knew_is_in_no_register() -> None:
    from tests.unit.binary.dwarf.programs import function as described
    from tests.unit.binary.dwarf.programs import is_x86_64

    if not is_x86_64():
        pytest.skip("for amd64")
    found = described(optimised(), "scaled.constprop.0")
    assert [each.constant for each in found.parameters] == [None, 7, None]
    first, constant, last = native_abi.arguments(found, EM_X86_64, "scaled.constprop.0")
    assert (first, last) == (registers("di"), registers("si"))
    assert isinstance(constant, Unknown)
