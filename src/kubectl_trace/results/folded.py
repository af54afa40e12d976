"""Maps with stacks as keys as folded stacks, `-o folded`: `main;read;vfs_read 42`, root first.

It is the input that flame-graph tools take: the frames of a line separated by `;`, then a space
and what the entry counts (described in flamegraph.pl of github.com/brendangregg/FlameGraph). A
key's other parts come before the stack, the kernel's stack is above the user's.

bpftrace's JSON has a stack as text within a key. Each frame's line is ended by a newline, and
indented by 4 spaces (0.17), 8 (0.23), or not at all (0.27, which takes spaces out of keys); a stack
without frames is an empty text (0.17) or a newline. The modes differ in what a frame is:

- `bpftrace`: `vfs_read+17`, or an address (`0x7f1c`) that has no symbol; with debug information
  `vfs_read+17@/src/fs/read_write.c:474`;
- `perf`: a tabulator, then `ffffffff8f2b vfs_read+17`, of user stacks with the module behind,
  `(/usr/bin/dd)`; 0.27 leaves the spaces out;
- `raw`: the address alone, `7f1c`.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from kubectl_trace.results.terminal import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TextIO

    from kubectl_trace.results.account import Account
    from kubectl_trace.results.result import Result

__all__ = ["FoldedPrinter", "fold", "key_parts"]

_MAPS = frozenset({"map", "hist", "stats"})
_SHOWN_AS_TEXT = frozenset({"printf", "time", "cat", "join", "syscall", "raw", "value", "tseries"})

# A stack at the place of a key where a part begins, and what ends it.
_STACK = re.compile(r"\n(?:[^\n,][^\n]*\n)*(?=,|\Z)")

# Of a perf frame: the address, where it can be told from a name that follows without a space.
_PERF_ADDRESS = re.compile(r"[0-9a-f]+(?: |(?=0x))|ffff[0-9a-f]{12}|[57][0-9a-f]{11}")
_PERF_MODULE = re.compile(r" ?\([^()]*\)\Z")
_PLACE = re.compile(r"(?:\+\d+)?(?:@[^@]+:\d+)?\Z")

# What would end a frame, or a line.
_SEPARATORS = re.compile(r"[;\s]")
_HARMLESS = {";": ":"}
# A number at the end of the stack would be read as a count of its own.
_LOOSE_NUMBER = re.compile(r" (?=\d+(?:\.\d*)?\Z)")

# Where a task enters the kernel: the root of a kernel stack that is whole.
_KERNEL_ROOT = re.compile(
    r"entry_SYSCALL|entry_SYSENTER|entry_INT80|asm_|ret_from_fork|do_syscall_64|el[01]t?_|"
    r"secondary_startup|common_startup|x86_64_start_kernel|__primary_switched|0xffff[0-9a-f]{12}\Z"
)
_USER_ROOT = re.compile(
    r"0x[0-9a-f]{1,12}\Z|_start\b|__libc_start|start_thread|__?clone3?\b|main\b"
)


class FoldedPrinter:
    """Writes entries of maps with stacks in their keys; anything else is no line."""

    def __init__(
        self, note: Callable[[str], None], *, by: str = "", out: TextIO | None = None
    ) -> None:
        """Makes a printer that has shown nothing yet.

        Args:
            note: Tells the user what is not shown; once for each map.
            by: `node`, `pod` or `container` become the first frames; empty: none does.
            out: Where the lines go, stdout if it is None; a terminal gets no control characters.
        """
        self._out = out or sys.stdout
        self._note = note
        self._by = by
        self._on_terminal = self._out.isatty()
        self._noted: set[str] = set()

    def show(self, result: Result) -> None:
        """Writes a result's lines."""
        if result.type in _SHOWN_AS_TEXT:
            self._leave_out(result.type, "only maps with stacks in their keys are")
        elif result.type in _MAPS and isinstance(result.data, dict):
            first = _first_frames(result, self._by)
            for name, value in result.data.items():
                self._show_map(name, value, result.type, first)

    def flush(self) -> None:
        """Makes all that was shown visible.

        Raises:
            BrokenPipeError: nobody reads the output any more.
        """
        self._out.flush()

    def close(self, account: Account | None) -> None:
        """The end."""
        self.flush()

    def _show_map(self, name: str, value: Any, kind: str, first: tuple[str, ...]) -> None:
        if not isinstance(value, dict) or not any(map(_has_stack, value)):
            self._leave_out(name, "it has no stacks in its keys")
            return
        for frames, amount in fold(value, kind):
            if amount is None:
                self._leave_out(name, "only what adds up is: counts, sums, stats, histograms")
            elif amount < 0:
                self._leave_out(f"a negative entry of {name}", "a flame can't be that wide")
            elif amount:
                text = _line((*first, *frames))
                self._out.write(f"{escape(text) if self._on_terminal else text} {amount}\n")

    def _leave_out(self, what: str, why: str) -> None:
        if what not in self._noted:
            self._noted.add(what)
            self._note(f"{what} is not shown as folded stacks: {why}")


