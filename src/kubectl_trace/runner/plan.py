"""A trace's program made to run on this node: whose files, which processes, what scope."""

from __future__ import annotations

import bisect
import contextlib
import glob
import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from kubectl_trace.errors import NotFoundError, RefusedError, TraceError, UsageError
from kubectl_trace.program import attach, counting, naming, prepare, scope, syntax
from kubectl_trace.program.tokens import ProgramError
from kubectl_trace.runner import bpftrace, files

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from kubectl_trace.program.counting import Counting
    from kubectl_trace.program.merging import Merging
    from kubectl_trace.program.return_sites import Sites
    from kubectl_trace.program.rewrite import Rewritten
    from kubectl_trace.program.scope import Scope
    from kubectl_trace.program.syntax import AttachPoint, Probe, Program
    from kubectl_trace.runner.cost import Point
    from kubectl_trace.runner.files import File, Held, Identity
    from kubectl_trace.trace import Trace

_BTF = Path("/sys/kernel/btf/vmlinux")
_PROC = "/proc/"
"""What begins so is the node's, not the container's."""
_MOST_FILES = 1000
_LARGEST_LOOKED_AT = 32 << 20
"""Bytes of a file whose functions' beginnings are looked at: more symbols take a while."""
_HELD = re.compile(r"/proc/self/fd/\d+")


@dataclass(frozen=True)
class Plan:
    """A program as it runs, and what of it the user does not see."""

    program: Rewritten
    names: Mapping[str, str] = field(default_factory=dict)
    """Files as attach points have them now, and as the user wrote them."""
    scope: Scope | None = None
    hidden_probes: int = 0
    merging: Merging | None = None
    """None: the maps come as bpftrace prints them."""
    counting: Counting | None = None
    """None: its texts are not counted."""
    functions: tuple[str, ...] = ()
    """As `Groundwork.functions`."""
    user_text: str = ""

    @property
    def points(self) -> list[Point]:
        """Its attach points, as they run and as the user wrote them."""
        from kubectl_trace.runner.cost import Point  # asked for when bpftrace has been started

        return [
            Point(text, name if self.functions and name in self.functions else shown)
            for probe, name in zip(self._syntax, self.probes, strict=True)
            for point in probe.attach_points
            for text in [":".join(part.text for part in point.parts)]
            for shown in [self._as_written(self._without_offset(point, text))]
        ]

    def _without_offset(self, point: AttachPoint, text: str) -> str:
        """Without the bytes behind a function's start that are not the user's."""
        if not self.program.is_hidden(point.span.end - 1):
            return text
        return re.sub(r"\+[0-9]+\Z", "", text)

    @cached_property
    def probes(self) -> list[str]:
        """What the user calls its probes, in their order."""
        named = naming.probes(self.program, self.user_text, self.functions)
        return [self._as_written(name) for name in named]

    def probe_at(self, offset: int) -> str:
        """What the user calls the probe at an offset of the program; empty: there is none."""
        at = bisect.bisect_right(self._syntax, offset, key=lambda probe: probe.span.start) - 1
        is_inside = at >= 0 and offset < self._syntax[at].span.end
        return self.probes[at] if is_inside else ""

    @cached_property
    def _syntax(self) -> tuple[Probe, ...]:
        return syntax.parse(self.program.text).probes

    def _as_written(self, text: str) -> str:
        for run, own in self.names.items():
            text = text.replace(run, own)
        return _HELD.sub(_file_of, text)


@dataclass(frozen=True)
class Groundwork:
    """The program with its files in place, not limited to a scope yet."""

    trace: Trace
    program: Rewritten
    names: Mapping[str, str]
    files: Mapping[str, frozenset[Identity]] = field(default_factory=dict)
    """Names in attach points, and which files probes attach to."""
    functions: tuple[str, ...] = ()
    """What the first probes of a program of ours are called: those of functions."""

    @cached_property
    def syntax(self) -> syntax.Program:
        """Its parts."""
        return syntax.parse(self.program.text)

    def not_attached(self, pid: int) -> list[str]:
        """The names that mean, for this process, other files than probes are attached to."""
        return [name for name, attached in self.files.items() if not self._has(name, pid, attached)]

    @staticmethod
    def _has(name: str, pid: int, attached: frozenset[Identity]) -> bool:
        try:
            return {file.identity for file in find_files(name, [pid])} <= attached
        except TraceError:
            return True  # it has no such file, or has ended already

    @cached_property
    def is_limited(self) -> bool:
        """Whether it is to run in a scope."""
        trace = self.trace
        return bool(
            trace.scope and (trace.containers or trace.pid) and scope.is_limited(self.syntax)
        )

    @cached_property
    def merging(self) -> Merging | None:
        """How its maps are merged with those of other nodes; None: they aren't.

        Raises:
            RefusedError: they can't be.
        """
        trace = self.trace
        if not trace.merge:
            return None
        with self._refusals():
            return prepare.merging_of(
                self.program,
                trace.parameters,
                token=f"{os.urandom(8).hex()}p",
                is_limited=self.is_limited,
                split=trace.split,
                refresh=trace.refresh,
            )

    def unlimited(self) -> Plan:
        """The program for all tasks.

        Raises:
            RefusedError: its maps can't be merged.
        """
        merging = self.merging
        program = self.program
        if merging is not None:
            with self._refusals():
                program = prepare.merged(program, merging)
        return self._plan(program, None, merging.hidden_probes if merging else 0)

    def limited(self, limit: Scope) -> Plan:
        """The program for the tasks of a scope.

        Raises:
            RefusedError: it can't be limited, or its maps can't be merged.
        """
        merging = self.merging
        with self._refusals():
            program = prepare.limited(self.program, limit, merging)
        hidden = scope.hidden_probes(self.syntax, limit)
        if merging is not None:
            hidden += merging.hidden_probes
        return self._plan(program, limit, hidden)

    def _plan(self, program: Rewritten, limit: Scope | None, hidden_probes: int) -> Plan:
        with self._refusals():
            program, counted = counting.counted(program, limit.variable if limit else "")
        return Plan(
            program,
            self.names,
            limit,
            hidden_probes,
            self.merging,
            counted,
            self.functions,
            self.trace.program,
        )

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except ProgramError as error:
            text, name = self.trace.program, self.trace.program_name
            raise RefusedError(syntax.explain(error, text, name)) from error


