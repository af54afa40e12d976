"""Results as rows of one table, `-o csv`: a row a text, an entry of a map, or a bucket.

The columns are the same for every type of result, so that one reader takes them all: what a type
does not have is empty. Quotes are those of RFC 4180, lines end with a newline alone, as other Unix
tools write them. Cells are the program's own text: one that begins with `=` or `+` stays as it is.
"""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from kubectl_trace.results.terminal import escape
from kubectl_trace.results.timestamp import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from kubectl_trace.results.account import Account
    from kubectl_trace.results.result import Result

__all__ = ["COLUMNS", "RowsPrinter", "rows"]

COLUMNS = (
    "time",
    "node",
    "namespace",
    "pod",
    "container",
    "type",
    "map",
    "key",
    "field",
    "min",
    "max",
    "value",
)

_Cell = str | int | float
# Map, key, field, min, max, value.
_Row = tuple[str, str, str, _Cell, _Cell, _Cell]

_TEXTS = frozenset({"printf", "time", "cat", "join", "syscall", "raw"})
_STATS = {"count", "average", "total"}


class RowsPrinter:
    """Writes results as CSV; what is about the run is no row."""

    def __init__(self, out: TextIO | None = None) -> None:
        """`out`: where the rows go, stdout if it is None; a terminal gets no control characters."""
        self._out = out = out or sys.stdout
        self._begun = False
        # The writer is told of CRLF so that it puts cells with either of them in quotes.
        self._writer = csv.writer(_Lines(out), lineterminator="\r\n")

    def show(self, result: Result) -> None:
        """Writes a result's rows."""
        if found := rows(result):
            self._begin()
            head = (
                timestamp(result.time),
                result.node,
                result.namespace,
                result.pod,
                result.container,
                result.type,
            )
            for row in found:
                self._writer.writerow((*head, *row))

    def flush(self) -> None:
        """Makes all that was shown visible.

        Raises:
            BrokenPipeError: nobody reads the output any more.
        """
        self._out.flush()

    def close(self, account: Account | None) -> None:
        """The end: a table without rows has its header, too."""
        self._begin()
        self.flush()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._writer.writerow(COLUMNS)


class _Lines:
    """What `csv` writes to: its line ends made newlines, control characters visible."""

    def __init__(self, out: TextIO) -> None:
        self._put = out.write
        self._on_terminal = out.isatty()

    def write(self, line: str) -> None:
        text = line.removesuffix("\r\n")
        self._put((escape(text) if self._on_terminal else text) + "\n")


def rows(result: Result) -> list[_Row]:
    """A result's rows: map, key, field, min, max and value; none if it is about the run.

    - `printf` and the like: the text is the value.
    - `map`: a row a key.
    - `stats`: three rows a key, with the fields `count`, `average` and `total`; of `avg` only the
      second.
    - `hist`: a row a bucket; its limits are inclusive, and empty where it is open.
    - `tseries`: a row an interval, whose start is the field.
    - `lost_events`: their number is the value.
    - `call`: a row an argument, a result, and the duration in nanoseconds; the map is the function,
      the key the name, the field which of the three it is.

    A value that is no text or number is JSON, and so is all of a result without its type's shape.
    """
    try:
        return _rows(result.type, result.data)
    except (AttributeError, LookupError, TypeError, ValueError):
        # A child of the program printed something like a record.
        return [("", "", "", "", "", msgspec.json.encode(result.data).decode())]


def _rows(kind: str, data: Any) -> list[_Row]:
    if kind in _TEXTS:
        texts = data if isinstance(data, list) else [data]
        return [("", "", "", "", "", _cell(text)) for text in texts]
    if kind == "value":
        return [("", "", "", "", "", _cell(data))]
    if kind == "lost_events":
        return [("", "", "", "", "", _cell(data["events"]))]
    if kind == "call":
        return list(_call(data))
    entries = _ENTRIES.get(kind)
    if entries is None:
        return []
    found: list[_Row] = []
    for name, value in data.items():
        keyed = isinstance(value, dict) and (kind != "stats" or value.keys() != _STATS)
        for key, item in value.items() if keyed else [("", value)]:
            found += [(name, key, *rest) for rest in entries(item)]
    return found


def _call(data: dict[str, Any]) -> Iterator[_Row]:
    name = data["function"]
    for field, values in (("argument", "arguments"), ("result", "results")):
        for each in data.get(values, ()):
            yield name, each["name"], field, "", "", _cell(each["value"])
    yield name, "", "duration", "", "", data.get("duration", 0)


_Rest = tuple[str, _Cell, _Cell, _Cell]


def _plain(value: Any) -> Iterator[_Rest]:
    yield "", "", "", _cell(value)


def _stats(value: Any) -> Iterator[_Rest]:
    fields = value if isinstance(value, dict) else {"average": value}
    for field, number in fields.items():
        yield field, "", "", _cell(number)


def _buckets(value: Any) -> Iterator[_Rest]:
    for bucket in value:
        yield "", bucket.get("min", ""), bucket.get("max", ""), bucket["count"]


def _points(value: Any) -> Iterator[_Rest]:
    for point in value:
        yield point["interval_start"], "", "", _cell(point["value"])


_ENTRIES: dict[str, Callable[[Any], Iterator[_Rest]]] = {
    "map": _plain,
    "stats": _stats,
    "hist": _buckets,
    "tseries": _points,
}


def _cell(value: Any) -> _Cell:
    if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    return msgspec.json.encode(value).decode()
