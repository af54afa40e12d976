"""Where the Go functions that a uretprobe means return."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_trace.binary import elf
from kubectl_trace.errors import TraceError
from kubectl_trace.functions import patterns, tracing
from kubectl_trace.functions.catalog import Binary
from kubectl_trace.program.return_sites import Sites
from kubectl_trace.runner import files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubectl_trace.runner.files import File

_MOST_SITES = 1000


class GoError(Exception):
    """Where the functions return can't be told."""


def find(
    found: Sequence[File], function: str, path: Callable[[File], str], *, unsafe: bool
) -> Sites:
    """The return instructions of the functions, in these files.

    Args:
        found: Go programs.
        function: A name, perhaps with wildcards.
        path: A file's path for bpftrace.
        unsafe: bpftrace may be given addresses that no symbol covers.

    Raises:
        GoError: there is no such function, or its returns can't be attached to.
    """
    places: list[tuple[str, int]] = []
    results: set[str] = set()
    for file in found:
        try:
            with files.opened(file) as opened:
                binary = Binary(opened)
                each, result = _in_file(binary, function, unsafe=unsafe)
        except (elf.MalformedError, TraceError, OSError, patterns.PatternError) as error:
            raise GoError(str(error)) from error
        places += [(path(file), number) for number in each]
        results |= result
    if not places:
        raise GoError(f"it has no function {function}")
    if len(places) > _MOST_SITES:
        raise GoError(f"{function} has more than {_MOST_SITES} return instructions")
    return Sites(tuple(places), results.pop() if len(results) == 1 else "")


def _in_file(binary: Binary, function: str, *, unsafe: bool) -> tuple[list[int], set[str]]:
    wanted = binary.functions([patterns.parse(function)])
    described = binary.described([each.address for each in wanted], 0)
    sites: list[int] = []
    results = set()
    for each in wanted:
        ends = tracing.go_ends(binary, each, described.get(each.address))
        if not ends.sites:
            raise GoError(f"{each.name} does not return, or where can't be told")
        sites += ends.sites
        results.add(ends.result)
    numbers = binary.attach_numbers(sites)
    if any(site not in numbers for site in sites):
        raise GoError("several functions of it have the name, which bpftrace can't tell apart")
    if not unsafe and any(numbers[site] != site for site in sites):
        raise GoError(
            "it is stripped: bpftrace attaches to its addresses with --unsafe only; `kubectl trace "
            "calls` shows its functions, too"
        )
    return [numbers[site] for site in sites], results
