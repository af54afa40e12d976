"""Functions, out of their entries: DWARF 5, 3.3."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kubectl_trace.binary.dwarf import constants as dw
from kubectl_trace.binary.dwarf import locations, ranges
from kubectl_trace.binary.types import Opaque, Type

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_trace.binary.dwarf.locations import Place
    from kubectl_trace.binary.dwarf.types import TypeReader
    from kubectl_trace.binary.dwarf.units import Entry

_MOST_PARAMETERS = 256
# Of an instance, its abstract origin, its declaration: three in real files.
_LONGEST_CHAIN = 8
_PARAMETERS = frozenset(
    (
        dw.TAG_FORMAL_PARAMETER,
        dw.TAG_UNSPECIFIED_PARAMETERS,
        dw.TAG_GNU_FORMAL_PARAMETER_PACK,
    )
)
_KEYWORDS = {
    dw.TAG_STRUCTURE_TYPE: "struct ",
    dw.TAG_UNION_TYPE: "union ",
    dw.TAG_ENUMERATION_TYPE: "enum ",
}
_GO_REGISTER_ABI = re.compile(r"\bregabi\b")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a function, or one of Go's results."""

    name: str
    type: Type
    is_artificial: bool
    """The compiler made it: C++'s `this`."""
    places: tuple[Place, ...] | None
    """Where it is at the function's first instruction, one place a piece. Go has one a field,
    without what pads these; what others have no piece for at the end has no place.

    None at all: the debug information says that it is nowhere (callers of external functions still
    pass it as the ABI says). None: it does not say.
    """
    constant: int | None = None
    """What it always is, as raw bits: the compiler knows its callers, which need not pass it."""


@dataclass(frozen=True, slots=True)
class Subprogram:
    """A function with code of its own."""

    name: str
    qualified_name: str
    """With namespaces, classes or modules: `ns::Class::f`. Go's names have them already."""
    linkage_name: str
    """The mangled name; empty where it is the name."""
    address: int
    """Of the first instruction, as in the file."""
    size: int
    """Of the part that begins there, in bytes."""
    ranges: tuple[tuple[int, int], ...]
    """All parts, each up to but not including its end: unlikely code may be elsewhere."""
    language: str
    """`C`, `C++`, `Rust`, `Go` or another; empty: not known."""
    producer: str
    """The compiler, with some of its options."""
    is_optimized: bool | None
    """None: the compiler does not say."""
    file: str
    line: int
    """0: not known."""
    is_external: bool
    """Other units may call it: then it is called as the ABI says."""
    is_standard_call: bool
    """False: the compiler says that it is called otherwise than the ABI says."""
    parameters: tuple[Parameter, ...]
    returns: Type | None
    """None: nothing, or (Go) `results`."""
    results: tuple[Parameter, ...]
    is_variadic: bool


