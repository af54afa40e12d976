"""What stands around an element of a program's code; layout is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_trace.program import tokens
from kubectl_trace.program.tokens import Group, Span, Token

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubectl_trace.program.tokens import Tree


def read(text: str, span: Span) -> Tree:
    """The elements of a part of a text, without layout."""
    return significant(tokens.tree(text, span))


def significant(tree: Iterable[Token | Group]) -> Tree:
    """The elements that are no layout."""
    return tuple(
        node for node in tree if isinstance(node, Group) or node.kind not in ("space", "comment")
    )


def words(tree: Tree) -> str:
    """The texts of the elements, joined; of brackets nothing."""
    return "".join(node.text for node in tree if isinstance(node, Token))


def span(token: Token) -> Span:
    """Where it stands."""
    return Span(token.start, token.end)


def is_call(after: Tree) -> bool:
    """Whether parentheses follow."""
    return bool(after) and isinstance(after[0], Group) and after[0].bracket == "("


def is_arrow(before: Tree, token: Token) -> bool:
    """Whether this `>` is the end of `->`: of `-->` it is not, that is `--` and `>`."""
    begin, dashes = token.start, 0
    for node in reversed(before):
        if not isinstance(node, Token) or node.text != "-" or node.end != begin:
            break
        begin, dashes = node.start, dashes + 1
    return token.text == ">" and dashes % 2 == 1


def is_member(before: Tree) -> bool:
    """Whether the word that follows is a member's name: behind `->`, or `.` that is no range's."""
    last = before[-1] if before else None
    if not isinstance(last, Token) or len(before) < 2:
        return False
    if last.text == ".":
        return words(before[-2:-1]) != "."
    return is_arrow(before[:-1], last) and len(before) > 2


def is_type_name(before: Tree) -> bool:
    """Whether the word that follows is the name of a type."""
    return words(before[-1:]) in ("struct", "union", "enum")


def first_argument(group: Group) -> Tree:
    """The first argument of a call."""
    found: list[Token | Group] = []
    for node in significant(group.children):
        if isinstance(node, Token) and node.text == ",":
            break
        found.append(node)
    return tuple(found)
