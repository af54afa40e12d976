"""The structure of a bpftrace program: what its parts are and where in the text they stand.

It accepts what bpftrace 0.17 to 0.27 accept, and leaves to bpftrace what only bpftrace can know.
Sources: src/parser.yy of 0.17 and 0.23, src/parser.cpp of 0.27.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.program.tokens import (
    Lines,
    ProgramError,
    Span,
    end_of_predicate,
    matching,
    skip_layout,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Part:
    """What stands between two colons of an attach point."""

    span: Span
    text: str
    """Without quotes, escapes and white space."""


@dataclass(frozen=True, slots=True)
class AttachPoint:
    """Where a probe attaches: `uprobe:/usr/sbin/nginx:ngx_event_accept`."""

    span: Span
    parts: tuple[Part, ...]

    @property
    def provider(self) -> str:
        """The provider as it is written, perhaps an alias or a wildcard."""
        return self.parts[0].text


@dataclass(frozen=True, slots=True)
class Probe:
    """Attach points, perhaps a predicate, and what is done there."""

    span: Span
    attach_points: tuple[AttachPoint, ...]
    predicate: Span | None
    """With its slashes."""
    block: Span
    """With its braces."""


@dataclass(frozen=True, slots=True)
class Item:
    """Anything else at a program's top level."""

    kind: str
    """`directive` (of the C preprocessor), `definition` (struct, union, enum), `config`, `import`,
    `map` (a declaration), `macro` or `function`."""
    span: Span
    block: Span | None = None


@dataclass(frozen=True)
class Program:
    """A program's text and its parts, in their order; between them is nothing but layout."""

    text: str
    items: tuple[Item | Probe, ...]

    @property
    def probes(self) -> tuple[Probe, ...]:
        """The probes."""
        return tuple(item for item in self.items if isinstance(item, Probe))

    @property
    def code(self) -> tuple[Span, ...]:
        """The blocks of statements: those of probes, macros and functions."""
        return tuple(
            item.block
            for item in self.items
            if item.block is not None
            and (isinstance(item, Probe) or item.kind in ("macro", "function"))
        )

    def of(self, span: Span) -> str:
        """The text of a part."""
        return self.text[span.start : span.end]


_WORD = re.compile(r"[A-Za-z_]\w*")
_REST_OF_LINE = re.compile(r"[^\n]*")
_DEFINITION = re.compile(r"(?:struct|union|enum)\b[^{};()/\"]*\{")
_ATTRIBUTE = re.compile(r"\s*__attribute__\s*(?=\()")
_CONFIG = re.compile(r"config\s*=\s*(?=\{)")
_IMPORT = re.compile(r'import\s*"(?:[^"\\\n]|\\.)*"\s*;')
_MAP = re.compile(r"let\s+@[^;{}]*;")
_CALLABLE = re.compile(r"(macro|fn)\s+[A-Za-z_]\w*\s*(?=\()")
# A function's type, between its parameters and its block.
_TYPE = re.compile(r"[\s\w:*\[\]]*(?=\{)")

# A piece of an attach point: a quoted part, or characters up to one that may end it. A path, and so
# slashes, begin after a colon.
_PIECE = re.compile(r'"(?:[^"\\]|\\.)*+"|[^\s"{,/;}:]*+(?::[^\s"{,;}]*+)?+', re.DOTALL)


def parse(text: str) -> Program:
    """Reads a program.

    Raises:
        ProgramError: the text is no program; its message says what is missing, its offset where.
    """
    items: list[Item | Probe] = []
    offset = skip_layout(text, 0)
    while offset < len(text):
        item = _item(text, offset) or _probe(text, offset)
        items.append(item)
        offset = skip_layout(text, item.span.end)
    program = Program(text, tuple(items))
    if not program.probes:
        raise ProgramError("the program has no probe", len(text.rstrip()))
    return program


def explain(error: ProgramError, text: str, name: str) -> str:
    """An error as people read it: file, line, column, message, and a caret below the place."""
    return pointed(error.message, text, Span(error.offset, error.offset + 1), name)


def pointed(message: str, text: str, span: Span, name: str) -> str:
    """A message about a part of a text, with that line of the text, and carets below the part."""
    lines = Lines(text)
    line, column = lines.position(span.start)
    shown = lines.line(line)
    before = shown[
        : len(shown.encode(errors="surrogatepass")[: column - 1].decode(errors="ignore"))
    ]
    # Tabs stay tabs, so that the caret stands below its character.
    indent = re.sub(r"[^\t]", " ", before)
    width = max(1, min(span.end - span.start, len(shown) - len(before)))
    return f"{name}:{line}:{column}: {message}\n{shown}\n{indent}{'^' * width}"


