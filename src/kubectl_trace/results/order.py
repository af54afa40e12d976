"""The order of a printed map's entries, and what `print(@m, top, div)` makes of them.

As bpftrace 0.27 does it (src/types_format.cpp); where 0.23 and 0.17 (src/bpftrace.cpp,
src/output.cpp) differ:

- Integers are ordered by value, minima and maxima as if they had no sign (0.17 ordered minima with
  their sign), histograms by the sum of their counts, averages and statistics by average, all else
  by key (integers in it by value, with their sign; up to 0.23 as if they had none).
- `top` leaves the last so many of that order. Up to 0.23, `stats()` ignored it. Time series do.
- `div` divides integers, also those in tuples, and the counts of `hist()`, not of `lhist()`; of
  `stats()` only the average, which 0.17 left as it was. It is done last.

bpftrace leaves ties in the order of its hash table, which is another one on every node. Here, ties
of a merged map are ordered by key.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

from kubectl_trace.results.fold import divided, is_keyed, is_stats
from kubectl_trace.results.text import hist_bits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kubectl_trace.results.record import Map, Print

_INTEGER = re.compile(r"-?[0-9]{1,20}")
_MODULUS = 2**64


def ordered(kind: str, facts: Map, value: Any) -> Any:
    """A merged map's value with its entries in bpftrace's order.

    Args:
        kind: The record's type.
        facts: What the program makes of the map.
        value: What bpftrace's JSON has behind the map's name, `avg()` as it shows it.
    """
    if not is_keyed(kind, value):
        return value
    keys = _sorted_keys(list(value))
    if weight := _weight(kind, facts, value.values()):
        keys.sort(key=lambda key: weight(value[key]))
    return {key: value[key] for key in keys}


def printed(kind: str, facts: Map, place: Print, value: Any) -> Any:
    """What the program's own `print` leaves of a map's value, in the order it has."""
    if kind == "tseries":
        return value
    try:
        return _divided_map(kind, facts, place.div, _top(kind, facts, place.top, value))
    except (KeyError, TypeError):
        return value  # A child of the program printed something like a record.


def _top(kind: str, facts: Map, top: int, value: Any) -> Any:
    if not top or not is_keyed(kind, value) or len(value) <= top:
        return value
    return dict(_by_weight(kind, facts, value)[-top:])


def _divided_map(kind: str, facts: Map, div: int, value: Any) -> Any:
    if div <= 1:
        return value
    keyed = is_keyed(kind, value)
    if kind == "hist" and _is_linear(facts, value.values() if keyed else [value]):
        return value
    if keyed:
        return {key: _divided(kind, item, div) for key, item in value.items()}
    return _divided(kind, value, div)


def _by_weight(kind: str, facts: Map, value: dict[str, Any]) -> list[tuple[str, Any]]:
    """The entries, from the least: nearly always as they are.

    Only 0.27 does not sort integers that are one byte wide.
    """
    items = list(value.items())
    weight = _weight(kind, facts, value.values())
    if (
        kind != "map"
        or not weight
        or _ascending(value.values())
        or _ascending(map(_unsigned, value.values()))
    ):
        return items
    return sorted(items, key=lambda item: weight(item[1]))


def _ascending(numbers: Iterable[int]) -> bool:
    numbers = list(numbers)
    return all(numbers[i] <= numbers[i + 1] for i in range(len(numbers) - 1))


def _weight(kind: str, facts: Map, values: Iterable[Any]) -> Callable[[Any], int] | None:
    """What entries are ordered by; None: by their keys."""
    if kind == "hist":
        return _events
    if kind == "stats":
        return _average
    if kind == "map" and all(type(value) is int for value in values):
        return _unsigned if facts.kind in {"min", "max"} else int
    return None


def _events(histogram: Any) -> int:
    return sum(bucket["count"] for bucket in histogram)


def _average(value: Any) -> int:
    return int(value["average"] if isinstance(value, dict) else value)


def _unsigned(number: int) -> int:
    return number % _MODULUS


def _sorted_keys(keys: list[str]) -> list[str]:
    """Keys in bpftrace's order: part by part, integers by value."""
    parts = [key.split(",") for key in keys]
    if len({len(part) for part in parts}) != 1:
        return sorted(keys)  # A stack, or a text with a comma.
    columns: list[list[Any]] = [_column(list(column)) for column in zip(*parts, strict=True)]
    rows = list(zip(*columns, strict=True))
    return [keys[i] for i in sorted(range(len(keys)), key=rows.__getitem__)]


def _column(column: list[str]) -> list[Any]:
    if all(_INTEGER.fullmatch(part) for part in column):
        return [(int(part), part) for part in column]
    return column


def _is_linear(facts: Map, histograms: Iterable[Any]) -> bool:
    if facts.kind in {"hist", "lhist"}:
        return facts.kind == "lhist"
    return hist_bits(list(itertools.chain.from_iterable(histograms))) is None


def _divided(kind: str, value: Any, div: int) -> Any:
    if kind == "hist":
        return [bucket | {"count": divided(bucket["count"], div)} for bucket in value]
    if kind == "stats" and is_stats(value):
        return value | {"average": divided(value["average"], div)}
    if type(value) is int:
        return divided(value, div)
    if isinstance(value, list):
        return [_divided("", item, div) for item in value]
    if isinstance(value, dict):
        return {name: _divided("", field, div) for name, field in value.items()}
    return value