class FunctionReader:
    """Describes functions.

    Args:
        find: An entry by its reference; None: it is in a file that is not here.
        file_name: A source file's path, by the entry's unit and its number.
    """

    def __init__(
        self, find: Callable[[int], Entry | None], file_name: Callable[[Entry, int], str]
    ) -> None:
        self._find, self._file_name = find, file_name

    def chain(self, entry: Entry) -> list[Entry]:
        """The entry, and those that say the rest of it: abstract instance, declaration."""
        found = [entry]
        while len(found) < _LONGEST_CHAIN:
            reference = found[-1].reference_to(dw.AT_ABSTRACT_ORIGIN)
            if reference is None:
                reference = found[-1].reference_to(dw.AT_SPECIFICATION)
            following = None if reference is None else self._find(reference)
            if following is None:
                break
            found.append(following)
        return found

    def names(self, entry: Entry) -> tuple[str, str]:
        """A function's plain and its qualified name."""
        chain = self.chain(entry)
        name = _text(chain, dw.AT_NAME)
        return name, self._qualified(chain[-1], name)

    def plain_name(self, entry: Entry) -> str:
        """A function's plain name."""
        return entry.string(dw.AT_NAME) or _text(self.chain(entry), dw.AT_NAME)

    def scoped_name(self, entry: Entry) -> str:
        """A type's own name, as the program writes it."""
        name = entry.string(dw.AT_NAME)
        if language(entry) == "C":
            return _KEYWORDS.get(entry.tag, "") + name
        return self._qualified(entry, name)

    def _qualified(self, entry: Entry, name: str) -> str:
        if language(entry) in ("C", "Go", "assembly"):
            return name
        scopes = [self._scope_name(scope) for scope in entry.unit.scopes_of(entry.reference)]
        return "::".join([*reversed(scopes), name])

    def _scope_name(self, scope: Entry) -> str:
        if name := self.plain_name(scope):
            return name
        return "(anonymous namespace)" if scope.tag == dw.TAG_NAMESPACE else "{unnamed}"

    def declared(self, entry: Entry) -> tuple[str, int]:
        """Where in the source a function is: file and line."""
        chain = self.chain(entry)
        with_line = next((one for one in chain if one.has(dw.AT_DECL_LINE)), entry)
        with_file = next((one for one in chain if one.has(dw.AT_DECL_FILE)), entry)
        file, _ = self.place(with_file, dw.AT_DECL_FILE, dw.AT_DECL_LINE)
        return file, with_line.integer(dw.AT_DECL_LINE) or 0

    def place(self, entry: Entry, file: int, line: int) -> tuple[str, int]:
        """Where in the source something is: the file and the line that its entry gives."""
        number, row = entry.integer(file), entry.integer(line) or 0
        return (self._file_name(entry, number) if number is not None else "", row)

    def describe(self, entry: Entry, address: int, types: TypeReader, depth: int) -> Subprogram:
        """A function.

        Args:
            entry: Of its code.
            address: Of its first instruction.
            types: Reads its types.
            depth: How many pointers to follow in them.

        Raises:
            MalformedError: something of it is broken.
        """
        types.begin()
        chain = self.chain(entry)
        top = entry.unit.top()
        name, producer = _text(chain, dw.AT_NAME), top.string(dw.AT_PRODUCER)
        parts = tuple(ranges.of_entry(entry))
        file, line = self.declared(entry)
        parameters, results, is_variadic = self._parameters(chain, address, types, depth)
        returning = next((one for one in chain if one.has(dw.AT_TYPE)), None)
        return Subprogram(
            name=name,
            qualified_name=self._qualified(chain[-1], name),
            linkage_name=_text(chain, dw.AT_LINKAGE_NAME) or _text(chain, dw.AT_MIPS_LINKAGE_NAME),
            address=address,
            size=next((end - begin for begin, end in parts if begin == address), 0),
            ranges=parts,
            language=language(entry),
            producer=producer,
            is_optimized=_is_optimized(entry, producer),
            file=file,
            line=line,
            is_external=any(one.integer(dw.AT_EXTERNAL) for one in chain),
            is_standard_call=all(
                one.integer(dw.AT_CALLING_CONVENTION) != dw.CC_NOCALL for one in chain
            ),
            parameters=parameters,
            returns=types.of(returning, depth) if returning else None,
            results=results,
            is_variadic=is_variadic,
        )

    def _parameters(
        self, chain: list[Entry], address: int, types: TypeReader, depth: int
    ) -> tuple[tuple[Parameter, ...], tuple[Parameter, ...], bool]:
        """Parameters, Go's results, and whether there may be more parameters."""
        entry = chain[0]
        own, is_variadic = _listed(entry)
        by_origin = {one.reference_to(dw.AT_ABSTRACT_ORIGIN): one for one in own}
        entries: list[tuple[Entry, bool]] = []
        # An instance need not have all: what it does without is in the abstract one only.
        for other in chain[1:]:
            listed, is_open = _listed(other)
            is_variadic |= is_open
            if listed and not entries and (not own or None not in by_origin):
                for one in listed:
                    its = by_origin.pop(one.reference, None)
                    entries.append((its or one, its is not None))
        if entries:
            entries += [(one, True) for one in by_origin.values()]
        else:
            entries = [(one, True) for one in own]
        frame_base = entry.block(dw.AT_FRAME_BASE)
        in_registers = language(entry) == "Go" and bool(
            _GO_REGISTER_ABI.search(entry.unit.top().string(dw.AT_PRODUCER))
        )
        parameters: list[Parameter] = []
        results: list[Parameter] = []
        for one, is_own in entries[:_MOST_PARAMETERS]:
            parts = self.chain(one)
            typed = next((part for part in parts if part.has(dw.AT_TYPE)), None)
            made = typed and types.of(typed, depth)
            size = made.size if made else 0
            places = (
                locations.at_entry(one, address, size, frame_base, in_registers) if is_own else ()
            )
            parameter = Parameter(
                name=_text(parts, dw.AT_NAME),
                type=made or Opaque("?"),
                is_artificial=any(part.integer(dw.AT_ARTIFICIAL) for part in parts),
                places=places,
                constant=one.signed(dw.AT_CONST_VALUE),
            )
            if not any(part.integer(dw.AT_VARIABLE_PARAMETER) for part in parts):
                parameters.append(parameter)
            elif parameter.name == "_" or parameter.name not in [one.name for one in results]:
                # Go 1.24 to 1.26 write some results twice.
                results.append(parameter)
        return tuple(_without_conflicts(parameters)), tuple(results), is_variadic


