"""A file's debug information: which functions it describes, and where some were inlined."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from kubectl_trace.binary import elf
from kubectl_trace.binary.dwarf import constants as dw
from kubectl_trace.binary.dwarf import ranges
from kubectl_trace.binary.dwarf.functions import FunctionReader, Subprogram, entry_address
from kubectl_trace.binary.dwarf.lines import Files, read_files
from kubectl_trace.binary.dwarf.sections import Budget, Sections
from kubectl_trace.binary.dwarf.types import TypeReader
from kubectl_trace.binary.dwarf.units import ALTERNATIVE, TYPES, Entry, Unit, UnitList

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

# Entries, list items and the like for one question, one to two microseconds each. Looking at all of
# a Kubernetes program of 146 MB takes 2.5 million, at one function 4,000.
_MOST_STEPS = 10_000_000
_MOST_DEPTH = 8
_MOST_INLINED = 100_000
_MOST_PLACES = 10_000
_MOST_FILE_TABLES = 64

_FUNCTIONS = frozenset((dw.TAG_SUBPROGRAM,))
_INLINED = frozenset((dw.TAG_SUBPROGRAM, dw.TAG_INLINED_SUBROUTINE))
# What functions' own entries are in. Below others are only declarations and functions' insides.
_HOLDERS = frozenset((dw.TAG_NAMESPACE, dw.TAG_MODULE))


@dataclass(frozen=True, slots=True)
class InlinedPlace:
    """Where a function was inlined."""

    function: str
    """The qualified name of the function whose code it is in now."""
    address: int
    """Of that function's first instruction."""
    file: str
    line: int
    """Of the call; 0: not known."""


@dataclass(frozen=True, slots=True)
class Inlined:
    """A function that was inlined somewhere; it may have code of its own as well."""

    name: str
    qualified_name: str
    file: str
    line: int
    places: tuple[InlinedPlace, ...]


