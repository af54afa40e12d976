"""Rounds: which prints of different nodes belong together.

A program prints a map at one place again and again, on each node with a phase of its own. Each
node's prints are numbered by the time since its own first one, and the nodes are placed against
each other by the times of these; so what is joined is never further apart than half a period, if
the nodes' clocks agree. Where the period isn't known, or is so short that what was read at once
holds several, prints are joined in their order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LEAST_PERIOD = 0.1
"""Seconds; records of shorter ones have times that don't tell them apart."""

_PATIENCE = 2.0
"""Seconds for which a round waits for its parts at least."""

_REMEMBERED = 1000
"""Rounds that were given, and which a late part is still known to be of."""

Content = TypeVar("Content")


def patience(period: float) -> float:
    """Seconds that a round waits for parts after its first."""
    return max(_PATIENCE, 2 * period)


@dataclass
class Round(Generic[Content]):
    """One print on all nodes."""

    index: int
    content: Content
    since: float
    """When its first part came, on the client's clock."""
    nodes: set[str] = field(default_factory=set)
    """Those whose part has come."""
    time: float = 0
    """The latest of its parts' times."""


@dataclass
class _Numbered:
    """A node's prints."""

    first: int
    first_time: float
    last: int
    last_time: float


class Rounds(Generic[Content]):
    """The rounds of one place where the program prints a map.

    Args:
        period: Seconds between two; 0: not known.
        content: Makes what a new round holds.
        once: A node comes here once: first prints belong together, however late they are.
    """

    def __init__(
        self, period: float, content: Callable[[], Content], *, once: bool = False
    ) -> None:
        self._period = period if period >= _LEAST_PERIOD else 0.0
        self._patience = patience(period)
        self._content = content
        self._once = once
        self._nodes: dict[str, _Numbered] = {}
        self._latest: _Numbered | None = None
        self._open: dict[int, Round[Content]] = {}
        # In the order they were given; of very old ones nothing is remembered.
        self._given: dict[int, None] = {}

    def part(self, node: str, time: float, now: float) -> Round[Content] | None:
        """The round that a node's next print is of; None: it has been given already.

        Args:
            node: Whose print it is.
            time: When it was, on the node's clock.
            now: The client's clock.
        """
        index = self._number(node, time)
        if index in self._given:
            if not self._period:
                # It has missed some, and is not to lag for ever.
                self._nodes[node].last = max(self._given)
            return None
        if index not in self._open:
            self._open[index] = Round(index, self._content(), now)
        found = self._open[index]
        found.nodes.add(node)
        found.time = max(found.time, time)
        return found

    def complete(self, running: Mapping[str, float], now: float) -> list[Round[Content]]:
        """Takes the rounds out that no running node's part can still come for.

        Args:
            running: The nodes, with the times since when each is running.
            now: The client's clock.
        """
        return self._take(
            lambda each: all(self._has_passed(node, each, running, now) for node in running)
        )

    def late(self, now: float) -> list[Round[Content]]:
        """Takes the rounds out that have waited long enough."""
        return self._take(lambda each: now >= each.since + self._patience)

    def rest(self) -> list[Round[Content]]:
        """Takes all rounds out."""
        return self._take(lambda _: True)

    def due(self) -> float | None:
        """When, on the client's clock, the next round has waited long enough."""
        return min((each.since + self._patience for each in self._open.values()), default=None)

    def knows(self, node: str) -> bool:
        """Whether the node has printed here."""
        return node in self._nodes

    def expects(self, node: str, index: int) -> bool:
        """Whether a node that has printed here had begun to when it was this round's turn."""
        return self._nodes[node].first <= index

    def _number(self, node: str, time: float) -> int:
        mine = self._nodes.get(node)
        if mine is None:
            index = self._place(time)
            mine = self._nodes[node] = _Numbered(index, time, index, time)
        else:
            index = mine.last + 1
            if self._period:
                index = max(index, mine.first + round((time - mine.first_time) / self._period))
            mine.last, mine.last_time = index, time
        self._latest = mine
        return index

    def _place(self, time: float) -> int:
        """The number of a node's first print."""
        if not self._latest or self._once:
            return 0
        if self._period:
            elapsed = time - self._latest.last_time
            return self._latest.last + round(elapsed / self._period)
        return max(self._given, default=-1) + 1

    def _has_passed(
        self, node: str, each: Round[Content], running: Mapping[str, float], now: float
    ) -> bool:
        if node in each.nodes:
            return True
        mine = self._nodes.get(node)
        if mine is None:
            # It may never get to this place.
            return now >= running[node] + self._patience
        return mine.last > each.index

    def _take(self, wanted: Callable[[Round[Content]], bool]) -> list[Round[Content]]:
        taken = [self._open[index] for index in sorted(self._open) if wanted(self._open[index])]
        for each in taken:
            del self._open[each.index]
            self._given[each.index] = None
        while len(self._given) > _REMEMBERED:
            del self._given[next(iter(self._given))]
        return taken
