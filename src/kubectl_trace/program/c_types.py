"""Where `struct`, `union` and `enum` stand: whether all versions of bpftrace read the same there.

From such a word on bpftrace up to 0.23 takes characters as they come, to the end of a definition or
to the `*`, `)` or `,` that ends a type's name (src/lexer.l: STRUCT, BRACE): quotes and comments are
nothing to it there, braces in them count. From 0.24 on comments are comments in a definition's
block, and are not before it; quotes are nothing (src/parser.cpp: parse_c_definition). So a probe
could be hidden in what looks like a comment or a string here. Where versions differ, a program is
refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kubectl_trace.program import macros
from kubectl_trace.program.tokens import ProgramError, Span, tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WORDS = r"(?:struct|union|enum)"
_ANYWHERE = re.compile(_WORDS)
_WORD = re.compile(rf"{_WORDS}\Z")
_BACKSLASH = re.compile(r"\\")
# What is a string here, and braces that are in a comment here, are none to some version.
_IN_BLOCK = {"string": re.compile('"'), "comment": re.compile(r"[{}\\]")}
_NOT_AS_IT_COMES = re.compile(r"[\"'\\{}#/]")
# A type's name, as it comes, and its end: up to 0.17 a comma is none.
_NAME = re.compile(r"\s+[A-Za-z_][^\"'\\{}#/*)]*[*)]", re.ASCII)
_SHORT_NAME = re.compile(r"\s+[A-Za-z_]", re.ASCII)
# From 0.24 on a variable can have one; before, there is no `let`, or it has no type.
_OF_VARIABLE = re.compile(rf"let\s+\$\w+\s*:\s*{_WORDS}\s+\w+\s*[=;]", re.ASCII)
_LONGEST_OF_VARIABLE = 400  # characters

_READ_OTHERWISE = "is read in other ways by other versions of bpftrace: leave it away"


def are_in(text: str) -> bool:
    """Whether there may be any."""
    return _ANYWHERE.search(text) is not None


def check_definition(text: str, head: Span, block: Span, attributes: Sequence[Span]) -> None:
    """Refuses what may be the end of a definition, or none.

    Args:
        text: The program.
        head: What stands before the block.
        block: With its braces.
        attributes: What stands behind it.

    Raises:
        ProgramError: there is such a thing.
    """
    for part in (head, *attributes):
        if found := _NOT_AS_IT_COMES.search(text, part.start, part.end):
            what = "a comment" if found[0] == "/" else found[0]
            raise ProgramError(f"{what} beside a type's block {_READ_OTHERWISE}", found.start())
    for token in tokens(text, block):
        refused = _IN_BLOCK.get(token.kind, _BACKSLASH)
        if found := refused.search(token.text):
            where = "a comment in a type's block" if token.kind == "comment" else "a type's block"
            raise ProgramError(
                f"{found[0]} in {where} {_READ_OTHERWISE}", token.start + found.start()
            )


def check_code(text: str, code: Span) -> None:
    """Refuses types' names in statements that may have another end.

    Raises:
        ProgramError: there is one.
    """
    _check(text, code, _NAME)


def check_signature(text: str, signature: Span) -> None:
    """The same of what stands before the block of a function or macro.

    Raises:
        ProgramError: there is one.
    """
    _check(text, signature, _SHORT_NAME)


def check_attach_point(text: str, point: Span) -> None:
    """Refuses such a word in an attach point, but in quotes or a path.

    Raises:
        ProgramError: there is one.
    """
    for word, offset in macros.bare_words(text[point.start : point.end]):
        if _WORD.fullmatch(word):
            raise ProgramError(f"{word} in an attach point", point.start + offset)


def unfinished(values: Mapping[str, str]) -> set[str]:
    """The macros whose value has a type's name in it that may have its end behind the value."""
    return {name for name, value in values.items() if are_in(value) and _is_unfinished(value)}


def _is_unfinished(value: str) -> bool:
    try:
        _check(value, Span(0, len(value)), _NAME)
    except ProgramError:
        return True
    return False


def _check(text: str, span: Span, name: re.Pattern[str]) -> None:
    part = text[: span.end]
    for token in tokens(text, span):
        if token.kind == "number" and are_in(token.text):
            raise ProgramError("a number with a letter behind it", token.start)
        if token.kind != "word" or not _WORD.fullmatch(token.text) or name.match(part, token.end):
            continue
        begin = max(span.start, token.start - _LONGEST_OF_VARIABLE)
        declared = (each.start() for each in re.finditer(r"\blet\b", part[begin : token.start]))
        if any(
            (found := _OF_VARIABLE.match(part, begin + start)) and found.end() > token.end
            for start in declared
        ):
            continue
        raise ProgramError(
            f"{token.text} must be followed by a type's name and its * or ), without comments, "
            "quotes and braces: versions of bpftrace read these in other ways there",
            token.start,
        )
