from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kubectl_trace.runner import files, go_returns
from kubectl_trace.runner.go_returns import GoError
from tests.unit.binary.golang.go_fixtures import TEXT
from tests.unit.functions.test_tracing import AT, MOVE, go_file

if TYPE_CHECKING:
    from pathlib import Path

    from kubectl_trace.program.return_sites import Sites
    from kubectl_trace.runner.files import File

RETURNS = b"\x74\x01\xc3\xc3" + b"\xcc" * 28
"""je +1; ret; ret."""


def path(file: File) -> str:
    return file.path


def find(
    folder: Path, *codes: bytes, name: str = MOVE, unsafe: bool = True, go: str = "go1.20.1"
) -> Sites:
    found = []
    for number, code in enumerate(codes):
        program = folder / f"go{number}"
        program.write_bytes(go_file(code, go=go))
        found.append(files.on_node(str(program)))
    return go_returns.find(found, name, path, unsafe=unsafe)


def offset(folder: Path, address: int) -> int:
    data = (folder / "go0").read_bytes()
    start = data.index(b"\x90" * (AT - TEXT))
    return start + address - TEXT


def test_every_return_of_a_function_is_a_place(tmp_path: Path) -> None:
    found = find(tmp_path, RETURNS)
    # It is stripped: by offsets in the file.
    program = str(tmp_path / "go0")
    assert found.places == (
        (program, offset(tmp_path, AT + 2)),
        (program, offset(tmp_path, AT + 3)),
    )
    assert found.result == 'reg("ax")'


def test_every_file_has_its_places(tmp_path: Path) -> None:
    found = find(tmp_path, RETURNS, b"\xc3" + b"\xcc" * 31)
    assert [place.rpartition("/")[2] for place, _ in found.places] == ["go0", "go0", "go1"]


def test_before_1_17_the_result_is_in_no_register(tmp_path: Path) -> None:
    assert find(tmp_path, RETURNS, go="go1.16").result == ""


def test_a_stripped_program_is_refused_where_bpftrace_takes_no_offsets(tmp_path: Path) -> None:
    with pytest.raises(GoError, match="--unsafe"):
        find(tmp_path, RETURNS, unsafe=False)


def test_a_function_that_does_not_return_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GoError, match="does not return, or where can't be told"):
        find(tmp_path, b"\x0f\x0b" * 16)


def test_of_several_functions_all_must_return(tmp_path: Path) -> None:
    # The others are nothing but nops.
    with pytest.raises(GoError, match="does not return"):
        find(tmp_path, RETURNS, name="main.*")


def test_a_function_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GoError, match=r"no function main\.absent"):
        find(tmp_path, RETURNS, name="main.absent")


def test_a_name_that_is_no_pattern_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GoError):
        find(tmp_path, RETURNS, name="/(/")
    with pytest.raises(GoError):
        find(tmp_path, RETURNS, name="")


def test_more_places_than_can_be_attached_to_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(go_returns, "_MOST_SITES", 1)
    with pytest.raises(GoError, match="more than 1 return"):
        find(tmp_path, RETURNS)


def test_a_file_that_has_become_another_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "go"
    program.write_bytes(go_file(RETURNS))
    file = files.on_node(str(program))
    other = tmp_path / "other"
    other.write_bytes(go_file(RETURNS))
    other.rename(program)
    with pytest.raises(GoError, match="another file"):
        go_returns.find([file], MOVE, path, unsafe=True)
    program.unlink()
    with pytest.raises(GoError):
        go_returns.find([file], MOVE, path, unsafe=True)


def test_what_is_no_elf_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("text")
    with pytest.raises(GoError):
        go_returns.find([files.on_node(str(tmp_path / "x"))], MOVE, path, unsafe=True)