def fold(entries: dict[str, Any], kind: str) -> Iterator[tuple[list[str], int | None]]:
    """The entries of a map as frames, root first, and what each counts.

    Args:
        entries: A map's values by key, as bpftrace's JSON has them.
        kind: Its type there: `map`, `stats` or `hist`.

    Yields:
        Frames without offsets: the key's other parts, the user's stack, the kernel's. And the
        value: a number itself, the total of `stats`, all counts of a histogram; None for what
        can't be added, such as an average.
    """
    keys = {key: key_parts(key) for key in entries}
    kernel_last = _kernel_is_last(keys.values())
    for key, value in entries.items():
        stacks = [part for part in keys[key] if isinstance(part, list)]
        frames = [part for part in keys[key] if isinstance(part, str) and part]
        for stack in stacks if kernel_last else reversed(stacks):
            frames += map(_name, reversed(stack))
        yield frames or ["[no stack]"], _amount(value, kind)


def key_parts(key: str) -> list[str | list[str]]:
    """The parts of a map's key: texts, and stacks as lists of their frames' lines, leaf first.

    A comma within a text is not told from one between two (see `dialect`).
    """
    parts: list[str | list[str]] = []
    at = 0
    while at <= len(key):
        if found := _STACK.match(key, at):
            parts.append(found[0].split("\n")[1:-1])
            at = found.end() + 1
        else:
            end = key.find(",", at)
            end = len(key) if end < 0 else end
            parts.append(key[at:end])
            at = end + 1
    return parts


def _has_stack(key: str) -> bool:
    return "\n" in key and any(isinstance(part, list) for part in key_parts(key))


def _kernel_is_last(keys: Iterable[list[str | list[str]]]) -> bool:
    """Whether the kernel's stack is the last one of the keys; most write it first."""
    votes = 0
    for parts in keys:
        stacks = [part for part in parts if isinstance(part, list)]
        if len(stacks) > 1:
            first, last = (_kernel_likeness(stacks[i]) for i in (0, -1))
            votes += (last > first) - (first > last)
    return votes > 0


def _kernel_likeness(stack: list[str]) -> int:
    root = _name(stack[-1]) if stack else ""
    return bool(_KERNEL_ROOT.match(root)) - bool(_USER_ROOT.match(root))


def _name(line: str) -> str:
    """The name that a frame's line begins with, or its address."""
    name = line.strip()
    if line.startswith("\t"):
        name = _PERF_MODULE.sub("", _PERF_ADDRESS.sub("", name, count=1))
    return _PLACE.sub("", name) or line.strip()


def _amount(value: Any, kind: str) -> int | None:
    if isinstance(value, int):
        return None if kind == "stats" else value  # a plain number there is an average
    if isinstance(value, dict) and isinstance(total := value.get("total"), int):
        return total
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        counts = [each.get("count") for each in value]
        return sum(counts) if all(isinstance(count, int) for count in counts) else None
    return None


def _first_frames(result: Result, by: str) -> tuple[str, ...]:
    frames = {
        "node": (result.node,),
        "pod": (result.pod,),
        "container": (result.pod, result.container),
    }
    return tuple(filter(None, frames.get(by, ())))


def _line(frames: Iterable[str]) -> str:
    line = ";".join(
        _SEPARATORS.sub(lambda found: _HARMLESS.get(found[0], " "), frame) for frame in frames
    )
    return _LOOSE_NUMBER.sub("_", line)
