from __future__ import annotations

import io
import subprocess
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.binary import elf, symbols
from kubectl_trace.functions import patterns
from kubectl_trace.functions.catalog import Binary
from tests.unit.binary.dwarf.programs import compiler
from tests.unit.binary.elf_fixtures import elf_file
from tests.unit.binary.golang import go_fixtures
from tests.unit.functions.test_tracing import MOVE, go_binary

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = r"""
#include <stdlib.h>
#include <stdio.h>
int calls;
__attribute__((noinline)) int twice(int n) { return n * 2 + calls; }
int also(int n) __attribute__((alias("twice")));
__attribute__((cold, noinline)) void complain(void) { puts("no"); }
__attribute__((noinline)) int careful(int n) {
  if (__builtin_expect(n < 0, 0)) { complain(); complain(); calls += 7; return calls; }
  return n + calls;
}
__attribute__((noinline)) static int hidden(int n) { return n - calls; }
static inline __attribute__((always_inline)) int tiny(int n) { return n * calls; }
int main(int count, char **arguments) {
  return twice(count) + also(count) + careful(count) + hidden(count) + tiny(count) + tiny(7);
}
"""
CPP = r"""
#include <exception>
namespace shop {
template <class T> struct Cart {
  T total;
  __attribute__((noinline)) int add(T n) { return total += n; }
  __attribute__((noinline)) int operator[](int n) { return total * n; }
};
__attribute__((noinline)) int guarded(Cart<int> &c, int n) {
  try { if (n > 5) throw n; return c.add(n); } catch (int) { return -1; }
}
}
int main(int count, char **) {
  shop::Cart<int> c{count};
  return shop::guarded(c, count) + c[count];
}
"""


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("catalog")
    (made / "p.c").write_text(SOURCE)
    (made / "p.cc").write_text(CPP)
    run(compiler("gcc"), "-O2", "-g", "-fno-pie", "-no-pie", made / "p.c", "-o", made / "whole")
    run("objcopy", "--strip-all", made / "whole", made / "stripped")
    run("objcopy", "--only-keep-debug", made / "whole", made / "debug")
    run(compiler("g++"), "-O2", "-fno-pie", "-no-pie", made / "p.cc", "-o", made / "cpp")
    return made


def binary(path: Path, debug: Path | None = None) -> Binary:
    return Binary(io.BytesIO(path.read_bytes()), io.BytesIO(debug.read_bytes()) if debug else None)


def names(of: Binary, *texts: str) -> list[str]:
    return [each.name for each in of.functions([patterns.parse(text) for text in texts])]


def one(of: Binary, text: str) -> int:
    (found,) = of.functions([patterns.parse(text)])
    return found.address


def test_functions_are_found_by_patterns_in_the_order_of_their_addresses(folder: Path) -> None:
    whole = binary(folder / "whole")
    assert names(whole, "hidden") == ["hidden"]
    found = whole.functions([patterns.parse("c*"), patterns.parse("twice")])
    assert {"careful", "complain", "twice"} <= {each.name for each in found}
    assert [each.address for each in found] == sorted(each.address for each in found)
    assert names(whole, "nothing") == []
    assert len(whole.functions([])) > 4


def test_two_names_of_one_function_are_two(folder: Path) -> None:
    whole = binary(folder / "whole")
    assert sorted(names(whole, "twice", "also")) == ["also", "twice"]
    assert one(whole, "twice") == one(whole, "also")


def test_names_of_a_separate_debug_file_are_found_with_the_code_of_the_program(
    folder: Path,
) -> None:
    assert names(binary(folder / "stripped"), "hidden") == []
    both = binary(folder / "stripped", folder / "debug")
    whole = binary(folder / "whole")
    assert one(both, "hidden") == one(whole, "hidden")
    (function,) = both.functions([patterns.parse("hidden")])
    assert both.code(function) == whole.code(function) != b""


def test_names_of_cpp_are_as_in_the_source(folder: Path) -> None:
    cpp = binary(folder / "cpp")
    (found,) = cpp.functions([patterns.parse("shop::Cart<int>::add")])
    assert (found.name, found.language) == ("shop::Cart<int>::add", "C++")
    assert names(cpp, "*::operator[]") == ["shop::Cart<int>::operator[]"]
    assert names(cpp, found.symbol) == [found.name]
    assert names(cpp, "shop::Cart<int>::add(int)") == [found.name]