def prepared(
    trace: Trace,
    pids: Sequence[int],
    *,
    release: str = "",
    takes_offsets: Callable[[], bool] = lambda: True,
    complain: Callable[[str], None] = lambda text: None,
    held: Held | None = None,
    is_ours: bool = False,
) -> Groundwork:
    """Lets the program attach to the files of these processes, one a container.

    Args:
        trace: The trace.
        pids: The processes.
        release: bpftrace's version; empty: as of late.
        takes_offsets: Whether that bpftrace takes uprobes behind a function's first byte.
        complain: Tells the user something.
        held: Gives files short paths; None: they keep their own.
        is_ours: The program was written here: it may name files of the node.

    Raises:
        RefusedError: the program is none, or would harm the traced process.
        NotFoundError: a file that it attaches to is not there.
        UsageError: too many files match.
    """
    text = trace.program.replace("\r\n", "\n")
    try:
        program = syntax.parse(text)
        attach.check_parameters(program, trace.parameters)
        if trace.scope and pids and not is_ours:
            attach.check_confined(program, trace.parameters, pids)
        found = {
            name: find_files(attach.with_parameters(name, trace.parameters), pids)
            for name in attach.files(program)
        }
        path = (lambda file: file.path) if held is None or trace.explain else held.path
        sites = _go_returns(trace, program, found, release, complain, path)
        paths = {name: [path(file) for file in each] for name, each in found.items() if each}
        behind = _behind_starts(program, found, takes_offsets)
        placed = prepare.placed(trace.program, paths, pids, sites, behind)
    except ProgramError as error:
        raise RefusedError(syntax.explain(error, text, trace.program_name)) from error
    names = {
        run: attach.with_parameters(name, trace.parameters)
        if len(found[name]) == 1 and not name.startswith(_PROC)
        else file.path
        for name in paths
        for run, file in zip(paths[name], found[name], strict=True)
        if run not in (name, file.path) or len(found[name]) == 1
    }
    # None is the beginning of a later one.
    names = dict(sorted(names.items(), key=lambda each: -len(each[0])))
    identities = {
        attach.with_parameters(name, trace.parameters): frozenset(file.identity for file in each)
        for name, each in found.items()
        # Of a container that has just begun, /proc/PID/exe is the runtime still.
        if each and not name.startswith(_PROC)
    }
    return Groundwork(trace, placed, names, identities)


def _file_of(held: re.Match[str]) -> str:
    """What a file is called that we hold, or that we don't."""
    try:
        return os.readlink(held[0])
    except OSError:
        return held[0]


def has_kernel_types(environment: Mapping[str, str]) -> bool:
    """Whether bpftrace can know the kernel's types: BTF, where the environment says or usual."""
    path = Path(environment.get("BPFTRACE_BTF", _BTF))
    return path.is_file() and path.stat().st_size > 0


def find_files(name: str, pids: Sequence[int]) -> list[File]:
    """The files that a name in an attach point means, each once; none: bpftrace is to find it.

    Raises:
        NotFoundError: no process has such a file; of several, some may have none.
    """
    if not pids:
        return _files_of(0, name) if name.startswith(_PROC) else []
    found: dict[Identity, File] = {}
    missing: NotFoundError | None = None
    for pid in pids:
        try:
            for file in _files_of(pid, name):
                found.setdefault(file.identity, file)
        except NotFoundError as error:
            missing = error
    if missing and not found:
        raise missing
    return list(found.values())


