"""Calls of functions: the data of `call` records, and how a person reads them."""

from __future__ import annotations

from typing import Any

import msgspec

from kubectl_trace.results.timestamp import Moment  # noqa: TC001  (msgspec looks for it)

RETURNED, LEFT, TAIL, RUNNING = "returned", "left", "tail call", "running"
"""How a call ended: it returned; it was left by an exception or a panic; it went on in another
function; it had not returned when the trace ended."""

_AFTER = {
    LEFT: " panicked or never returned",
    RUNNING: " has not returned",
    TAIL: " goes on in another function",
}


class Value(msgspec.Struct, frozen=True, omit_defaults=True):
    """An argument or a result."""

    name: str
    """Empty, or Go's `~r0`, where it has none."""
    type: str
    value: Any
    """As JSON has it; null, too, for what can't be read: then `text` says why."""
    text: str
    """As a person reads it."""
    is_cut: bool = False
    """There is more of it than was read."""


class Call(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call of a function."""

    function: str
    pid: int
    tid: int
    """Of the thread that returned."""
    time: Moment
    """When it began."""
    ended: str = ""
    """`RETURNED`, `LEFT`, `TAIL`, `RUNNING`, or empty: returns are not traced."""
    duration: int = 0
    """Nanoseconds; 0 where it has not ended."""
    arguments: tuple[Value, ...] = ()
    results: tuple[Value, ...] = ()
    place: str = ""
    """Of a function that a runtime tells of: its file and line, or the runtime's name."""
    stack: tuple[str, ...] = ()
    """The frames that it was called from, the innermost first."""


def line(call: Call) -> str:
    """A call as a person reads it: `add(a=1, b=2) = 3 <1.2 µs>`; its stack on lines below."""
    inner = ", ".join(map(_named, call.arguments))
    text = f"{call.function}({inner})" if not call.place else f"{call.function} ({call.place})"
    if call.ended == RETURNED:
        if len(call.results) == 1:
            text += f" = {call.results[0].text}"
        elif call.results:
            text += f" = ({', '.join(map(_named, call.results))})"
    text = printable(text + _AFTER.get(call.ended, ""))
    if call.duration:
        text += f" <{duration(call.duration)}>"
    return text + "".join(f"\n        {printable(frame)}" for frame in call.stack)


def printable(text: str) -> str:
    """A text of names, which come from files that nobody vouches for, as one line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _named(value: Value) -> str:
    has_name = value.name and not value.name.startswith("~")
    return f"{value.name}={value.text}" if has_name else value.text


def duration(nanoseconds: int) -> str:
    """A time with three digits and its unit."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            number = nanoseconds / size
            return f"{number:.3g} {unit}" if number < 999.5 else f"{number:.0f} {unit}"
    return f"{nanoseconds} ns"
