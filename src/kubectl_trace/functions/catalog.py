"""The functions of an ELF file, by all that it and its debug files say about them."""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO

from kubectl_trace.binary import demangle, elf, golang, symbols, usdt
from kubectl_trace.binary.golang import build_info, pclntab
from kubectl_trace.functions import patterns as matching

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from kubectl_trace.binary.dwarf import DebugInfo, Inlined, Subprogram
    from kubectl_trace.functions.patterns import Pattern

_MOST_CODE = 4 << 20
_MANGLED = ("_Z", "_R", "__Z")
_ABI_TAG = re.compile(r"\[abi:\w+\]")


@dataclass(frozen=True, slots=True)
class Function:
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
        found: dict[tuple[int, str], Function] = {}
        if self.is_go:
            for each in self._go_functions(wanted):
                found.setdefault((each.address, each.name), each)
        addresses = {address for address, _ in found}
        for each in self._symbols(wanted):
            # Go's own table has its functions with their real ends.
            if not (self.is_go and each.address in addresses):
                found.setdefault((each.address, each.name), each)
        return sorted(found.values(), key=lambda each: (each.address, each.name))

    def _go_functions(self, wanted: Sequence[Pattern]) -> list[Function]:
        def is_wanted(name: bytes) -> bool:
            return not wanted or matching.matching(wanted, (name.decode(errors="replace"),))

        try:
            table = pclntab.FunctionTable(self.file)
            if wanted and all(each.is_exact for each in wanted):
                found = [one for each in wanted for one in table.every(each.text)]
                return [
                    Function(each.name, each.name, each.address, each.size, "Go") for each in found
                ]
            return [
                Function(each.name, each.name, each.address, each.size, "Go")
                for each in table.functions(is_wanted)
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
            table = pclntab.FunctionTable(self.file)
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

    def attach_numbers(self, addresses: Collection[int]) -> dict[int, int]:
        """The numbers by which bpftrace attaches to these addresses (`uprobe:FILE:NUMBER`).

        Where a symbol of the file's covers an address, it is the address, else the offset in the
        file: seen with 0.17, 0.23.2 and 0.27.1 (src/attached_probe.cpp, resolve_offset_uprobe).
        """
        wanted = sorted(set(addresses))
        covered: set[int] = set()
        try:
            for symbol in symbols.functions(self.file):
                at = bisect.bisect_left(wanted, symbol.address)
                while at < len(wanted) and wanted[at] < symbol.address + symbol.size:
                    covered.add(wanted[at])
                    at += 1
        except elf.MalformedError:
            pass  # bpftrace does not read on either
        found = {}
        for address in wanted:
            offset = symbols.file_offset(self.segments, address)
            found[address] = address if address in covered or offset is None else offset
        return found
