"""What the program of `writing` prints, read back: calls with their arguments and results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.functions import runtimes, shapes, values, writing
from kubectl_trace.functions.values import Reader
from kubectl_trace.results.call import LEFT, RETURNED, RUNNING, TAIL, Call, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kubectl_trace.functions.runtimes import Runtime
    from kubectl_trace.functions.writing import Layout, Marks, Parameter

_MOST_TASKS = 1 << 22  # linux/threads.h: PID_MAX_LIMIT
_MOST_FRAMES = 127

_ENDS = {
    writing.ENTERED: "",
    writing.RETURNED: RETURNED,
    writing.LEFT: LEFT,
    writing.TAIL: TAIL,
}


@dataclass(frozen=True)
class Context:
    """What the texts themselves do not say."""

    layouts: Sequence[Layout]
    """How the program prints."""
    marks: Marks
    """What parts its texts."""
    clock: float
    """What must be added to the kernel's monotonic clock for the time since 1970; seconds."""
    type_name: Callable[[int, int, int], str]
    """Of a function's number, a PID and an address there: the name of the Go type."""
    runtimes: Sequence[Runtime] = ()
    """Of which the program has probes."""
    has_stacks: bool = False


def call(text: str, context: Context) -> Call | None:
    """The call that a printed text is; None: it is none."""
    if not text.startswith(context.marks.begin):
        return None
    if context.runtimes and (found := _of_runtime(text, context)) is not None:
        return found
    head, *texts = text[len(context.marks.begin) :].split(context.marks.part)
    try:
        number, how, pid, tid, begun, took, *rest = head.split(",")
        layout = context.layouts[_natural(number)]
        ended = _ENDS[int(how)]
        numbers = [int(each, 16) for each in rest]
        stack = texts.pop() if layout.stack and texts else ""
        reader = _reader(context, int(number), int(pid), numbers, texts)
        return Call(
            function=layout.function.name,
            pid=int(pid),
            tid=int(tid),
            time=context.clock + int(begun) / 1e9,
            ended=ended,
            duration=int(took),
            arguments=_values(layout.arguments, reader),
            results=_values(layout.results, reader) if ended == RETURNED else (),
            stack=_frames(stack),
        )
    except (ValueError, LookupError, OverflowError):
        return None


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _of_runtime(text: str, context: Context) -> Call | None:
    seen = runtimes.read(text, context.runtimes, context.marks, has_stack=context.has_stacks)
    if seen is None:
        return None
    return Call(
        function=seen.function,
        pid=seen.pid,
        tid=seen.tid,
        time=context.clock + seen.begun / 1e9,
        ended=_ENDS.get(seen.how, ""),
        duration=seen.took,
        place=seen.place,
        stack=_frames(seen.stack),
    )


def unfinished(name: str, entries: object, context: Context) -> list[Call]:
    """The calls that had begun and not returned, from a map that bpftrace prints at its exit.

    Args:
        name: The map's, with the `@`.
        entries: What is in it.
        context: As for `call`.
    """
    found = []
    for key, value in entries.items() if isinstance(entries, dict) else ():
        number, who, _ = (*map(_as_number, str(key).split(",")), 0, 0)[:3]
        layout = context.layouts[number] if number < len(context.layouts) else None
        if layout is None or layout.map != name or not isinstance(value, list) or not value:
            continue
        if layout.is_unsure:
            continue
        begun, *stored = value
        kept = dict(zip(layout.stored, stored, strict=False))
        wanted = [leaf for each in layout.arguments for leaf in shapes.leaves(each.shape)]
        numbers = [_as_number(kept.get(leaf)) for leaf in wanted if not leaf.is_text]
        texts = [str(kept.get(leaf, "")) for leaf in wanted if leaf.is_text]
        # Of Go it is a goroutine's address.
        pid, tid = (who >> 32, who & 0xFFFFFFFF) if who >> 32 < _MOST_TASKS else (0, 0)
        found.append(
            Call(
                function=layout.function.name,
                pid=pid,
                tid=tid,
                time=context.clock + _as_number(begun) / 1e9,
                ended=RUNNING,
                arguments=_values(layout.arguments, _reader(context, number, pid, numbers, texts)),
                stack=_frames(str(stored[0])) if layout.stack and stored else (),
            )
        )
    return found


def _as_number(value: object) -> int:
    # 0.27 prints numbers above 2^53 as strings, and some versions those above 2^63 as negative.
    try:
        return int(str(value)) & (1 << 64) - 1
    except ValueError:
        return 0


def _reader(
    context: Context, number: int, pid: int, numbers: Iterable[int], texts: Iterable[str]
) -> Reader:
    is_go = context.layouts[number].function.language == "Go"
    return Reader(
        iter(numbers),
        iter(texts),
        lambda address: context.type_name(number, pid, address),
        null="nil" if is_go else "NULL",
    )


def _values(parameters: Sequence[Parameter], reader: Reader) -> tuple[Value, ...]:
    found = []
    for each in parameters:
        value = values.value(each.shape, reader)
        found.append(Value(each.name, each.shape.type_name, value.data, value.text, value.is_cut))
    return tuple(found)


def _frames(stack: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in stack.splitlines() if line.strip())[:_MOST_FRAMES]
