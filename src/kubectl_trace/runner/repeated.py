"""What bpftrace complains of again and again, told once a second. Pure.

An update of a full map fails as often as its probe is hit: as many records as events (from 0.20
on). Events are lost in as many gaps as a buffer fills up: thousands a second (0.17).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_PERIOD = 1.0  # seconds


@dataclass
class _Seen:
    data: dict[str, Any]
    told_at: float
    untold: int = 0


class Repeated:
    """Holds back what would be told too often, and tells its number instead."""

    def __init__(self) -> None:
        self._seen: dict[tuple[object, ...], _Seen] = {}

    def take(self, kind: str, data: dict[str, Any], now: float) -> dict[str, Any] | None:
        """What to tell of one more at this time, in seconds; None: nothing yet.

        The number is in `events`, which lost events have anyway. Of errors the first comes as it
        is: what follows is about those since.
        """
        place = (kind, *(data.get(key) for key in ("helper", "retcode", "line", "col")))
        seen = self._seen.get(place)
        if seen is None:
            self._seen[place] = _Seen(data, now)
            return data
        events = data.get("events", 1)
        seen.untold += events if isinstance(events, int) else 1
        if now < seen.told_at + _PERIOD:
            return None
        seen.told_at = now
        return self._told(seen)

    def rest(self) -> list[tuple[str, dict[str, Any]]]:
        """What was not told yet, and of which type it is."""
        return [
            (str(place[0]), self._told(seen)) for place, seen in self._seen.items() if seen.untold
        ]

    @staticmethod
    def _told(seen: _Seen) -> dict[str, Any]:
        events, seen.untold = seen.untold, 0
        return {**seen.data, "events": events}
