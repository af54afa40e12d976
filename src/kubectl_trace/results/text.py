"""Renders a record as the text bpftrace itself would have printed for it on standard output.

The look is bpftrace 0.27's (src/output/text.cpp); it is what nodes with different versions are
shown alike in. Where 0.23 (src/output.cpp) and 0.17 look different:

- ``stats()`` was ``count 2, average 5, total 11``, and ``stats``/``avg`` maps had a blank line
  after them.
- A bucket of ``lhist()`` one wide was ``[3, 4)``, now ``[3]``.
- Stacks as values had no blank line between them; ``ntop``, ``ksym`` and ``usym`` values of a map
  were all on one line.
- 0.17 had a space after a histogram's name, and K and M in every ``lhist()`` label that allowed it.
- 0.17 had every value from 2^31 on in one bucket ``[2G, 4G)``.
- Booleans were 1 and 0, and are so in JSON of those versions.
- Bars of ``print(@h, top, div)`` were drawn from the counts before the division.
- An empty map was a blank line: JSON never has a record for one.
- ``Attaching N probes...``, lost events and errors of helpers were on standard output. They are on
  standard error now, and so they are no text here.
- 0.27 prints a newline after each ``system()``'s output, which has its own. Not followed.

What JSON doesn't say, and so is a guess here (``dialect`` says what else is lost in it):

- A list is shown as a tuple, ``(1, 2)``, not as an array, ``[1,2]``.
- A comma in a key separates two keys, but not if another key of the map has no comma.
- Buckets of ``hist()`` and ``lhist()`` are told apart by their limits; one bucket such as 512 to
  1023 is ``hist()``'s (``[512, 1K)``).
- A single struct of a map looks like a map with the fields' names as keys, and is shown as one.
- Gaps of a ``tseries()`` are as wide as the times that are there allow to see.

The two newlines that bpftrace prints before the maps at exit are no record, and not shown.
"""

from __future__ import annotations

import itertools
import math
import re
import struct
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from kubectl_trace.results.dialect import Output

__all__ = ["hist_bits", "render"]

_BAR_WIDTH = 52
_GRAPH_WIDTH = 53
_GRAPH_PADDING = 21

_FLOAT32 = struct.Struct("f")
_MAX_HIST_BITS = 5
_STATS = {"count", "average", "total"}

_TEXTS = frozenset({"printf", "time", "cat", "syscall", "raw"})
_NOT_ON_STDOUT = frozenset(
    {
        "attached_probes",
        "lost_events",
        "helper_error",
        "runtime_error",
        "errorf",
        "warnf",
        "test_result",
        "benchmark_result",
    },
)

# A stack within a key: lines between newlines, at the key's begin or after a comma.
_STACK_IN_KEY = re.compile(r"(?:(?<=,)|(?<=, )|(?<![\s\S]))\n(?:[^\n]+\n)+(?=,|\Z)")
_FRAME_WITHOUT_INDENT = re.compile(r"\n(?=[^\s,])")
_STACK_INDENT = "\n" + " " * 8
_COMMA_WITHOUT_SPACE = re.compile(r",(?=\S|\n)")


def render(output: Output) -> str:
    """The text of a record, as bpftrace prints it on standard output.

    Args:
        output: A record as ``dialect.parse_line`` gives it. The data of ``printf`` may also be a
            list of texts, of one call each, as runners join them under load.

    Returns:
        The text with all its newlines, ready to be written as it is: empty for a record that
        bpftrace shows on standard error, if at all. A record of a type that is not known, or
        without what its type has, is shown as a line of JSON. Never raises. The text is not safe
        for a terminal (see ``terminal.escape``).
    """
    if output.type in _TEXTS and isinstance(output.data, str):
        return output.data
    if output.type in _NOT_ON_STDOUT:
        return ""
    try:
        text = _draw(output.type, output.data)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        text = None  # A child of the program printed something like a record.
    return _json_line(output) if text is None else text


