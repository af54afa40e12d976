"""The same error of a helper again and again, told once a second. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_PERIOD = 1.0  # seconds


@dataclass
class _Seen:
    data: dict[str, Any]
    told_at: float
    untold: int = 0


class HelperErrors:
    """From 0.20 on bpftrace gives a record for each event at which a helper fails.

    An update of a full map fails as often as its probe is hit: as many records as events.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[object, ...], _Seen] = {}

    def take(self, data: dict[str, Any], now: float) -> dict[str, Any] | None:
        """What to tell of one more error at this time, in seconds; None: nothing yet."""
        place = (data.get("helper"), data.get("retcode"), data.get("line"), data.get("col"))
        seen = self._seen.get(place)
        if seen is None:
            self._seen[place] = _Seen(data, now)
            return data
        seen.untold += 1
        if now < seen.told_at + _PERIOD:
            return None
        seen.told_at = now
        return self._told(seen)

    def rest(self) -> list[dict[str, Any]]:
        """What was not told yet."""
        return [self._told(seen) for seen in self._seen.values() if seen.untold]

    @staticmethod
    def _told(seen: _Seen) -> dict[str, Any]:
        events, seen.untold = seen.untold, 0
        return {**seen.data, "events": events}
