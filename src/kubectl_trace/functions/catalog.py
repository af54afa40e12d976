"""The functions of an ELF file, by all that it and its debug files say about them."""

from __future__ import annotations

import bisect
import re
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from kubectl_trace.binary import demangle, elf, golang, symbols, usdt
from kubectl_trace.binary.golang import build_info, pclntab
from kubectl_trace.functions import patterns as matching

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from kubectl_trace.binary.dwarf import DebugInfo, Inlined, Subprogram
    from kubectl_trace.functions.patterns import Pattern

_MOST_CODE = 4 << 20
_MANGLED = ("_Z", "_R", "__Z")
_ABI_TAG = re.compile(r"\[abi:\w+\]")


# A tuple, as symbols.Symbol: a large program has 140,000.
class Function(NamedTuple):
    """A function that can be traced."""

    name: str
    """As its language has it: `main.(*T).Write`, `shop::Cart::add`, `ngx_unix_recv`."""
    symbol: str
    """As the linker has it."""
    address: int
    """Virtual, before any relocation of the whole file."""
    size: int
    """Bytes; 0: not known."""
    language: str
    """`C++`, `Rust`, `Go`, or empty: nothing in the name says it."""

    @property
    def whole_name(self) -> str:
        """With its parameters, where the linker's name has them."""
        return demangle.demangle(self.symbol) if self.symbol != self.name else self.name

    def contains(self, address: int | None) -> bool:
        """Whether the address is one of its code."""
        return address is not None and 0 <= address - self.address < self.size