def _draw(kind: str, data: object) -> str | None:
    if kind == "value":
        return _value(data) + "\n"
    if kind == "join" and isinstance(data, str):
        return data + "\n"
    if kind == "printf" and isinstance(data, list):
        return "".join(data)
    draw = _MAPS.get(kind)
    if draw and isinstance(data, dict):
        return "".join(draw(name, value) for name, value in data.items())
    return None


def _json_line(output: Output) -> str:
    return msgspec.json.encode({"type": output.type, "data": output.data}).decode() + "\n"


def _value(value: object) -> str:
    """A single value, as ``print`` shows it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"({', '.join(map(_value, value))})"
    if isinstance(value, dict):
        if not value:
            return "{}"
        return f"{{ {', '.join(f'.{name} = {_value(field)}' for name, field in value.items())} }}"
    return str(value)


def _map(name: str, value: object) -> str:
    if not isinstance(value, dict):
        return f"{name}: {_value(value)}\n"
    label = _key_label(value)
    return "".join(
        [
            f"{name}[{label(key)}]: {item if type(item) is int else _value(item)}\n"
            for key, item in _sorted_items(value)
        ]
    )


def _stats(name: str, value: object) -> str:
    if not isinstance(value, dict) or value.keys() == _STATS:
        return f"{name}: {_value(value)}\n"
    label = _key_label(value)
    return "".join(f"{name}[{label(key)}]: {_value(item)}\n" for key, item in value.items())


def _sorted_items(value: dict[str, object]) -> Iterable[tuple[str, object]]:
    """The entries in bpftrace's order, which is nearly always the one they came in.

    bpftrace sorts both its outputs the same way: integers by value, min and max as if unsigned,
    anything else by key. Only where 0.27 does not sort (integers one byte wide), or where the map
    is made from several, integers come unsorted, and are sorted by value here, stable.
    """
    items = list(value.items())
    numbers = [item for item in value.values() if type(item) is int]
    if len(numbers) != len(items) or _ascending(numbers):
        return items
    if min(numbers) < 0 and _ascending([number % 2**64 for number in numbers]):
        return items
    return sorted(items, key=lambda item: item[1])  # type: ignore[arg-type, return-value]


def _ascending(numbers: Sequence[int]) -> bool:
    return numbers == sorted(numbers)


def _key_label(value: Iterable[str]) -> Callable[[str], str]:
    """How the keys of a map are shown; a map's keys all have the same number of parts."""
    parts = all("," in key for key in value)

    def label(key: str) -> str:
        if "\n" in key:
            stacked = _STACK_IN_KEY.sub(_indent_stack, key)
            return _COMMA_WITHOUT_SPACE.sub(", ", stacked) if stacked != key or parts else key
        if not parts:
            return key
        return _nested_label(key) or _COMMA_WITHOUT_SPACE.sub(", ", key)

    return label


def _indent_stack(stack: re.Match[str]) -> str:
    return _FRAME_WITHOUT_INDENT.sub(_STACK_INDENT, stack[0])


def _nested_label(key: str) -> str | None:
    """A key with a tuple in it, from 0.23: its inner tuple is JSON (``1,[2,"p"]``)."""
    if "[" not in key:
        return None
    try:
        parts: object = msgspec.json.decode(f"[{key}]")
    except msgspec.DecodeError:
        return None
    return _value(parts)[1:-1]


def _hist(name: str, value: object) -> str:
    if isinstance(value, list):
        return f"{name}:\n{_bars(value)}\n"
    if not isinstance(value, dict):
        return f"{name}: {_value(value)}\n"
    label = _key_label(value)
    return "".join(
        f"{name}[{label(key)}]:\n{_bars(buckets) if isinstance(buckets, list) else buckets}\n"
        for key, buckets in value.items()
    )


