"""What a refused program may have meant: functions and tracepoints of nearly the same name."""

from __future__ import annotations

import difflib
import functools
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from kubectl_trace.binary import elf, symbols
from kubectl_trace.errors import TraceError
from kubectl_trace.program import attach, providers
from kubectl_trace.runner import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kubectl_trace.program.syntax import AttachPoint, Program
    from kubectl_trace.runner.files import File

TRACEFS = Path("/sys/kernel/tracing")
KALLSYMS = Path("/proc/kallsyms")

_SIMILAR = 0.75
_MOST = 3  # names that are like one, and hints
_MOST_LOOKED_AT = 20_000  # names: difflib takes some 10 µs for each
_LONGER = 4  # characters that a near name may be longer or shorter
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_FUNCTION = re.compile(r"[A-Za-z_][^\s*?\[+]*")  # Go's have dots; no wildcard, no offset
_PARTS = 3  # provider, file or group, name
_IN_FILES = frozenset(("uprobe", "uretprobe"))
_CODE = frozenset("tTwW")  # weak symbols are code as a rule (nm(1))
_OF_KERNEL = frozenset(("kprobe", "kretprobe", "fentry", "fexit"))


def near(name: str, known: Iterable[str]) -> list[str]:
    """The names that are most like one, the best first, three at most.

    Of many only those are looked at that begin with the same letter and are about as long.
    """
    alike = [
        each for each in known if each[:1] == name[:1] and abs(len(each) - len(name)) <= _LONGER
    ]
    return difflib.get_close_matches(name, sorted(alike)[:_MOST_LOOKED_AT], _MOST, _SIMILAR)


def or_near(what: str, found: Sequence[str]) -> str:
    """What is not there, and the names that may be meant."""
    return f"{what}; did you mean {' or '.join(found)}?" if found else what


def hints(
    program: Program,
    parameters: Sequence[str],
    find: Callable[[str], Sequence[File]],
    *,
    tracefs: Path = TRACEFS,
    kallsyms: Path = KALLSYMS,
) -> Iterator[str]:
    """What its attach points name that is not there, and what there is instead, three at most.

    Args:
        program: The user's.
        parameters: What `$1` and the like are.
        find: The files that a name in an attach point means.
        tracefs: Where the kernel shows its tracepoints.
        kallsyms: Where the kernel shows its functions.
    """
    points = {
        program.of(point.span): point for probe in program.probes for point in probe.attach_points
    }
    in_file = functools.cache(functools.partial(_in_file, find))
    in_kernel = functools.cache(functools.partial(_in_kernel, kallsyms))
    said = (
        hint
        for point in points.values()
        for hint in _hints(point, parameters, in_file, in_kernel, tracefs)
    )
    yield from itertools.islice(said, _MOST)


def _hints(
    point: AttachPoint,
    parameters: Sequence[str],
    in_file: Callable[[str], frozenset[str] | None],
    in_kernel: Callable[[], frozenset[str]],
    tracefs: Path,
) -> Iterator[str]:
    expanded = providers.expand(point.provider)
    last = attach.with_parameters(point.parts[-1].text, parameters)
    if not expanded or not _FUNCTION.fullmatch(last):
        return
    if expanded <= _IN_FILES and len(point.parts) == _PARTS:
        name = attach.with_parameters(point.parts[1].text, parameters)
        known = in_file(name)
        if known is not None and last not in known:
            said = or_near(f"{name} has no function {last}", near(last, known))
            yield said if known else f"{said}; it has no symbols (stripped)"
    elif expanded == {"tracepoint"} and len(point.parts) == _PARTS:
        yield from _tracepoint(point, tracefs)
    elif expanded <= _OF_KERNEL and (known := in_kernel()) and last not in known:
        plain = filter(_NAME.fullmatch, known)
        yield or_near(f"this kernel has no function {last}, or inlined it", near(last, plain))


def _in_file(find: Callable[[str], Sequence[File]], name: str) -> frozenset[str] | None:
    """The functions that there are in the files of that name; None: they can't be read."""
    known: set[str] = set()
    try:
        for file in find(name):
            with files.opened(file) as opened:
                known |= {each.name for each in symbols.functions(opened)}
                known |= {each.name for each in symbols.resolvers(opened)}
    except (TraceError, OSError, elf.MalformedError):
        return None
    return frozenset(known)


def _tracepoint(point: AttachPoint, tracefs: Path) -> Iterator[str]:
    _, group, name = (part.text for part in point.parts)
    groups = _names(tracefs / "events")
    if not _NAME.fullmatch(group) or not groups:
        return
    if group not in groups:
        yield or_near(f"there are no tracepoints {group}", near(group, groups))
    elif name not in (names := _names(tracefs / "events" / group)):
        found = [f"{group}:{each}" for each in near(name, names)]
        yield or_near(f"there is no tracepoint {group}:{name}", found)


def _in_kernel(kallsyms: Path) -> frozenset[str]:
    try:
        lines = kallsyms.read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    words = (line.split(maxsplit=3) for line in lines)
    return frozenset(each[2] for each in words if len(each) > 2 and each[1] in _CODE)


def _names(folder: Path) -> list[str]:
    try:
        return [each.name for each in folder.iterdir() if each.is_dir()]
    except OSError:
        return []
