"""The structure of a bpftrace program: what its parts are and where in the text they stand.

It accepts what bpftrace 0.17 to 0.27 accept, and leaves to bpftrace what only bpftrace can know.
Sources: src/parser.yy of 0.17 and 0.23, src/parser.cpp of 0.27.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from kubectl_trace.program import c_types, macros
from kubectl_trace.program.tokens import (
    STRING,
    WHITE_SPACE,
    Lines,
    ProgramError,
    Span,
    end_of_predicate,
    matching,
    skip_layout,
)


class Part(NamedTuple):
    """What stands between two colons of an attach point, or an `@` outside quotes."""

    span: Span
    text: str
    """Without quotes, escapes and white space."""


class AttachPoint(NamedTuple):
    """Where a probe attaches: `uprobe:/usr/sbin/nginx:ngx_event_accept`."""

    span: Span
    parts: tuple[Part, ...]

    @property
    def provider(self) -> str:
        """The provider as it is written, perhaps an alias or a wildcard.

        From 0.24 on a name may stand before it: `mine=kprobe:f` (AttachPointParser).
        """
        _, equals, provider = self.parts[0].text.partition("=")
        return provider if equals and provider else self.parts[0].text


class Probe(NamedTuple):
    """Attach points, perhaps a predicate, and what is done there."""

    span: Span
    attach_points: tuple[AttachPoint, ...]
    predicate: Span | None
    """With its slashes."""
    block: Span
    """With its braces."""


class Item(NamedTuple):
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

    @cached_property
    def macros(self) -> dict[str, str]:
        """The macros of the preprocessor that it defines, and their values."""
        return macros.values(
            self.of(item.span)
            for item in self.items
            if isinstance(item, Item) and item.kind == "directive"
        )

    def configures(self, variable: str) -> bool:
        """Whether it says itself what a variable of bpftrace's is, in its `config` (0.20)."""
        return any(
            item.kind == "config"
            and re.search(rf"\b{variable}\b", self.of(item.span), re.IGNORECASE)
            for item in self.items
            if isinstance(item, Item)
        )

    def of(self, span: Span) -> str:
        """The text of a part."""
        return self.text[span.start : span.end]


_LONGEST_SHOWN = 400
"""Characters of a line; of a longer one those around the place are shown."""

_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_LATER_SHEBANG = re.compile(r"^\#!", re.MULTILINE)
_REST_OF_LINE = re.compile(r"[^\n]*")
_EQUALS = re.compile("=")
_NAME = re.compile(STRING)
_SEMICOLON = re.compile(";")
_MAP = re.compile(r"@\w*", re.ASCII)
_ATTRIBUTE = re.compile(r"__attribute__\b")
# A function's type, between its parameters and its block.
_TYPE = re.compile(r"[\s\w:*\[\]]*(?=\{)", re.ASCII)

# An attach point as far as it goes without white space: quoted parts, and characters up to one that
# may end it. A path, and so slashes, begin after a colon.
_ESCAPE = r"\\(?![\s\"{,/;}\\])"
_PIECES = re.compile(
    rf'(?:"(?:[^"\\]|\\.)*+"|[^\s"{{,/;}}:\\]++|:[^\s"{{,;}}\\]*+|{_ESCAPE})*+',
    re.DOTALL | re.ASCII,
)


def parse(text: str) -> Program:
    """Reads a program.

    Raises:
        ProgramError: the text is no program; its message says what is missing, its offset where.
    """
    if "\0" in text:
        # Up to 0.23 bpftrace reads up to there only.
        raise ProgramError("a NUL character", text.index("\0"))
    if line := _LATER_SHEBANG.search(text, 1):
        # From 0.24 on #!a=kprobe:f is a probe with a name.
        raise ProgramError(
            "this is a comment up to bpftrace 0.23, and none later: a line that begins with #! can "
            "only be the first",
            line.start(),
        )
    items: list[Item | Probe] = []
    offset = skip_layout(text, 0)
    while offset < len(text):
        item = _item(text, offset) or _probe(text, offset)
        items.append(item)
        offset = skip_layout(text, item.span.end)
    program = Program(text, tuple(items))
    if not program.probes:
        raise ProgramError("the program has no probe", len(text.rstrip()))
    _check_macros(program)
    _check_c_types(program)
    return program