def _without_conflicts(parameters: list[Parameter]) -> list[Parameter]:
    """The parameters, without the places of those that are said to be in the same register.

    Only one of them can be at the first instruction. Go says it where the code begins with making
    one value from another, for which it needs no instruction (`b[:cap(b)]`).
    """
    used = Counter(register for parameter in parameters for register in _registers(parameter))
    return [
        replace(parameter, places=None)
        if any(used[register] > 1 for register in _registers(parameter))
        else parameter
        for parameter in parameters
    ]


def _registers(parameter: Parameter) -> list[int]:
    return [
        place.register
        for place in parameter.places or ()
        if place.register is not None and place.offset is None
    ]


def _listed(entry: Entry) -> tuple[list[Entry], bool]:
    """The parameters that an entry has itself, and whether there may be more."""
    found: list[Entry] = []
    is_variadic = False
    for child in entry.unit.children(entry, _PARAMETERS):
        if child.tag == dw.TAG_UNSPECIFIED_PARAMETERS:
            is_variadic = True
        elif child.tag == dw.TAG_GNU_FORMAL_PARAMETER_PACK:
            found += entry.unit.children(child, frozenset((dw.TAG_FORMAL_PARAMETER,)))
        else:
            found.append(child)
        if len(found) > _MOST_PARAMETERS:
            break
    return found, is_variadic


def entry_address(entry: Entry) -> int | None:
    """Where a function's first instruction is; None: it has no code of its own here.

    Raises:
        MalformedError: its ranges are broken.
    """
    begin = entry.address(dw.AT_ENTRY_PC)
    if begin is None:
        begin = entry.address(dw.AT_LOW_PC)
    if begin is None and entry.has(dw.AT_RANGES):
        # Compilers put the part with the first instruction first.
        begin = next((start for start, _ in ranges.of_entry(entry)), None)
    # Of code that it left out, a linker makes the address 0, or (lld) one of the last two.
    last = 1 << 8 * entry.unit.layout.address_size
    return begin if begin and begin < last - 2 else None


def language(entry: Entry) -> str:
    """The language of the entry's unit; empty: not known."""
    return dw.LANGUAGES.get(entry.unit.top().integer(dw.AT_LANGUAGE) or 0, "")


def _text(chain: list[Entry], attribute: int) -> str:
    return next((text for one in chain if (text := one.string(attribute))), "")


def _is_optimized(entry: Entry, producer: str) -> bool | None:
    if entry.integer(dw.AT_APPLE_OPTIMIZED) or entry.unit.top().integer(dw.AT_APPLE_OPTIMIZED):
        return True
    if producer.startswith("Go "):
        return not re.search(r"[ ;]-N\b", producer)
    if producer.startswith("GNU ") and not producer.startswith("GNU AS"):
        levels = re.findall(r" -O(\S*)", producer)
        return bool(levels) and levels[-1] != "0"
    return None
