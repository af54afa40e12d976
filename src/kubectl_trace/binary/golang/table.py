"""The parts of a Go program's table of functions (pclntab), read when they are first asked for.

Format: as header.py, and runtime, runtime2.go (`_func`).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from kubectl_trace.binary import elf
from kubectl_trace.binary.golang import header as headers
from kubectl_trace.binary.golang import image as images
from kubectl_trace.binary.golang import module as modules

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_NAMES = 64 << 20
_MOST_RECORDS = 64 << 20
_LARGEST_RECORD = 1024
_LONGEST_NAME = 64 << 10
# What all names together may have: functions share them, so a file could repeat a long one.
_MOST_NAME_BYTES = 128 << 20
_MOST_FALSE_HITS = 1024
_INLINE_TREE = 3
_INLINE_TREE_INDEX = 2
_NONE = 0xFFFFFFFF
_OUTSIDE = "a function's record is outside of the table"


@dataclass(frozen=True, slots=True)
class Fields:
    """Where a function's record has what: in words of 4 bytes."""

    name: int
    table_count: int
    """How many tables by address there are; their places follow the fixed part."""
    id: int
    """In its first byte; its last says how many places of data there are, behind the tables'."""
    end: int
    """Where the fixed part ends."""


# By the header's form. Before Go 1.18 a record begins with an address of 8 bytes.
_FIELDS = {
    2: Fields(name=2, table_count=8, id=9, end=10),
    16: Fields(name=2, table_count=8, id=10, end=11),
    18: Fields(name=1, table_count=7, id=9, end=10),
    20: Fields(name=1, table_count=7, id=10, end=11),
}


@dataclass(frozen=True, slots=True)
class InlineTree:
    """Where a function's tree of inlined calls is."""

    index: int
    """Of the function."""
    place: int
    """Of the tree, in the program's function data."""
    values: int
    """Of the table that says which addresses have which entry of the tree."""


