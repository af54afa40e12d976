"""The lexical elements of bpftrace's language, as bpftrace 0.17 to 0.27 read them.

Sources: src/lexer.l of 0.17 and 0.23, src/parser.cpp of 0.27.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# A string ends on its line, and knows \" and \\; a comment does not nest. Up to 0.23 a line that
# begins with #! is a comment wherever it stands; 0.27 takes it at the beginning only.
STRING = r'"(?:[^"\\\n]|\\[^\n])*+"'
_COMMENT = r"(?://[^\n]*|/\*.*?\*/|^\#![^\n]*)"

WHITE_SPACE = " \t\r\n\f\v"

_LAYOUT = re.compile(rf"(?:[{WHITE_SPACE}]++|{_COMMENT})*+", re.DOTALL | re.MULTILINE)
_LAYOUT_BEGINS = WHITE_SPACE + "/#"

# What has no end goes on to where it could have had one: a text is read once.
_TOKEN = re.compile(
    rf"""
      (?P<space>[ \t\r\n\f\v]+)
    | (?P<comment>{_COMMENT} | /\*.*)
    | (?P<string>{STRING}?)
    | (?P<variable>\$\w+ | \$\#)
    | (?P<map>@\w*)
    | (?P<word>[A-Za-z_]\w*)
    | (?P<number>[0-9]\w*)
    | (?P<open>[({{\[])
    | (?P<close>[)}}\]])
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE | re.ASCII,
)

# Up to the next bracket, slash or unfinished element; strings, comments and the rest are skipped.
_PLAIN = rf"[^(){{}}\[\]\"/\#]++|{STRING}|{_COMMENT}|\#"
_SLASH = r"/(?!\*)"
_TO_BRACKET = re.compile(
    rf"(?:{_PLAIN}|{_SLASH})*+([(){{}}\[\]]|/\*|\"|\Z)", re.DOTALL | re.MULTILINE
)
_TO_SLASH = re.compile(rf"(?:{_PLAIN})*+([(){{}}\[\]]|/\*|/|\"|\Z)", re.DOTALL | re.MULTILINE)
_BLOCK_EXPRESSION = re.compile(r"if\b|\{")
_PAIRS = {")": "(", "]": "[", "}": "{"}


class ProgramError(ValueError):
    """The program's text can't be read as a program."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        """Where, in characters from the text's beginning."""


class Span(NamedTuple):
    """A part of a text: offsets in characters, the end excluded."""

    start: int
    end: int


class Token(NamedTuple):
    """A lexical element."""

    kind: str
    """`space`, `comment`, `string` (with its quotes), `variable`, `map`, `word`, `number`, `open`,
    `close` or `other`, which is any other character."""
    text: str
    start: int

    @property
    def end(self) -> int:
        """The offset after it."""
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Group:
    """What stands between two brackets, and they."""

    start: int
    end: int
    bracket: str
    """The opening one."""
    children: tuple[Token | Group, ...]


Tree = tuple[Token | Group, ...]


def tokens(text: str, span: Span) -> Iterator[Token]:
    """The elements of a part of a text; joined, their texts are that part."""
    for match in _TOKEN.finditer(text, span.start, span.end):
        yield Token(match.lastgroup or "other", match.group(), match.start())


def tree(text: str, span: Span) -> Tree:
    """The elements of a part of a text whose brackets match, as a tree."""
    stack: list[tuple[Token | None, list[Token | Group]]] = [(None, [])]
    for token in tokens(text, span):
        if token.kind == "open":
            stack.append((token, []))
        elif token.kind == "close" and len(stack) > 1:
            opening, children = stack.pop()
            assert opening is not None
            group = Group(opening.start, token.end, opening.text, tuple(children))
            stack[-1][1].append(group)
        else:
            stack[-1][1].append(token)
    return tuple(stack[0][1])


def skip_layout(text: str, offset: int) -> int:
    """The offset of the first thing from here on that is no layout.

    Raises:
        ProgramError: a comment without an end.
    """
    if text[offset : offset + 1] not in _LAYOUT_BEGINS:
        return offset
    if text[offset + 1 : offset + 2] not in _LAYOUT_BEGINS and text[offset] in WHITE_SPACE:
        return offset + 1
    match = _LAYOUT.match(text, offset)
    assert match is not None
    if text.startswith("/*", match.end()):
        raise ProgramError("this comment has no end: */ is missing", match.end())
    return match.end()


