"""Folding: the parts of one map, each from a node or a container, become one map.

It is done as bpftrace itself folds the parts that its map has, one a CPU (0.23: src/utils.h, 0.27:
src/util/stats.h and src/util/tseries.cpp): counts and sums add, min and max fold, averages come
from count and total, histograms add by bucket, and time series by interval. Of a value that was
assigned, a CPU's part isn't told from another's: such maps are one only where no key has two
values.

Numbers wrap at 64 bits, as they do in bpftrace. Its JSON doesn't say which are signed: a map is if
it has a negative number in any part.
"""

from __future__ import annotations

from operator import add
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import msgspec

from kubectl_trace.results.fold_buckets import Histograms, UnmergeableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_trace.results.record import Map

_STATS = {"count", "average", "total"}

Keyed = dict[str | None, Any]
"""A map's values by key; one without keys has the key None."""


class Fold(Protocol):
    """The parts of one kind of map, folded so far."""

    all_or_none: bool
    """If a part can't be folded in, then which of them stands for the map can't be told."""

    def add(self, part: Keyed) -> None:
        """Folds a part in.

        Raises:
            UnmergeableError: it can't be, and nothing has changed.
        """
        ...

    def values(self) -> Keyed:
        """What the parts make together."""
        ...


Source = TypeVar("Source")


class Parts(Generic[Source]):
    """The parts of one map in the order they come; each has a source, such as a node.

    What they are in the end doesn't depend on that order.
    """

    def __init__(self, form: str, facts: Map) -> None:
        self._form = form
        self._fold = _fold_of(form, facts)
        self._average = form == "stats" and facts.kind == "avg"
        # A part alone stays as it came: nothing about it has to be guessed.
        self._only: tuple[Source, Any] | None = None
        self._kept: list[tuple[Source, Any]] = []
        self._aside: list[tuple[Source, Any, str]] = []
        self.sources: list[Source] = []

    def add(self, source: Source, value: Any) -> None:
        """Takes a part: what bpftrace's JSON has behind the map's name."""
        self.sources.append(source)
        if len(self.sources) == 1:
            self._only = (source, value)
            return
        if self._only:
            self._take(*self._only)
            self._only = None
        self._take(source, value)

    def merged(self) -> Any:
        """The parts as one value, as bpftrace's JSON would have it; None if no two can be one."""
        if self._only:
            return self._shown(self._only[1])
        if len(self._aside) == len(self.sources) or (self._aside and self._fold.all_or_none):
            return None
        values = self._fold.values()
        value = values.get(None, values)
        return averages(value) if self._average else value

    def aside(self) -> list[tuple[Source, Any, str]]:
        """The parts that aren't in `merged`, each with its source and the reason."""
        aside = list(self._aside)
        if aside and self._fold.all_or_none:
            aside += [(*kept, aside[0][2]) for kept in self._kept]
        return [(source, self._shown(value), reason) for source, value, reason in aside]

    def _take(self, source: Source, value: Any) -> None:
        try:
            self._fold.add(_keyed(self._form, value))
        except UnmergeableError as error:
            self._aside.append((source, value, str(error)))
        else:
            if self._fold.all_or_none:
                self._kept.append((source, value))

    def _shown(self, value: Any) -> Any:
        if self._average:
            return averages(value)
        return msgspec.to_builtins(value) if self._form == "hist" else value


def form(kind: str, value: Any) -> str:
    """What has to be alike for two parts to be folded: the record's type, but for averages.

    An average without its count is `average`.
    """
    if kind == "stats" and not all(map(is_stats, _keyed(kind, value).values())):
        return "average"
    return kind


def is_keyed(kind: str, value: Any) -> bool:
    """Whether the value of a map, from a record of that type, is one by key."""
    return isinstance(value, dict) and not (kind == "stats" and is_stats(value))


def is_stats(value: Any) -> bool:
    """Whether this is what `stats()` has for one key."""
    return (
        isinstance(value, dict)
        and value.keys() == _STATS
        and all(type(field) is int for field in value.values())
    )


def averages(value: Any) -> Any:
    """What `stats()` has, as `avg()` shows it: the average alone."""
    if is_stats(value):
        return value["average"]
    return {key: item["average"] for key, item in value.items()}


def divided(number: int, by: int) -> int:
    """As C divides: towards zero."""
    return number // by if number >= 0 else -(-number // by)


