from __future__ import annotations

import io
import subprocess
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.binary import elf
from kubectl_trace.binary.golang.types import TypeTable
from tests.unit.binary.golang.go_fixtures import (
    FORMS,
    INT,
    POINTER,
    STRUCT,
    TEXT,
    go_program,
    type_at,
)

if TYPE_CHECKING:
    from tests.unit.binary.golang.conftest import Built


@pytest.mark.parametrize("is_relocated", [False, True])
@pytest.mark.parametrize("machine", [elf.EM_X86_64, elf.EM_AARCH64])
@pytest.mark.parametrize("version", [version for version in FORMS if version != "1.15"])
def test_a_type_has_a_name_and_a_kind(version: str, machine: int, is_relocated: bool) -> None:
    types = TypeTable(io.BytesIO(go_program(version, machine, is_relocated)))
    assert [types.type_name(type_at(place)) for place in (INT, POINTER, STRUCT)] == [
        "int",
        "*main.Point",
        "main.Point",
    ]
    assert [types.kind(type_at(place)) for place in (INT, POINTER, STRUCT)] == [
        "int",
        "ptr",
        "struct",
    ]


@pytest.mark.parametrize("address", [0, 8, TEXT, type_at(INT) + 1, type_at(1 << 20), 1 << 70, -8])
def test_what_is_no_type_has_no_name(address: int) -> None:
    types = TypeTable(io.BytesIO(go_program("1.20")))
    assert types.type_name(address) == ""
    assert types.kind(address) == ""


def test_types_before_go_1_16_are_not_known() -> None:
    types = TypeTable(io.BytesIO(go_program("1.15")))
    with pytest.raises(elf.MalformedError, match="module"):
        types.type_name(type_at(INT))


def test_types_of_a_real_program_are_called_as_it_calls_them(built: Built) -> None:
    said = subprocess.run([built.stripped], check=True, capture_output=True, text=True).stdout
    with built.stripped.open("rb") as file:
        types = TypeTable(file)
        lines = said.splitlines()
        for line in lines:
            address, kind, name = line.split(" ", 2)
            assert types.type_name(int(address)) == name
            assert types.kind(int(address)) == kind
        assert len(lines) == 20