def _files_of(pid: int, name: str) -> list[File]:
    if not name.startswith(_PROC):
        return files.find(pid, name)
    path = name.replace(attach.CONTAINER_PID, str(pid))
    if pid and (inside := attach.in_root(path)):
        # As the process itself would find it: no link leads out of its root.
        return files.find(int(path.split("/")[2]), inside)
    matching = sorted(glob.iglob(path)) if glob.has_magic(path) else [path]
    if len(matching) > _MOST_FILES:
        raise UsageError(f"{name} matches more than {_MOST_FILES} files")
    return [files.on_node(each) for each in matching if each == path or os.path.isfile(each)]


def _go_returns(
    trace: Trace,
    program: Program,
    found: Mapping[str, Sequence[File]],
    release: str,
    complain: Callable[[str], None],
    path: Callable[[File], str],
) -> dict[int, Sites]:
    """The uretprobes on Go functions, by their offsets, and where those functions return.

    Raises:
        RefusedError: that can't be found.
    """
    sites: dict[int, Sites] = {}
    for point, name in attach.return_probes(program):
        each = found[name] or _own_files(attach.with_parameters(name, trace.parameters))
        written = program.of(point.span)
        if not any(map(_is_go, each)):
            if any(map(_throws, each)):
                complain(
                    f"{written}: an exception or panic that passes through a function with a "
                    "uretprobe ends the program (its unwinder can't read the kernel's return "
                    "address); `kubectl trace calls` has no such danger"
                )
            continue

        def refuse(why: str, point: AttachPoint = point, name: str = name) -> RefusedError:
            text = (
                f"{name} is a Go program, which a uretprobe can crash (golang/go#22008), and {why}"
            )
            place = syntax.pointed(text, program.text, point.span, trace.program_name)
            return RefusedError(place)

        from kubectl_trace.runner import go_returns

        if bpftrace.is_before(release, 20):
            raise refuse(f"bpftrace {release} can't attach to return instructions instead")
        if not all(map(_is_go, each)) or len(point.parts) != 3:
            raise refuse("its return instructions can't be told; name one file and function")
        function = attach.with_parameters(point.parts[2].text, trace.parameters)
        try:
            sites[point.span.start] = go_returns.find(
                each, function, path, unsafe=_is_unsafe(trace)
            )
        except go_returns.GoError as error:
            raise refuse(str(error)) from error
        complain(
            f"{written} runs as uprobes on the return instructions, since a uretprobe can crash a "
            "Go program; pair calls and returns by goroutine, not by thread (docs/functions.md)"
        )
    return sites


def _behind_starts(
    program: Program, found: Mapping[str, Sequence[File]], takes_offsets: Callable[[], bool]
) -> dict[tuple[str, str], int]:
    """The uprobes that cost less behind their functions' first bytes, and how many these are."""
    wanted: dict[str, set[str]] = {}
    for name, function in attach.entry_probes(program):
        wanted.setdefault(name, set()).add(function)
    places = {}
    for name, functions in wanted.items():
        behind = [_behind(file, functions) for file in found.get(name, ())]
        for function in functions:
            numbers = {each.get(function, 0) for each in behind}
            if len(numbers) == 1 and (number := numbers.pop()):
                places[name, function] = number
    return places if places and takes_offsets() else {}


def _behind(file: File, functions: Collection[str]) -> dict[str, int]:
    """How far behind functions' starts probes cost less, where they do and that is known."""
    from kubectl_trace.binary import elf, entries, golang, symbols  # for programs with uprobes only

    wanted = {function.encode() for function in functions}
    behind: dict[str, int] = {}
    try:
        with files.opened(file) as opened:
            if os.fstat(opened.fileno()).st_size > _LARGEST_LOOKED_AT:
                return {}
            header = elf.read_header(opened)
            if header.machine != entries.MACHINE or golang.is_go(opened):
                return {}  # Go's compiler puts nothing there, and its symbols are many
            own: dict[str, set[tuple[int, int]]] = {}
            for each in symbols.functions(opened, wanted.__contains__):
                own.setdefault(each.name, set()).add((each.address, each.size))
            segments = elf.segments(opened, header)
            for function, symbol in own.items():
                address, size = next(iter(symbol))
                if len(symbol) == 1 and size >= entries.LONGEST:
                    code = elf.at_address(opened, segments, address, entries.LONGEST)
                    behind[function] = entries.emulated(code)
    except (TraceError, OSError, ValueError):
        return {}
    return behind


def _throws(file: File) -> bool:
    """Whether it is in C++ or Rust, by the functions that unwind its stack."""
    from kubectl_trace.binary import unwinding

    try:
        with files.opened(file) as opened:
            return unwinding.throws(opened)
    except (TraceError, OSError):
        return False


def _is_unsafe(trace: Trace) -> bool:
    return "--unsafe" in trace.bpftrace_options


def _own_files(name: str) -> list[File]:
    """The files that bpftrace will find itself, as this process sees them."""
    try:
        return files.find(os.getpid(), name)
    except TraceError:
        return []


def _is_go(file: File) -> bool:
    from kubectl_trace.binary import golang

    try:
        with files.opened(file) as opened:
            return golang.is_go(opened)
    except (TraceError, OSError):
        return False
