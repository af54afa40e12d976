"""Tags: numbers of its container and its probe before each printf's text, hidden from the user."""

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
    from kubectl_trace.program.tokens import Span

DELIMITER = "~"
"""Before and behind each number. Printable: others take bpftrace long to write as JSON."""

_NUMBER = re.compile(r"[0-9]{1,6}")


def tag(program: Program, scope: Scope, others: Collection[Span] = ()) -> Iterator[Edit]:
    """Makes each printf begin with its container's number; 0: of none, or not known.

    Every printf whose format is a string gets a tag, so that no text of a traced process is taken
    for one. A format that is a macro takes none: what such a printf prints may pass for tagged.

    Args:
        program: The program.
        scope: Its scope.
        others: More blocks, of probes that fire in tasks, that need the scope's variable.
    """
    known = {probe.block: probe for probe in program.probes if in_tasks(probe)}
    reason = "each printf says which container it is of; this is taken off again"
    for block in program.code:
        has_texts = "printf" in program.of(block)
        texts = formats(program, block) if has_texts else []
        # A scope with foreign tasks has set the variable before the block begins.
        if (texts or block in others) and block in known and not scope.has_foreign:
            yield Edit.insert(block.start + 1, f" {scope.container(known[block])}")
        for text in texts:
            yield tagged(text, "%lu" if block in known else "0", reason)
            if block in known:
                yield Edit.insert(text.end, f", {scope.variable}")


def is_tagged(format_string: Token) -> bool:
    """Whether what it makes begins with its container's number."""
    return format_string.text.startswith(f'"{DELIMITER}%lu{DELIMITER}')


def tagged(format_string: Token, number: str, reason: str) -> Edit:
    """Makes what a format makes begin with a number, before what it may begin with already."""
    tag = f"{DELIMITER}{number}{DELIMITER}"
    return Edit.insert(format_string.start + 1, tag, reason)


def untag(text: str) -> tuple[int, str]:
    """The number in a tagged text, and the text without its tag."""
    if not text.startswith(DELIMITER):
        return 0, text
    number, end, rest = text[1:].partition(DELIMITER)
    if not end or not _NUMBER.fullmatch(number):
        return 0, text
    return int(number), rest


def formats(program: Program, block: Span) -> list[Token]:
    """The format strings of a block's printf calls, in their order; not those that are macros."""
    found = []
    pending = [tree(program.text, block)]  # no recursion: brackets may be nested deeply
    while pending:
        called = False
        for node in pending.pop():
            if isinstance(node, Group):
                first = next(filter(_is_element, node.children), None)
                if called and isinstance(first, Token) and first.kind == "string":
                    found.append(first)
                pending.append(node.children)
                called = False
            elif _is_element(node):
                called = node.text == "printf"
    return sorted(found, key=lambda each: each.start)


def _is_element(node: Token | Group) -> bool:
    return isinstance(node, Group) or node.kind not in ("space", "comment")
