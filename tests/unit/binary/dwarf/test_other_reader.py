"""All functions of programs, as pyelftools reads them."""

from __future__ import annotations

import io
from typing import Any

import pytest
from elftools.elf import elffile

from tests.unit.binary.dwarf.programs import C_PROGRAM, compiled, debug_info


def functions(data: bytes) -> dict[int, tuple[str, int, list[str]]]:
    """Address, name, size, and the parameters' names of each function with code."""
    dwarf = elffile.ELFFile(io.BytesIO(data)).get_dwarf_info()
    found: dict[int, tuple[str, int, list[str]]] = {}
    for unit in dwarf.iter_CUs():
        for entry in unit.iter_DIEs():
            low = entry.attributes.get("DW_AT_low_pc")
            if entry.tag == "DW_TAG_subprogram" and low:
                children = [
                    text(one)
                    for one in entry.iter_children()
                    if one.tag == "DW_TAG_formal_parameter"
                ]
                size = entry.attributes["DW_AT_high_pc"].value
                found[low.value] = text(entry), size, children
    return found


def text(entry: Any) -> str:
    for attribute in ("DW_AT_abstract_origin", "DW_AT_specification"):
        if attribute in entry.attributes and "DW_AT_name" not in entry.attributes:
            entry = entry.get_DIE_from_attribute(attribute)
    name = entry.attributes.get("DW_AT_name")
    return name.value.decode() if name else ""


@pytest.mark.parametrize("compiler", ["gcc", "clang-14"])
@pytest.mark.parametrize("version", ["-gdwarf-4", "-gdwarf-5"])
@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_all_functions_are_the_same(compiler: str, version: str, level: str) -> None:
    data = compiled(compiler, C_PROGRAM, "c", (version, level))
    theirs = functions(data)
    assert theirs
    ours = debug_info(data).at(list(theirs))
    assert theirs == {
        address: (one.name, one.size, [parameter.name for parameter in one.parameters])
        for address, one in ours.items()
    }
