"""Folding histograms: counts add by bucket, and bpftrace's gaps are filled.

bpftrace (0.17, 0.23: src/output.cpp, 0.27: src/types_format.cpp) has an entry for each bucket from
the first that isn't empty to the last. Which buckets lie between two that came from two nodes
follows from the others: those of `hist()` are powers of two, each in 2^bits parts, and those of
`lhist()` are all of one width. If nobody has seen a bucket that tells the width (of `lhist()` only
the open ends), the empty ones between are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from operator import add
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from kubectl_trace.results.record import Bucket
from kubectl_trace.results.text import hist_bits

# bpftrace's own limit is 1000 for lhist(), and hist() has 65 * 2^5 at most.
_MOST_BUCKETS = 65 * 2**5

# hist()'s `bits`.
_MOST_BITS = 5

_Low = int | UnsetType
_Limits = tuple[_Low, int | UnsetType]
_Width = Callable[[int], int]


class UnmergeableError(Exception):
    """A part of a map that can't be made one with the others; the text says why to the user."""


class Histograms:
    """The histograms of one map, `hist()`'s or `lhist()`'s.

    Args:
        linear: They are `lhist()`'s; None: the buckets tell.
    """

    all_or_none = False

    def __init__(self, *, linear: bool | None) -> None:
        self._linear = linear
        self._counts: dict[str | None, dict[_Low, int]] = {}
        # A bucket's greatest value by its least.
        self._limits: dict[_Low, int | UnsetType] = {}

    def add(self, part: dict[str | None, Any]) -> None:
        """Folds in a part: lists of `Bucket`, or of buckets as JSON has them, by key."""
        histograms = _histograms(part)
        counts = {
            key: {bucket.min: bucket.count for bucket in buckets}
            for key, buckets in histograms.items()
        }
        self._limits |= self._new_limits(counts, histograms)
        for key, new in counts.items():
            mine = self._counts.get(key)
            if mine is None:
                self._counts[key] = new
            elif list(mine) == list(new):
                self._counts[key] = dict(
                    zip(mine, map(add, mine.values(), new.values()), strict=True)
                )
            else:
                for low, count in new.items():
                    mine[low] = mine.get(low, 0) + count

    def values(self) -> dict[str | None, list[dict[str, int]]]:
        """The histograms as JSON has them."""
        limits = self._filled()
        place = {low: i for i, (low, _) in enumerate(limits)}
        return {key: _buckets(counts, limits, place) for key, counts in self._counts.items()}

    def _new_limits(
        self, counts: dict[str | None, dict[_Low, int]], histograms: dict[str | None, list[Bucket]]
    ) -> dict[_Low, int | UnsetType]:
        found: dict[_Low, int | UnsetType] = {}
        known = self._limits.keys()
        for key, lows in counts.items():
            # Of a histogram of known buckets, the rest is as its end is.
            seen = lows.keys() <= known
            for bucket in histograms[key][-1:] if seen else histograms[key]:
                if self._limits.get(bucket.min, bucket.max) != bucket.max:
                    raise UnmergeableError("its histograms have different buckets")
                found[bucket.min] = bucket.max
        return found

    def _filled(self) -> list[_Limits]:
        """All buckets from the least to the greatest, also those that nobody has seen."""
        lows = sorted(low for low in self._limits if low is not UNSET)
        known: list[_Limits] = [(low, self._limits[low]) for low in lows]
        if UNSET in self._limits:
            known.insert(0, (UNSET, self._limits[UNSET]))
        width = self._width_from(known)
        filled = known[:1]
        for (_, high), limits in pairwise(known):
            filled += _between(high, limits[0], width)
            filled.append(limits)
            if len(filled) > _MOST_BUCKETS:
                return known
        return filled

    def _width_from(self, known: list[_Limits]) -> _Width:
        """How wide the bucket is that begins at a value; 0: it can't be told."""
        wide = [
            (low, high - low + 1)
            for low, high in known
            if low is not UNSET and high is not UNSET and high > low
        ]
        if self._linear is None:
            bits = hist_bits(
                [msgspec.to_builtins(Bucket(min=low, max=high, count=0)) for low, high in known]
            )
        elif self._linear:
            bits = None
        else:
            bits = (wide[0][0] // wide[0][1]).bit_length() - 1 if wide else _MOST_BITS
        if bits is None:
            step = _step(known)
            return lambda _: step
        return lambda low: 1 << max(0, low.bit_length() - 1 - bits)


def _step(known: list[_Limits]) -> int:
    """The width of `lhist()`'s buckets."""
    for low, high in known:
        if low is not UNSET and high is not UNSET:
            return high - low + 1
    return 0


def _between(below: int | UnsetType, above: _Low, width: _Width) -> list[_Limits]:
    """The buckets between one that ends and one that begins."""
    found: list[_Limits] = []
    if below is UNSET or above is UNSET:
        return found
    low = below + 1
    while (step := width(low)) and (high := low + step - 1) < above:
        found.append((low, high))
        if len(found) > _MOST_BUCKETS:
            break
        low = high + 1
    return found


def _buckets(
    counts: dict[_Low, int], limits: list[_Limits], place: dict[_Low, int]
) -> list[dict[str, int]]:
    """One histogram, from its first bucket to its last."""
    if not counts:
        return []
    places = [place[low] for low in counts]
    return [
        _bucket(low, high, counts.get(low, 0))
        for low, high in limits[min(places) : max(places) + 1]
    ]


def _bucket(low: _Low, high: int | UnsetType, count: int) -> dict[str, int]:
    if low is UNSET:
        return {"max": high, "count": count} if high is not UNSET else {"count": count}
    if high is UNSET:
        return {"min": low, "count": count}
    return {"min": low, "max": high, "count": count}


def _histograms(part: dict[str | None, Any]) -> dict[str | None, list[Bucket]]:
    for buckets in part.values():
        if not isinstance(buckets, list) or (buckets and not isinstance(buckets[0], Bucket)):
            break
    else:
        return part
    try:
        return msgspec.convert(part, dict[str | None, list[Bucket]])
    except msgspec.ValidationError:
        raise UnmergeableError("it has values that are no histograms") from None
