"""The bpftrace program that sees functions' calls.

What a call was entered with is kept in a map until it returns, by what is the same at both: the
function, the thread (in Go the goroutine) and the frame's place on the stack. Recursion has other
frames; one that was left without a return (an exception, a panic) is found by the next call that
has its place.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.functions import filters, shapes, sources
from kubectl_trace.functions.shapes import Leaf

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kubectl_trace.functions.filters import Condition
    from kubectl_trace.functions.shapes import Shape

_ENTERED = "@entered"
ENTERED, RETURNED, LEFT, TAIL = range(4)
"""How a printed call ended: not yet, by a return, without one, by a jump into another function."""

RATE, SKIPPED = "@calls_a_second", "@skipped"
_SECONDS, _THIS_SECOND, _SHOWN_CALLS = "@second", "@this_second", "@shown"
STOPPING = "@stopping"
"""A map of the program's own: it ends when the value of the key 0 is another than 0."""
OWN_PROBES = 3
"""How many of its own a program has that is not for people."""
_LOOK = 100
"""Milliseconds between two looks at that."""
OWN_MAPS = frozenset((RATE, SKIPPED, STOPPING, _SECONDS, _THIS_SECOND, _SHOWN_CALLS))
"""Maps that are no results: how many calls there were in this second, and how many of them
`max_rate` passed over, among others."""
RATE_WORD = "rate,"
_SECOND = 1_000_000_000  # nanoseconds

# A stack of 512 bytes and maps' values bound what one call may hold.
_MOST_LEAVES = 48
_LONGEST_KEY = 60


@dataclass(frozen=True)
class Parameter:
    """An argument or a result."""

    name: str
    shape: Shape


@dataclass(frozen=True)
class Traced:
    """A function as it is traced: places in the file are numbers as bpftrace takes them."""

    name: str
    path: str
    language: str
    start: int
    entry: int
    """Where calls are seen: at the start or, of Go, behind its check of the stack."""
    returns: tuple[int, ...]
    """Where it returns; none: by a uretprobe, if `uses_uretprobe`, or it isn't known."""
    uses_uretprobe: bool
    who: str
    """An expression for the thread, or goroutine."""
    frame: str
    """An expression for the place on the stack at the entry and at `returns`."""
    frame_after: str
    """As `frame`, in a uretprobe."""
    arguments: tuple[Parameter, ...] = ()
    results: tuple[Parameter, ...] = ()
    tail_jumps: tuple[int, ...] = ()
    """Where it ends by going on in another function, whose return is not its own."""
    may_unwind: bool = False
    """It may be left without a return, by an exception or a panic."""
    ends_known: bool = True
    """`returns` and `tail_jumps` are all the ends that it has."""

    @property
    def returns_seen(self) -> bool:
        """Whether its returns can be traced."""
        return bool(self.returns or self.tail_jumps) or self.uses_uretprobe

    @property
    def probes(self) -> int:
        """How many there are at most."""
        return 1 + len(self.returns) + len(self.tail_jumps) + int(self.uses_uretprobe)


@dataclass(frozen=True)
class Options:
    """What is to be seen of calls."""

    show: str = "calls"
    """`calls`, or instead of them a map: `latency`, `count` or `returns`."""
    arguments: bool = True
    returns: bool = True
    stack: bool = False
    condition: Condition | None = None
    most: int = 0
    """Calls after which the program ends; 0: it does not."""
    max_rate: int = 0
    """Calls a second beyond which they are passed over; 0: none."""


@dataclass(frozen=True)
class Layout:
    """How the program prints a function's calls; `reading` reads them."""

    function: Traced
    arguments: tuple[Parameter, ...]
    results: tuple[Parameter, ...]
    stored: tuple[Leaf, ...]
    """What the map of entered calls holds after the time, in its order."""
    map: str
    """The name of that map; empty: calls are printed when they begin."""
    stack: bool
    is_unsure: bool = False
    """Of a call without an end it is not known whether it should be shown."""


@dataclass(frozen=True)
class Written:
    """A program, and how to read what it prints."""

    text: str
    layouts: tuple[Layout, ...]
    names: tuple[str, ...]
    """What its probes are called, in their order."""


@dataclass(frozen=True)
class Marks:
    """What begins, parts and ends a call's text; no traced process can know them."""

    token: str

    @property
    def begin(self) -> str:
        """Before the first number."""
        return f"\x1d{self.token}"

    @property
    def begin_in_source(self) -> str:
        """`begin`, as a program has it in a string."""
        return rf"\x1d{self.token}"

    @property
    def part(self) -> str:
        """Before every text."""
        return f"\x1f{self.token}"

    @property
    def part_in_source(self) -> str:
        """`part`, as a program has it in a string."""
        return rf"\x1f{self.token}"


