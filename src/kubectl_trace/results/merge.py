"""Merging: many nodes' records in, what is shown out.

Maps are folded (`fold`) by rounds (`rounds`), ordered and cut as the program's print says
(`order`); all else is shown as it comes, with its node and container.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec

from kubectl_trace.errors import UsageError
from kubectl_trace.results.merge_nodes import Node, Place
from kubectl_trace.results.merge_parts import AT_EXIT, Content, read
from kubectl_trace.results.record import MAPS
from kubectl_trace.results.result import Result
from kubectl_trace.results.rounds import Rounds
from kubectl_trace.results.timestamp import Moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kubectl_trace.results.merge_parts import Printed
    from kubectl_trace.results.record import Print, Record
    from kubectl_trace.results.rounds import Round

__all__ = ["Merger"]

# Given when no node can print any more: a program ends on all nodes, but not at once.
_LAST = frozenset({"end", AT_EXIT})
# Given when their time is over: nodes that have not begun may still come.
_FIRST = frozenset({"begin"})


class Merger:
    """Makes one answer of what the runners of a trace say.

    Times called `now` are the client's own, monotonic, in seconds.

    Args:
        by: What is kept apart: `node`, `pod`, `container`, or nothing.
    """

    def __init__(self, by: str = "") -> None:
        self._by = by
        self._nodes: dict[str, Node] = {}
        self._sites: dict[tuple[int, str], _Site] = {}
        self._exit_maps: dict[str, dict[str, None]] = {}
        self._noted: set[str] = set()

    def expect(self, node: str, now: float) -> None:
        """Knows that a node runs the trace already: what it printed is still to come."""
        self._node(node).ready_since = now

    def add(self, node: str, record: Record, now: float) -> list[Result]:
        """Takes a node's next record, and gives what can be shown now.

        Raises:
            UsageError: the trace has no pods that it could be kept apart by.
        """
        mine = self._node(node)
        if record.type == "printf":
            return list(_texts(mine, record))
        if record.type == "call":
            return list(_calls(mine, record))
        if record.type in MAPS and (part := read(mine.start, record)):
            if not (mine.start and mine.start.merge):
                return [_alone(mine, record)]
            return self._on_map(mine, record, part, now)
        if record.type == "start":
            mine.begin(record.data)
            if self._by in {"pod", "container"} and not mine.scoped:
                raise UsageError(
                    f"--by {self._by}: {node} runs it for no pod; --by node keeps nodes apart"
                )
        elif record.type == "scope":
            mine.change(record.data)
        elif record.type == "ready":
            mine.ready_since = now
        return [Result(record.time, record.type, record.data, node)]

    def ended(self, node: str, now: float, *, complete: bool) -> list[Result]:
        """Knows that nothing more comes from a node, and gives what waited only for it.

        Args:
            node: The node.
            now: The client's clock.
            complete: Its last records have come; if not, it was lost.
        """
        mine = self._node(node)
        mine.ended = True
        mine.lost = not complete
        return [result for site in self._sites.values() for result in self._complete(site, now)]

    def tick(self, now: float) -> list[Result]:
        """Gives the rounds that have waited long enough."""
        late = [
            (each, site)
            for site in self._sites.values()
            if site.place.when not in _LAST
            for each in site.rounds.late(now)
        ]
        late.sort(key=lambda found: found[0].since)
        return [result for each, site in late for result in self._round(site, each)]

    def wait(self, now: float) -> float | None:
        """Seconds until `tick` has something to give; None: nothing waits."""
        due = [
            due
            for site in self._sites.values()
            if site.place.when not in _LAST and (due := site.rounds.due()) is not None
        ]
        return max(0.0, min(due) - now) if due else None

    def finish(self) -> list[Result]:
        """Gives all that still waits: all nodes have ended."""
        names = dict.fromkeys(name for _, maps in sorted(self._exit_maps.items()) for name in maps)
        exits = [self._sites[0, name] for name in names]
        sites = [site for site in self._sites.values() if site.place.when != AT_EXIT]
        rest = [(each, site) for site in sites for each in site.rounds.rest()]
        rest.sort(key=lambda found: (found[1].place.when == "end", found[0].time))
        rest += [(each, site) for site in exits for each in site.rounds.rest()]
        return [result for each, site in rest for result in self._round(site, each)]

    def _on_map(self, node: Node, record: Record, part: Printed, now: float) -> list[Result]:
        site = part.site
        if self._by == "node" or not site.when:
            notes = [] if self._by else self._note_once(_EVENT.format(map=site.map), record.time)
            return [*notes, *self._by_node(node, record, part)]
        return self._joined(node, record, part, now)

    def _joined(self, node: Node, record: Record, part: Printed, now: float) -> list[Result]:
        """A part of what is printed at about the same time on all nodes."""
        site = self._site(record.print, part)
        if site.place.when == AT_EXIT:
            self._exit_maps.setdefault(node.name, {})[site.place.map] = None
        found = site.rounds.part(node.name, record.time, now)
        if found is None:
            text = f"{site.place.map} of {node.name} came too late to be merged; shown by itself"
            late = Result(record.time, "note", text, node.name)
            return [late, *self._by_node(node, record, part)]
        return [
            *self._fill(found.content, node, part, record.time, self._by),
            *self._complete(site, now),
        ]

    def _by_node(self, node: Node, record: Record, part: Printed) -> list[Result]:
        """A map of one node, with nobody else's."""
        content = Content(part)
        notes = self._fill(content, node, part, record.time, self._by or "node")
        return [*notes, *self._shown(content, record.time)]

    def _fill(
        self, content: Content, node: Node, part: Printed, time: float, by: str
    ) -> list[Result]:
        """Adds a node's part; gives what the user should be told."""
        notes: list[Result] = []
        for number, value in part.values:
            group = node.within(by, number)
            if group is None:
                why = part.facts.whole or _NOT_KEPT
                notes += self._note_once(_WHOLE.format(map=part.site.map, by=by, why=why), time)
                group = Place(node.name)
            content.add(group, node.place(number), part.kind, value)
        return notes

    def _complete(self, site: _Site, now: float) -> list[Result]:
        """What nobody's part can come for any more."""
        if site.place.when in _LAST:
            return []
        if site.place.when in _FIRST:
            rounds = site.rounds.rest() if self._all_ended() else []
        else:
            running = {
                node.name: node.ready_since
                for node in self._nodes.values()
                if node.ready_since is not None and not node.ended
            }
            rounds = site.rounds.complete(running, now)
        return [result for each in rounds for result in self._round(site, each)]

    def _round(self, site: _Site, each: Round[Content]) -> list[Result]:
        absent = [
            node
            for node in self._nodes.values()
            if node.name not in each.nodes and self._should_be_in(node, site, each)
        ]
        return self._shown(each.content, each.time, absent)

    def _should_be_in(self, node: Node, site: _Site, each: Round[Content]) -> bool:
        if site.place.when in _LAST:
            return node.lost
        if site.place.when in _FIRST or not site.rounds.knows(node.name):
            has_begun = node.start if site.place.when in _FIRST else node.ready_since is not None
            return bool(has_begun) and (node.lost or not node.ended)
        return site.rounds.expects(node.name, each.index)

    def _shown(self, content: Content, time: float, absent: Iterable[Node] = ()) -> list[Result]:
        def missing(group: Place) -> list[str]:
            return [node.name for node in absent if node.has(group, self._by)]

        results, texts = content.results(time, missing)
        return [*(note for text in texts for note in self._note_once(text, time)), *results]

    def _note_once(self, text: str, time: float) -> list[Result]:
        if text in self._noted:
            return []
        self._noted.add(text)
        return [Result(time, "note", text)]

    def _site(self, number: int, part: Printed) -> _Site:
        key = (number, part.site.map)  # In a macro, one print may be of several maps.
        if key not in self._sites:
            self._sites[key] = _Site(part)
        return self._sites[key]

    def _node(self, name: str) -> Node:
        if name not in self._nodes:
            self._nodes[name] = Node(name)
        return self._nodes[name]

    def _all_ended(self) -> bool:
        return all(node.ended for node in self._nodes.values())


