from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.binary import elf
from kubectl_trace.binary.golang.pclntab import FunctionTable, GoFunction
from tests.unit.binary.golang.go_fixtures import (
    FORMS,
    FUNCTIONS,
    INLINED,
    TABLE,
    TEXT,
    go_program,
    with_section,
)

if TYPE_CHECKING:
    from tests.unit.binary.golang.conftest import Built

EXPECTED = [
    GoFunction(f.name, TEXT + sum(other.size for other in FUNCTIONS[:index]), f.size)
    for index, f in enumerate(FUNCTIONS)
]
MACHINES = [elf.EM_X86_64, elf.EM_AARCH64]
# Before Go 1.18 the table itself has addresses.
FORMS_TO_RELOCATE = [version for version, form in FORMS.items() if form.since >= 18]


def table(data: bytes) -> FunctionTable:
    return FunctionTable(io.BytesIO(data))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("version", FORMS)
def test_functions_of_each_form_are_found_without_sections(version: str, machine: int) -> None:
    assert list(table(go_program(version, machine)).functions()) == EXPECTED


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("version", FORMS_TO_RELOCATE)
def test_a_position_independent_program_needs_its_relocations(version: str, machine: int) -> None:
    found = table(go_program(version, machine, is_relocated=True))
    assert list(found.functions()) == EXPECTED
    assert [function.name for function in found.inlined_in(INLINED)] == ["main.main"]


@pytest.mark.parametrize("section", [b".gopclntab", b".data.rel.ro.gopclntab", b".rodata"])
def test_the_table_is_found_by_its_section_or_in_one_that_linkers_merge(section: bytes) -> None:
    data = go_program("1.20")
    at = data.index(b"\xf1\xff\xff\xff\0\0\1\x08")
    size = data.index(bytes(64), at) - at
    content = bytes(8 if section == b".rodata" else 0) + data[at : at + size + 64]
    address = TABLE - 8 if section == b".rodata" else TABLE
    assert list(table(with_section(data, section, content, address)).functions()) == EXPECTED


def test_only_what_matches_is_given() -> None:
    found = table(go_program("1.20")).functions(lambda name: name.endswith(b".Move"))
    assert [function.name for function in found] == ["main.(*Point).Move"]


@pytest.mark.parametrize("version", FORMS)
def test_a_function_is_found_by_its_name(version: str) -> None:
    found = table(go_program(version))
    assert found.named("main.(*Point).Move") == EXPECTED[-1]
    assert found.named("go:buildid") == EXPECTED[0]
    for name in ("main.Mov", "ain.main", "main.main\0", "", "\udc80", INLINED):
        assert found.named(name) is None, name


@pytest.mark.parametrize("version", FORMS)
def test_a_wrapper_is_not_the_function_it_is_around(version: str) -> None:
    assert table(go_program(version)).every("main.Add") == [EXPECTED[3]]


@pytest.mark.parametrize("version", FORMS)
def test_a_generic_function_is_each_of_its_instances(version: str) -> None:
    assert table(go_program(version)).every("main.Map[...]") == EXPECTED[4:6]


@pytest.mark.parametrize("version", [version for version in FORMS if version != "1.15"])
def test_an_inlined_function_is_mentioned(version: str) -> None:
    found = table(go_program(version))
    assert found.mentions(INLINED)
    assert found.mentions("main.main")
    assert not found.mentions("main.tin")
    expected = [] if version == "1.16" else [EXPECTED[1]]
    assert found.inlined_in(INLINED) == expected
    assert found.inlined_in("main.main") == []


@pytest.mark.parametrize(
    "data", [b"", b"\x7fELF", go_program("1.20").replace(b"\xf1\xff\xff\xff\0\0", b"\xf1\xff\xfe")]
)
def test_what_has_no_table_is_refused(data: bytes) -> None:
    with pytest.raises(elf.MalformedError):
        table(data)


def test_a_real_program_has_the_functions_that_go_says(built: Built) -> None:
    symbols = {}
    for line in built.go("tool", "nm", "-size", str(built.whole)).splitlines():
        address, size, kind, name = line.split(None, 3)
        if kind in "Tt" and name not in ("runtime.text", "runtime.etext"):
            symbols[int(address, 16)] = (name.removesuffix(".abi0"), int(size))
    with built.stripped.open("rb") as file:
        found = FunctionTable(file)
        functions = list(found.functions())
        assert found.named("main.(*Point).Move")
        assert found.inlined_in("main.inlined") == [found.named("main.Uses")]
    assert {function.address for function in functions} == set(symbols)
    for function in functions:
        name, code_size = symbols[function.address]
        if "[" not in name and "·" not in function.name:
            assert function.name == name
        assert code_size <= function.size < code_size + 64


def test_a_large_program_is_quick(built: Built) -> None:
    with built.stripped.open("rb") as file:
        started = time.process_time()
        found = FunctionTable(file)
        assert found.named("main.Huge")
        assert len(list(found.functions())) > 1000
        assert time.process_time() - started < 5
