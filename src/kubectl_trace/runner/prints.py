"""Which print a map that bpftrace has printed is of, and the map as the user's program has it.

`program.merging` lets a marker follow every print, on the same CPU and so in the same order; what
other CPUs print may come between the two. Maps that bpftrace prints itself, at its exit, have none.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kubectl_trace.program.merging import CONSTANT, CONTAINER
from kubectl_trace.results.dialect import Output
from kubectl_trace.runner.output import Given

if TYPE_CHECKING:
    from kubectl_trace.program.merging import Merged, Merging

_TYPES = {
    "hist": "hist",
    "lhist": "hist",
    "avg": "stats",
    "stats": "stats",
    "tseries": "tseries",
}
# What 0.27 prints of a map without keys before anything has come; earlier versions print nothing.
_NOTHING: dict[str, object] = {
    "count": 0,
    "sum": 0,
    "avg": {"count": 0, "average": 0, "total": 0},
    "stats": {"count": 0, "average": 0, "total": 0},
}


class Prints:
    """Holds each map until it is known which print it is of."""

    def __init__(self, merging: Merging) -> None:
        self._merging = merging
        self._numbered = [*enumerate(merging.prints, 1)]
        self._held: dict[str, Output] = {}
        self._last: dict[str, int] = {}
        # Maps given before their marker came, if it is to come at all; and maps of which a print
        # may be lost, though its marker is not.
        self._early: Counter[str] = Counter()
        self._doubtful: set[str] = set()

    def take(self, name: str, output: Output) -> list[Given]:
        """A map has come; what can be given now."""
        given = self._early_one(name) if name in self._held else []
        self._held[name] = output
        return given

    def marked(self, marker: int) -> list[Given]:
        """A marker has come; the map that it is of."""
        names = {shown.map: number for number, shown in self._numbered if shown.marker == marker}
        if not names:
            return []
        name = next((name for name in self._held if name in names), "")
        if name:
            self._last[name] = names[name]
            self._doubtful.discard(name)
            return self._given(name, self._held.pop(name), names[name])
        if len(names) > 1:
            return []  # a macro's, and which map it is not known
        ((name, number),) = names.items()
        self._last[name] = number
        if self._early[name]:
            self._early[name] -= 1
            return []
        if name in self._doubtful:
            self._doubtful.discard(name)
            return []
        return self._empty(name, number)

    def lost(self) -> list[Given]:
        """Events were lost: markers may be among them; the maps that are not to wait for theirs."""
        self._doubtful = set(self._merging.maps)
        return [each for name in [*self._held] for each in self._early_one(name)]

    def rest(self) -> list[Given]:
        """Nothing will come any more: the maps that bpftrace has printed at its exit."""
        return [
            given
            for name, output in self._held.items()
            for given in self._given(
                name, output, self._likely(name) if self._ends_empty(name) else 0
            )
        ]

    def _early_one(self, name: str) -> list[Given]:
        self._early[name] += 1
        return self._given(name, self._held.pop(name), self._likely(name))

    def _likely(self, name: str) -> int:
        """The number of the print that a map without a marker is of, most likely."""
        if name in self._last:
            return self._last[name]
        return next((number for number, shown in self._numbered if shown.map == name), 0)

    def _ends_empty(self, name: str) -> bool:
        return name in self._merging.maps and self._merging.maps[name].ends_empty

    def _given(self, name: str, output: Output, number: int) -> list[Given]:
        merged = self._merging.maps.get(name)
        value = output.data[name] if isinstance(output.data, dict) else None
        if value == {} and (number or (merged is not None and merged.added)):
            # 0.27 prints these of averages; at exit nobody waits for one.
            return self._empty(name, number) if number else []
        if merged is not None and isinstance(value, dict):
            if merged.added == CONSTANT and value.keys() == {"0"}:
                return [Given(Output(output.type, {name: value["0"]}), print=number)]
            if merged.added == CONTAINER and (parts := _by_container(value, merged)) is not None:
                data = [{name: part} for part in parts.values()]
                return [Given(Output(output.type, data), [*parts], number)]
        return [Given(output, print=number)]

    def _empty(self, name: str, number: int) -> list[Given]:
        """The record of a print that bpftrace has not made because the map was empty.

        Without the map in its data it says only that the print has been: of a map without keys
        there is no value, of one that is kept by container no container's.
        """
        merged = self._merging.maps.get(name)
        if merged is None:
            return []
        kind = _TYPES.get(merged.kind, "map")
        if merged.added == CONTAINER:
            return [Given(Output(kind, []), [], number)]
        value = {} if merged.is_keyed else _NOTHING.get(merged.kind)
        return [Given(Output(kind, {} if value is None else {name: value}), print=number)]


def _by_container(value: dict[str, object], merged: Merged) -> dict[int, object] | None:
    """A map's parts by the containers' numbers; None if a key does not begin with one."""
    keyed: dict[int, dict[str, object]] = {}
    whole: dict[int, object] = {}
    for key, item in value.items():
        number, comma, rest = key.partition(",")
        if not (number.isascii() and number.isdecimal()) or bool(comma) != merged.is_keyed:
            return None
        if merged.is_keyed:
            keyed.setdefault(int(number), {})[rest] = item
        else:
            whole[int(number)] = item
    return dict(sorted((keyed or whole).items()))