def write(functions: Sequence[Traced], options: Options, marks: Marks | None) -> Written:
    """The program for these functions.

    Args:
        functions: What to trace.
        options: What of it.
        marks: For `reading`; None: a person reads what the program prints.

    Raises:
        filters.FilterError: the condition does not fit a function.
    """
    groups: dict[tuple[str, ...], str] = {}
    layouts, probes, names = [], [], []
    for number, function in enumerate(functions):
        writer = _Writer(number, function, options, marks)
        if writer.keeps:
            signature = tuple(map(_kind, writer.stored))
            dynamic = tuple(leaf.expression for leaf in writer.stored if _is_stack(leaf))
            writer.map = groups.setdefault((*signature, *dynamic), f"{_ENTERED}{len(groups) + 1}")
        layouts.append(writer.layout())
        entry, *returns = writer.probes()
        probes += [entry, *returns]
        names += [function.name, *[f"{function.name} (return)"] * len(returns)]
    text = "".join(f"{probe}\n\n" for probe in probes).rstrip("\n") + "\n"
    return Written(text, tuple(layouts), tuple(names))


def own_probes(marks: Marks | None) -> str:
    """Probes that tell how often functions are called, and end the program when it is told to stop.

    A program for people has none. bpftrace throws away at SIGINT what it has not read yet (0.23,
    src/bpftrace.cpp: perf_event_printer), but not what was there before an exit().
    """
    if marks is None:
        return ""
    text = f"{marks.begin_in_source}{RATE_WORD}%lld"
    return (
        f"\nBEGIN\n{{\n\t{STOPPING}[(uint64)0] = (uint64)0;\n}}\n"
        f"\ninterval:ms:{_LOOK}\n{{\n\tif ({STOPPING}[(uint64)0] != 0) {{ exit(); }}\n}}\n"
        f'\ninterval:s:1\n{{\n\tprintf("{text}", {RATE});\n\t{RATE} = 0;\n}}\n'
    )


def _kind(leaf: Leaf) -> str:
    """What leaves must have alike to be in one map: texts their size, too."""
    if not leaf.is_text:
        return "number"
    size = leaf.expression.rpartition(", ")[2]
    return f"text {size}" if re.fullmatch(r"\d+\)", size) else "text"


def _is_stack(leaf: Leaf) -> bool:
    return leaf.expression == "ustack"


