from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from kubectl_trace.binary.dwarf import Place, Subprogram
from kubectl_trace.binary.types import (
    Array,
    Boolean,
    Float,
    Integer,
    Opaque,
    Pointer,
    Structure,
)
from tests.unit.binary.dwarf.programs import compiler, debug_info, parameter, registers

PROGRAM = """
package main

type Point struct {
	X, Y int
	Name string
	Next *Point
	Tags map[string]int
	Done chan int
	Call func(int) string
}
type Failed struct{}
func (f *Failed) Error() string { return "failed" }

var kept *int
var calls int

//go:noinline
func work(a int, s string, b []byte, e error, p *Point, any interface{}, f float64) (int, error) {
	calls += a + len(s) + len(b) + int(f)
	println(s, p.X, any != nil)
	return calls, e
}

//go:noinline
func large(p Point, after bool, grid [3]int32) (sum int) {
	for _, one := range grid { sum += int(one) }
	println(p.Name, after)
	return sum + p.X
}

//go:noinline
func escaping(x int, rest ...string) int { kept = &x; println(len(rest)); return x }

//go:noinline
func addressed(x int, y int) int { touch(&x); return x + y }

//go:noinline
func touch(x *int) { *x++ }

//go:noinline
func padded(p struct{ a uint8; b int64; c uint32 }) int64 { println(p.a); return p.b + int64(p.c) }

//go:noinline
func whole(b []byte) []byte { b = b[:cap(b)]; println(len(b)); return append(b, 1) }

//go:noinline
func (p *Point) Method(x uint8) bool { println(x); return p.X > int(x) }

func small(x int) int { return x*3 + calls }

func main() {
	p := &Point{}
	work(small(calls), "s", nil, &Failed{}, p, 3, 1.5)
	large(*p, true, [3]int32{1, 2, 3})
	escaping(1, "a", "b")
	addressed(1, 2)
	padded(struct{ a uint8; b int64; c uint32 }{1, 2, 3})
	whole(make([]byte, 2, 5))
	p.Method(1)
}
"""

# Register ABI, in order: cmd/compile/abi-internal.md; numbers: the ABIs' DWARF numbers.
REGISTERS = {"amd64": [0, 3, 2, 5, 4, 8, 9, 10, 11], "arm64": list(range(16))}
FIRST_FLOAT = {"amd64": 17, "arm64": 64}
_built: dict[tuple[str, ...], bytes] = {}


def program(machine: str, *flags: str) -> bytes:
    key = (machine, *flags)
    if key not in _built:
        go = compiler("go")
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "main.go").write_text(PROGRAM)
            environment = os.environ | {
                "GOARCH": machine,
                "GOTOOLCHAIN": "local",
                "GO111MODULE": "off",
                "GOFLAGS": "",
                "CGO_ENABLED": "0",
            }
            # The build cache makes all but the first build quick.
            command = [go, "build", *flags, "-o", "out", "main.go"]
            subprocess.run(command, check=True, cwd=folder, env=environment, capture_output=True)
            _built[key] = (Path(folder) / "out").read_bytes()
    return _built[key]


def named(name: str, machine: str = "amd64", *flags: str) -> Subprogram:
    (found,) = debug_info(program(machine, *flags)).named(lambda its: its == name)
    return found


@pytest.mark.parametrize("machine", REGISTERS)
@pytest.mark.parametrize("flags", [(), ("-gcflags=-N -l",)], ids=["optimised", "not optimised"])
def test_parameters_are_in_the_register_abi_s_registers(
    machine: str, flags: tuple[str, ...]
) -> None:
    work = named("main.work", machine, *flags)
    order = REGISTERS[machine]
    assert (work.language, work.is_optimized, work.name) == ("Go", not flags, "main.work")
    assert {one.name: registers(one) for one in work.parameters} == {
        "a": order[:1],
        "s": order[1:3],
        "b": order[3:6],
        "e": order[6:8],
        "p": order[8:9],
        # On amd64 nine registers are full, and this goes to the stack whole.
        "any": None if machine == "amd64" else order[9:11],
        "f": [FIRST_FLOAT[machine]],
    }
    if machine == "amd64":
        places = parameter(work, "any").places
        assert places is None or {one.cfa_offset for one in places} <= {0, 8}


