"""What dwz moved: into units that others refer to, and into a file that others refer to."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

from kubectl_trace.binary.types import Opaque, Pointer, Structure
from tests.unit.binary.dwarf.programs import (
    C_PROGRAM,
    compiled,
    compiler,
    debug_info,
    parameter,
    registers,
    symbol,
)


@pytest.fixture(scope="module", params=["-gdwarf-4", "-gdwarf-5"])
def files(request: pytest.FixtureRequest) -> tuple[bytes, bytes]:
    """A program, and what it shares with another."""
    dwz = compiler("dwz")
    flags = (request.param, "-O2")
    with tempfile.TemporaryDirectory() as folder:
        one, other, shared = (Path(folder) / name for name in ("one", "other", "shared"))
        one.write_bytes(compiled("gcc", C_PROGRAM, "c", flags))
        other.write_bytes(compiled("gcc", C_PROGRAM + "int more;", "c", flags))
        command = [dwz, "-m", str(shared), "--dwarf-5", str(one), str(other)]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
        return one.read_bytes(), shared.read_bytes()


def test_with_the_shared_file_all_is_known(files: tuple[bytes, bytes]) -> None:
    data, shared = files
    address = symbol(data, "work")
    work = debug_info(data, shared).at([address])[address]
    assert work.name == "work"
    pointer = parameter(work, "p").type
    assert isinstance(pointer, Pointer)
    assert isinstance(pointer.to, Structure)
    assert [one.name for one in pointer.to.members][:3] == ["x", "flag", "mode"]
    (twice,) = debug_info(data, shared).inlined(lambda name: name == "twice")
    assert {one.function for one in twice.places} == {"caller"}


def test_without_it_the_rest_is_known(files: tuple[bytes, bytes]) -> None:
    data, _ = files
    address = symbol(data, "work")
    work = debug_info(data).at([address])[address]
    assert len(work.parameters) == 9
    assert Opaque("?") in [one.type for one in work.parameters]
    assert any(registers(one) for one in work.parameters)
