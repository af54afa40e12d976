"""A trace of functions' calls: finds the functions on this node and writes the program for them."""

from __future__ import annotations

import dataclasses
import itertools
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from kubectl_trace.binary import elf
from kubectl_trace.binary.golang.types import TypeTable
from kubectl_trace.errors import NotFoundError, RefusedError, TraceError, UsageError
from kubectl_trace.functions import filters, patterns, reading, runtimes, tracing, writing
from kubectl_trace.functions.shapes import Limits
from kubectl_trace.results.call import LEFT, RUNNING
from kubectl_trace.results.dialect import Output
from kubectl_trace.runner import bpftrace, files, modules, near_names
from kubectl_trace.runner.output import Given

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kubectl_trace.functions.catalog import Binary, Function
    from kubectl_trace.functions.patterns import Pattern
    from kubectl_trace.functions.writing import Options, Traced
    from kubectl_trace.results.call import Call
    from kubectl_trace.runner.files import Identity
    from kubectl_trace.runner.modules import Module
    from kubectl_trace.trace import Calls, Trace

# 0.17 keeps a call's values on BPF's stack of 512 bytes, several times over: what has room there.
_OLD_LIMITS = Limits(deep=0, string_size=24, counts_zero=False)
_MANY_CALLS = 25_000
"""A second: tracing slows a function that would be called more often than this."""
_COST = 3e-6
"""Seconds that a call takes longer, entry and return, at least: benchmarks/README.md has 20e-6 for
a virtual machine on which each probe's interrupt alone is 10e-6."""
_MAP_KEYS = 16384
"""Calls that may be under way at once."""
_BUFFER_PAGES = 4096
"""16 MiB: room for some twenty thousand calls, should they come all at once."""
_SHOWN_NAMES = 8
_LONG_NAMES = 200


@dataclass(frozen=True)
class _Found:
    """A function, and where."""

    module: Module
    binary: Binary
    function: Function


def prepared(
    trace: Trace,
    pids: Sequence[int],
    *,
    release: str,
    has_types: bool,
    held: files.Held,
    complain: Callable[[str], None],
) -> tuple[Trace, Reading | None]:
    """The trace with the program that sees the calls, and what reads that program's output.

    Args:
        trace: Its `calls` say what is wanted.
        pids: The target's processes.
        release: bpftrace's version.
        has_types: bpftrace knows the kernel's types.
        held: Keeps the files open that addresses are of.
        complain: Tells the user something.

    Returns:
        The reading is None where the program is only to be shown.

    Raises:
        NotFoundError: no process has such a function.
        RefusedError: the functions can't be traced so.
        UsageError: there are too many of them.
    """
    wanted = trace.calls
    assert wanted is not None
    options = _options(wanted)
    marks = None if wanted.only_program else writing.Marks(f"{secrets.token_hex(8)}c")
    of_runtimes, names = _by_kind(wanted.functions.patterns)
    found: list[_Found] = []
    traced: list[Traced] = []
    limits = Limits(wanted.deep, wanted.string_size)
    if bpftrace.is_before(release, 18):
        limits = _OLD_LIMITS
    if names:
        with modules.Opened(wanted.functions.debuginfod) as opened:
            found = _find(wanted, names, pids, opened, held, complain)
            for note in opened.notes:
                complain(note)
            traced = list(_traced(found, limits, complain, has_types=has_types))
    if traced and bpftrace.is_before(release, 20):
        complain(
            f"bpftrace {release} attaches only where functions begin, and keeps little of a call: "
            "returns of Go, C++ and Rust are not seen, a Go function that must grow its stack is "
            "seen twice, texts are cut after 24 bytes, pointers not followed; the runner's image "
            "has a newer one"
        )
        traced = [tracing.at_entries(each) for each in traced]
    _check_probes(traced, wanted)
    for each in traced:
        if not each.returns_seen and wanted.returns and wanted.show == "calls":
            complain(f"{each.name}: where it returns is not known; only its calls are shown")
    try:
        written = writing.write(traced, options, marks)
        program, runtimes_seen, shown, places = _runtimes(
            of_runtimes, pids, options, marks, complain, counts_zero=limits.counts_zero
        )
    except (filters.FilterError, patterns.PatternError) as error:
        raise RefusedError(str(error)) from error
    text = written.text + program + writing.own_probes(marks)
    if marks is None:
        shown |= {each.module.path: each.module.shown for each in found}
        return _for_people(trace, text, shown), None
    changed = msgspec.structs.replace(
        trace,
        program=text,
        program_name="calls.bt",
        # It attaches to addresses, which bpftrace takes of files without symbols only so.
        bpftrace_options=(*trace.bpftrace_options, "--unsafe", "--no-warnings"),
        environment={**_environment(limits, of_runtimes), **trace.environment},
    )
    attached = {
        each.module.shown: frozenset((each.module.file.identity,))
        for each in found
        if not each.module.shown.endswith(modules.DELETED)
    }
    context = reading.Context(
        written.layouts,
        marks,
        # The clock of bpftrace's nsecs.
        time.time() - time.clock_gettime(time.CLOCK_BOOTTIME),
        _TypeNames([(each.module, each.binary.segments) for each in found]),
        runtimes_seen,
        wanted.stack,
    )
    return changed, Reading(context, wanted, complain, attached, tuple(places), written.names)