class _Site:
    """A place where the program prints a map; at its exit, bpftrace does."""

    def __init__(self, part: Printed) -> None:
        self.place: Print = part.site
        once = self.place.when in _FIRST | _LAST
        period = 0.0 if once else self.place.period
        self.rounds = Rounds(period, partial(Content, part), once=once)


_EVENT = (
    "{map} is printed at an event, which has no common time on several nodes; it is shown by node"
)
_WHOLE = "{map} can't be told by {by} ({why}); it is shown by node"
_NOT_KEPT = "the trace was begun without --by or --save, which keep maps apart"


def _alone(node: Node, record: Record) -> Result:
    """A map of a trace that isn't merged: as bpftrace printed it."""
    place = node.within("container") or node.place(0)
    data = msgspec.to_builtins(record.data) if record.type == "hist" else record.data
    return Result(record.time, record.type, data, node.name, *place[1:])


def _texts(node: Node, record: Record) -> Iterator[Result]:
    """What a `printf` record shows, in runs of texts of one container."""
    if isinstance(record.container, int):
        yield Result(record.time, "printf", record.data, *node.place(record.container))
        return
    texts = zip(record.container, record.data, strict=True)
    for number, run in groupby(texts, itemgetter(0)):
        found = [text for _, text in run]
        data = found if len(found) > 1 else found[0]
        yield Result(record.time, "printf", data, *node.place(number))


def _calls(node: Node, record: Record) -> Iterator[Result]:
    """The calls of a `call` record, each with the time when it began."""
    calls = record.data if isinstance(record.data, list) else [record.data]
    numbers = record.container
    if isinstance(numbers, int):
        numbers = [numbers] * len(calls)
    for data, number in zip(calls, numbers, strict=True):
        if (time := _begun(data)) is not None:
            yield Result(time, "call", data, *node.place(number))
        else:  # something that the traced program printed
            yield Result(record.time, "call", data, node.name)


def _begun(call: Any) -> float | None:
    """When a call began; None: it is none."""
    try:
        return msgspec.convert(call["time"], Moment)
    except (TypeError, LookupError, msgspec.ValidationError):
        return None
