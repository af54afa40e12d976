"""A program made to say what merging its maps with those of other nodes needs.

bpftrace's JSON says neither how a map was made nor which print it is of, and an empty map is not
printed at all. What is put in here, `runner.translation` takes out of the results again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.program import macros, maps
from kubectl_trace.program.keys import Keys
from kubectl_trace.program.rewrite import Edit
from kubectl_trace.program.scope import in_tasks
from kubectl_trace.program.tokens import ProgramError, Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kubectl_trace.program.maps import Map, Print, Use
    from kubectl_trace.program.syntax import Program

_MARK = "\x1e"  # ASCII's record separator
_MARK_IN_SOURCE = r"\x1e"

CONTAINER, CONSTANT = "container", "constant"


@dataclass(frozen=True)
class Merged:
    """A map that is to be merged."""

    kind: str
    """As `maps.Map.kind`."""
    function: str
    is_keyed: bool
    """In the user's program."""
    added: str = ""
    """What its keys begin with as it runs: `CONTAINER`, the container's number; `CONSTANT`, a key
    for a map without one."""
    ends_empty: bool = False
    """The program's END clears it, so that bpftrace has nothing to print at its exit."""


@dataclass(frozen=True)
class Shown:
    """A print of a map, as `results.record.Print` describes it."""

    marker: int
    """The number in the marker that follows it; in a macro it is that of several maps."""
    map: str
    when: str
    period: float
    top: int = 0
    div: int = 0


@dataclass(frozen=True)
class Merging:
    """How the maps of a program are merged, and what of it has to be changed for that."""

    program: Program
    maps: dict[str, Merged]
    prints: tuple[Shown, ...]
    """In their order."""
    whole: dict[str, str]
    """Maps that are not kept by container though that was asked for, and why."""
    refresh: float
    """Seconds between prints that the user's program does not have; 0: there are none."""
    token: str
    """What no traced process knows, so that no text of one passes for a marker."""
    _found: dict[str, Map]
    _sites: tuple[Print, ...]

    @property
    def hidden_probes(self) -> int:
        """How many probes are put in."""
        return 1 if self.refresh else 0

    def blocks(self) -> set[Span]:
        """The blocks that need the container's number."""
        return {
            use.probe.block
            for name, merged in self.maps.items()
            if merged.added == CONTAINER
            for use in self._found[name].uses
            if use.probe is not None and _is_by_key(use)
        }

    def marked(self, text: str) -> int:
        """The number of the marker that a printf's text is; 0: it is none."""
        before = _MARK + self.token
        if not text.startswith(before) or not text.endswith(_MARK):
            return 0
        number = text[len(before) : -len(_MARK)]
        return int(number) if re.fullmatch(r"[0-9]{1,9}", number) else 0

    def _marker(self, number: int) -> str:
        return f'printf("{_MARK_IN_SOURCE}{self.token}{number}{_MARK_IN_SOURCE}")'

    def edits(self, variable: str) -> Iterator[Edit]:
        """The changes. In the blocks that need it `variable` is the container's number.

        Raises:
            ProgramError: a macro of the program would change what is put in.
        """
        edits = [*self._maps(variable), *self._prints(), *self._refresh()]
        added = " ".join(piece for edit in edits for piece in edit.pieces if isinstance(piece, str))
        if changed := macros.words(added) & self.program.macros.keys():
            raise ProgramError(
                f"the macro {min(changed)} would change what makes results of several nodes one: "
                "give it another name",
                self.program.items[0].span.start,
            )
        yield from edits

    def _maps(self, variable: str) -> Iterator[Edit]:
        keys = Keys(self.program)
        # Up to 0.23 bpftrace wants a key's type at once, before it knows the scope map's.
        container = f"(uint64)0 + {variable}"
        for name, merged in self.maps.items():
            uses = [use for use in self._found[name].uses if _is_by_key(use)]
            if merged.added == CONTAINER:
                for use in uses:
                    yield from keys.extended(use, container, f"{name} is kept by container")
            elif merged.added == CONSTANT:
                reason = f"{name} has no value, rather than 0, where there was none"
                for use in uses:
                    yield from keys.extended(use, "0", reason)
            if merged.kind == "avg":
                for use in uses:
                    if use.function is not None:
                        reason = "averages of several nodes are one by their counts"
                        yield Edit(use.function, ("stats",), reason)

    def _prints(self) -> Iterator[Edit]:
        for number, site in enumerate(self._sites, 1):
            call = site.use.call
            assert call is not None
            rest = Span(site.use.span.end, call.end - 1)
            if site.is_known and rest.start < rest.end:
                reason = "all of the map comes, for what is greatest on all nodes together"
                yield Edit(rest, (), reason)
            reason = f"says which print of {site.use.name} this is, also where it is empty"
            yield Edit.insert(call.end, f"; {self._marker(number)}", reason)

    def _refresh(self) -> Iterator[Edit]:
        if not self.refresh:
            return
        statements = " ".join(
            f"print({shown.map}); {self._marker(shown.marker)};"
            for shown in self.prints
            if shown.when == "refresh"
        )
        milliseconds = max(round(self.refresh * 1000), 1)
        yield Edit.insert(
            len(self.program.text),
            f"\ninterval:ms:{milliseconds} {{ {statements} }}\n",
            f"shows the maps every {self.refresh:g} s",
        )