def _by_kind(texts: Sequence[str]) -> tuple[list[runtimes.Wanted], list[str]]:
    """The patterns of runtimes' functions, and all others."""
    of_runtimes, names = [], []
    for text in texts:
        if (wanted := runtimes.parse(text)) is not None:
            of_runtimes.append(wanted)
        else:
            names.append(text)
    return of_runtimes, names


def _runtimes(
    wanted: Sequence[runtimes.Wanted],
    pids: Sequence[int],
    options: Options,
    marks: writing.Marks | None,
    complain: Callable[[str], None],
    *,
    counts_zero: bool,
) -> tuple[str, list[runtimes.Runtime], dict[str, str], list[tuple[int, int]]]:
    """The program for runtimes' functions, whose they are, files with their shown names.

    And semaphores: processes and addresses.

    Raises:
        NotFoundError: no process has the runtime with its probes.
        PatternError: it does not tell what is asked for.
    """
    texts: list[str] = []
    seen: list[runtimes.Runtime] = []
    shown: dict[str, str] = {}
    places: list[tuple[int, int]] = []
    for runtime in dict.fromkeys(each.runtime for each in wanted):
        each = [one for one in wanted if one.runtime == runtime]
        found = modules.with_probes(pids, runtime.provider, {pair[1] for pair in runtime.probes})
        if not found:
            raise NotFoundError(
                f"no process of the target has {runtime.name}'s USDT probes of functions; "
                f"{runtime.note}"
            )
        complain(runtime.note)
        for module in found:
            text = runtimes.write(
                len(seen), module.path, each, options, marks, counts_zero=counts_zero
            )
            texts.append(text)
            seen.append(runtime)
            shown[module.path] = module.shown
            names = {name for pair in runtime.probes for name in pair}
            places += modules.semaphores(module, pids, names)
    return "".join(f"\n{text}\n" for text in texts), seen, shown, places


def _environment(limits: Limits, of_runtimes: Sequence[runtimes.Wanted]) -> dict[str, str]:
    size = limits.string_size
    if of_runtimes and limits.counts_zero:
        size = max(size, _LONG_NAMES)  # paths and names of classes
    return {
        "BPFTRACE_MAX_STRLEN": str(size + 1),
        "BPFTRACE_MAX_MAP_KEYS": str(_MAP_KEYS),
        # What a text is cut to is told here.
        "BPFTRACE_STR_TRUNC_TRAILER": "",
        "BPFTRACE_PERF_RB_PAGES": str(_BUFFER_PAGES),
    }


def _options(wanted: Calls) -> Options:
    return writing.Options(
        show=wanted.show,
        arguments=wanted.arguments,
        returns=wanted.returns,
        stack=wanted.stack,
        condition=filters.parse(wanted.condition) if wanted.condition else None,
        most=wanted.most,
        max_rate=wanted.max_rate,
    )


