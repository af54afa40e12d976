"""Functions of Python, PHP, Java and Ruby programs, by the USDT probes that their runtimes have.

The probes tell names and places, no arguments and no results. Sources: CPython, Include/pydtrace.d;
PHP, Zend/zend_dtrace.d; OpenJDK, hotspot.d and hotspot_jni.d; Ruby, probes.d.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.functions.patterns import PatternError
from kubectl_trace.functions.writing import ENTERED, RATE, RATE_WORD, RETURNED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kubectl_trace.functions.writing import Marks, Options

_DEPTH, _CALLS = "@depth", "@entered_runtime"
MAPS = frozenset((_DEPTH, _CALLS))
"""Maps of the program's own."""

FIRST_NUMBER = 1_000_000
"""Runtimes are numbered from here, functions of other languages from 0."""


@dataclass(frozen=True)
class Runtime:
    """A language's runtime, and what its probes tell."""

    name: str
    """Of the language, as patterns begin: `python:main`."""
    provider: str
    probes: tuple[tuple[str, str], ...]
    """Pairs of probes: at a function's entry, and at its return."""
    function: str
    """An expression for the function's name, in a probe."""
    owner: str = ""
    """As `function`, the class's name; empty: it is not told."""
    joint: str = ""
    """What stands between class and function."""
    file: str = ""
    line: str = ""
    note: str = ""
    """What the user should know."""


_SILENT = "its probes tell no arguments and no results"
RUNTIMES = (
    Runtime(
        "python",
        "python",
        (("function__entry", "function__return"),),
        "str(arg1)",
        file="str(arg0)",
        line="(int32)arg2",
        note=f"Python: {_SILENT}; up to 3.10 they are whole, in 3.11 there are returns only "
        "(python/cpython#98894), later ones have none",
    ),
    Runtime(
        "php",
        "php",
        (("function__entry", "function__return"),),
        "str(arg0)",
        owner="str(arg3)",
        joint="::",
        file="str(arg1)",
        line="(int32)arg2",
        note=f"PHP: {_SILENT}; it must run with USE_ZEND_DTRACE=1 in its environment",
    ),
    Runtime(
        "java",
        "hotspot",
        (("method__entry", "method__return"),),
        "str(arg3, arg4{zero})",
        owner="str(arg1, arg2{zero})",
        joint=".",
        note=f"Java: {_SILENT}; it must run with -XX:+ExtendedDTraceProbes",
    ),
    Runtime(
        "ruby",
        "ruby",
        (("method__entry", "method__return"), ("cmethod__entry", "cmethod__return")),
        "str(arg1)",
        owner="str(arg0)",
        joint="#",
        file="str(arg2)",
        line="(int32)arg3",
        note=f"Ruby: {_SILENT}; those of methods in Ruby fire only while a TracePoint is enabled",
    ),
)
_BY_NAME = {runtime.name: runtime for runtime in RUNTIMES}
_PREFIX = re.compile(r"(\w+):(?!:)(.+)", re.DOTALL)
_NAME = re.compile(r"[^\"\\\x00-\x1f\x7f]+")


@dataclass(frozen=True)
class Wanted:
    """Functions of a runtime, as a user names them: `python:main`, `php:Account::*`."""

    runtime: Runtime
    owner: str
    """The class, perhaps with a star at its end; empty: any, or none."""
    function: str

    def condition(self) -> str:
        """An expression that is true for these functions; empty: for all."""
        parts = [_matches(self.runtime.function, self.function)]
        if self.runtime.owner:
            parts.append(_matches(self.runtime.owner, self.owner or "*"))
        return " && ".join(filter(None, parts))


def parse(text: str) -> Wanted | None:
    """The functions that a pattern means; None: it is not of a runtime.

    Raises:
        PatternError: it can't be told in the kernel.
    """
    found = _PREFIX.fullmatch(text)
    runtime = _BY_NAME.get(found[1]) if found else None
    if found is None or runtime is None:
        return None
    owner, joint, function = "", "", found[2]
    if runtime.joint and runtime.joint in function:
        owner, joint, function = function.rpartition(runtime.joint)
    if runtime.name == "java":
        owner = owner.replace(".", "/")
    for part in filter(None, (owner, function)):
        if "*" in part[:-1] or re.search(r"[?\[/]", part.removeprefix(owner)):
            raise PatternError(f"{text}: of a runtime's functions a star at the end is possible")
        if not _NAME.fullmatch(part):
            raise PatternError(f"{text}: no name has such characters")
    if joint and not function:
        raise PatternError(f"{text}: which function of {owner}?")
    return Wanted(runtime, owner, function)


def _matches(expression: str, pattern: str) -> str:
    if pattern == "*":
        return ""
    if pattern.endswith("*"):
        start = pattern[:-1]
        return f'strncmp({expression}, "{start}", {len(start.encode())}) == 0'
    return f'{expression} == "{pattern}"'


def write(
    number: int,
    path: str,
    wanted: Sequence[Wanted],
    options: Options,
    marks: Marks | None,
    *,
    counts_zero: bool = True,
) -> str:
    """The probes that see calls of these functions of one runtime.

    Args:
        number: What tells this runtime from others in what is printed.
        path: The file with its probes, as bpftrace is to find it.
        wanted: The functions, all of one runtime.
        options: What is to be seen; without conditions.
        marks: As `writing.write`.
        counts_zero: As `shapes.Limits`.

    Raises:
        PatternError: the runtime does not tell what is asked for.
    """
    runtime = wanted[0].runtime
    if options.condition is not None or options.show == "returns":
        what = "--filter" if options.condition is not None else "--returns"
        raise PatternError(f"{what}: {runtime.note}")
    if options.max_rate:
        raise PatternError(f"--max-rate is not for functions of {runtime.name}")
    text = "\n\n".join(
        probe
        for pair in runtime.probes
        for probe in _pair(number, path, pair, wanted, options, marks)
    )
    return text.replace("{zero}", " + 1" if counts_zero else "")


