"""What one machine's bpftrace would print for a list of events: a model of its aggregations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Event = tuple[str, int]
"""A key and a value."""

MODULUS = 2**64

BITS = 1
LEAST, MOST, STEP = -20, 60, 10

RECORD_TYPES = {
    "count": "map",
    "sum": "map",
    "min": "map",
    "max": "map",
    "avg": "stats",
    "stats": "stats",
    "hist": "hist",
    "lhist": "hist",
}


def printed(kind: str, events: Iterable[Event], *, keyed: bool = True) -> Any:
    """The map behind its name in JSON, in no order; a map of no events is an empty one.

    Args:
        kind: The aggregation, as in `record.Map.kind`.
        events: What it is called with; a map without keys takes all of them.
        keyed: The map has keys.
    """
    by_key: dict[str, list[int]] = {}
    for key, value in events:
        by_key.setdefault(key if keyed else "", []).append(value)
    found = {key: _AGGREGATIONS[kind](values) for key, values in by_key.items()}
    return found if keyed or not found else found[""]


def _total(values: Sequence[int]) -> int:
    """A sum in 64 bits, without a sign if no value has one."""
    return sum(values) if min(values) < 0 else sum(values) % MODULUS


def _average(values: Sequence[int]) -> int:
    total = _total(values)
    quotient = abs(total) // len(values)
    return int(math.copysign(1, total)) * quotient


def _stats(values: Sequence[int]) -> dict[str, int]:
    return {"count": len(values), "average": _average(values), "total": _total(values)}


def _histogram(values: Sequence[int], bucket_of: Callable[[int], int], limits: Any) -> Any:
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1
    return [
        {**limits(index), "count": counts.get(index, 0)}
        for index in range(min(counts), max(counts) + 1)
    ]


def _hist(values: Sequence[int]) -> Any:
    """Buckets: below 0, 0, 1, ... to 2 * 2^BITS - 1, and then 2^BITS for each power of two."""
    starts = [*range(2 << BITS)]
    for power in range(BITS + 1, 65):
        starts += range(1 << power, 2 << power, 1 << (power - BITS))

    def bucket_of(value: int) -> int:
        return max((i for i, start in enumerate(starts) if start <= value), default=-1)

    def limits(index: int) -> dict[str, int]:
        if index < 0:
            return {"max": -1}
        return {"min": starts[index], "max": starts[index + 1] - 1}

    return _histogram(values, bucket_of, limits)


def _lhist(values: Sequence[int]) -> Any:
    count = (MOST - LEAST) // STEP

    def bucket_of(value: int) -> int:
        return min(max((value - LEAST) // STEP, -1), count)

    def limits(index: int) -> dict[str, int]:
        low = LEAST + index * STEP
        if index < 0:
            return {"max": LEAST - 1}
        return {"min": low} if index == count else {"min": low, "max": low + STEP - 1}

    return _histogram(values, bucket_of, limits)


_AGGREGATIONS: dict[str, Callable[[Sequence[int]], Any]] = {
    "count": len,
    "sum": _total,
    "min": min,
    "max": max,
    "avg": _average,
    "stats": _stats,
    "hist": _hist,
    "lhist": _lhist,
}
