"""What a program's probes cost: which of the kernel's counts is whose, shares, the budget. Pure.

The kernel knows a BPF program by a name of 15 characters, and bpftrace makes that of the attach
point (seen with `bpftool prog` of 0.17, 0.23.2 and 0.27.1):

- 0.17: the last part, of a wildcard's match: `sys_enter_read`, `readline`, `1` of `interval:s:1`.
- 0.23 and 0.27: everything, and a number: `uprobe__bin_bas`, `interval_s_1_6`. Programs are loaded
  in the order of the attach points. A wildcard may be one program (uprobe_multi), or many.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_NAME_SIZE = 15
_SHOWN = 3
"""Probes that a note names."""

# <linux/bpf.h>, enum bpf_prog_type.
_KPROBE, _TRACEPOINT, _PERF_EVENT, _RAW_TRACEPOINT, _TRACING = 2, 5, 7, 17, 26
_TYPES = {
    provider: types
    for providers, types in (
        ("kprobe k kretprobe kr uprobe u uretprobe ur usdt U", {_KPROBE}),
        ("tracepoint t", {_TRACEPOINT}),
        ("rawtracepoint rt", {_RAW_TRACEPOINT, _TRACING}),
        (
            "profile p interval i hardware h software s watchpoint w asyncwatchpoint aw",
            {_PERF_EVENT},
        ),
        ("kfunc f kretfunc fr fentry fexit iter it", {_TRACING}),
    )
    for provider in providers.split()
}


@dataclass(frozen=True)
class Loaded:
    """A BPF program as the kernel knows it; of two the later one has the greater ID."""

    id: int
    name: str
    type: int


@dataclass(frozen=True)
class Count:
    """How often programs have run, if that is known, and how long in all."""

    hits: int = 0
    nanoseconds: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.hits + other.hits, self.nanoseconds + other.nanoseconds)

    def __sub__(self, other: Count) -> Count:
        return Count(self.hits - other.hits, self.nanoseconds - other.nanoseconds)


@dataclass(frozen=True)
class Point:
    """An attach point: as it runs, and as the user wrote it."""

    text: str
    shown: str


def by_point(loaded: Sequence[Loaded], points: Sequence[Point]) -> dict[int, str]:
    """Whose each program is, by its ID: the attach point as the user wrote it.

    Where that can't be told, all the attach points that it may be.
    """
    groups: dict[tuple[int, ...], list[Loaded]] = defaultdict(list)
    for program in sorted(loaded, key=lambda each: each.id):
        may_be = [at for at, point in enumerate(points) if _is_named_for(program, point)]
        if not may_be:
            may_be = [at for at, point in enumerate(points) if _is_named_by_its_end(program, point)]
            may_be = may_be or [-1]
            if len(may_be) > 1:
                # 0.17 loads them in another order.
                groups[(*may_be, -1)].append(program)
                continue
        groups[tuple(may_be)].append(program)
    found: dict[int, str] = {}
    for places, programs in groups.items():
        own = _in_order([points[at] for at in places if at >= 0], programs, exact=places[-1] >= 0)
        found |= {program.id: shown for program, shown in zip(programs, own, strict=True)}
    return found


def _in_order(points: list[Point], programs: list[Loaded], *, exact: bool) -> list[str]:
    """The attach points of programs that are loaded in their order."""
    if not points:
        return [program.name for program in programs]
    shown = [point.shown for point in points]
    if len(points) == 1:
        return shown * len(programs)
    if exact and len(programs) == len(points):
        return shown
    wild = [at for at, point in enumerate(points) if _has_wildcard(point.text)]
    if exact and len(wild) == 1 and len(programs) > len(points):
        at = wild[0]
        many = len(programs) - len(points) + 1
        return [*shown[:at], *([shown[at]] * many), *shown[at + 1 :]]
    names = (
        " or ".join(dict.fromkeys(shown))
        if len(points) <= _SHOWN
        else (f"one of {len(points)}: {shown[0]}, ...")
    )
    return [names] * len(programs)


def _has_wildcard(text: str) -> bool:
    return "*" in text or "?" in text or "[" in text


def _has_type(program: Loaded, point: Point) -> bool:
    types = _TYPES.get(point.text.partition(":")[0])
    return types is None or program.type in types


def _is_named_for(program: Loaded, point: Point) -> bool:
    """As 0.23 and later name programs."""
    if not _has_type(program, point):
        return False
    if ":" not in point.text:  # BEGIN, END
        return bool(re.fullmatch(rf"{re.escape(point.text)}_\d+", program.name, re.IGNORECASE))
    literal = re.split(r"[*?\[]", point.text, maxsplit=1)[0]
    name = re.sub(r"\W", "_", literal, flags=re.ASCII)
    if not program.name.startswith(name[:_NAME_SIZE]):
        return False
    if len(program.name) == _NAME_SIZE or _has_wildcard(point.text):
        return True
    return bool(re.fullmatch(r"_\d+", program.name[len(name) :]))


def _is_named_by_its_end(program: Loaded, point: Point) -> bool:
    """As 0.17 names programs."""
    last = point.text.rpartition(":")[2]
    if not _has_type(program, point) or not last:
        return False
    if re.fullmatch(r"0x[0-9a-fA-F]+", last):  # an address, which 0.17 writes in decimal
        last = str(int(last, 16))
    if not _has_wildcard(last):
        return program.name == last[:_NAME_SIZE]
    if len(program.name) < _NAME_SIZE:
        return fnmatchcase(program.name, last)
    literal = re.split(r"[*?\[]", last, maxsplit=1)[0]
    return program.name.startswith(literal[:_NAME_SIZE])


@dataclass(frozen=True)
class Share:
    """What an attach point has cost in some time."""

    probe: str
    count: Count
    seconds: float

    @property
    def average_ns(self) -> float:
        """Nanoseconds a hit."""
        return self.count.nanoseconds / self.count.hits if self.count.hits else 0.0

    @property
    def percent(self) -> float:
        """Of one CPU."""
        return self.count.nanoseconds / self.seconds / 1e7 if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        text = f"{self.probe} {self.percent:.1f} %"
        if not self.count.hits:
            return text
        return f"{text} ({self.count.hits} hits, {self.average_ns:.0f} ns each)"


def shares(
    before: Mapping[int, Count], now: Mapping[int, Count], names: Mapping[int, str], seconds: float
) -> list[Share]:
    """What each attach point has cost between two readings, the costliest first."""
    sums: dict[str, Count] = {}
    for number, count in now.items():
        probe = names.get(number, "")
        sums[probe] = sums.get(probe, Count()) + (count - before.get(number, Count()))
    found = [Share(probe, count, seconds) for probe, count in sums.items()]
    return sorted(found, key=lambda each: -each.count.nanoseconds)


def percent(found: Iterable[Share]) -> float:
    """Of one CPU, all together."""
    return sum(each.percent for each in found)


def told(found: Sequence[Share]) -> str:
    """The costliest ones, for a note."""
    costly = [each for each in found[:_SHOWN] if each.count.nanoseconds]
    return ", ".join(map(str, costly))


class Budget:
    """What a trace's probes may cost, and for how long they may cost more."""

    WARNED_AFTER, STOPPED_AFTER = 2, 5
    """Readings, one a second, above the budget in a row."""

    def __init__(self, percent: float) -> None:
        """`percent`: of one CPU."""
        self.percent = percent
        self._above = 0

    def take(self, percent: float) -> str:
        """A reading's share of one CPU; what follows from it: ``, `warn` or `stop`."""
        if percent <= self.percent:
            self._above = 0
            return ""
        self._above += 1
        if self._above == self.STOPPED_AFTER:
            return "stop"
        return "warn" if self._above == self.WARNED_AFTER else ""
