"""Bpftrace's messages about a rewritten program, as messages about the user's own.

Formats (src/log.cpp of bpftrace 0.17 to 0.27): `FILE:LINE:COLUMN-COLUMN: LEVEL: TEXT` and, below,
the line, with four spaces for each tab, and a marker; `FILE:LINE-LINE: LEVEL: TEXT` alone. Columns
count bytes from 1.
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
# Nothing is marked where the place is beyond the line.
_MARKER = re.compile(r" *~*")


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
            rest = self.renamed(found["rest"])
            # Lines of which nothing is the user's own stand at the end only.
            if self._program.is_hidden(self._run.offset(int(found["last"]), 1)):
                self.about_hidden.append(rest)
            first, last = (self._line(int(found[key])) for key in ("line", "last"))
            return [f"{self._name}:{first}-{last}: {rest}"]
        return self._with_place(found)

    def position(self, line: int, column: int) -> Position:
        """Where in the user's text a place in the program is."""
        return Position(*self._user.position(self._program.origin(self._run.offset(line, column))))

    def offset(self, line: int, column: int) -> int:
        """The offset of a place in the program that runs."""
        return self._run.offset(line, column)

    def renamed(self, text: str) -> str:
        """A text with the user's own names in it."""
        text = text.replace(self._path, self._name)
        for run, own in self._names.items():
            text = text.replace(run, own)
        return text

    def _with_place(self, found: re.Match[str]) -> list[str]:
        line, start_column = int(found["line"]), int(found["from"])
        end_column = int(found["to"] or start_column + 1)
        self._expected = self._run.line(line).replace("\t", "    ")
        start = self._run.offset(line, start_column)
        end = max(self._run.offset(line, end_column), start + 1)
        rest = self.renamed(found["rest"])
        program = self._program
        if program.is_hidden(start) and program.is_hidden(end - 1):
            self.about_hidden.append(rest)
            if rest.startswith("WARNING"):
                return []
        first = self._user.position(program.origin(start))
        after = program.origin(end - 1) + (0 if program.is_hidden(end - 1) else 1)
        last_line, end_column = self._user.position(after)
        width = max(end_column - first[1] if last_line == first[0] else 1, 1)
        head = f"{self._name}:{first[0]}:{first[1]}-{first[1] + width}: {rest}"
        return [head, *self._user.pointed(first[0], first[1], width, "~")]

    def _line(self, line: int) -> int:
        return self.position(line, 1).line
