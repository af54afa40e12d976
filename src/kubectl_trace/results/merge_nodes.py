"""What merging knows of a node: what its runner runs, and the containers of its scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from kubectl_trace.results.record import ScopeChange, Start

if TYPE_CHECKING:
    from kubectl_trace.results.record import Member


class Place(NamedTuple):
    """Where a result is from; empty: from several, or not known."""

    node: str = ""
    namespace: str = ""
    pod: str = ""
    container: str = ""


class Node:
    """A runner's node, as its records tell of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.start: Start | None = None
        self.ready_since: float | None = None
        """When its probes were attached, on the client's clock."""
        self.ended = False
        self.lost = False
        """Its last records didn't come."""
        self._place = Place(name)
        self._members: dict[int, Place] = {}

    def begin(self, data: Any) -> None:
        """Knows its `start` record; one that is none is passed over."""
        try:
            self.start = msgspec.convert(data, Start)
        except msgspec.ValidationError:
            return
        self._learn(self.start.containers)

    def change(self, data: Any) -> None:
        """Knows a `scope` record; one that is none is passed over."""
        try:
            self._learn(msgspec.convert(data, ScopeChange).joined)
        except msgspec.ValidationError:
            return

    def place(self, container: int) -> Place:
        """Where the results of one of its containers are from, by number; 0: not known."""
        return self._members.get(container, self._place)

    def within(self, by: str, container: int = 0) -> Place | None:
        """What a container's results are merged within.

        Args:
            by: `node`, `pod`, `container`, or nothing.
            container: Its number; 0: all that the node saw.

        Returns:
            None if the node saw several, and so it can't be told.
        """
        if not by:
            return Place()
        if by == "node":
            return self._place
        if container in self._members:
            return _within(self._members[container], by)
        found = {_within(member, by) for member in self._members.values()}
        return found.pop() if len(found) == 1 else None

    def has(self, group: Place, by: str) -> bool:
        """Whether some of its results are merged within the group."""
        if not by:
            return True
        if group.pod:
            return any(_within(member, by) == group for member in self._members.values())
        return group.node == self.name

    @property
    def scoped(self) -> bool:
        """It has, or had, containers in its scope."""
        return bool(self._members)

    def _learn(self, members: tuple[Member, ...]) -> None:
        for each in members:
            self._members[each.number] = Place(self.name, each.namespace, each.pod, each.container)


def _within(member: Place, by: str) -> Place:
    return member._replace(node="", container=member.container if by == "container" else "")
