"""Moments as every output writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated

import msgspec

Moment = Annotated[float, msgspec.Meta(ge=0, lt=253_402_300_799)]
"""Seconds since 1970, UTC, up to the year 9999: what `timestamp` can write."""


def timestamp(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC, with microseconds."""
    microseconds = round(seconds * 1_000_000)
    return f"{_second(microseconds // 1_000_000)}.{microseconds % 1_000_000:06}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