class Table:
    """Functions are counted by their address; names are told apart by where they are.

    Args:
        image: The program.

    Raises:
        MalformedError: there is no such table; also by every member, where it is broken.
    """

    def __init__(self, image: images.Image) -> None:
        self.image = image
        self.header = headers.find(image)
        self.fields = _FIELDS[self.header.since]

    @cached_property
    def module(self) -> modules.Module:
        """What the program's runtime is told of it."""
        return modules.find(self.image, self.header)

    @cached_property
    def names(self) -> bytes:
        """Names, each ended by a zero byte, of functions with code and of those inlined."""
        header = self.header
        size = (header.units_at or header.size) - header.names_at
        if size > _MOST_NAMES:
            raise elf.MalformedError(f"more than {_MOST_NAMES >> 20} MiB of functions' names")
        return self.image.at(header.address + header.names_at, size)

    @cached_property
    def entries(self) -> memoryview[int]:
        """The functions' addresses, relative to `text`; one more, where the last ends."""
        return self._lookup[::2]

    @cached_property
    def text(self) -> int:
        """What `entries` are relative to."""
        header, entries = self.header, self.entries
        text = 0
        if header.entry_is_offset:
            # Go 1.26 leaves it out of the header; before, that of a position-independent program
            # may be zero in the file.
            text = header.text or self.module.text
        if not (self.image.is_code(text + entries[0]) and self.image.is_code(text + entries[-1])):
            raise elf.MalformedError("the functions are not in the program's code")
        return text

    def word(self, index: int, field: int) -> int:
        """A word of a function's record."""
        return self._word(self._places[index], field)

    def name_places(self) -> Iterator[int]:
        """Where each function's name is."""
        field = self.fields.name
        for place in self._places:
            yield self._word(place, field)

    def all_names(self) -> Iterator[bytes]:
        """Each function's name."""
        # One loop, since a large program has 140,000 functions.
        names, words, field = self.names, self._record_words, self.fields.name
        left = _MOST_NAME_BYTES
        for place in self._places:
            try:
                start = words[(place >> 2) + field]
            except IndexError:
                raise elf.MalformedError(_OUTSIDE) from None
            end = names.find(b"\0", start, start + _LONGEST_NAME)
            left -= end - start
            if end < 0 or left < 0:
                raise elf.MalformedError("a function's name has no end, or names are too long")
            yield names[start:end]

    def name_at(self, place: int) -> bytes:
        """The name there."""
        end = self.names.find(b"\0", place, place + _LONGEST_NAME)
        if end < 0:
            raise elf.MalformedError("a function's name has no end")
        return self.names[place:end]

    def name_place(self, name: bytes) -> int | None:
        """Where a name is, also that of a function without code of its own."""
        # The linker writes each once.
        wanted = name + b"\0"
        if self.names.startswith(wanted):
            return 0
        if self.header.since >= 16:
            at = self.names.find(b"\0" + wanted)
            return at + 1 if at >= 0 else None
        # Between the names is all else, and the byte before one may be any.
        for place in self.name_places():
            if self.names.startswith(wanted, place):
                return place
        return None

    def having_name(self, place: int) -> list[int]:
        """The functions whose name is there."""
        pattern = place.to_bytes(4, "little")
        found = []
        misses = 0
        hit = self._records.find(pattern)
        while hit >= 0 and misses <= _MOST_FALSE_HITS:
            index = self._with_record(hit - 4 * self.fields.name)
            if index is None:
                misses += 1
            else:
                found.append(index)
            hit = self._records.find(pattern, hit + 1)
        if hit < 0:
            return sorted(found)
        # A number that is common.
        return [index for index, other in enumerate(self.name_places()) if other == place]

    def inline_trees(self) -> Iterator[InlineTree]:
        """The trees of inlined calls of those functions that have one; from Go 1.18 on."""
        fields = self.fields
        for index, place in enumerate(self._places):
            table_count = self._word(place, fields.table_count)
            data_count = self._word(place, fields.id) >> 24
            if table_count <= _INLINE_TREE_INDEX or data_count <= _INLINE_TREE:
                continue
            tree = self._word(place, fields.end + table_count + _INLINE_TREE)
            if tree != _NONE:
                values = self._word(place, fields.end + _INLINE_TREE_INDEX)
                yield InlineTree(index, tree, values)

    @cached_property
    def _lookup(self) -> memoryview[int]:
        """A function's entry and its record's place, by turns; last the end of the last."""
        header = self.header
        code: Literal["I", "Q"] = "I" if header.entry_is_offset else "Q"
        size = (2 * header.function_count + 1) * (4 if header.entry_is_offset else 8)
        data = self.image.exactly(header.address + header.functions_at, size)
        return images.numbers(data, code)

    @cached_property
    def _places(self) -> list[int]:
        """Where the functions' records are in `_records`, in bytes."""
        return self._lookup[1::2].tolist()

    @cached_property
    def _records(self) -> bytes:
        header = self.header
        size = max(self._places) + _LARGEST_RECORD
        if size > _MOST_RECORDS:
            raise elf.MalformedError(f"more than {_MOST_RECORDS >> 20} MiB of functions")
        size = min(size, header.size - header.records_at)
        return self.image.at(header.address + header.records_at, size)

    @cached_property
    def _record_words(self) -> memoryview[int]:
        return images.numbers(self._records, "I")

    def _word(self, place: int, field: int) -> int:
        try:
            return self._record_words[(place >> 2) + field]
        except IndexError:
            raise elf.MalformedError(_OUTSIDE) from None

    def _with_record(self, place: int) -> int | None:
        """The function whose record is there, None if none is."""
        if place < 0 or place % 4:
            return None
        # A record begins with the function's entry.
        entry = int.from_bytes(self._records[place : place + self._lookup.itemsize], "little")
        end = bisect_right(self.entries, entry)
        # Functions may be empty: several with the same entry.
        for index in range(end - 1, max(end - 9, -1), -1):
            if index < len(self._places) and self._places[index] == place:
                return index
        return None
