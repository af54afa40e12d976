"""Texts that were printed in the kernel, and those that came, by probe and container. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from kubectl_trace.program import tags
from kubectl_trace.program.counting import UNKNOWN
from kubectl_trace.runner.output import Texts

if TYPE_CHECKING:
    from kubectl_trace.runner.floods import Tagged
    from kubectl_trace.runner.plan import Plan


@dataclass(frozen=True)
class LostTexts:
    """Texts of a probe and container that were printed, and did not come."""

    probe: str
    """As the user wrote it; empty: not known."""
    container: int
    """Its number; 0: of none, or not known."""
    lost: int
    seen: int


class Tally:
    """Takes the tags off each text, and counts."""

    def __init__(self, plan: Plan) -> None:
        self._counting = plan.counting
        self._has_scope = plan.scope is not None
        self._plan = plan
        self._came: Counter[tuple[int, int]] = Counter()
        self._printed: Counter[tuple[int, int]] = Counter()

    @cached_property
    def tags(self) -> int:
        """How many are before each text."""
        return bool(self._counting and self._counting.has_tags) + self._has_scope

    def one(self, text: str) -> tuple[str, int, str]:
        """The probe and the container of a text that has come, and the text alone."""
        probe, container = UNKNOWN, 0
        if self._counting is not None:
            probe, text = self._counting.untag(text)
        if self._has_scope:
            container, text = tags.untag(text)
        self._came[self._counted(probe, container)] += 1
        return self._name(probe), container, text

    def many(self, tagged: Tagged) -> Texts:
        """The same of many texts."""
        keys = {numbers: self._key(numbers) for numbers in set(tagged.numbers)}
        if len(tagged.numbers) == 1:
            ((probe, container),) = keys.values()
            self._came[self._counted(probe, container)] += len(tagged.texts)
            return Texts(tagged.texts, [container], [self._name(probe)])
        for numbers, many in Counter(tagged.numbers).items():
            self._came[self._counted(*keys[numbers])] += many
        names = {numbers: self._name(probe) for numbers, (probe, _) in keys.items()}
        return Texts(
            tagged.texts,
            [keys[numbers][1] for numbers in tagged.numbers],
            [names[numbers] for numbers in tagged.numbers],
        )

    def printed(self, value: object) -> None:
        """The hidden map that has the numbers of printed texts has come."""
        if self._counting is not None:
            self._printed = self._counting.read(value)

    @property
    def is_cut(self) -> bool:
        """Whether texts have come, and that map, which comes later, has not."""
        return self._counting is not None and bool(self._came) and not self._printed

    def lost(self) -> list[LostTexts]:
        """The texts that were printed and did not come; none where nobody knows."""
        # A key that is not there had no room in the map.
        if self._came.keys() - self._printed.keys():
            return []
        return [
            LostTexts(self._name(probe), container, seen - self._came[probe, container], seen)
            for (probe, container), seen in self._printed.items()
            if seen > self._came[probe, container]
        ]

    def _counted(self, probe: int, container: int) -> tuple[int, int]:
        """Under which numbers the hidden map has a text of this probe and container."""
        by_container = self._counting is not None and self._counting.by_container
        return probe, container if by_container else 0

    def _key(self, numbers: tuple[int, ...]) -> tuple[int, int]:
        """The probe and the container of a text with these numbers before it."""
        probe = UNKNOWN
        if self._counting is not None:
            probe = numbers[0] if self._counting.has_tags else self._counting.probes[0]
        return probe, numbers[-1] if self._has_scope else 0

    def _name(self, probe: int) -> str:
        return "" if probe == UNKNOWN else self._plan.probes[probe]