def plan(
    program: Program,
    parameters: Sequence[str] = (),
    *,
    token: str,
    limited: bool = False,
    split: bool = False,
    refresh: float = 0,
) -> Merging:
    """Finds out how the maps of a program can be merged.

    Args:
        program: The program; if it is to be limited to a scope, after `scope.split`.
        parameters: What its positional parameters stand for.
        token: What no traced process can know; letters and digits, the last one is a letter.
        limited: Its probes that fire in a task are limited to a scope.
        split: Its maps are to be kept by container, where it lets them.
        refresh: Seconds between two prints of the maps that it prints at its exit only; 0: none.

    Raises:
        ProgramError: a print can't be marked.
    """
    sites = tuple(maps.prints(program, parameters))
    for site in sites:
        if not site.use.ends:
            raise ProgramError(
                f"here print({site.use.name}) is part of something else, so that nothing can be "
                "put after it, which results of several nodes need: make it a statement",
                site.use.span.start,
            )
    found = maps.find(program)
    written = {name: each for name, each in found.items() if each.is_written}
    ending = {name for name, each in written.items() if _ends_empty(each)}
    keys = Keys(program)
    merged: dict[str, Merged] = {}
    whole: dict[str, str] = {}
    for name, each in written.items():
        added = ""
        if split:
            why = _why_whole(each, keys, limited=limited)
            if not why:
                added = CONTAINER
            elif name not in ending:
                whole[name] = why
        if not added and each.kind in ("min", "max") and not (each.is_keyed or each.is_read):
            added = CONSTANT
        # One that is read stays avg, and can't be merged.
        kind = "" if each.kind == "avg" and each.is_read else each.kind
        merged[name] = Merged(kind, each.function, each.is_keyed, added, name in ending)
    prints = [
        Shown(marker, *shown, site.top, site.div)
        for marker, site in enumerate(sites, 1)
        for shown in site.shown
    ]
    if refresh and _stays(program):
        periodic = {shown.map for shown in prints if shown.when == "interval"}
        names = [name for name in merged if name not in periodic and name not in ending]
        prints += [
            Shown(marker, name, "refresh", refresh)
            for marker, name in enumerate(names, len(sites) + 1)
        ]
    return Merging(
        program,
        merged,
        tuple(prints),
        whole,
        refresh if any(shown.when == "refresh" for shown in prints) else 0,
        token,
        found,
        sites,
    )


def _is_by_key(use: Use) -> bool:
    """Whether the place would need a part that keys begin with."""
    return use.action in maps.WRITTEN or use.action == "deleted"


def _why_whole(each: Map, keys: Keys, *, limited: bool) -> str:
    """Why a map can't be kept by container; empty: it can."""
    if any(use.action == "passed" for use in each.uses):
        return "a macro has it"
    if each.is_read:
        return "the program reads it"
    for use in filter(_is_by_key, each.uses):
        assert use.probe is not None
        if not limited or not in_tasks(use.probe):
            return f"{use.probe.attach_points[0].provider} uses it, which is of no container"
        if not keys.can_be_extended(use):
            return "how many parts its key has can't be told"
    return ""


def _ends_empty(each: Map) -> bool:
    """Whether the program's END clears it, so that at exit it isn't shown."""
    at_end = [use.action for use in each.uses if use.probe and _is_end(use)]
    return "cleared" in at_end and "printed" not in at_end


def _is_end(use: Use) -> bool:
    assert use.probe is not None
    return maps.when(use.probe) == "end"


def _stays(program: Program) -> bool:
    """Whether the program goes on after its BEGIN: from 0.24 on not, if nothing else is there."""
    return any(maps.when(probe) not in ("begin", "end") for probe in program.probes)
