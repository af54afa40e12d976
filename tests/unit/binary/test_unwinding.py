"""Which files exceptions pass through."""

from __future__ import annotations

import io
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.binary import unwinding

if TYPE_CHECKING:
    from pathlib import Path


def built(folder: Path, compiler: str, suffix: str, text: str) -> Path:
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler} here")
    source = folder / f"program{suffix}"
    source.write_text(text)
    program = folder / "program"
    subprocess.run([compiler, "-O1", "-o", program, source], check=True)
    return program


def test_a_program_in_c_has_none(tmp_path: Path) -> None:
    program = built(tmp_path, "gcc", ".c", "int main(void) { return 0; }")
    with program.open("rb") as file:
        assert not unwinding.throws(file)


def test_a_program_in_cpp_has_also_when_it_is_stripped(tmp_path: Path) -> None:
    text = "int main() { try { throw 1; } catch (int) { return 0; } }"
    program = built(tmp_path, "g++", ".cpp", text)
    subprocess.run(["strip", program], check=True)
    with program.open("rb") as file:
        assert unwinding.throws(file)


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF\x02\x01" + bytes(200)])
def test_what_is_no_program_has_none(data: bytes) -> None:
    assert not unwinding.throws(io.BytesIO(data))