def _find(
    wanted: Calls,
    texts: Sequence[str],
    pids: Sequence[int],
    opened: modules.Opened,
    held: files.Held,
    complain: Callable[[str], None],
) -> list[_Found]:
    """The functions that the patterns mean, each address of a file once."""
    names = wanted.functions
    looked = (
        modules.libraries(pids, names.libraries) if names.libraries else modules.executables(pids)
    )
    parsed = [patterns.parse(text) for text in texts]
    found: list[_Found] = []
    met: set[str] = set()
    binaries: list[tuple[Module, Binary]] = []
    for module in looked:
        binary = opened.binary(module)
        if binary is None:
            continue
        # The very file that was read is attached to, whatever is at its path by then.
        module = dataclasses.replace(module, path=held.hold(module.file))
        binaries.append((module, binary))
        seen: set[int] = set()
        for function in binary.functions(parsed):
            met |= {each.text for each in parsed if _means(each, function)}
            if function.address in seen or _is_fragment(function):
                continue
            seen.add(function.address)
            found.append(_Found(module, binary, function))
    for pattern in parsed:
        if pattern.text not in met:
            why = _why_missing(pattern, binaries)
            if not found and len(parsed) == 1:
                raise NotFoundError(why)
            complain(why)
    if not found:
        raise NotFoundError("none of these functions is there")
    return found


def _means(pattern: Pattern, function: Function) -> bool:
    names = (function.name, function.symbol, function.whole_name)
    return patterns.matching([pattern], names)


def _is_fragment(function: Function) -> bool:
    """Whether it is a part that the compiler has split off, entered by jumps from the rest."""
    return re.search(r"\.cold(?:\.\d+)?$|\.part\.\d+\.cold", function.symbol) is not None


def _why_missing(pattern: Pattern, binaries: Sequence[tuple[Module, Binary]]) -> str:
    """What to tell about a function that is not there."""
    for module, binary in binaries:
        for each in binary.inlined([pattern])[:1]:
            places = [
                f"{place.function} ({place.file.rpartition('/')[2]}:{place.line})"
                for place in each.places[:_SHOWN_NAMES]
            ]
            more = ", …" if len(each.places) > len(places) else ""
            return (
                f"{each.name} of {module.shown} was inlined by the compiler, into "
                f"{', '.join(places) or 'other functions'}{more}: it is no function that can be "
                "called; trace those instead"
            )
        into = binary.go_inlined(pattern.text)
        if into is not None:
            where = ", ".join(into[:_SHOWN_NAMES])
            return (
                f"{pattern.text} of {module.shown} was inlined by the compiler"
                + (f", into {where}" if where else "")
                + ": it is no function that can be called"
            )
    looked = ", ".join(module.shown for module, _ in binaries) or "no executable"
    known = {f.name for _, binary in binaries for f in binary.functions([])}
    said = f"no function matches {pattern.text} in {looked}"
    if not known:
        return f"{said}; {modules.NO_SYMBOLS}"
    return near_names.or_near(said, near_names.near(pattern.text, known))


def _traced(
    found: Sequence[_Found],
    limits: Limits,
    complain: Callable[[str], None],
    *,
    has_types: bool,
) -> Iterator[Traced]:
    for binary, group in itertools.groupby(found, key=lambda each: each.binary):
        functions = list(group)
        addresses = [each.function.address for each in functions]
        described = binary.described(addresses, limits.deep + 1)
        traced = [
            tracing.traced(
                binary,
                each.function,
                each.module.path,
                described.get(each.function.address),
                limits,
                has_types=has_types,
            )
            for each in functions
        ]
        ready, ambiguous = tracing.attached(binary, traced)
        for name in sorted(set(ambiguous)):
            complain(f"{name}: there are several of the name, which bpftrace can't tell apart")
        yield from ready


def _check_probes(traced: Sequence[Traced], wanted: Calls) -> None:
    probes = sum(each.probes for each in traced)
    if probes > wanted.max_probes:
        raise UsageError(
            f"{len(traced)} functions match, which take {probes} probes, more than --max-probes "
            f"{wanted.max_probes}: name fewer, or raise it"
        )


def _for_people(trace: Trace, text: str, shown: dict[str, str]) -> Trace:
    """The trace with a program that names files as the container has them."""
    for path, name in shown.items():
        is_it = list(shown.values()).count(name) == 1 and not name.endswith(modules.DELETED)
        if is_it and files.is_harmless(name):
            text = text.replace(f':"{path}":', f':"{name}":')
    return msgspec.structs.replace(trace, program=text)


