"""A program that counts its own texts, so that it is known how many are lost.

Bpftrace does not tell all (each seen): 0.17 tells with the next text that finds room in a CPU's
buffer what was lost before it, and so not what is lost last; 0.23.2 looks at its counter until it
is told to end, and loses on while it detaches; 0.27.1 tells nothing. With the number of texts in a
map, which nothing is lost of, the difference to those that came is the truth.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.program import syntax, tags
from kubectl_trace.program.rewrite import Edit
from kubectl_trace.program.tokens import Group, tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kubectl_trace.program.rewrite import Rewritten
    from kubectl_trace.program.syntax import Probe, Program
    from kubectl_trace.program.tokens import Token, Tree

MAP = "@kubectl_trace_texts"
"""The map with their numbers."""

UNKNOWN = -1
"""In place of a probe: whose texts they are can't be told; they are counted as one number."""

_REASON = f"{MAP} counts the texts, so that lost ones are known; this map is not shown"
_TAG_REASON = "each printf says which probe it is of; this is taken off again"
_KEY = re.compile(r"[0-9]{1,20}(?:,[0-9]{1,20})*")


@dataclass(frozen=True)
class Counting:
    """How a program's texts are counted: by probe and, in a scope, by container."""

    probes: tuple[int, ...]
    """Those that print, by their places in the program that runs; `UNKNOWN`: that can't be told."""
    by_container: bool

    @property
    def has_tags(self) -> bool:
        """Whether each text begins with its probe's number."""
        return len(self.probes) > 1

    def untag(self, text: str) -> tuple[int, str]:
        """The probe of a text as it was printed, and the text without its tag."""
        if not self.has_tags:
            return self.probes[0], text
        return tags.untag(text)

    def read(self, value: object) -> Counter[tuple[int, int]]:
        """The numbers of texts by probe and container (0: of none), as the map has them."""
        if isinstance(value, int):
            return Counter({(self.probes[0], 0): value})
        found: Counter[tuple[int, int]] = Counter()
        for key, number in value.items() if isinstance(value, dict) else ():
            if isinstance(number, int) and _KEY.fullmatch(key):
                parts = [int(each) for each in key.split(",")]
                probe = parts.pop(0) if self.has_tags else self.probes[0]
                found[probe, parts[0] if parts else 0] += number
        return found


def counted(source: Rewritten, variable: str = "") -> tuple[Rewritten, Counting | None]:
    """The program with its texts counted; as it is and None, where that is not done.

    It has no texts, or one is in an expression or in what several probes may share.

    Args:
        source: The program, limited to its scope if it has one.
        variable: What has the container's number there, in probes that fire in tasks.
    """
    program = syntax.parse(source.text)
    if MAP in source.text or any("printf" in text for text in _elsewhere(program)):
        return source, None
    try:
        starts = {at: _starts(program, probe) for at, probe in enumerate(program.probes)}
    except _InsideExpressionError:
        return source, None
    printing = tuple(at for at, each in starts.items() if each)
    if not printing:
        return source, None
    formats: dict[int, Sequence[Token | None]] = {
        at: tags.formats(program, program.probes[at].block) for at in printing
    }
    counting = Counting(printing, bool(variable))
    if any(len(formats[at]) != len(starts[at]) for at in printing):
        # One is a macro, which takes no tag.
        counting = Counting((UNKNOWN,), by_container=False)
        formats = {at: [None] * len(starts[at]) for at in printing}
    edits: list[Edit] = []
    for at in printing:
        for start, text in zip(starts[at], formats[at], strict=True):
            keys = [str(at)] if counting.has_tags else []
            if counting.by_container:
                # A sum, as in `merging`: its type is known at once.
                is_tagged = text is not None and tags.is_tagged(text)
                keys.append(f"(uint64)0 + {variable}" if is_tagged else "(uint64)0")
            key = f"[{', '.join(keys)}]" if keys else ""
            edits.append(Edit.insert(start, f"{MAP}{key} = count(); ", _REASON))
            if counting.has_tags and text is not None:
                edits.append(tags.tagged(text, str(at), _TAG_REASON))
    return source.edit(edits), counting


def is_at(text: str, offset: int) -> bool:
    """Whether what stands at an offset of a program that runs counts its texts."""
    start = text.rfind(MAP, 0, offset + len(MAP))
    return start >= 0 and ";" not in text[start:offset]


def _elsewhere(program: Program) -> Iterator[str]:
    """Code that is not a probe's: bpftrace's own macros may use no map that they are not given."""
    yield from program.macros.values()
    probes = {probe.block for probe in program.probes}
    yield from (program.of(block) for block in program.code if block not in probes)


class _InsideExpressionError(Exception):
    """Whether this printf prints depends on more than its statement being reached."""


def _starts(program: Program, probe: Probe) -> list[int]:
    """Where the printf statements begin.

    Raises:
        _InsideExpressionError: a printf is not a statement of its own.
    """
    found = []
    # No recursion: brackets may be nested as deep as anyone likes.
    pending: list[tuple[Tree, bool]] = [(tree(program.text, probe.block), True)]
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
                    found.append(node.start)
                begins = node.text == ";"
    return sorted(found)
