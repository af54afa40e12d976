"""The table of faults in docs/reliability.md, which says how long each test may wait."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
HEAD = ["fault", "what you see", "what is lost", "nothing runs after"]
CTRL_C = "Ctrl-C at any moment"
DEFAULT_FILE = "test_faults.py"

_FILES = re.compile(r" \(((?:test_\w+\.py(?:, )?)+)\)$")
_SECONDS = re.compile(r"(?:\d+\u2013)?(\d+) s$")
_WORDS = {"at once": 1.0, "a minute": 60.0}


@dataclass(frozen=True)
class Row:
    """A fault, and what the page says of it."""

    fault: str
    files: tuple[str, ...]
    """The test files that try it."""
    clean_after: float | None
    """Seconds until nothing runs any more; None: the trace goes on, and ends as by Ctrl-C."""


def rows(page: str) -> list[Row]:
    """The table's rows, without its headings.

    Raises:
        ValueError: a cell is not written as the table's others are.
    """
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    head, *cells = ([cell.strip() for cell in line[1:-1].split("|")] for line in lines)
    if head != HEAD:
        raise ValueError(f"another table: {head}")
    return [_row(each[0], each[-1]) for each in cells if not each[0].startswith("**")]


def allowed(faults: Iterable[str], table: Iterable[Row]) -> float:
    """The seconds after which a test of these faults finds that something still runs.

    Twice what the page says, and 5 s: two busy cores are slow, and looking takes time, too.

    Raises:
        KeyError: the table has no such fault.
    """
    by_fault = {row.fault: row.clean_after for row in table}
    figures = [by_fault[fault] or by_fault[CTRL_C] or 0.0 for fault in faults]
    return 5 + 2 * max(figures)


def _row(fault: str, after: str) -> Row:
    files = _FILES.search(fault)
    name = fault[: files.start()] if files else fault
    tried_in = tuple(files[1].split(", ")) if files else (DEFAULT_FILE,)
    return Row(name.replace("`", ""), tried_in, _seconds(after) if after else None)


def _seconds(text: str) -> float:
    if text in _WORDS:
        return _WORDS[text]
    found = _SECONDS.match(text)
    if found is None:
        raise ValueError(f"no time: {text!r}")
    return float(found[1])
