"""A program that counts its own texts, so that it is known how many are lost.

Bpftrace does not tell all (each seen): 0.17 tells with the next text that finds room in a CPU's
buffer what was lost before it, and so not what is lost last; 0.23.2 looks at its counter until it
is told to end, and loses on while it detaches; 0.27.1 tells nothing. With the number of texts in a
map, which nothing is lost of, the difference to those that came is the truth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_trace.program import syntax
from kubectl_trace.program.rewrite import Edit
from kubectl_trace.program.tokens import Group, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubectl_trace.program.rewrite import Rewritten
    from kubectl_trace.program.syntax import Program
    from kubectl_trace.program.tokens import Tree

MAP = "@kubectl_trace_texts"
"""The map with their number."""

_REASON = f"{MAP} counts the texts, so that lost ones are known; this map is not shown"


def counted(source: Rewritten) -> Rewritten:
    """The program with its texts counted; as it is, where it has none or that can't be done."""
    program = syntax.parse(source.text)
    if MAP in source.text or any("printf" in text for text in _elsewhere(program)):
        return source
    blocks = [probe.block for probe in program.probes]
    try:
        edits = [edit for block in blocks for edit in _edits(tree(program.text, block))]
    except _InsideExpressionError:
        return source
    return source.edit(edits)


def _elsewhere(program: Program) -> Iterator[str]:
    """Code that is not a probe's: bpftrace's own macros may use no map that they are not given."""
    yield from program.macros.values()
    probes = {probe.block for probe in program.probes}
    yield from (program.of(block) for block in program.code if block not in probes)


class _InsideExpressionError(Exception):
    """Whether this printf prints depends on more than its statement being reached."""


def _edits(nodes: Tree) -> Iterator[Edit]:
    """Raises _InsideExpressionError: a printf is not a statement of its own."""
    # No recursion: brackets may be nested as deep as anyone likes.
    pending: list[tuple[Tree, bool]] = [(nodes, True)]
    while pending:
        children, begins = pending.pop()
        for node in children:
            if isinstance(node, Group):
                begins = node.bracket == "{"
                pending.append((node.children, begins))
            elif node.kind not in ("space", "comment"):
                if node.kind == "word" and node.text == "printf":
                    if not begins:
                        raise _InsideExpressionError
                    yield Edit.insert(node.start, f"{MAP} = count(); ", _REASON)
                begins = node.text == ";"
