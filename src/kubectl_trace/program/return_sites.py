"""Uretprobes on Go functions, made uprobes on their return instructions.

A uretprobe changes the return address on the stack, and Go, which moves its stacks, dies of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.program.rewrite import Edit
from kubectl_trace.program.tokens import ProgramError, Span, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kubectl_trace.program.syntax import AttachPoint, Probe, Program

_RETVAL = "retval"


@dataclass(frozen=True)
class Sites:
    """Where the functions that an attach point means return."""

    places: tuple[tuple[str, int], ...]
    """Files, and the numbers that bpftrace attaches to."""
    result: str
    """An expression for the first result; empty: it can't be read."""


def split(program: Program, wanted: Mapping[int, Sites]) -> Iterator[Edit]:
    """Makes one probe two where some of its attach points are to be replaced and some are not.

    Args:
        program: The program.
        wanted: By the offsets of attach points.
    """
    for probe in program.probes:
        ours = [point.span for point in probe.attach_points if point.span.start in wanted]
        others = [point.span for point in probe.attach_points if point.span.start not in wanted]
        if not ours or not others:
            continue
        rest = Span((probe.predicate or probe.block).start, probe.block.end)
        pieces: list[str | Span] = []
        for spans in (ours, others):
            for span in spans:
                pieces += [span, ", "]
            pieces[-1] = " "
            pieces += [rest, " "]
        yield Edit(probe.span, tuple(pieces[:-1]), "two probes: Go's returns are found another way")


def replace(program: Program, wanted: Mapping[int, Sites]) -> Iterator[Edit]:
    """The uretprobes as uprobes, and `retval` in them as the first result's register.

    After `split`. Args: as there.

    Raises:
        ProgramError: `retval` is used where the results can't be read, or are not in one place.
    """
    for probe in program.probes:
        points = [point for point in probe.attach_points if point.span.start in wanted]
        if not points:
            continue
        for point in points:
            yield _attach_point(point, wanted[point.span.start])
        yield from _results(program, probe, [wanted[point.span.start] for point in points])


def _attach_point(point: AttachPoint, sites: Sites) -> Edit:
    written = ", ".join(f'uprobe:"{path}":{number:#x}' for path, number in sites.places)
    reason = (
        "a uretprobe can crash a Go program: these are the function's return instructions instead"
    )
    return Edit(point.span, (written,), reason)


def _results(program: Program, probe: Probe, sites: Sequence[Sites]) -> Iterator[Edit]:
    expressions = {each.result for each in sites}
    for part in filter(None, (probe.predicate, probe.block)):
        before = ""
        for token in tokens(program.text, part):
            if token.kind in ("space", "comment"):
                continue
            is_member = before in (".", ">")
            before = token.text
            if token.kind != "word" or token.text != _RETVAL or is_member:
                continue
            if len(expressions) > 1 or "" in expressions:
                raise ProgramError(
                    "retval: where these functions have their first result is not known, or "
                    "differs; `kubectl trace calls` shows results by their types",
                    token.start,
                )
            (expression,) = expressions
            span = Span(token.start, token.start + len(token.text))
            yield Edit(span, (expression,), f"the first result is in {expression}")