class _Writer:
    """The probes of one function."""

    def __init__(
        self, number: int, function: Traced, options: Options, marks: Marks | None
    ) -> None:
        self._number = number
        self._function = function
        self._options = options
        self._marks = marks
        self.map = ""
        shows = options.show == "calls"
        self._arguments = _bounded(function.arguments) if shows and options.arguments else ()
        wants_return = options.show in ("latency", "returns") or (shows and options.returns)
        condition = options.condition
        self._condition = condition
        self._at_return = bool(condition and condition.needs_return(function))
        self.keeps = function.returns_seen and (wants_return or self._at_return)
        if (options.show in ("latency", "returns") or self._at_return) and not self.keeps:
            raise filters.FilterError(
                f"where {function.name} returns is not known, so neither what nor when"
            )
        has_results = shows and options.returns and self.keeps
        self._results = function.results if has_results else ()
        self.stored = tuple(self._stored()) if self.keeps else ()

    def _stored(self) -> Iterator[Leaf]:
        if self._options.stack and self._options.show == "calls":
            yield Leaf("ustack", is_text=True)
        wanted = [leaf for each in self._arguments for leaf in shapes.leaves(each.shape)]
        if self._condition and self._at_return:
            wanted += self._condition.leaves(self._function)
        yield from dict.fromkeys(wanted)

    def layout(self) -> Layout:
        stack = self._options.stack and self._options.show == "calls"
        is_unsure = self._at_return or not self._function.ends_known
        return Layout(
            self._function, self._arguments, self._results, self.stored, self.map, stack, is_unsure
        )

    def probes(self) -> Iterator[str]:
        function = self._function
        entry = f'uprobe:"{function.path}":{function.entry:#x} // {_comment(function.name)}'
        yield f"{entry}\n{{\n{self._entry()}}}"
        if not self.keeps:
            return
        if function.returns:
            yield f"{self._points(function.returns)}\n{{\n{self._return(function.frame)}}}"
        elif function.uses_uretprobe:
            points = f'uretprobe:"{function.path}":{function.entry:#x}'
            yield f"{points}\n{{\n{self._return(function.frame_after)}}}"
        if function.tail_jumps:
            yield f"{self._points(function.tail_jumps)}\n{{\n{self._tail()}}}"

    def _points(self, addresses: Sequence[int]) -> str:
        path = self._function.path
        return ",\n".join(f'uprobe:"{path}":{address:#x}' for address in addresses)

    def _key(self, frame: str) -> str:
        return f"(uint64){self._number}, (uint64)({self._function.who}), (uint64)({frame})"

    def _entry(self) -> str:
        lines = [f"{RATE} += 1;"] if self._marks else []
        if self.keeps:
            place = f"{self.map}[{self._key(self._function.frame)}]"
            values = "".join(f", {_number(leaf)}" for leaf in self.stored)
            # A tuple has two parts at least.
            kept = [f"{place} = (nsecs{values or ', (uint64)1'});"]
            lines += self._left(place)
        elif self._options.show == "count":
            kept = [f"@calls[{_key_name(self._function.name)}] = count();"]
        else:
            kept = [self._say("", "0", ENTERED), *self._count_shown()]
        return _indented([*lines, *self._chosen(self._limited(kept))])

    def _left(self, place: str) -> list[str]:
        """What is done about a call whose place is taken anew: it has ended without a return.

        It is not to be found again, should this one be passed over.
        """
        is_sure = self._function.ends_known and not self._at_return
        says = is_sure and self._options.show == "calls"
        if not says and self._condition is None and not self._options.max_rate:
            return []
        left = self._say("$left", "0", LEFT) if says else ""
        return [f"$left = {place};", f"if ($left.0 != 0) {{ {left} delete({place}); }}"]

    def _chosen(self, lines: list[str]) -> list[str]:
        """The lines where the condition holds that is known at the entry."""
        if self._condition is None or self._at_return:
            return lines
        condition = self._condition.write(self._function, _entry_expression)
        return [f"if ({condition}) {{", *(f"\t{line}" for line in lines), "}"]

    def _limited(self, lines: list[str]) -> list[str]:
        if not self._options.max_rate:
            return lines
        skipped = f"{SKIPPED}[{self._number}]" if self._marks else SKIPPED
        return [
            f"if (nsecs - {_SECONDS} > {_SECOND}) {{ {_SECONDS} = nsecs; {_THIS_SECOND} = 0; }}",
            f"{_THIS_SECOND} += 1;",
            f"if ({_THIS_SECOND} > {self._options.max_rate}) {{ {skipped} = count(); }} else {{",
            *(f"\t{line}" for line in lines),
            "}",
        ]

    def _return(self, frame: str) -> str:
        place = f"{self.map}[{self._key(frame)}]"
        took = "(nsecs - $call.0)"
        name = _key_name(self._function.name)
        if self._options.show == "latency":
            lines = [f"@latency_ns[{name}] = hist({took});"]
        elif self._options.show == "count":
            lines = [f"@calls[{name}] = count();"]
        elif self._options.show == "returns":
            of, value = self._returned()
            lines = [f"{of}[{name}, {value}] = count();"]
        else:
            lines = [self._say("$call", took, RETURNED), *self._count_shown()]
        if self._condition and self._at_return:
            condition = self._condition.write(self._function, self._kept_expression)
            lines = [f"if ({condition}) {{", *(f"\t{line}" for line in lines), "}"]
        return self._ended(place, lines)

    def _tail(self) -> str:
        """At a jump into another function: the call's end, without its result."""
        place = f"{self.map}[{self._key(self._function.frame)}]"
        lines = []
        if self._options.show == "calls" and not self._at_return:
            lines = [self._say("$call", "(nsecs - $call.0)", TAIL), *self._count_shown()]
        elif self._options.show == "latency":
            lines = [f"@latency_ns[{_key_name(self._function.name)}] = hist(nsecs - $call.0);"]
        return self._ended(place, lines)

    @staticmethod
    def _ended(place: str, lines: Sequence[str]) -> str:
        return _indented(
            [
                f"$call = {place};",
                "if ($call.0 != 0) {",
                *(f"\t{line}" for line in lines),
                f"\tdelete({place});",
                "}",
            ]
        )

    def _returned(self) -> tuple[str, str]:
        """A map, and the first result as a key of it: values of several types have one each."""
        if self._function.results:
            match self._function.results[0].shape:
                case shapes.Scalar(type=kind, leaf=leaf):
                    value = filters.signed(kind, leaf.expression)
                    if kind.size == sources.WORD and value.startswith("(uint64)"):
                        return "@returns_unsigned", value
                    return "@returns", value.replace("(uint64)", "(int64)", 1)
                case shapes.Text(text=leaf):
                    return "@returns_text", leaf.expression
                case shapes.Registers(leaves=(leaf, *_)):
                    return "@returns_unsigned", f"(uint64)({leaf.expression})"
                case shapes.Interface(word=leaf):
                    return "@returns", f"(int64)({leaf.expression} != 0)"
        raise filters.FilterError(
            f"{self._function.name} has no result that can be counted by its value"
        )

    def _count_shown(self) -> list[str]:
        if not self._options.most:
            return []
        return [
            f"{_SHOWN_CALLS} += 1;",
            f"if ({_SHOWN_CALLS} >= {self._options.most}) {{ exit(); }}",
        ]

    def _kept_expression(self, leaf: Leaf) -> str:
        if leaf in self.stored:
            return f"$call.{1 + self.stored.index(leaf)}"
        return leaf.expression if leaf.expression != filters.DURATION else "(nsecs - $call.0)"

    def _say(self, kept: str, took: str, how: int) -> str:
        """The printf of a call: `kept` is the variable with what was stored at its entry."""
        with_results = how == RETURNED

        def stored(leaf: Leaf) -> str:
            return f"{kept}.{1 + self.stored.index(leaf)}" if kept else _number(leaf)

        begun = f"{kept}.0" if kept else "nsecs"
        wanted = [stored(leaf) for each in self._arguments for leaf in shapes.leaves(each.shape)]
        kinds = [leaf for each in self._arguments for leaf in shapes.leaves(each.shape)]
        if with_results:
            found = [leaf for each in self._results for leaf in shapes.leaves(each.shape)]
            wanted += [_number(leaf) for leaf in found]
            kinds += found
        values = list(zip(kinds, wanted, strict=True))
        stack = f"{kept}.1" if kept else "ustack"
        if self._marks is None:
            return self._for_people(took, values, stack, with_results=with_results)
        numbers = [text for leaf, text in values if not leaf.is_text]
        texts = [text for leaf, text in values if leaf.is_text]
        if self._options.stack:
            texts.append(stack)
        part = self._marks.part_in_source
        form = (
            f"{self._marks.begin_in_source}{self._number},{how},%d,%d,%lld,%lld"
            + ",%llx" * len(numbers)
            + f"{part}%s" * len(texts)
        )
        return f'printf("{form}", {", ".join(["pid", "tid", begun, took, *numbers, *texts])});'

    def _for_people(
        self, took: str, values: list[tuple[Leaf, str]], stack: str, *, with_results: bool
    ) -> str:
        ends = iter(values)
        given: list[str] = []

        def form(parameters: Sequence[Parameter]) -> str:
            shown = []
            for each in parameters:
                parts = []
                for _ in shapes.leaves(each.shape):
                    leaf, text = next(ends)
                    given.append(text)
                    parts.append("%s" if leaf.is_text else "%llx")
                name = f"{_format_literal(each.name)}=" if _is_named(each) else ""
                shown.append(f"{name}{':'.join(parts) or '?'}")
            return ", ".join(shown)

        text = f"{_format_literal(self._function.name)}({form(self._arguments)})"
        if with_results:
            text += f" = {form(self._results) or 'void'} <%lld ns>"
            given.append(took)
        if self._options.stack:
            text += "%s"
            given.append(stack)
        return f'printf("{", ".join(["%d/%d " + text])}\\n", {", ".join(["pid", "tid", *given])});'