class DebugInfo:
    """Reads DWARF 2 to 5. Cheap to make: sections are read when they are needed.

    All methods raise MalformedError where the debug information is broken or takes more work than
    that of any real program; nothing else but OSError, where the file can't be read.

    Args:
        file: An ELF file; kept, and read whenever something is asked.
        alternative: What dwz moved to a file that several share (.gnu_debugaltlink). Without it
            names and types that are there are not known.
    """

    def __init__(self, file: BinaryIO, alternative: BinaryIO | None = None) -> None:
        self._budget = Budget(_MOST_STEPS)
        sections = Sections(file)
        shared = Sections(alternative) if alternative else None
        self._sections = sections
        self._units = UnitList(sections, sections.info, 0, self._budget, shared)
        self._types = UnitList(sections, sections.types, TYPES, self._budget, shared)
        self._shared = (
            UnitList(shared, shared.info, ALTERNATIVE, self._budget, None) if shared else None
        )
        self._signatures: dict[int, int] | None = None
        self._files: dict[int, Files] = {}
        self._functions = FunctionReader(self._find, self._file_name)

    @property
    def has_functions(self) -> bool:
        """Whether there is debug information that may describe functions."""
        return self._sections.info.is_there

    def at(self, addresses: Collection[int], *, depth: int = 1) -> dict[int, Subprogram]:
        """The functions that begin at these addresses, as far as the file describes them.

        Args:
            addresses: As in the file, before any relocation of the whole.
            depth: How many pointers to follow in types; what is behind others is opaque.

        Raises:
            MalformedError: the debug information is broken.
        """
        self._budget.left = _MOST_STEPS
        types = self._type_reader()
        depth = max(0, min(depth, _MOST_DEPTH))
        left = set(addresses)
        found: dict[int, Subprogram] = {}
        for unit, into in self._likely_units(left):
            for entry in self._functions_in(unit, into):
                address = entry_address(entry)
                if address in left:
                    found[address] = self._functions.describe(entry, address, types, depth)
                    left.discard(address)
                    if not left:
                        return found
        return found

    def _likely_units(self, left: set[int]) -> Iterator[tuple[Unit, frozenset[int] | None]]:
        """The units that say that they have code at any of these addresses; how to walk them."""
        searched: dict[int, None] = {}
        for offset in self._indexed_units(left):
            searched[offset] = None
            yield self._units.at(offset), _HOLDERS
        ordered = sorted(left)
        for offset in self._units.offsets():
            if offset not in searched and _holds_any(self._units.at(offset), ordered):
                searched[offset] = None
                yield self._units.at(offset), _HOLDERS
        # Functions in functions are where a quick walk does not come.
        for offset in searched:
            yield self._units.at(offset), None

    def named(self, wanted: Callable[[str], bool], *, depth: int = 1) -> Iterator[Subprogram]:
        """The functions with code of their own whose plain or qualified name is wanted.

        Looks at all units: on large files it takes seconds, and a caller who wants many may stop
        when it has enough. Functions in functions are not among them where the compiler (gcc) lets
        a reader pass over those.

        Args:
            wanted: Whether a name is.
            depth: As for `at`.

        Raises:
            MalformedError: the debug information is broken.
        """
        self._budget.left = _MOST_STEPS
        types = self._type_reader()
        depth = max(0, min(depth, _MOST_DEPTH))
        for unit in self._units.each():
            for entry in self._functions_in(unit, _HOLDERS):
                address = entry_address(entry)
                if address is not None and self._is_wanted(entry, wanted):
                    yield self._functions.describe(entry, address, types, depth)
                    self._budget.left = _MOST_STEPS

    def inlined(self, wanted: Callable[[str], bool]) -> list[Inlined]:
        """The functions whose plain or qualified name is wanted, and that were inlined.

        Looks at all units: on large files it takes seconds. At most 10,000 places.

        Args:
            wanted: Whether a name is.

        Raises:
            MalformedError: the debug information is broken.
        """
        self._budget.left = _MOST_STEPS
        found: dict[int, tuple[str, str, str, int]] = {}
        for unit in self._units.each():
            for entry in self._functions_in(unit, None):
                if entry.integer(dw.AT_INLINE) and self._is_wanted(entry, wanted):
                    names, declared = self._functions.names(entry), self._functions.declared(entry)
                    found[entry.reference] = (*names, *declared)
                    if len(found) >= _MOST_INLINED:
                        raise elf.MalformedError("too many functions")
        # Each unit has its own of one that is in a header.
        places: dict[tuple[str, str, str, int], list[InlinedPlace]] = {}
        count = 0
        for unit in self._units.each() if found else ():
            if not unit.mentions(found, dw.TAG_INLINED_SUBROUTINE, dw.AT_ABSTRACT_ORIGIN):
                continue
            for reference, place in self._inlined_in(unit, found):
                places.setdefault(found[reference], []).append(place)
                count += 1
                if count >= _MOST_PLACES:
                    return _all_inlined(places)
        return _all_inlined(places)

    def _inlined_in(
        self, unit: Unit, wanted: Collection[int]
    ) -> Iterator[tuple[int, InlinedPlace]]:
        """Where in a unit's functions any of these were inlined."""
        functions: list[tuple[int, Entry]] = []
        for reference, tag, depth in unit.walk(_INLINED, unit.at, None):
            while functions and functions[-1][0] >= depth:
                functions.pop()
            entry = unit.entry(reference)
            if tag == dw.TAG_SUBPROGRAM:
                functions.append((depth, entry))
                continue
            origin = entry.reference_to(dw.AT_ABSTRACT_ORIGIN)
            if origin is None or origin not in wanted or not functions:
                continue
            inside = functions[-1][1]
            address = entry_address(inside)
            if address is None:  # Inlined into a function that was inlined itself.
                continue
            file, line = self._functions.place(entry, dw.AT_CALL_FILE, dw.AT_CALL_LINE)
            _, name = self._functions.names(inside)
            yield origin, InlinedPlace(name, address, file, line)

    def _is_wanted(self, entry: Entry, wanted: Callable[[str], bool]) -> bool:
        name = self._functions.plain_name(entry)
        return bool(name) and (wanted(name) or wanted(self._functions.names(entry)[1]))

    def _indexed_units(self, addresses: set[int]) -> list[int]:
        """The units that .debug_aranges gives for these addresses."""
        ordered = sorted(addresses)
        found: dict[int, None] = {}
        for begin, end, unit in ranges.indexed(self._sections, self._budget):
            index = bisect_left(ordered, begin)
            if index < len(ordered) and ordered[index] < end:
                found[unit] = None
        return list(found)

    def _functions_in(self, unit: Unit, into: frozenset[int] | None) -> Iterator[Entry]:
        """The unit's functions, with and without code."""
        holders = into and into | {unit.top().tag}
        for reference, _, _ in unit.walk(_FUNCTIONS, unit.at, holders):
            yield unit.entry(reference)

    def _type_reader(self) -> TypeReader:
        return TypeReader(self._find, self._by_signature, self._functions.scoped_name)

    def _find(self, reference: int) -> Entry | None:
        if reference & ALTERNATIVE:
            return self._shared.holding(reference).entry(reference) if self._shared else None
        units = self._types if reference & TYPES else self._units
        return units.holding(reference).entry(reference)

    def _by_signature(self, signature: int) -> Entry | None:
        if self._signatures is None:
            self._signatures = {}
            for units in (self._units, self._types):
                for unit in units.each():
                    if unit.type_signature:
                        self._signatures[unit.type_signature] = unit.type_reference
        reference = self._signatures.get(signature)
        return None if reference is None else self._find(reference)

    def _file_name(self, entry: Entry, number: int) -> str:
        unit = entry.unit
        key = unit.base + unit.at
        if key not in self._files:
            if len(self._files) >= _MOST_FILE_TABLES:
                del self._files[next(iter(self._files))]
            self._files[key] = read_files(unit)
        return self._files[key].path(number)


def _all_inlined(places: dict[tuple[str, str, str, int], list[InlinedPlace]]) -> list[Inlined]:
    return [Inlined(*function, tuple(where)) for function, where in places.items()]


def _holds_any(unit: Unit, ordered: list[int]) -> bool:
    """Whether any of these addresses, ascending, is in the unit's own ranges."""
    for begin, end in ranges.of_entry(unit.top()):
        index = bisect_left(ordered, begin)
        if index < len(ordered) and ordered[index] < end:
            return True
    return False