class _TypeNames:
    """Names of Go's types, which interfaces point to."""

    def __init__(self, binaries: Sequence[tuple[Module, Sequence[elf.Segment]]]) -> None:
        """`binaries`: of each function, in order."""
        self._binaries = binaries
        self._tables: dict[str, TypeTable] = {}
        self._biases: dict[tuple[str, int], int | None] = {}
        self._names: dict[tuple[str, int], str] = {}

    def __call__(self, number: int, pid: int, address: int) -> str:
        module, segments = self._binaries[number]
        place = (module.path, pid)
        if place not in self._biases:
            bias = modules.load_bias(module, pid or module.pid, segments)
            # Of a goroutine's process nothing is known: a file that can be anywhere is nowhere.
            self._biases[place] = None if bias and not pid else bias
        known_bias = self._biases[place]
        if known_bias is None:
            return ""
        known = (module.path, address - known_bias)
        if known not in self._names:
            self._names[known] = self._read(module, known[1])
        return self._names[known]

    def _read(self, module: Module, address: int) -> str:
        try:
            table = self._tables.get(module.path)
            if table is None:
                # Open as long as the trace runs.
                table = self._tables[module.path] = TypeTable(files.opened(module.file))
            return table.type_name(address)
        except (elf.MalformedError, TraceError, OSError):
            return ""


@dataclass
class Reading:
    """What the program says, as calls."""

    context: reading.Context
    wanted: Calls
    complain: Callable[[str], None]
    files: Mapping[str, frozenset[Identity]] = field(default_factory=dict)
    """As `plan.Groundwork.files`."""
    semaphores: tuple[tuple[int, int], ...] = ()
    """Processes, and addresses of what must be raised there as long as the trace runs."""
    names: tuple[str, ...] = ()
    """What the first probes of the program are called."""
    shown: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    attached_at: float = float("inf")
    stopped_at: float = float("inf")
    """Since 1970: of what begins before the one or after the other, the end may not be seen."""
    _warned: bool = field(default=False)

    def text(self, text: str, container: int) -> list[Given] | None:
        """What a printed text is; None: no call."""
        begin = self.context.marks.begin + writing.RATE_WORD
        if text.startswith(begin):
            if (rate := text[len(begin) :]).isdecimal():
                self._look_at_rate(int(rate))
            return []
        found = reading.call(text, self.context)
        return None if found is None else self._given(found, container)

    def map(self, name: str, value: object) -> list[Given] | None:
        """What a printed map is; None: one of the results."""
        if name == writing.SKIPPED:
            return self._skipped(value)
        if name in writing.OWN_MAPS | runtimes.MAPS:
            return []
        if name not in {layout.map for layout in self.context.layouts}:
            return None
        if self.wanted.show != "calls":
            return []
        return [
            given
            for each in reading.unfinished(name, value, self.context)
            for given in self._given(each, 0)
        ]

    @property
    def is_enough(self) -> bool:
        """Whether as many calls are shown as were wanted: the program ends itself then."""
        return bool(self.wanted.most) and self.shown >= self.wanted.most

    def _skipped(self, value: object) -> list[Given]:
        """How many calls --max-rate has passed over since it was last said."""
        given = []
        for key, total in value.items() if isinstance(value, dict) else ():
            # By function, and where it is kept by container, by that first.
            *container, number = map(int, key.split(","))
            if new := total - self.skipped.get(key, 0):
                function = self.context.layouts[number].function.name
                output = Output("rate_limit", {"events": new})
                given.append(Given(output, container[0] if container else 0, probe=function))
            self.skipped[key] = total
        return given

    def _given(self, call: Call, container: int) -> list[Given]:
        if self.is_enough:
            return []
        is_whole = self.attached_at < call.time < self.stopped_at
        if call.ended in (LEFT, RUNNING) and not is_whole:
            return []
        self.shown += 1
        return [Given(Output("call", msgspec.to_builtins(call)), container)]

    def _look_at_rate(self, value: int) -> None:
        if self._warned or value < _MANY_CALLS:
            return
        self._warned = True
        share = value * _COST * 100
        self.complain(
            f"the functions are called {value:,} times a second, which costs the program at least "
            f"{_COST * 1e6:g} µs a call, {share:.0f} % of a CPU, on virtual machines several times "
            "that: --count is cheapest; --max-rate spares the lines, not the probes"
        )
