"""The functions of a Go program, stripped or not, from the table that its runtime prints stacks by.

Go 1.2 to 1.27. Format: as header.py and table.py.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from kubectl_trace.binary import elf
from kubectl_trace.binary.golang import image as images
from kubectl_trace.binary.golang import inlining
from kubectl_trace.binary.golang.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# A tuple, as symbols.Symbol: a large program has 140,000.
class GoFunction(NamedTuple):
    """A function: its address before any relocation of the whole, its size in bytes.

    The size reaches to the next function: padding is part of it. Instances of a generic function
    share a name, with `[...]` in it.
    """

    name: str
    address: int
    size: int


class FunctionTable:
    """The functions of a Go program. Nothing but headers is read until something is asked for.

    Every method raises MalformedError where the table is broken.

    Args:
        file: The ELF file, which must stay open.

    Raises:
        MalformedError: it is no ELF file, no Go program for amd64 or arm64, or broken.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._table = Table(images.open_image(file))

    def functions(self, matching: Callable[[bytes], bool] | None = None) -> Iterator[GoFunction]:
        """The functions, by address.

        Args:
            matching: Whether a function of that name is wanted; all are where it is None.
        """
        text, entries = self._table.text, self._table.entries.tolist()
        for name, start, end in zip(self._table.all_names(), entries, entries[1:], strict=False):
            if matching is None or matching(name):
                yield _made(name, text + start, text + end)

    def every(self, name: str) -> list[GoFunction]:
        """The functions of this name, by address: several where it is generic.

        What the compiler made around a function, from one calling convention to the other, has its
        name too and is left out.
        """
        place = self._table.name_place(_encoded(name))
        found = [] if place is None else self._table.having_name(place)
        # Not zero: wrappers, and some functions of the runtime (internal/abi, symtab.go, FuncID).
        own = [index for index in found if not self._table.word(index, self._table.fields.id) & 255]
        return [self._function(index, _encoded(name)) for index in own or found]

    def named(self, name: str) -> GoFunction | None:
        """The function of this name, the first if there are several, None if there is none."""
        return next(iter(self.every(name)), None)

    def mentions(self, name: str) -> bool:
        """Whether the program has code of this function: of its own, or inlined.

        Inlined code that the compiler made nothing of leaves no name. Before Go 1.16, only those
        with code of their own are found.
        """
        return self._table.name_place(_encoded(name)) is not None

    def inlined_in(self, name: str) -> list[GoFunction]:
        """The functions whose code has some of this one inlined, by address; none before Go 1.18.

        Where it was inlined into one that was inlined itself, this gives the one with the code.
        """
        table = self._table
        place = table.name_place(_encoded(name))
        if place is None or not table.header.entry_is_offset:
            return []
        return [
            self._function(index, table.name_at(table.word(index, table.fields.name)))
            for index in inlining.having(table, place)
        ]

    def is_assembly(self, address: int) -> bool:
        """Whether the function at an address is in assembly; False before Go 1.18, or not known.

        Its flag is internal/abi, symtab.go, FuncFlagAsm: 4, behind the ID.
        """
        table = self._table
        index = bisect_right(table.entries, address - table.text) - 1
        if not table.header.entry_is_offset or not 0 <= index < table.header.function_count:
            return False
        return bool(table.word(index, table.fields.id) >> 8 & 4)

    def _function(self, index: int, name: bytes) -> GoFunction:
        text, entries = self._table.text, self._table.entries
        return _made(name, text + entries[index], text + entries[index + 1])


def _made(name: bytes, start: int, end: int) -> GoFunction:
    if end < start:
        raise elf.MalformedError("the functions are not in order")
    return GoFunction(name.decode("utf-8", "replace"), start, end - start)


def _encoded(name: str) -> bytes:
    # Not the name of any function: what can't be encoded.
    return name.encode("utf-8", "replace")
