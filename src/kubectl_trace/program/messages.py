"""Bpftrace's messages about a rewritten program, as messages about the user's own.

Formats (src/log.cpp of bpftrace 0.17 to 0.27): `FILE:LINE:COLUMN-COLUMN: LEVEL: TEXT` and, below,
the line and a marker; `FILE:LINE-LINE: LEVEL: TEXT` alone. Columns count bytes from 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.program.tokens import Lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kubectl_trace.program.rewrite import Rewritten

_HEAD = re.compile(r"(?P<line>\d+)(?::(?P<from>\d+)(?:-(?P<to>\d+))?|-(?P<last>\d+)): (?P<rest>.*)")
_MARKER = re.compile(r"\s*~+\s*")


@dataclass(frozen=True)
class Position:
    """A place in the user's text, line and column from 1."""

    line: int
    column: int


class Messages:
    """Reads bpftrace's messages line by line."""

    def __init__(
        self, program: Rewritten, user_text: str, path: str, name: str, names: Mapping[str, str]
    ) -> None:
        """For one run of a program.

        Args:
            program: The text that runs.
            user_text: The user's own.
            path: What bpftrace calls the program.
            name: What the user calls it.
            names: What stands in attach points now, and what the user wrote there.
        """
        self._program = program
        self._path = path
        self._name = name
        self._names = names
        self._run = Lines(program.text)
        self._user = Lines(user_text)
        self._expected = ""  # the line of the program that a message is followed by
        self._marker = False
        self.about_hidden: list[str] = []
        """Errors in what the user did not write."""

    def feed(self, line: str) -> list[str]:
        """The lines to show instead of one of bpftrace's."""
        if self._marker and _MARKER.fullmatch(line):
            self._marker = False
            return []
        self._marker = False
        if self._expected and line == self._expected:
            self._expected, self._marker = "", True
            return []
        self._expected = ""
        # Wants CAP_SYS_RESOURCE for what kernels from 5.11 on no longer limit
        # (torvalds/linux d5299b67dd59 "bpf: Memcg-based memory accounting for bpf maps").
        if "couldn't set RLIMIT_MEMLOCK" in line:
            return []
        found = (
            _HEAD.match(line, len(self._path) + 1) if line.startswith(f"{self._path}:") else None
        )
        if found is None:
            return [self.renamed(line)]
        if found["from"] is None:
            first, last = (self._line(int(found[key])) for key in ("line", "last"))
            return [f"{self._name}:{first}-{last}: {self.renamed(found['rest'])}"]
        return self._with_place(found)

    def position(self, line: int, column: int) -> Position:
        """Where in the user's text a place in the program is."""
        return Position(*self._user.position(self._program.origin(self._run.offset(line, column))))

    def renamed(self, text: str) -> str:
        """A text with the user's own names in it."""
        text = text.replace(self._path, self._name)
        for run, own in self._names.items():
            text = text.replace(run, own)
        return text

    def _with_place(self, found: re.Match[str]) -> list[str]:
        line, start_column = int(found["line"]), int(found["from"])
        end_column = int(found["to"] or start_column + 1)
        self._expected = self._run.line(line)
        start = self._run.offset(line, start_column)
        end = max(self._run.offset(line, end_column), start + 1)
        rest = self.renamed(found["rest"])
        program = self._program
        if program.is_hidden(start) and program.is_hidden(end - 1):
            self.about_hidden.append(rest)
        first = self._user.position(program.origin(start))
        last_line, last_column = self._user.position(program.origin(end - 1))
        width = last_column + 1 - first[1] if last_line == first[0] else 1
        head = f"{self._name}:{first[0]}:{first[1]}-{first[1] + max(width, 1)}: {rest}"
        marker = " " * (first[1] - 1) + "~" * max(width, 1)
        return [head, self._user.line(first[0]), marker]

    def _line(self, line: int) -> int:
        return self.position(line, 1).line
