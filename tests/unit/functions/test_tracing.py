from __future__ import annotations

import io
import subprocess
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.binary import elf
from kubectl_trace.binary.elf import EM_AARCH64, EM_X86_64
from kubectl_trace.functions import patterns, shapes, tracing
from kubectl_trace.functions.catalog import Binary
from kubectl_trace.functions.shapes import Known, Limits, Missing, Registers, Scalar
from tests.unit.binary.dwarf.programs import compiler, is_x86_64
from tests.unit.binary.golang.go_fixtures import DATA, TEXT, go_program
from tests.unit.functions.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path

    from kubectl_trace.functions.writing import Traced

SOURCE = r"""
#include <stdlib.h>
int calls;
#define NOINLINE __attribute__((noinline, noclone))
NOINLINE int plain(int n, const char *name) {
  if (n < 0) { calls++; return name[0]; }
  return n + calls;
}
NOINLINE void nothing(void) { calls++; }
NOINLINE int other(int n) { return n * 3 + calls; }
NOINLINE int jumps(int n) { calls++; return other(n); }
NOINLINE int both(int n) {
  calls++;
  if (n & 1) { calls *= n; nothing(); return calls / 7; }
  calls += 5;
  return other(n);
}
NOINLINE int chooses(int n) {
  switch (n) {
    case 0: return calls; case 1: return calls * 3; case 2: return calls - 7; case 3: return 5;
    case 4: return calls / 3; case 5: return calls % 7; case 6: return -calls; default: return n;
  }
}
static __attribute__((noinline)) long scaled(long a, long k, long n) {
  calls = n + k;
  return a + n * k;
}
int main(int c, char **v) {
  return both(c) + plain(c, v[0]) + jumps(c) + chooses(c) + other(c) + scaled(c, 7, c + 2)
       + scaled(c + 3, 7, c);
}
"""
pytestmark = pytest.mark.skipif(
    not is_x86_64(), reason="what is compiled here is of another machine"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tracing")
    # The same code as C++, with a table of exceptions in the file.
    guarded = (
        SOURCE + "int guarded(int n) { try { nothing(); return n; } catch (...) { return 1; } }"
    )
    throwing = guarded.replace(
        "void nothing(void) {", "void nothing(void) { if (calls > 9) throw 1;"
    )
    (made / "p.c").write_text(SOURCE)
    (made / "p.cc").write_text(f'extern "C" {{ {throwing.partition("stdlib.h>")[2]} }}')
    flags = ("-O2", "-g", "-fno-pie", "-no-pie", "-fcf-protection=none")
    for name, which, source in (("c", "gcc", "p.c"), ("cpp", "g++", "p.cc")):
        command = [compiler(which), *flags, source, "-o", name]
        subprocess.run(command, check=True, capture_output=True, cwd=made)
    subprocess.run(["objcopy", "-g", "c", "bare"], check=True, cwd=made)
    return made


def traced(path: Path, name: str) -> Traced:
    binary = Binary(io.BytesIO(path.read_bytes()))
    (function,) = binary.functions([patterns.parse(name)])
    described = binary.described([function.address], 2).get(function.address)
    return tracing.traced(binary, function, str(path), described, Limits())


def returns(path: Path, name: str) -> set[int]:
    """Where objdump finds a function's return instructions."""
    command = ["objdump", "-d", "--no-show-raw-insn", f"--disassemble={name}", str(path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {
        int(line.partition(":")[0], 16)
        for line in said.splitlines()
        if line.split()[1:2] == ["ret"]
    }


def test_a_function_returns_where_its_instructions_say(folder: Path) -> None:
    found = traced(folder / "cpp", "plain")
    assert set(found.returns) == returns(folder / "cpp", "plain")
    assert not found.uses_uretprobe
    assert found.entry == found.start


def test_functions_of_one_name_are_not_attached_to(tmp_path: Path) -> None:
    # bpftrace would attach to the first of the name, at a place of the other.
    for name, body in (("one", "return n + 1;"), ("two", "return n * n + f(n - 1);")):
        source = tmp_path / f"{name}.c"
        source.write_text(
            "int f(int n);\n__attribute__((noinline)) static int same(int n) {" + body + "}\n"
            f"int {name}(int n) {{ return same(n) + f(n); }}\n"
        )
    (tmp_path / "main.c").write_text(
        "int one(int n); int two(int n); __attribute__((noinline)) int f(int n) { return n; }\n"
        "int main(int n, char **v) { return one(n) + two(n); }\n"
    )
    sources = [tmp_path / f"{name}.c" for name in ("one", "two", "main")]
    program = tmp_path / "program"
    subprocess.run(["gcc", "-O1", "-o", program, *sources], check=True)
    binary = Binary(io.BytesIO(program.read_bytes()))
    functions = binary.functions([patterns.parse("same"), patterns.parse("two")])
    every = [tracing.traced(binary, each, "/x", None, Limits()) for each in functions]
    found, ambiguous = tracing.attached(binary, every)
    assert [each.name for each in found] == ["two"]
    assert ambiguous == ["same", "same"]


def test_where_nothing_unwinds_a_uretprobe_sees_what_jumps_leave(folder: Path) -> None:
    assert not traced(folder / "c", "plain").uses_uretprobe
    found = traced(folder / "c", "jumps")
    assert found.uses_uretprobe
    assert found.returns == found.tail_jumps == ()


def test_arguments_and_results_have_their_types(folder: Path) -> None:
    found = traced(folder / "c", "plain")
    assert [(each.name, each.shape.type_name) for each in found.arguments] == [
        ("n", "int"),
        ("name", "const char *"),
    ]
    assert isinstance(found.arguments[1].shape, shapes.Text)
    (result,) = found.results
    assert isinstance(result.shape, Scalar)
    assert traced(folder / "c", "nothing").results == ()


def test_without_debug_information_registers_are_shown(folder: Path) -> None:
    found = traced(folder / "bare", "plain")
    (registers,) = found.arguments
    assert isinstance(registers.shape, Registers)
    assert registers.shape.names == ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
    assert registers.shape.type_name == "not known: registers"
    (result,) = found.results
    assert isinstance(result.shape, Registers)
    assert result.shape.names == ("rax",)


def test_a_uretprobe_is_only_for_what_has_ends_that_are_not_known(folder: Path) -> None:
    # The one goes on in another function, the other jumps to computed places.
    for name in ("jumps", "chooses"):
        found = traced(folder / "c", name)
        assert found.uses_uretprobe
        assert (found.returns, found.tail_jumps) == ((), ())


def test_nothing_has_a_uretprobe_in_a_file_through_which_exceptions_may_pass(
    folder: Path,
) -> None:
    for name in ("plain", "jumps", "chooses", "nothing", "other"):
        found = traced(folder / "cpp", name)
        assert not found.uses_uretprobe
        assert found.may_unwind
        assert set(found.returns) == returns(folder / "cpp", name)
    assert len(traced(folder / "cpp", "jumps").tail_jumps) == 1
    assert len(traced(folder / "cpp", "both").tail_jumps) == 1
    assert traced(folder / "cpp", "plain").tail_jumps == ()


def test_returns_in_the_part_that_is_seldom_run_are_known(folder: Path) -> None:
    found = traced(folder / "cpp", "guarded")
    assert set(found.returns) >= returns(folder / "cpp", "guarded.cold")


def test_a_value_that_the_compiler_knew_is_told(folder: Path) -> None:
    binary = Binary(io.BytesIO((folder / "c").read_bytes()))
    found = binary.functions([patterns.parse("scaled*")])
    (function,) = (each for each in found if "constprop" in each.symbol)
    described = binary.described([function.address], 2)[function.address]
    one = tracing.traced(binary, function, "/x", described, Limits())
    assert [each.name for each in one.arguments] == ["a", "k", "n"]
    assert isinstance(one.arguments[1].shape, Known)
    machine = Machine({"di": 3, "si": 5})
    assert [machine.value(each.shape).data for each in one.arguments] == [3, 7, 5]


def test_a_file_with_symbols_is_attached_to_by_addresses(folder: Path) -> None:
    binary = Binary(io.BytesIO((folder / "c").read_bytes()))
    one = traced(folder / "c", "plain")
    assert tracing.attached(binary, [one]) == ([one], [])


def test_a_stripped_file_is_attached_to_by_offsets(folder: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "stripped"
    subprocess.run(["objcopy", "-S", folder / "c", stripped], check=True)
    binary = Binary(io.BytesIO(stripped.read_bytes()))
    one = traced(folder / "c", "plain")
    ((found,), ambiguous) = tracing.attached(binary, [one])
    assert ambiguous == []
    difference = one.entry - found.entry
    assert difference > 0
    assert found.start == one.start - difference
    assert found.returns == tuple(each - difference for each in one.returns)


def test_an_old_bpftrace_attaches_to_beginnings_and_ends_only(folder: Path) -> None:
    plain = tracing.at_entries(traced(folder / "c", "plain"))
    assert (plain.entry, plain.returns, plain.uses_uretprobe) == (plain.start, (), True)
    for name in ("plain", "jumps"):
        found = tracing.at_entries(traced(folder / "cpp", name))
        assert (found.returns, found.tail_jumps, found.uses_uretprobe) == ((), (), False)


# Go: `main.(*Point).Move` is the last of the functions of go_fixtures.

MOVE = "main.(*Point).Move"
AT = TEXT + 32 + 64 + 16 + 48 + 32 + 64


def go_file(code: bytes, machine: int = EM_X86_64, go: str = "go1.20.1") -> bytes:
    """A Go program, stripped, whose `MOVE` has this code."""
    data = bytearray(go_program("1.20", machine))
    before = b"\x90" * (AT - TEXT)
    at = data.index(before) + len(before)
    data[at : at + len(code)] = code
    file = io.BytesIO(bytes(data))
    segments = elf.segments(file, elf.read_header(file))
    (start,) = (each.offset for each in segments if each.address == DATA)
    info = b"\xff Go buildinf:\x08\x02".ljust(32, b"\0") + bytes([len(go)]) + go.encode() + b"\0"
    data[start + 0x800 : start + 0x800 + len(info)] = info
    return bytes(data)


def go_binary(code: bytes, machine: int = EM_X86_64, go: str = "go1.20.1") -> Binary:
    return Binary(io.BytesIO(go_file(code, machine, go)))


def go_traced(
    code: bytes, machine: int = EM_X86_64, go: str = "go1.20.1", *, has_types: bool = True
) -> Traced:
    binary = go_binary(code, machine, go)
    (function,) = binary.functions([patterns.parse(MOVE)])
    assert function.address == AT
    return tracing.traced(binary, function, "/x", None, Limits(), has_types=has_types)


def test_a_go_function_begins_behind_its_check_of_the_stack_and_has_no_uretprobe() -> None:
    # cmp rsp, [r14 + 16]; jbe to the end; …; ret; …; call runtime.morestack; jmp to the start
    grow = b"\xe8" + bytes(4) + b"\xeb\xe0"
    body = b"\x90" * 10 + b"\xc3" + b"\xcc" * 8
    found = go_traced(b"\x49\x3b\x66\x10\x76\x13" + body + grow)
    assert (found.start, found.entry) == (AT, AT + 6)
    assert found.returns == (AT + 16,)
    assert (found.uses_uretprobe, found.may_unwind) == (False, True)
    assert found.who == 'reg("r14")'


def test_a_go_function_that_does_not_return_has_no_uretprobe_either() -> None:
    found = go_traced(b"\x0f\x0b" * 16)
    assert (found.returns, found.uses_uretprobe, found.returns_seen) == ((), False, False)
    old = tracing.at_entries(found)
    assert not old.uses_uretprobe


def test_of_a_stripped_go_function_registers_are_shown_and_texts_guessed() -> None:
    found = go_traced(b"\xc3" + b"\xcc" * 31)
    (arguments,), (results,) = found.arguments, found.results
    assert isinstance(arguments.shape, Registers)
    assert arguments.shape.names == ("rax", "rbx", "rcx", "rdi", "rsi")
    assert [index for index, _ in arguments.shape.texts] == [0, 1]
    assert isinstance(results.shape, Registers)
    machine = Machine({"ax": 0, "cx": 5, "di": 1, "si": 2})
    machine.registers["bx"] = machine.put(b"hello, more")
    shown = machine.value(arguments.shape)
    assert shown.data["rbx,rcx?"] == "hello"
    assert "string?" in shown.text


def test_arm64s_returns_are_found() -> None:
    found = go_traced(
        b"\x1f\x20\x03\xd5" * 3 + b"\xc0\x03\x5f\xd6" + b"\x00\x00\x20\xd4" * 4, EM_AARCH64
    )
    assert found.returns == (AT + 12,)
    assert found.who == 'reg("r28")'


def test_go_ends_know_the_first_results_register() -> None:
    binary = go_binary(b"\xc3" + b"\xcc" * 31)
    (function,) = binary.functions([patterns.parse(MOVE)])
    assert tracing.go_ends(binary, function, None) == tracing.GoEnds((AT,), 'reg("ax")')


def test_before_1_17_arguments_are_on_the_stack_and_goroutines_in_thread_local_memory() -> None:
    code = b"\xc3" + b"\xcc" * 31
    found = go_traced(code, go="go1.16.15")
    (arguments,) = found.arguments
    assert isinstance(arguments.shape, Registers)
    assert arguments.shape.names[0] == "stack+8"
    assert "fsbase" in found.who
    (results,) = found.results
    assert isinstance(results.shape, Missing)
    # Where the kernel's types are not known, it is the thread.
    assert "tid" in go_traced(code, go="go1.16.15", has_types=False).who
    assert go_traced(code, has_types=False).who == 'reg("r14")'
    binary = go_binary(code, go="go1.16.15")
    (function,) = binary.functions([patterns.parse(MOVE)])
    assert tracing.go_ends(binary, function, None) == tracing.GoEnds((AT,), "")