def _bars(buckets: Sequence[Mapping[str, int]]) -> str:
    """The lines of one histogram."""
    bits = hist_bits(buckets)
    labels = _lhist_labels(buckets) if bits is None else _hist_labels(buckets, bits)
    highest = max((bucket["count"] for bucket in buckets), default=0)
    return "".join(
        f"{label:<16}{bucket['count']:>8} |{_bar(bucket['count'], highest):<{_BAR_WIDTH}}|\n"
        for label, bucket in zip(labels, buckets, strict=True)
    )


def _bar(count: int, highest: int) -> str:
    if count <= 0:
        return ""
    # bpftrace counts the characters in 32-bit floats; in 64 bits, some bars were one shorter.
    return "@" * int(_float32(_float32(_float32(count) / _float32(highest)) * _BAR_WIDTH))


def _float32(number: float) -> float:
    rounded: float = _FLOAT32.unpack(_FLOAT32.pack(number))[0]
    return rounded


def hist_bits(buckets: Sequence[Mapping[str, int]]) -> int | None:
    """The ``bits`` of ``hist()`` that such buckets come from; None if they are of ``lhist()``.

    Each power of two has 2^bits buckets, so a bucket's limits, where they are not the same, are
    enough to know the bits.
    """
    closed = [bucket for bucket in buckets if "min" in bucket and "max" in bucket]
    if any(
        "max" not in bucket or ("min" not in bucket and bucket["max"] != -1) for bucket in buckets
    ):
        return None
    widths = [bucket["max"] - bucket["min"] + 1 for bucket in closed]
    found = set()
    for bucket, width in zip(closed, widths, strict=True):
        if width <= 1:
            continue
        if width & (width - 1) or bucket["min"] % width or bucket["min"] < width:
            return None
        found.add((bucket["min"] // width).bit_length() - 1)
    if len(found) != 1 or (bits := found.pop()) > _MAX_HIST_BITS:
        return None
    # Within one power of two, both kinds have buckets of one width; lhist() is the usual one.
    if bits and len(set(widths)) == 1:
        return None
    return bits


def _hist_labels(buckets: Sequence[Mapping[str, int]], bits: int) -> list[str]:
    labels = []
    for bucket in buckets:
        if "min" not in bucket:
            labels.append("(..., 0)")
        elif bucket["min"] == bucket["max"]:
            labels.append(f"[{bucket['min']}]")
        else:
            low, high = (_power_label(limit, bits) for limit in (bucket["min"], bucket["max"] + 1))
            labels.append(f"[{low}, {high})")
    return labels


@lru_cache(maxsize=1024)
def _power_label(number: int, bits: int) -> str:
    """A limit of ``hist()``: K, M, ... for its power of two, once it is past the bits."""
    decade = max(0, number.bit_length() - 1 - bits) // 10
    return f"{number >> (10 * decade)}{' KMGTPE'[decade].strip()}"


def _lhist_labels(buckets: Sequence[Mapping[str, int]]) -> list[str]:
    closed = [bucket for bucket in buckets if "min" in bucket and "max" in bucket]
    step = closed[0]["max"] - closed[0]["min"] + 1 if closed else 1
    labels = []
    for bucket in buckets:
        if "min" not in bucket:
            labels.append(f"(..., {_step_label(bucket['max'] + 1, step)})")
        elif "max" not in bucket:
            labels.append(f"[{_step_label(bucket['min'], step)}, ...)")
        elif step == 1:
            labels.append(f"[{bucket['min']}]")
        else:
            low, high = (_step_label(limit, step) for limit in (bucket["min"], bucket["max"] + 1))
            labels.append(f"[{low}, {high})")
    return labels


def _step_label(number: int, step: int) -> str:
    """A limit of ``lhist()``: K or M only where the step is a multiple of 1024."""
    if step % 1024 or not number or number % 1024:
        return str(number)
    return f"{number // 2**20}M" if number % 2**20 == 0 else f"{number // 1024}K"


_Point = tuple[datetime, int]


def _tseries(name: str, value: object) -> str:
    if not isinstance(value, dict):
        return f"{name}:\n{_graphs([value])[0]}\n"
    label = _key_label(value)
    graphs = _graphs(list(value.values()))
    return "".join(
        f"{name}[{label(key)}]:\n{graph}\n" for key, graph in zip(value, graphs, strict=True)
    )


def _graphs(series: Sequence[object]) -> list[str]:
    """The graphs of a map's time series, which all end with the latest of them."""
    all_points = [_points(points) for points in series]
    times = sorted({time for points in all_points for time, _ in points})
    gaps = [(later - earlier) for earlier, later in itertools.pairwise(times)]
    step = math.gcd(*(gap // timedelta(microseconds=1) for gap in gaps)) if gaps else 0
    return [_graph(points, times[-1], step) if points else "<no data>" for points in all_points]


def _points(points: object) -> list[_Point]:
    if not isinstance(points, list):
        return []
    return [(_time(point["interval_start"]), int(point["value"])) for point in points]


def _time(text: str) -> datetime:
    """A time of ``tseries``, cut to microseconds."""
    return datetime.fromisoformat(text[:26])


def _graph(points: Sequence[_Point], end: datetime, step: int) -> str:
    """One time series as bpftrace draws it.

    Args:
        points: When each interval began, and its value; sorted, not empty.
        end: When the last interval of the map began.
        step: The interval in microseconds; 0 if there is only one.
    """
    low, high = min(value for _, value in points), max(value for _, value in points)
    if low == high:
        # An unsigned 0 has nothing below it; a signed one is not told from it.
        low, high = (low - 1 if low else 0), high + 1
    values = dict(points)
    times = [points[0][0]]
    while step and times[-1] < end:
        times.append(times[-1] + timedelta(microseconds=step))
    unit, digits = _time_unit(step if len(times) > 1 else 0)
    head = "hh:mm:ss" + (f".{unit}" if unit else "")
    width = 8 + (1 + digits if digits else 0)
    scale = f"{low:<{_GRAPH_PADDING}}{high:>{_GRAPH_WIDTH - _GRAPH_PADDING}}\n"
    lines = [
        f"{'':{width + 1}}{scale}",
        f"{head:<{width + 1}}|{'_' * (_GRAPH_WIDTH - 2)}|\n",
        *(f"{_clock(time, digits)} {_graph_line(values.get(time), low, high)}\n" for time in times),
        f"{'':{width}} v{'_' * (_GRAPH_WIDTH - 2)}v\n",
        f"{'':{width + 1}}{scale}",
    ]
    return "".join(lines)


def _time_unit(step: int) -> tuple[str, int]:
    """The unit that a step in microseconds is shown in, and its digits after the second."""
    if step >= 1_000_000:
        return "", 0
    if step >= 1000:
        return "ms", 3
    return ("us", 6) if step else ("ns", 9)


def _clock(time: datetime, digits: int) -> str:
    clock = time.strftime("%H:%M:%S")
    return f"{clock}.{f'{time.microsecond:06}000'[:digits]}" if digits else clock


def _graph_line(value: int | None, low: int, high: int) -> str:
    line = ["|", *" " * (_GRAPH_WIDTH - 2), "|"]
    if low < 0 < high:
        zero = int(_share(_GRAPH_WIDTH, -low, high - low))
        if zero > 0:
            line[zero] = "."
    if value is None:
        return "".join(line) + " -"
    place = int(_share(_GRAPH_WIDTH - 1, value - low, high - low))
    line[max(0, min(_GRAPH_WIDTH - 1, place))] = "*"
    return f"{''.join(line)} {value}"


def _share(width: int, part: int, whole: int) -> float:
    return _float32(_float32(width * _float32(part)) / _float32(whole))


_MAPS: dict[str, Callable[[str, object], str]] = {
    "map": _map,
    "stats": _stats,
    "hist": _hist,
    "tseries": _tseries,
}