def _is_named(parameter: Parameter) -> bool:
    return bool(parameter.name) and not parameter.name.startswith("~")


def _bounded(parameters: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
    """As many as one call may hold; what does not fit is told to be missing."""
    left = _MOST_LEAVES
    found = []
    for each in parameters:
        count = len(shapes.leaves(each.shape))
        if count > left:
            each = Parameter(
                each.name, shapes.Missing(each.shape.type_name, "too much for one call")
            )
        else:
            left -= count
        found.append(each)
    return tuple(found)


def _entry_expression(leaf: Leaf) -> str:
    return leaf.expression


def _number(leaf: Leaf) -> str:
    return leaf.expression if leaf.is_text else f"(uint64)({leaf.expression})"


def _literal(text: str) -> str:
    """A name as a string of the program: names come from files that nobody vouches for."""
    escaped = _comment(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _key_name(name: str) -> str:
    """A function's name as a map's key: 0.17 takes no string of more than 63 bytes."""
    if len(name.encode()) > _LONGEST_KEY:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        start = name.encode()[: _LONGEST_KEY - 9].decode(errors="ignore")
        name = f"{start}~{digest}"
    return _literal(name)


def _format_literal(text: str) -> str:
    return _literal(text)[1:-1].replace("%", "%%")


def _comment(text: str) -> str:
    """A name without what could end a line."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _indented(lines: Sequence[str]) -> str:
    return "".join(f"\t{line}\n" for line in lines)