class Binary:
    """One ELF file, and a file with its debug information if that is apart.

    Raises:
        elf.MalformedError: it is no ELF file; so may every method.
    """

    def __init__(
        self, file: BinaryIO, debug: BinaryIO | None = None, alternative: BinaryIO | None = None
    ) -> None:
        self.file = file
        self._debug = debug
        self._alternative = alternative
        self.header = elf.read_header(file)
        self.segments = elf.segments(file, self.header)

    @cached_property
    def is_go(self) -> bool:
        """Whether it holds Go code."""
        return golang.is_go(self.file)

    @cached_property
    def go_version(self) -> str:
        """Such as `go1.19.8`; empty: not known."""
        return build_info.version(self.file) if self.is_go else ""

    @cached_property
    def unwinds(self) -> bool:
        """Whether exceptions may pass through its functions: it says what is to be done then."""
        try:
            names = {section.name for section in elf.sections(self.file, self.header)}
        except elf.MalformedError:
            return True
        return not names or b".gcc_except_table" in names

    @cached_property
    def debug_info(self) -> DebugInfo | None:
        """What is known of arguments and types; None: nothing."""
        from kubectl_trace.binary.dwarf import DebugInfo

        for file in filter(None, (self.file, self._debug)):
            try:
                found = DebugInfo(file, self._alternative)
                if found.has_functions:
                    return found
            except elf.MalformedError:
                continue
        return None

    def functions(self, wanted: Sequence[Pattern]) -> list[Function]:
        """The functions that any of the patterns means, by address; none: all."""
        go = self._go_functions(wanted) if self.is_go else []
        # Later ones of the same place and name count less.
        found = {(each.address, each.name): each for each in reversed(go)}
        addresses = {address for address, _ in found}
        for each in self._symbols(wanted):
            # Go's own table has its functions with their real ends.
            if not (self.is_go and each.address in addresses):
                found.setdefault((each.address, each.name), each)
        return sorted(found.values(), key=attrgetter("address", "name"))

    def _go_functions(self, wanted: Sequence[Pattern]) -> list[Function]:
        def is_wanted(name: bytes) -> bool:
            return matching.matching(wanted, (name.decode(errors="replace"),))

        try:
            table = self._go_table
            if wanted and all(each.is_exact for each in wanted):
                found = [one for each in wanted for one in table.every(each.text)]
                return [
                    Function(each.name, each.name, each.address, each.size, "Go") for each in found
                ]
            return [
                Function(each.name, each.name, each.address, each.size, "Go")
                for each in table.functions(is_wanted if wanted else None)
            ]
        except elf.MalformedError:
            return []

    def _symbols(self, wanted: Sequence[Pattern]) -> list[Function]:
        found = []
        for file in filter(None, (self.file, self._debug)):
            try:
                for symbol in symbols.functions(file):
                    each = self._function(symbol)
                    if symbol.address and (
                        not wanted
                        or matching.matching(wanted, (each.name, each.symbol))
                        or (each.language and matching.matching(wanted, (each.whole_name,)))
                    ):
                        found.append(each)
            except elf.MalformedError:
                continue  # what was read of a broken table stands
        return found

    def _function(self, symbol: symbols.Symbol) -> Function:
        if symbol.name.startswith(_MANGLED):
            language = demangle.language(symbol.name)
            name = _ABI_TAG.sub("", demangle.short(demangle.demangle(symbol.name)))
        else:
            language = "Go" if self.is_go and "." in symbol.name else ""
            name = symbol.name
        return Function(name, symbol.name, symbol.address, symbol.size, language)

    def probes(self) -> list[usdt.Usdt]:
        """Its USDT probes."""
        try:
            return list(usdt.probes(self.file))
        except elf.MalformedError:
            return []

    def described(self, addresses: Collection[int], depth: int) -> dict[int, Subprogram]:
        """What debug information says about the functions at these addresses.

        Args:
            addresses: Where they begin.
            depth: How many pointers types are followed through.
        """
        if self.debug_info is None:
            return {}
        try:
            return self.debug_info.at(addresses, depth=depth)
        except elf.MalformedError:
            return {}

    def inlined(self, wanted: Sequence[Pattern]) -> list[Inlined]:
        """The functions meant that were inlined, and where."""
        if self.debug_info is None:
            return []
        try:
            return self.debug_info.inlined(lambda name: matching.matching(wanted, (name,)))
        except elf.MalformedError:
            return []

    def go_inlined(self, name: str) -> list[str] | None:
        """The Go functions into which this one was inlined; None: there is no such function."""
        if not self.is_go:
            return None
        try:
            table = self._go_table
            if not table.mentions(name):
                return None
            return [each.name for each in table.inlined_in(name)]
        except elf.MalformedError:
            return None

    def code(self, function: Function) -> bytes:
        """The function's machine code; empty where its size is not known or too large."""
        if not 0 < function.size <= _MOST_CODE:
            return b""
        return elf.at_address(self.file, self.segments, function.address, function.size)

    @cached_property
    def _cold_parts(self) -> dict[str, Function]:
        """What GCC moved out of functions since it is seldom run, by the function's symbol."""
        found = {}
        for file in filter(None, (self.file, self._debug)):
            try:
                for symbol in symbols.functions(file, lambda name: b".cold" in name):
                    whole = symbol.name.partition(".cold")[0]
                    found[whole] = Function(
                        symbol.name, symbol.name, symbol.address, symbol.size, ""
                    )
            except elf.MalformedError:
                continue
        return found

    def cold_part(self, function: Function) -> Function | None:
        """The part of the function that the compiler has put elsewhere; None: there is none."""
        return self._cold_parts.get(function.symbol)

    def is_go_assembly(self, function: Function) -> bool:
        """Whether a Go function is in assembly, which has a calling convention of its own."""
        try:
            return self._go_table.is_assembly(function.address)
        except elf.MalformedError:
            return False

    @cached_property
    def _go_table(self) -> pclntab.FunctionTable:
        return pclntab.FunctionTable(self.file)

    def attach_numbers(self, addresses: Collection[int]) -> dict[int, int]:
        """The numbers by which bpftrace attaches to these addresses (`uprobe:FILE:NUMBER`).

        bpftrace takes a number that a symbol covers for an address, and attaches to the first
        symbol of that name, so many bytes further; else it is an offset in the file (0.17 to 0.27,
        src/attached_probe.cpp: resolve_offset_uprobe). Addresses that it can't be told so are left
        out: it would attach to something else.
        """
        offsets = {
            address: symbols.file_offset(self.segments, address) for address in set(addresses)
        }
        numbers = {*offsets, *(each for each in offsets.values() if each is not None)}
        covering = self._covering(numbers)
        several = self._of_several({name for name, _ in covering.values()})
        found = {}
        for address, offset in offsets.items():
            if address in covering and covering[address][0] not in several:
                found[address] = address
            elif offset is not None and offset not in covering:
                found[address] = offset
        return found

    def _covering(self, numbers: Collection[int]) -> dict[int, tuple[str, int]]:
        """The symbols that cover these numbers, taken for addresses: names and addresses."""
        wanted = sorted(numbers)
        found: dict[int, tuple[str, int]] = {}
        try:
            for symbol in self._own_symbols():
                at = bisect.bisect_left(wanted, symbol.address)
                while at < len(wanted) and wanted[at] < symbol.address + symbol.size:
                    found.setdefault(wanted[at], (symbol.name, symbol.address))
                    at += 1
        except elf.MalformedError:
            pass  # bpftrace does not read on either
        return found

    def _of_several(self, names: Collection[str]) -> set[str]:
        """Those of the names that symbols at several addresses have."""
        wanted = {name.encode(errors="surrogateescape") for name in names}
        places: dict[str, set[int]] = {}
        try:
            for symbol in self._own_symbols(lambda name: name in wanted):
                places.setdefault(symbol.name, set()).add(symbol.address)
        except elf.MalformedError:
            pass
        return {name for name, found in places.items() if len(found) > 1}

    def _own_symbols(
        self, wanted: Callable[[bytes], object] | None = None
    ) -> Iterator[symbols.Symbol]:
        yield from symbols.functions(self.file, wanted)
        yield from symbols.resolvers(self.file, wanted)
