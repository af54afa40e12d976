from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kubectl_trace.errors import NotFoundError
from kubectl_trace.results.function import Function
from kubectl_trace.results.reader import RecordReader
from kubectl_trace.runner import listing
from kubectl_trace.runner.output import RecordWriter
from kubectl_trace.trace import Functions
from tests.unit.runner.test_modules import built, running

if TYPE_CHECKING:
    from pathlib import Path

    from kubectl_trace.results.record import Summary

__all__ = ["built"]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine is too slow to count return sites."""
    monkeypatch.setattr(listing, "_PATIENCE", 60.0)


def listed(
    path: Path, *patterns: str, libraries: tuple[str, ...] = (), server: str = ""
) -> tuple[list[Function], list[Any], Summary]:
    """The functions that are listed, what is told, and the summary."""
    reading, writing = os.pipe()
    with running(path) as (pid, _):
        try:
            writer = RecordWriter(writing)
            summary = listing.run(Functions(patterns, libraries, server), [pid], writer)
            writer.flush()
        finally:
            os.close(writing)
            with os.fdopen(reading, "rb") as file:
                records = RecordReader().feed(file.read())
    found = [
        msgspec.convert(each, Function)
        for record in records
        if record.type == "functions"
        for each in record.data
    ]
    return found, [record.data for record in records if record.type == "stderr"], summary


def test_a_function_has_all_that_is_known_of_it(built: Path) -> None:
    (found,), _, summary = listed(built / "whole", "hidden")
    assert (found.name, found.file, found.kind) == ("hidden", str(built / "whole"), "function")
    assert (found.language, found.signature, found.return_sites) == ("C", "int (int n)", 1)
    assert found.size > 0
    assert 0 < found.offset <= found.address
    assert found.symbol == ""
    assert (summary.exit, summary.delivered) == (0, 1)


def test_a_program_of_no_runtime_is_not_said_to_be_of_one(built: Path) -> None:
    # A libpython may be installed here, but the program has not mapped it.
    assert listed(built / "whole", "hidden")[1] == []


def test_without_a_pattern_everything_is_listed(built: Path) -> None:
    found, _, summary = listed(built / "whole")
    assert {"main", "hidden", "_start"} <= {each.name for each in found}
    assert summary.delivered == len(found)
    # What was not asked for by name is not described.
    assert {each.signature for each in found} == {""}


def test_functions_of_libraries_are_listed(built: Path) -> None:
    found, _, _ = listed(built / "user", "answer", "hidden", libraries=("libanswer.so.1",))
    assert [(each.name, each.file) for each in found] == [("answer", str(built / "libanswer.so.1"))]


def test_a_pattern_that_means_nothing_says_where_it_looked(built: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no function matches absent in .*/whole"):
        listed(built / "whole", "absent")


@pytest.mark.parametrize("pattern", [(), ("hidden",)])
def test_a_program_without_symbols_is_said_to_have_none(
    built: Path, pattern: tuple[str, ...]
) -> None:
    with pytest.raises(NotFoundError, match="stripped; it has no symbols: --lib names a library"):
        listed(built / "stripped", *pattern)


def test_a_target_without_processes_has_no_functions() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(NotFoundError, match="any in the processes of the target"):
            listing.run(Functions(), [], RecordWriter(writing))
    finally:
        os.close(reading)
        os.close(writing)


def test_what_the_user_should_know_comes_with_the_list(built: Path) -> None:
    _, notes, _ = listed(
        built / "user", "answer", libraries=("libanswer.so.1",), server="http://127.0.0.1:1"
    )
    assert notes[0].startswith("debuginfod: ")
