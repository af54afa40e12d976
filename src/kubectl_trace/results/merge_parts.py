"""A printed map's record as parts, and the parts of several records as results."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from kubectl_trace.results.fold import Parts, form
from kubectl_trace.results.order import ordered, printed
from kubectl_trace.results.record import MAPS, Map, Print
from kubectl_trace.results.result import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubectl_trace.results.merge_nodes import Place
    from kubectl_trace.results.record import Record, Start

AT_EXIT = "exit"
"""When bpftrace itself prints, beside what `record.Print.when` may be."""


class Printed(NamedTuple):
    """A map as one node printed it."""

    site: Print
    """Which place in the program it was printed at."""
    facts: Map
    kind: str
    """The record's type."""
    values: list[tuple[int, Any]]
    """Its values with the numbers of the containers; 0: all that the node saw."""


def read(start: Start | None, record: Record) -> Printed | None:
    """A record as a printed map; None: it is none."""
    if record.type not in MAPS:
        return None
    site = Print(map="")
    if start and 0 < record.print <= len(start.prints):
        site = start.prints[record.print - 1]
    elif not record.print:
        site = Print(map="", when=AT_EXIT)
    if isinstance(record.data, dict) and isinstance(record.container, int):
        maps, numbers = [record.data], [record.container]
    elif isinstance(record.data, list) and isinstance(record.container, list):
        maps, numbers = record.data, record.container
    else:
        return None
    names = {name for each in maps for name in each} or {site.map}
    if len(names) != 1 or len(maps) != len(numbers) or not (name := names.pop()):
        return None
    facts = start.maps.get(name, Map()) if start else Map()
    values = [
        (number, each[name]) for number, each in zip(numbers, maps, strict=True) if name in each
    ]
    return Printed(msgspec.structs.replace(site, map=name), facts, record.type, values)


class Content:
    """The parts of one print, by what they are merged within."""

    def __init__(self, printed: Printed) -> None:
        self._site = printed.site
        self._facts = printed.facts
        self._kind = printed.kind
        # By form, too: parts of different ones can't be folded.
        self._groups: dict[Place, dict[str, Parts[Place]]] = {}
        self._kinds: dict[str, str] = {}

    def add(self, group: Place, source: Place, kind: str, value: Any) -> None:
        """Takes a part.

        Args:
            group: What it is merged within.
            source: Where it is from.
            kind: Its record's type.
            value: What bpftrace's JSON has behind the map's name.
        """
        parts = self._groups.setdefault(group, {})
        if value == {}:
            return  # An empty map is there, but has nothing to fold.
        its_form = form(kind, value)
        self._kinds[its_form] = kind
        parts.setdefault(its_form, Parts(its_form, self._facts)).add(source, value)

    def results(
        self, time: float, missing: Callable[[Place], Sequence[str]] = lambda _: ()
    ) -> tuple[list[Result], list[str]]:
        """What is shown of it, and what the user should be told about it.

        Args:
            time: When it was printed.
            missing: The nodes that have no part in a group, and should have.
        """
        results: list[Result] = []
        notes: list[str] = []
        for group, by_form in sorted(self._groups.items()):
            absent = set(missing(group))
            if not by_form:
                results.append(self._result(time, self._kind, {}, group, absent))
            sources = {source.node for parts in by_form.values() for source in parts.sources}
            for its_form, parts in sorted(by_form.items()):
                kind = self._kinds[its_form]
                aside = parts.aside()
                alone = {source for source, _, _ in aside}
                taken = {source.node for source in parts.sources if source not in alone}
                if (value := parts.merged()) is not None:
                    if len(parts.sources) > 1:
                        value = ordered(kind, self._facts, value)
                    place = group if len(taken) > 1 or not group.pod else _on(group, taken)
                    without = absent | (sources - taken)
                    results.append(self._result(time, kind, value, place, without))
                for source, value, reason in sorted(aside, key=itemgetter(0)):
                    results.append(self._result(time, kind, value, source, set()))
                    notes.append(f"{self._site.map} can't be merged: {reason}; shown by node")
        return results, notes

    def _result(
        self, time: float, kind: str, value: Any, place: Place, missing: set[str]
    ) -> Result:
        return Result(
            time,
            kind,
            {self._site.map: printed(kind, self._facts, self._site, value)},
            *place,
            missing=tuple(sorted(missing)),
        )


def _on(group: Place, nodes: set[str]) -> Place:
    """The group, all of whose parts are from one node."""
    return group._replace(node=next(iter(nodes)))