def matching(text: str, offset: int) -> int:
    """The offset after the bracket that closes the one at `offset`.

    Raises:
        ProgramError: it is not closed, or what is between is not well formed.
    """
    stack = [offset]
    position = offset + 1
    while stack:
        found = _TO_BRACKET.match(text, position)
        assert found is not None
        element, position = found[1], found.end()
        if element in ("(", "[", "{"):
            stack.append(position - 1)
        elif element in _PAIRS:
            opening = stack.pop()
            if text[opening] != _PAIRS[element]:
                raise ProgramError(
                    f"{element} closes nothing: {text[opening]} is open since "
                    f"{Lines(text).describe(opening)}",
                    position - 1,
                )
        else:
            _refuse_unfinished(element, found.start(1))
            raise ProgramError(f"this {text[stack[-1]]} is not closed", stack[-1])
    return position


def end_of_predicate(text: str, offset: int) -> int:
    """The offset of the `/` that ends the predicate whose first `/` is at `offset`.

    That is the first one that a block follows; the others are divisions.

    Raises:
        ProgramError: there is none.
    """
    position = offset + 1
    # From 0.24 on a predicate may be a block or an `if`.
    takes_blocks = _BLOCK_EXPRESSION.match(text, skip_layout(text, position)) is not None
    while True:
        found = _TO_SLASH.match(text, position)
        assert found is not None
        element, position = found[1], found.end()
        if element == "/":
            if text.startswith("{", skip_layout(text, position)):
                return position - 1
        elif element in ("(", "[") or (element == "{" and takes_blocks):
            position = matching(text, position - 1)
        else:
            _refuse_unfinished(element, found.start(1))
            raise ProgramError("this predicate has no end: a / before the { is missing", offset)


def _refuse_unfinished(element: str, offset: int) -> None:
    """Raises ProgramError where an element is the beginning of one without an end."""
    if element == '"':
        raise ProgramError('this string has no end: " is missing on its line', offset)
    if element == "/*":
        raise ProgramError("this comment has no end: */ is missing", offset)


@dataclass(frozen=True)
class Lines:
    """Offsets in a text as lines and columns, from 1. Columns count bytes, as bpftrace's do."""

    text: str = field(repr=False)

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(match.end() for match in re.finditer("\n", self.text))]

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset."""
        line = bisect.bisect_right(self._starts, offset)
        start = self._starts[line - 1]
        return line, len(self.text[start:offset].encode(errors="surrogatepass")) + 1

    def offset(self, line: int, column: int) -> int:
        """The offset of a line and column; beyond the text, its end."""
        if line > len(self._starts):
            return len(self.text)
        start = self._starts[line - 1]
        before = self.line(line).encode(errors="surrogatepass")[: max(column - 1, 0)]
        return start + len(before.decode(errors="ignore"))

    def line(self, line: int) -> str:
        """A line's text, without what ends it; beyond the text, the empty string."""
        if line > len(self._starts):
            return ""
        start = self._starts[line - 1]
        end = self.text.find("\n", start)
        return self.text[start : None if end < 0 else end].removesuffix("\r")

    def pointed(self, line: int, column: int, width: int, mark: str) -> tuple[str, str]:
        """A line's text, and below it marks under as many bytes of it from a column on."""
        text = self.line(line)
        encoded = text.encode(errors="surrogatepass")
        before = encoded[: column - 1].decode(errors="ignore")
        marked = encoded[column - 1 : column - 1 + width].decode(errors="ignore")
        # Tabs stay tabs, so that the marks stand below their characters.
        return text, re.sub(r"[^\t]", " ", before) + mark * max(len(marked), 1)

    def describe(self, offset: int) -> str:
        """An offset as people write it: `line 3`, or `column 5` in a text of one line."""
        line, column = self.position(offset)
        return f"line {line}" if len(self._starts) > 1 else f"column {column}"
