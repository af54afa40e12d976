"""Macros of the C preprocessor: whether one can change the structure of a program that uses it.

Up to 0.23 bpftrace puts in a macro's value and reads on from there (src/lexer.l: ident), so that a
value with a brace in it can end one probe and begin another. From 0.24 on a macro stands for an
expression only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_COMMENT = re.compile(rf"({_QUOTED})|/\*.*?(?:\*/|$)|//.*")
_DEFINE = re.compile(r"\#\s*define\s+([A-Za-z_]\w*)(.*)", re.ASCII)
_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
# A quoted part, a part of a path (src/lexer.l: path), or a word that is neither.
_BARE_WORD = re.compile(rf"{_QUOTED}|:[-\w./#+*\\]+|([A-Za-z_]\w*)", re.ASCII | re.DOTALL)
# By which something begins or ends, perhaps together with what follows.
_STRUCTURE = re.compile(r"[{}\"]|/[/*]|/$")


def values(directives: Iterable[str]) -> dict[str, str]:
    """What the macros that these lines define stand for. A function's parameters are part of it."""
    lines = (_COMMENT.sub(lambda match: match[1] or " ", line) for line in directives)
    return {define[1]: define[2] for line in lines if (define := _DEFINE.match(line))}


def changing_structure(macros: Mapping[str, str]) -> set[str]:
    """Those with a brace, the beginning of a comment or an unfinished string in their value."""
    return {
        name
        for name, value in macros.items()
        # Without the white space, as clang_parser.cpp has it (translateMacro).
        if _STRUCTURE.search("".join(re.sub(_QUOTED, "0", value).split()))
    }


def words(text: str) -> set[str]:
    """The names in a text that may be those of macros."""
    return set(_WORD.findall(text))


def bare_words(attach_point: str) -> Iterator[tuple[str, int]]:
    """The names in an attach point that may be those of macros, and their offsets."""
    for match in _BARE_WORD.finditer(attach_point):
        if match[1]:
            yield match[1], match.start(1)