def test_the_part_that_is_seldom_run_belongs_to_its_function(folder: Path) -> None:
    whole = binary(folder / "whole")
    (careful,) = whole.functions([patterns.parse("careful")])
    cold = whole.cold_part(careful)
    assert cold is not None
    assert cold.symbol == "careful.cold"
    assert not careful.contains(cold.address)
    (twice,) = whole.functions([patterns.parse("twice")])
    assert whole.cold_part(twice) is None


def test_what_is_inside_a_function_is_known_by_its_size(folder: Path) -> None:
    (twice,) = binary(folder / "whole").functions([patterns.parse("twice")])
    assert twice.contains(twice.address)
    assert twice.contains(twice.address + twice.size - 1)
    assert not twice.contains(twice.address + twice.size)
    assert not twice.contains(twice.address - 1)
    assert not twice.contains(None)


def test_debug_information_describes_functions_and_inlined_ones(folder: Path) -> None:
    whole = binary(folder / "whole")
    address = one(whole, "twice")
    assert [each.name for each in whole.described([address], 1)[address].parameters] == ["n"]
    (inlined,) = whole.inlined([patterns.parse("tiny")])
    assert {place.function for place in inlined.places} == {"main"}
    assert binary(folder / "stripped").described([address], 1) == {}
    assert binary(folder / "stripped").inlined([patterns.parse("tiny")]) == []


def test_where_a_symbol_covers_an_address_it_is_attached_to_by_it(folder: Path) -> None:
    whole = binary(folder / "whole")
    start = one(whole, "twice")
    offset = symbols.file_offset(whole.segments, start)
    assert offset not in (None, start)
    assert whole.attach_numbers([start, start + 1]) == {start: start, start + 1: start + 1}


def test_where_no_symbol_covers_an_address_it_is_attached_to_by_its_offset(folder: Path) -> None:
    start = one(binary(folder / "whole"), "twice")
    for found in (
        binary(folder / "stripped"),
        # bpftrace looks into the program itself only.
        binary(folder / "stripped", folder / "debug"),
    ):
        assert found.attach_numbers([start]) == {start: symbols.file_offset(found.segments, start)}


def test_between_two_functions_no_symbol_covers_an_address(folder: Path) -> None:
    whole = binary(folder / "whole")
    (twice,) = whole.functions([patterns.parse("twice")])
    behind = twice.address + twice.size
    if not any(each.contains(behind) for each in whole.functions([])):
        assert whole.attach_numbers([behind, twice.address]) == {
            behind: symbols.file_offset(whole.segments, behind),
            twice.address: twice.address,
        }


def test_only_files_that_say_what_to_do_with_exceptions_unwind(folder: Path) -> None:
    assert not binary(folder / "whole").unwinds
    assert binary(folder / "cpp").unwinds
    # Without sections nothing says it.
    assert Binary(io.BytesIO(elf_file())).unwinds


def test_go_functions_have_the_ends_that_gos_own_table_says() -> None:
    go = go_binary(b"\xc3")
    assert (go.is_go, go.go_version) == (True, "go1.20.1")
    (found,) = go.functions([patterns.parse(MOVE)])
    assert (found.language, found.size, go.code(found)[:1]) == ("Go", 32, b"\xc3")
    assert names(go, "main.main") == ["main.main"]
    assert go.go_inlined(go_fixtures.INLINED) == ["main.main"]
    assert go.go_inlined("main.absent") is None


def test_what_is_no_go_has_nothing_inlined_by_go(folder: Path) -> None:
    assert binary(folder / "whole").go_inlined("tiny") is None
    assert binary(folder / "whole").go_version == ""


def test_what_is_no_elf_file_is_refused() -> None:
    with pytest.raises(elf.MalformedError):
        Binary(io.BytesIO(b"#!/bin/sh\n"))


def test_a_broken_debug_file_leaves_the_program_to_be_read(folder: Path) -> None:
    broken = Binary(io.BytesIO((folder / "whole").read_bytes()), io.BytesIO(b"\x7fELF" + bytes(60)))
    assert names(broken, "hidden") == ["hidden"]
    assert broken.debug_info is not None


def test_code_of_a_size_that_is_not_known_is_not_read(folder: Path) -> None:
    whole = binary(folder / "whole")
    (twice,) = whole.functions([patterns.parse("twice")])
    assert len(whole.code(twice)) == twice.size
    assert whole.code(twice._replace(size=0)) == b""
    assert whole.code(twice._replace(size=1 << 40)) == b""
