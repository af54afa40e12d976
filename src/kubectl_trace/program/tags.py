"""Tags: its container's number at the beginning of each printf's text, hidden from the user."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kubectl_trace.program.rewrite import Edit
from kubectl_trace.program.scope import in_tasks
from kubectl_trace.program.tokens import Group, Token, tree

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from kubectl_trace.program.scope import Scope
    from kubectl_trace.program.syntax import Program
    from kubectl_trace.program.tokens import Span, Tree

_MARK = "\x1e"  # ASCII's record separator
_MARK_IN_SOURCE = r"\x1e"
_NUMBER = re.compile(r"[0-9]{1,20}")


def tag(program: Program, scope: Scope, others: Collection[Span] = ()) -> Iterator[Edit]:
    """Makes each printf begin with its container's number; 0: of none, or not known.

    Every printf gets a tag, so that no text of a traced process is taken for one.

    Args:
        program: The program.
        scope: Its scope.
        others: More blocks, of probes that fire in tasks, that need the scope's variable.
    """
    known = {probe.block: probe for probe in program.probes if in_tasks(probe)}
    reason = "each printf says which container it is of; this is taken off again"
    for block in program.code:
        has_texts = "printf" in program.of(block)
        texts = tuple(_formats(tree(program.text, block))) if has_texts else ()
        if (texts or block in others) and block in known:
            yield Edit.insert(block.start + 1, f" {scope.container(known[block])}")
        for text in texts:
            number = "%lu" if block in known else "0"
            tagged = f"{_MARK_IN_SOURCE}{number}{_MARK_IN_SOURCE}"
            yield Edit.insert(text.start + 1, tagged, reason)
            if block in known:
                yield Edit.insert(text.end, f", {scope.variable}")


def untag(text: str) -> tuple[int, str]:
    """The container's number in a tagged text, and the text without its tag."""
    if not text.startswith(_MARK):
        return 0, text
    number, mark, rest = text[1:].partition(_MARK)
    if not mark or not _NUMBER.fullmatch(number):
        return 0, text
    return int(number), rest


def _formats(nodes: Tree) -> Iterator[Token]:
    """The format strings of the printf calls, in any order."""
    pending = [nodes]  # no recursion: brackets may be nested as deep as anyone likes
    while pending:
        called = False
        for node in pending.pop():
            if isinstance(node, Group):
                first = next(filter(_is_element, node.children), None)
                if called and isinstance(first, Token) and first.kind == "string":
                    yield first
                pending.append(node.children)
                called = False
            elif _is_element(node):
                called = node.text == "printf"


def _is_element(node: Token | Group) -> bool:
    return isinstance(node, Group) or node.kind not in ("space", "comment")