def explain(error: ProgramError, text: str, name: str) -> str:
    """An error as people read it: file, line, column, message, and a caret below the place."""
    return pointed(error.message, text, Span(error.offset, error.offset + 1), name)


def pointed(message: str, text: str, span: Span, name: str) -> str:
    """A message about a part of a text, with that line of the text, and carets below the part."""
    lines = Lines(text)
    line, column = lines.position(span.start)
    width = len(text[span.start : span.end].encode(errors="surrogatepass"))
    shown, marks = lines.pointed(line, column, width, "^")
    if len(shown) > _LONGEST_SHOWN:
        start = max(0, len(marks) - len(marks.lstrip()) - _LONGEST_SHOWN // 2)
        shown, marks = (each[start : start + _LONGEST_SHOWN] for each in (shown, marks))
    return f"{name}:{line}:{column}: {message}\n{shown}\n{marks}"


def _item(text: str, offset: int) -> Item | None:
    """The part at this offset, unless it is a probe."""
    if text[offset] == "#":
        return _directive(text, offset)
    word = _WORD.match(text, offset)
    if word is None:
        return None
    match word.group():
        case "struct" | "union" | "enum":
            return _definition(text, offset, word.end())
        case "config":
            end = _sequence(text, word.end(), _EQUALS)
            block = _block(text, end)
            return Item("config", Span(offset, block.end), block) if block else None
        case "import":
            end = _sequence(text, word.end(), _NAME, _SEMICOLON)
            return Item("import", Span(offset, end)) if end else None
        case "let":
            return _map(text, offset, word.end())
        case "macro" | "fn":
            return _callable(text, offset, word)
        case _:
            return None


def _sequence(text: str, offset: int, *patterns: re.Pattern[str]) -> int:
    """The offset after these patterns, layout before each; 0 if they are not there."""
    for pattern in patterns:
        found = pattern.match(text, skip_layout(text, offset))
        if found is None:
            return 0
        offset = found.end()
    return offset


def _block(text: str, offset: int, bracket: str = "{") -> Span | None:
    """The block that follows an offset, which is 0 where none can."""
    start = skip_layout(text, offset)
    return (
        Span(start, matching(text, start)) if offset and text.startswith(bracket, start) else None
    )


def _directive(text: str, offset: int) -> Item | None:
    match = _REST_OF_LINE.match(text, offset)
    assert match is not None
    line = match.group().rstrip()
    if line.startswith("#!"):
        return None
    if line == "#":
        # Up to 0.23 the next line is the directive (src/lexer.l: "#"[^!].*).
        raise ProgramError("this directive is empty", offset)
    if line.endswith("\\"):
        raise ProgramError(
            "this directive goes on, but bpftrace takes its first line only",
            offset + len(line) - 1,
        )
    return Item("directive", Span(offset, match.end()))


def _definition(text: str, offset: int, end: int) -> Item | None:
    # Words and attributes up to the block (src/parser.cpp: looks_like_c_definition).
    block = None
    while block is None:
        position = skip_layout(text, end)
        if word := _WORD.match(text, position):
            end = word.end()
        elif parentheses := _block(text, end, "("):
            end = parentheses.end
        else:
            block = _block(text, end)
            if block is None:
                return None
    head, end = Span(offset, block.start), block.end
    attributes = []
    while after := _sequence(text, end, _ATTRIBUTE):
        attribute = _block(text, after, "(")
        if attribute is None:
            break
        attributes.append(Span(end, attribute.end))
        end = attribute.end
    c_types.check_definition(text, head, block, attributes)
    return Item("definition", Span(offset, _sequence(text, end, _SEMICOLON) or end), block)


def _map(text: str, offset: int, end: int) -> Item | None:
    size = _block(text, _sequence(text, end, _MAP, _EQUALS, _WORD), "(")
    if size is None:
        return None
    return Item("map", Span(offset, _sequence(text, size.end, _SEMICOLON) or size.end))


def _callable(text: str, offset: int, word: re.Match[str]) -> Item | None:
    kind = "macro" if word.group() == "macro" else "function"
    parameters = _block(text, _sequence(text, word.end(), _WORD), "(")
    if parameters is None:
        return None
    after = skip_layout(text, parameters.end)
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
        while text.startswith(",", position):  # several up to 0.23
            position = skip_layout(text, position + 1)
        if text.startswith(("/", "{"), position):
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
        match = _PIECES.match(text, end)
        assert match is not None
        end = match.end()
        if text.startswith('"', end):
            raise ProgramError('this string has no end: " is missing', end)
        if text.startswith("\\", end):
            # Up to 0.23 what follows is part of a path, from 0.24 on it may end one.
            raise ProgramError('a \\ in an attach point: put the part in quotes, ""', end)
        # Up to 0.23 white space around a colon is no end of an attach point.
        after = skip_layout(text, end)
        goes_on = text.startswith(":", after) or (end > offset and text[end - 1] == ":")
        if not goes_on or after == end or text[after : after + 1] in ("", *"{,/;}"):
            return end
        if comment := text[end:after].strip(WHITE_SPACE):
            raise ProgramError(
                "a comment inside an attach point", text.index(comment[0], end, after)
            )
        end = after


def _parts(text: str, span: Span) -> list[Part]:
    """The parts of an attach point, as bpftrace splits it: at colons outside quotes."""
    parts: list[Part] = []
    start = span.start
    whole = text[span.start : span.end]
    if '"' not in whole and "@" not in whole:
        for content in whole.split(":"):
            end = start + len(content)
            parts.append(Part(Span(start, end), content.strip(WHITE_SPACE)))
            start = end + 1
        return parts
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
        elif character in ":@" and not quoted:
            parts.append(Part(Span(start, position), "".join(characters).strip(WHITE_SPACE)))
            start, characters = position + 1, []
            if character == "@":  # from 0.24 on: uprobe:/bin/x@file.c:12
                parts.append(Part(Span(position, position + 1), "@"))
        else:
            characters.append(character)
        position += 1
    parts.append(Part(Span(start, span.end), "".join(characters).strip(WHITE_SPACE)))
    return parts


def _check_macros(program: Program) -> None:
    """Refuses macros that can make the program's structure another one than the one read here.

    Raises:
        ProgramError: such a macro is used.
    """
    defined = program.macros
    if not defined:
        return
    for probe in program.probes:
        for point in probe.attach_points:
            for word, offset in macros.bare_words(program.of(point.span)):
                if word in defined:
                    raise ProgramError(
                        f"{word} is a macro, and can't be in an attach point",
                        point.span.start + offset,
                    )
    refused = macros.changing_structure(defined) | c_types.unfinished(defined)
    for item in program.items if refused else ():
        text = program.of(item.span)
        if isinstance(item, Item) and item.kind == "definition":
            continue  # that is the C compiler's
        if isinstance(item, Item) and item.kind == "directive":
            text = " ".join(macros.values([text]).values())
        if used := refused & macros.words(text):
            raise ProgramError(
                f"the macro {min(used)} has braces, a comment, an unfinished string or type's name "
                "in it: where this program's probes begin and end depends on bpftrace's version",
                item.span.start,
            )


def _check_c_types(program: Program) -> None:
    """Refuses names of types that can make the program's structure another one than the one read.

    Raises:
        ProgramError: there is one.
    """
    if not c_types.are_in(program.text):
        return
    for probe in program.probes:
        for point in probe.attach_points:
            c_types.check_attach_point(program.text, point.span)
        if probe.predicate is not None:
            c_types.check_code(program.text, probe.predicate)
    for item in program.items:
        if isinstance(item, Item) and item.kind in ("macro", "function") and item.block:
            c_types.check_signature(program.text, Span(item.span.start, item.block.start))
    for code in program.code:
        c_types.check_code(program.text, code)
