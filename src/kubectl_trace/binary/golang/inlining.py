"""Where functions were inlined, from Go 1.18 on.

Format: runtime, symtab.go (`pcvalue`, `inlinedCall`), of Go 1.19 and symtabinl.go of Go 1.27.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from kubectl_trace.binary import elf
from kubectl_trace.binary.golang import values

if TYPE_CHECKING:
    from kubectl_trace.binary.golang.table import InlineTree, Table

_LARGEST_TREE = 1 << 20
_MOST_DATA = 64 << 20
_MOST_VALUES_DATA = 64 << 20
# A number that is common has many.
_MOST_HITS = 4 << 20
# A call that is inlined everywhere has some 10,000.
_MOST_TREES = 1 << 17
_MOST_VALUES = 2 << 20
# Of an inlined call: its size in bytes, and where in it is the place of its name.
_CALL = {18: (20, 12), 20: (16, 4)}


def having(table: Table, name_place: int) -> list[int]:
    """The functions that have the one with its name at that place inlined.

    Raises:
        MalformedError: the table is broken, or this would take too long.
    """
    size, name_at = _CALL[table.header.since]
    # Functions may share a tree.
    trees: dict[int, list[InlineTree]] = {}
    for tree in table.inline_trees():
        trees.setdefault(tree.place, []).append(tree)
    places = sorted(trees)
    if not places:
        return []
    if places[-1] > _MOST_DATA:
        raise elf.MalformedError(f"more than {_MOST_DATA >> 20} MiB of functions' data")
    # How long the last tree is isn't said: longer than this is none.
    data = table.image.at(table.module.function_data, places[-1] + _LARGEST_TREE)
    counts = _Counts(table)
    found: set[int] = set()
    hits_left, trees_left = _MOST_HITS, _MOST_TREES
    pattern = name_place.to_bytes(4, "little")
    hit = data.find(pattern)
    while hit >= 0:
        before = bisect_right(places, hit) - 1
        call, rest = divmod(hit - places[before] - name_at, size)
        at_place = trees[places[before]] if before >= 0 and call >= 0 and not rest else ()
        hits_left -= 1
        trees_left -= len(at_place)
        if min(hits_left, trees_left) < 0:
            raise elf.MalformedError("too many inlined calls")
        # What is behind a tree may be anything.
        found.update(tree.index for tree in at_place if call < counts.of(tree))
        hit = data.find(pattern, hit + 1)
    return sorted(found)


class _Counts:
    """How many calls trees have: as many as code has been made of."""

    def __init__(self, table: Table) -> None:
        header = table.header
        size = min(header.functions_at - header.values_at, _MOST_VALUES_DATA)
        self._values = table.image.at(header.address + header.values_at, size)
        self._found: dict[int, int] = {}
        self._left = _MOST_VALUES

    def of(self, tree: InlineTree) -> int:
        if tree.values not in self._found:
            best, count = values.highest(self._values, tree.values, self._left)
            self._left -= 1 + count
            if self._left <= 0:
                raise elf.MalformedError("too many inlined calls")
            self._found[tree.values] = best + 1
        return self._found[tree.values]