def _pair(
    number: int,
    path: str,
    pair: tuple[str, str],
    wanted: Sequence[Wanted],
    options: Options,
    marks: Marks | None,
) -> Iterator[str]:
    runtime = wanted[0].runtime
    conditions = [each.condition() for each in wanted]
    predicate = "" if "" in conditions else f"/{' || '.join(map(_grouped, conditions))}/\n"
    entry, after = (f'usdt:"{path}":{runtime.provider}:{name}' for name in pair)
    key = f"(uint64){number}, (uint64)tid"
    rate = [f"{RATE} += 1;"] if marks else []
    if options.show == "count":
        lines = [*rate, f"@calls[{_name(runtime)}] = count();"]
        # CPython 3.11 tells of returns only.
        yield _probe(after, predicate, lines)
        return
    if not options.returns and options.show == "calls":
        yield _probe(entry, predicate, [*rate, _say(number, runtime, ENTERED, "0", options, marks)])
        return
    yield _probe(
        entry,
        predicate,
        [*rate, f"{_DEPTH}[{key}] += 1;", f"{_CALLS}[{key}, (uint64){_DEPTH}[{key}]] = nsecs;"],
    )
    place = f"{_CALLS}[{key}, (uint64){_DEPTH}[{key}]]"
    shown = (
        f"if ($begun != 0) {{ @latency_ns[{_name(runtime)}] = hist($took); }}"
        if options.show == "latency"
        else _say(number, runtime, RETURNED, "$took", options, marks)
    )
    most = f"@shown += 1; if (@shown >= {options.most}) {{ exit(); }}" if options.most else ""
    yield _probe(
        after,
        predicate,
        [
            f"$begun = {place};",
            "$took = (uint64)0;",
            "if ($begun != 0) { $took = (uint64)(nsecs - $begun); }",
            shown,
            *filter(None, [most]),
            f"if ({_DEPTH}[{key}] > 0) {{ delete({place}); {_DEPTH}[{key}] -= 1; }}",
        ],
    )


def _grouped(condition: str) -> str:
    return f"({condition})"


def _probe(point: str, predicate: str, lines: Sequence[str]) -> str:
    inner = "".join(f"\t{line}\n" for line in lines)
    return f"{point}\n{predicate}{{\n{inner}}}"


def _name(runtime: Runtime) -> str:
    return f"{runtime.owner}, {runtime.function}" if runtime.owner else runtime.function


def _say(
    number: int, runtime: Runtime, how: int, took: str, options: Options, marks: Marks | None
) -> str:
    texts = [runtime.owner, runtime.function, runtime.file]
    present = [text for text in texts if text]
    stack = ["ustack"] if options.stack else []
    begun = f"nsecs - {took}" if took != "0" else "nsecs"
    line = runtime.line or "(int32)0"
    if marks is None:
        form = "%d/%d " + runtime.joint.join(["%s"] * (1 + bool(runtime.owner)))
        form += " <%lld ns>" if how == RETURNED else ""
        names = [text for text in (runtime.owner, runtime.function) if text]
        values = ["pid", "tid", *names, *([took] if how == RETURNED else []), *stack]
        return f'printf("{form}{"%s" if stack else ""}\\n", {", ".join(values)});'
    form = f"{marks.begin_in_source}{FIRST_NUMBER + number},{how},%d,%d,%lld,%lld,%d"
    form += f"{marks.part_in_source}%s" * (len(present) + len(stack))
    values = ["pid", "tid", begun, took, line, *present, *stack]
    return f'printf("{form}", {", ".join(values)});'


def full_name(runtime: Runtime, owner: str, function: str) -> str:
    """A function with its class, as its language has it."""
    if runtime.name == "java":
        owner = owner.replace("/", ".")
    return f"{owner}{runtime.joint}{function}" if owner else function


@dataclass(frozen=True)
class Seen:
    """A call, as a runtime's probe tells it."""

    function: str
    place: str
    """File and line; the runtime's name where it does not tell them."""
    how: int
    pid: int
    tid: int
    begun: int
    took: int
    stack: str


def read(text: str, runtimes: Sequence[Runtime], marks: Marks, *, has_stack: bool) -> Seen | None:
    """The call that a printed text is; None: it is none of a runtime's."""
    if not text.startswith(marks.begin) or text.startswith(marks.begin + RATE_WORD):
        return None
    head, *texts = text[len(marks.begin) :].split(marks.part)
    try:
        number, how, pid, tid, begun, took, line = map(int, head.split(","))
        if number < FIRST_NUMBER:
            return None
        runtime = runtimes[number - FIRST_NUMBER]
        stack = texts.pop() if has_stack else ""
        owner = texts.pop(0) if runtime.owner else ""
        function, *rest = texts
    except (ValueError, LookupError):
        return None
    name = full_name(runtime, owner, function)
    place = f"{rest[0]}:{line}" if rest and rest[0] else runtime.name
    return Seen(name, place, how, pid, tid, begun, took, stack)
