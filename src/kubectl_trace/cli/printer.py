"""Records to the terminal: results on stdout as text or JSON, everything else on stderr."""

from __future__ import annotations

import itertools
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from kubectl_trace._version import __version__
from kubectl_trace.cli.arguments import note
from kubectl_trace.results.dialect import Output
from kubectl_trace.results.record import Member
from kubectl_trace.results.terminal import escape, escape_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubectl_trace.results.record import Record

_MANY_PROBES = 50
"""Probes from which on detaching takes seconds: an RCU grace period, some 70 ms, each."""

# Records about the run rather than of the program.
_ABOUT = frozenset({"start", "scope", "ready", "stopping", "stderr", "summary"})
# Bpftrace prints these on stderr.
_ERRORS = frozenset({"lost_events", "helper_error", "runtime_error", "errorf", "warnf"})


class Printer(Protocol):
    """Shows records as they come."""

    def show(self, record: Record) -> None:
        """Shows one record, perhaps only at the next flush."""
        ...

    def flush(self) -> None:
        """Makes all that was shown visible.

        Raises:
            BrokenPipeError: nobody reads stdout any more.
        """
        ...


def printer(output_format: str, *, timestamps: bool = False) -> Printer:
    """The printer for an output format, `text` or `json`."""
    if output_format == "json":
        return _JsonPrinter()
    return _TextPrinter(timestamps=timestamps)


class _TextPrinter:
    """What bpftrace itself would print."""

    def __init__(self, *, timestamps: bool) -> None:
        from kubectl_trace.results.text import render

        self._render = render
        self._on_terminal = sys.stdout.isatty()
        self._begins_line = True
        self._timestamps = timestamps
        self._probes = 0
        self._where = ""
        self._members = _Members()

    def show(self, record: Record) -> None:
        if record.type in _ABOUT:
            self._about(record)
        elif record.type == "attached_probes":
            self._probes = record.data["probes"]
        elif record.type in _ERRORS:
            note(error_text(record))
        else:
            for container, text in self._texts(record):
                self._write(self._prefixed(text, record.time, container))

    def flush(self) -> None:
        sys.stdout.flush()

    def _texts(self, record: Record) -> Iterator[tuple[int, str]]:
        """The record's text, in parts by container where it is of several."""
        if record.type == "program":
            yield 0, explained(record.data)
        elif record.type != "printf":
            yield 0, self._render(Output(record.type, record.data))
        elif not self._members.several:
            yield 0, record.data if isinstance(record.data, str) else "".join(record.data)
        else:
            yield from printed(record)

    def _prefixed(self, text: str, seconds: float, container: int) -> str:
        """The text with container and time before each line that begins in it and isn't blank."""
        member = self._members.get(container) if self._members.several else None
        prefix = f"[pod/{member.pod}/{member.container}] " if member else ""
        if self._timestamps:
            prefix += timestamp(seconds) + " "
        if not prefix:
            return text
        parts: list[str] = []
        for line in re.findall(r"[^\n]*\n|[^\n]+", text):
            parts += [prefix, line] if self._begins_line and line.strip() else [line]
            self._begins_line = line.endswith("\n")
        return "".join(parts)

    def _write(self, text: str) -> None:
        if self._on_terminal:
            text = escape(text)
        sys.stdout.write(text)

    def _about(self, record: Record) -> None:
        if record.type == "stderr":
            note(record.data)
        elif record.type == "start":
            if record.data["version"] != __version__:
                note(f"the runner is version {record.data['version']}, this client {__version__}")
            self._members.begin(record.data)
            self._where = (
                f"on {record.data['node']} (bpftrace {record.data['bpftrace']}, "
                f"Linux {record.data['kernel']})"
            )
        elif record.type == "ready":
            # How many probes matched is news; 0.24 and later say it on stderr themselves.
            plural = "" if self._probes == 1 else "s"
            note(f"attached {self._probes} probe{plural} {self._where}")
            if self._probes >= _MANY_PROBES:
                note(
                    f"detaching {self._probes} probes takes the kernel a while; one that sees the "
                    "same, such as tracepoint:raw_syscalls:sys_enter, is quicker"
                )
        elif record.type == "scope":
            self._members.change(record.data)
            for happened in ("joined", "left"):
                for each in record.data[happened]:
                    container = f"container {each['container']} of pod {each['pod']}"
                    note(f"{container} {'joins' if happened == 'joined' else 'leaves'} the scope")
        elif record.type == "stopping" and record.data["reason"] == "deadline":
            note("the deadline is over, collecting maps")


class _JsonPrinter:
    """One JSON object a line: time, node, bpftrace's own type and data; docs/json.md."""

    def __init__(self) -> None:
        self._node = ""
        self._members = _Members()
        self._encode = msgspec.json.Encoder().encode
        self._on_terminal = sys.stdout.isatty()

    def show(self, record: Record) -> None:
        if record.type == "start":
            self._node = record.data["node"]
            self._members.begin(record.data)
        elif record.type == "scope":
            self._members.change(record.data)
        elif record.type == "stderr":
            note(record.data)
            return
        pieces = printed(record) if record.type == "printf" else [(0, record.data)]
        for container, data in pieces:
            line: dict[str, Any] = {"time": timestamp(record.time), "node": self._node}
            if member := self._members.get(container):
                line |= {
                    "namespace": member.namespace,
                    "pod": member.pod,
                    "container": member.container,
                }
            line |= {"type": record.type, "data": data}
            encoded = self._encode(line)
            if self._on_terminal:
                encoded = escape_json(encoded.decode()).encode()
            sys.stdout.buffer.write(encoded + b"\n")

    def flush(self) -> None:
        sys.stdout.buffer.flush()


class _Members:
    """The containers of a runner's scope, by number."""

    def __init__(self) -> None:
        self._known: dict[int, Member] = {}

    @property
    def several(self) -> bool:
        """Whether it matters which container a text is of."""
        return len(self._known) > 1

    def begin(self, start: Any) -> None:
        self._learn(start.get("containers", ()))

    def change(self, scope: Any) -> None:
        self._learn(scope["joined"])

    def get(self, number: int) -> Member | None:
        return self._known.get(number)

    def _learn(self, members: Any) -> None:
        for member in msgspec.convert(members, list[Member]):
            self._known[member.number] = member


def printed(record: Record) -> Iterator[tuple[int, str]]:
    """The texts of a `printf` record, each with its container's number."""
    texts = [record.data] if isinstance(record.data, str) else record.data
    if isinstance(record.container, int):
        return zip(itertools.repeat(record.container), texts, strict=False)
    return zip(record.container, texts, strict=True)


def explained(program: Any) -> str:
    """A program as it would run, with the reasons before it, as comments."""
    reasons = "".join(
        f"// {change['line']}:{change['column']}: {change['reason']}\n"
        for change in program["changes"]
    )
    head = f"// Changed, by line and column of your program:\n{reasons}" if reasons else ""
    return f"{head or '// Runs as it is.'}\n{program['text'].rstrip()}\n"


def timestamp(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC, with microseconds."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def error_text(record: Record) -> str:
    """What bpftrace says on stderr about lost events and errors while it runs."""
    data = record.data
    if record.type == "lost_events":
        return f"Lost {data['events']} events"
    where = ":".join(str(data[key]) for key in ("filename", "line", "col") if key in data)
    said = data.get("msg") or f"return code {data.get('retcode')}"
    helper = (
        f" (helper {data['helper']}, retcode {data.get('retcode')})" if "helper" in data else ""
    )
    return f"{where}: {said}{helper}" if where else f"{said}{helper}"
