"""A row of the table: one figure beside what a perfect tool could not beat."""

from __future__ import annotations

import importlib
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Row:
    """One figure."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    """The same without this tool, measured in the same run; None: there is no such thing."""
    aim: str = ""
    """In words and numbers, such as `floor + 100`; empty: there is none, the figure is told."""
    met: bool | None = None
    spread: float = 0.0
    """Half the width of the middle half of the repetitions (of `value`)."""

    @property
    def ratio(self) -> float | None:
        """How many times the floor it is."""
        return self.value / self.floor if self.floor else None

    def as_data(self) -> dict[str, object]:
        """What results.json keeps of it."""
        return {
            "name": self.name,
            "floor": _rounded(self.floor),
            "value": _rounded(self.value),
            "unit": self.unit,
            "ratio": _rounded(self.ratio),
            "aim": self.aim,
            "met": self.met,
            "spread": _rounded(self.spread),
        }


def of_module(name: str) -> list[Row]:
    """All rows of a module of benchmarks."""
    return list(importlib.import_module(f"benchmarks.{name}").rows())


def at_most_more(
    name: str, floors: Sequence[float], values: Sequence[float], *, unit: str, more: float
) -> Row:
    """A row of medians whose value may be at most so much more than the floor."""
    floor, value = statistics.median(floors), statistics.median(values)
    aim = f"floor + {more:g}"
    return Row(name, value, unit, floor, aim, value <= floor + more, spread(values))


def at_most(
    name: str, values: Sequence[float], *, unit: str, limit: float, floor: float | None = None
) -> Row:
    """A row of a median that may be at most so much."""
    value = statistics.median(values)
    return Row(name, value, unit, floor, f"<= {limit:g}", value <= limit, spread(values))


def spread(values: Sequence[float]) -> float:
    """Half the distance of the quartiles."""
    if len(values) < 2:
        return 0.0
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return (third - first) / 2


def table(rows: Sequence[Row]) -> str:
    """The rows in columns, as Markdown has tables."""
    head = ("name", "floor", "value", "±", "unit", "ratio", "aim", "met")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]
    text.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(text)


def _cells(row: Row) -> tuple[str, ...]:
    met = "" if row.met is None else "yes" if row.met else "NO"
    return (
        row.name,
        _shown(row.floor),
        _shown(row.value),
        _shown(row.spread),
        row.unit,
        _shown(row.ratio),
        row.aim,
        met,
    )


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{_rounded(value):,}".removesuffix(".0")


def _rounded(value: float | None) -> float | None:
    """Three digits that mean something, all of those before the point."""
    if value is None:
        return None
    return round(value, 1) if abs(value) >= 10 else float(f"{value:.3g}")