def _keyed(kind: str, value: Any) -> Keyed:
    return value if is_keyed(kind, value) else {None: value}


def _fold_of(form: str, facts: Map) -> Fold:
    if form == "hist":
        return Histograms(linear={"hist": False, "lhist": True}.get(facts.kind))
    if form == "stats":
        return _Stats()
    if form == "tseries":
        return _Series(_FUNCTIONS.get(facts.function))
    if form == "average":
        return _Same("an average can't be merged without the count behind it")
    if form == "map" and (function := _FUNCTIONS.get(facts.kind)):
        return _Numbers(function)
    return _Same("a key of it has different values")


_FUNCTIONS: dict[str, Callable[[int, int], int]] = {
    "count": add,
    "sum": add,
    "min": min,
    "max": max,
}

_MODULUS = 2**64


class _Numbers:
    """Counts, sums, minima and maxima."""

    all_or_none = False

    def __init__(self, function: Callable[[int, int], int]) -> None:
        self._function = function
        self._values: Keyed = {}
        self._signed = False

    def add(self, part: Keyed) -> None:
        if not all(type(number) is int for number in part.values()):
            raise UnmergeableError("it has values that are no numbers")
        self._signed = self._signed or any(number < 0 for number in part.values())
        _join(self._values, part, self._function)

    def values(self) -> Keyed:
        return _wrapped(self._values, signed=self._signed)


class _Stats:
    """`stats()`, and `avg()` that came as it."""

    all_or_none = False

    def __init__(self) -> None:
        self._counts: dict[str | None, int] = {}
        self._totals: dict[str | None, int] = {}
        self._signed = False

    def add(self, part: Keyed) -> None:
        counts = {key: value["count"] for key, value in part.items()}
        totals = {key: value["total"] for key, value in part.items()}
        self._signed = self._signed or any(total < 0 for total in totals.values())
        _join(self._counts, counts, add)
        _join(self._totals, totals, add)

    def values(self) -> Keyed:
        totals = _wrapped(self._totals, signed=self._signed)
        return {
            key: {
                "count": count,
                "average": divided(totals[key], count) if count else 0,
                "total": totals[key],
            }
            for key, count in self._counts.items()
        }


class _Series:
    """Time series: lists of points, each with the begin of its interval and a value."""

    def __init__(self, function: Callable[[int, int], int] | None) -> None:
        self.all_or_none = function is None
        self._function = function
        self._points: dict[str | None, dict[str, int]] = {}
        self._signed = False

    def add(self, part: Keyed) -> None:
        try:
            series = {
                key: {point["interval_start"]: point["value"] for point in points}
                for key, points in part.items()
            }
        except (KeyError, TypeError):
            raise UnmergeableError("it has values that are no time series") from None
        for key, points in series.items():
            mine = self._points.get(key, {})
            if not self._function and any(
                mine[start] != points[start] for start in mine.keys() & points.keys()
            ):
                raise UnmergeableError("an interval of it has different values")
        for key, points in series.items():
            self._signed = self._signed or any(value < 0 for value in points.values())
            _join(self._points.setdefault(key, {}), points, self._function or min)

    def values(self) -> Keyed:
        return {
            key: [
                {"interval_start": start, "value": value}
                for start, value in sorted(_wrapped(points, signed=self._signed).items())
            ]
            for key, points in self._points.items()
        }


class _Same:
    """Values that can't be folded: they are one where no key has two."""

    all_or_none = True

    def __init__(self, reason: str) -> None:
        self._reason = reason
        self._values: Keyed = {}

    def add(self, part: Keyed) -> None:
        if any(self._values[key] != part[key] for key in self._values.keys() & part.keys()):
            raise UnmergeableError(self._reason)
        self._values |= part

    def values(self) -> Keyed:
        return self._values


Key = TypeVar("Key")


def _join(into: dict[Key, int], part: dict[Key, int], function: Callable[[int, int], int]) -> None:
    """Folds the part's values into those that are there."""
    for key, value in part.items():
        into[key] = function(into[key], value) if key in into else value


def _wrapped(values: dict[Key, int], *, signed: bool) -> dict[Key, int]:
    """The values in 64 bits."""
    least = -(_MODULUS // 2) if signed else 0
    most = least + _MODULUS - 1
    if all(least <= value <= most for value in values.values()):
        return values
    return {key: (value - least) % _MODULUS + least for key, value in values.items()}