def _item(text: str, offset: int) -> Item | None:
    """The part at this offset, unless it is a probe."""
    if text[offset] == "#":
        match = _REST_OF_LINE.match(text, offset)
        assert match is not None
        return Item("directive", Span(offset, match.end()))
    word = _WORD.match(text, offset)
    match word.group() if word else "":
        case "struct" | "union" | "enum":
            return _definition(text, offset)
        case "config":
            return _config(text, offset)
        case "import":
            return _simple("import", _IMPORT, text, offset)
        case "let":
            return _simple("map", _MAP, text, offset)
        case "macro" | "fn":
            return _callable(text, offset)
        case _:
            return None


def _simple(kind: str, pattern: re.Pattern[str], text: str, offset: int) -> Item | None:
    match = pattern.match(text, offset)
    return Item(kind, Span(offset, match.end())) if match else None


def _definition(text: str, offset: int) -> Item | None:
    head = _DEFINITION.match(text, offset)
    if head is None:
        return None
    end = matching(text, head.end() - 1)
    block = Span(head.end() - 1, end)
    while attribute := _ATTRIBUTE.match(text, end):
        end = matching(text, attribute.end())
    after = skip_layout(text, end)
    return Item(
        "definition", Span(offset, after + 1 if text.startswith(";", after) else end), block
    )


def _config(text: str, offset: int) -> Item | None:
    head = _CONFIG.match(text, offset)
    if head is None:
        return None
    block = Span(head.end(), matching(text, head.end()))
    return Item("config", Span(offset, block.end), block)


def _callable(text: str, offset: int) -> Item | None:
    head = _CALLABLE.match(text, offset)
    if head is None:
        return None
    kind = "macro" if head[1] == "macro" else "function"
    after = skip_layout(text, matching(text, head.end()))
    if kind == "function" and (match := _TYPE.match(text, after)):
        after = match.end()
    if not text.startswith("{", after):
        raise ProgramError(f"a {{ is missing: the {kind}'s block", after)
    block = Span(after, matching(text, after))
    return Item(kind, Span(offset, block.end), block)


def _probe(text: str, offset: int) -> Probe:
    attach_points: list[AttachPoint] = []
    position = offset
    while True:
        point = _attach_point(text, position)
        attach_points.append(point)
        position = skip_layout(text, point.span.end)
        if not text.startswith(",", position):
            break
        position = skip_layout(text, position + 1)
        if text[position : position + 1] in ("/", "{"):
            break  # a comma after the last one
    predicate = None
    if text.startswith("/", position):
        end = end_of_predicate(text, position) + 1
        predicate = Span(position, end)
        position = skip_layout(text, end)
    if not text.startswith("{", position):
        raise ProgramError(
            "a { is missing: a probe is ATTACH_POINT[, ATTACH_POINT...] [/PREDICATE/] { ... }",
            min(position, len(text.rstrip())),
        )
    block = Span(position, matching(text, position))
    return Probe(Span(offset, block.end), tuple(attach_points), predicate, block)


def _attach_point(text: str, offset: int) -> AttachPoint:
    end = _end_of_attach_point(text, offset)
    if end == offset:
        raise ProgramError("an attach point is missing", min(offset, len(text.rstrip())))
    span = Span(offset, end)
    return AttachPoint(span, tuple(_parts(text, span)))


def _end_of_attach_point(text: str, offset: int) -> int:
    end = offset
    while True:
        match = _PIECE.match(text, end)
        assert match is not None
        if match.end() > end:
            end = match.end()
            continue
        if text.startswith('"', end):
            raise ProgramError('this string has no end: " is missing', end)
        # Up to 0.23 white space around a colon is no end of an attach point.
        after = skip_layout(text, end)
        goes_on = text.startswith(":", after) or (end > offset and text[end - 1] == ":")
        if not goes_on or after == end or text[after : after + 1] in ("", *"{,/;}"):
            return end
        end = after


def _parts(text: str, span: Span) -> Iterator[Part]:
    """The parts of an attach point, as bpftrace splits it: at colons outside quotes."""
    start = span.start
    whole = text[span.start : span.end]
    if '"' not in whole:
        for content in whole.split(":"):
            yield Part(Span(start, start + len(content)), content.strip())
            start += len(content) + 1
        return
    quoted = False
    characters: list[str] = []
    position = span.start
    while position < span.end:
        character = text[position]
        if character == '"':
            quoted = not quoted
        elif character == "\\" and quoted:
            position += 1
            characters.append(text[position : position + 1])
        elif character == ":" and not quoted:
            yield Part(Span(start, position), "".join(characters).strip())
            start, characters = position + 1, []
        else:
            characters.append(character)
        position += 1
    yield Part(Span(start, span.end), "".join(characters).strip())
