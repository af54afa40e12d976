"""Changes to a program's text that remember where in the user's text each part comes from."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from kubectl_trace.program.tokens import Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Edit:
    """A part of the text, and what stands there instead: new text, and copies of parts of it."""

    span: Span
    pieces: tuple[str | Span, ...]
    reason: str
    """For the user; empty where another edit's reason says it."""

    @staticmethod
    def insert(offset: int, text: str, reason: str = "") -> Edit:
        """New text at an offset."""
        return Edit(Span(offset, offset), (text,), reason)


@dataclass(frozen=True, slots=True)
class Change:
    """Why a part of the user's text runs as something else."""

    offset: int
    """In the user's text."""
    reason: str


@dataclass(frozen=True, slots=True)
class _Segment:
    """A piece of the result: from the user's text, or not (hidden)."""

    start: int
    """In the result."""
    origin: int
    """In the user's text: where it comes from, or where it was put in."""
    hidden: bool


@dataclass(frozen=True)
class Rewritten:
    """A text made from the user's, what each of its characters was there, and why it changed."""

    text: str
    segments: tuple[_Segment, ...]
    changes: tuple[Change, ...] = ()

    @staticmethod
    def of(text: str) -> Rewritten:
        """The user's text, not changed."""
        return Rewritten(text, (_Segment(0, 0, False),))

    @cached_property
    def _starts(self) -> list[int]:
        return [segment.start for segment in self.segments]

    def origin(self, offset: int) -> int:
        """Where in the user's text an offset of this one comes from."""
        segment = self._segment(offset)
        return segment.origin + (0 if segment.hidden else offset - segment.start)

    def is_hidden(self, offset: int) -> bool:
        """Whether the character at this offset is none of the user's."""
        return self._segment(offset).hidden

    def _segment(self, offset: int) -> _Segment:
        return self.segments[bisect.bisect_right(self._starts, offset) - 1]

    def edit(self, edits: Iterable[Edit]) -> Rewritten:
        """This text with parts changed. Edits at one place apply in the order given.

        Raises:
            ValueError: two edits overlap.
        """
        ordered = sorted(edits, key=lambda edit: edit.span.start)
        if any(first.span.end > second.span.start for first, second in pairwise(ordered)):
            raise ValueError("edits overlap")
        builder = _Builder(self)
        position = 0
        for edit in ordered:
            builder.copy(Span(position, edit.span.start))
            for piece in edit.pieces:
                if isinstance(piece, Span):
                    builder.copy(piece)
                else:
                    builder.add(piece, self.origin(edit.span.start))
            position = edit.span.end
        builder.copy(Span(position, len(self.text)))
        reasons = (
            Change(self.origin(edit.span.start), edit.reason) for edit in ordered if edit.reason
        )
        return builder.result((*self.changes, *reasons))


class _Builder:
    def __init__(self, source: Rewritten) -> None:
        self._source = source
        self._texts: list[str] = []
        self._segments: list[_Segment] = []
        self._length = 0

    def add(self, text: str, origin: int) -> None:
        if text:
            self._append(text, origin, hidden=True)

    def copy(self, span: Span) -> None:
        source = self._source
        index = bisect.bisect_right(source._starts, span.start) - 1
        position = span.start
        while position < span.end:
            segment = source.segments[index]
            index += 1
            after = source.segments[index].start if index < len(source.segments) else span.end
            end = min(after, span.end)
            origin = segment.origin + (0 if segment.hidden else position - segment.start)
            self._append(source.text[position:end], origin, hidden=segment.hidden)
            position = end

    def result(self, changes: Sequence[Change]) -> Rewritten:
        segments = self._segments or [_Segment(0, 0, False)]
        return Rewritten("".join(self._texts), tuple(segments), tuple(changes))

    def _append(self, text: str, origin: int, *, hidden: bool) -> None:
        self._segments.append(_Segment(self._length, origin, hidden))
        self._texts.append(text)
        self._length += len(text)