def test_results_are_apart() -> None:
    work, large = named("main.work"), named("main.large")
    assert [one.type.name for one in work.results] == ["int", "error"]
    assert [(one.name, one.type.name) for one in large.results] == [("sum", "int")]
    assert work.returns is None


def test_go_s_own_types_have_their_kinds() -> None:
    types = {one.name: one.type for one in named("main.work").parameters}
    assert types["a"] == Integer("int", 8, True)
    assert types["f"] == Float("float64", 8)
    kinds = {}
    for name in ("s", "b", "e", "any"):
        made = types[name]
        assert isinstance(made, Structure)
        kinds[made.name] = made.kind, made.size, [one.offset for one in made.members]
    assert kinds == {
        "string": ("string", 16, [0, 8]),
        "[]uint8": ("slice", 24, [0, 8, 16]),
        "error": ("interface", 16, [0, 8]),
        "interface {}": ("eface", 16, [0, 8]),
    }
    pointer = types["p"]
    assert isinstance(pointer, Pointer)
    point = pointer.to
    assert isinstance(point, Structure)
    assert (pointer.name, point.name, point.kind) == ("*main.Point", "main.Point", "struct")
    members = {one.name: one.type for one in point.members}
    assert members["Next"] == Pointer("*main.Point", 8, Opaque("main.Point", 64))
    assert isinstance(members["Tags"], Pointer)
    assert [members[name].name for name in ("Tags", "Done", "Call")] == [
        "map[string]int",
        "chan int",
        "func(int) string",
    ]


def test_what_goes_on_the_stack_is_not_said_to_be_in_a_register() -> None:
    large = named("main.large")
    after, grid = parameter(large, "after"), parameter(large, "grid")
    assert registers(after) == REGISTERS["amd64"][8:9]
    assert after.type == Boolean("bool", 1)
    # The homes of what comes in registers look the same as what comes on the stack.
    assert grid.places is None
    assert grid.type == Array("[3]int32", Integer("int32", 4, True), 3, 12)


@pytest.mark.parametrize("flags", [(), ("-gcflags=-N -l",)], ids=["optimised", "not optimised"])
def test_a_parameter_whose_address_is_taken_is_never_said_to_be_in_memory_yet(
    flags: tuple[str, ...],
) -> None:
    order = REGISTERS["amd64"]
    for name in ("main.escaping", "main.addressed"):
        x = parameter(named(name, "amd64", *flags), "x")
        assert x.type == Integer("int", 8, True)
        assert registers(x) in (order[:1], None)
        assert all(place.cfa_offset is None for place in x.places or ())


def test_a_structure_s_pieces_are_its_fields() -> None:
    (padded,) = named("main.padded").parameters
    assert padded.places is not None
    assert [(one.register, one.size) for one in padded.places] == [(0, 1), (3, 8), (2, 4)]


def test_one_register_is_never_said_to_hold_two_values() -> None:
    # Here Go 1.19 to 1.24 says that the length is where the capacity is.
    (b,) = named("main.whole").parameters
    assert registers(b) in (REGISTERS["amd64"][:3], None)


def test_methods_and_their_files_are_named_as_go_does() -> None:
    method = named("main.(*Point).Method")
    assert [one.name for one in method.parameters] == ["p", "x"]
    assert method.file.endswith("/main.go")


def test_functions_are_found_without_an_index_of_addresses() -> None:
    info = debug_info(program("amd64"))
    main = named("main.main")
    assert info.at([main.address])[main.address].name == "main.main"


def test_an_inlined_function_has_the_line_of_its_call() -> None:
    (small,) = debug_info(program("amd64")).inlined(lambda name: name == "main.small")
    ((function, line),) = {(one.function, one.line) for one in small.places}
    assert function == "main.main"
    assert "small(calls)" in PROGRAM.splitlines()[line - 1]


def test_the_stack_abi_s_parameters_are_in_the_caller_s_frame() -> None:
    work = named("main.work", "386")
    assert parameter(work, "s").places == (Place(None, 4, 4), Place(None, 8, 4))
    assert parameter(work, "a").places == (Place(None, 0, 4),)
