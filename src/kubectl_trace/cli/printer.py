"""Records to the terminal: results on stdout as text or JSON, everything else on stderr."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from kubectl_trace._version import __version__
from kubectl_trace.cli.arguments import note
from kubectl_trace.results.dialect import Output
from kubectl_trace.results.terminal import escape, escape_json

if TYPE_CHECKING:
    from kubectl_trace.results.record import Record

_MANY_PROBES = 50
"""Probes from which on detaching takes seconds: an RCU grace period, some 70 ms, each."""

# Records about the run rather than of the program.
_ABOUT = frozenset({"start", "ready", "stopping", "stderr", "summary"})
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

    def show(self, record: Record) -> None:
        if record.type in _ABOUT:
            self._about(record)
        elif record.type == "attached_probes":
            self._probes = record.data["probes"]
        elif record.type in _ERRORS:
            note(error_text(record))
        else:
            text = self._text(record)
            if self._timestamps:
                text = self._stamped(text, record.time)
            self._write(text)

    def flush(self) -> None:
        sys.stdout.flush()

    def _text(self, record: Record) -> str:
        if record.type == "printf":
            return record.data if isinstance(record.data, str) else "".join(record.data)
        return self._render(Output(record.type, record.data))

    def _stamped(self, text: str, seconds: float) -> str:
        """The text with the time before each line that begins in it and isn't blank."""
        stamp = timestamp(seconds)
        parts: list[str] = []
        for line in re.findall(r"[^\n]*\n|[^\n]+", text):
            parts += [stamp, " ", line] if self._begins_line and line.strip() else [line]
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
        elif record.type == "stopping" and record.data["reason"] == "deadline":
            note("the deadline is over, collecting maps")


class _JsonPrinter:
    """One JSON object a line: time, node, bpftrace's own type and data; docs/json.md."""

    def __init__(self) -> None:
        self._node = ""
        self._encode = msgspec.json.Encoder().encode
        self._on_terminal = sys.stdout.isatty()

    def show(self, record: Record) -> None:
        if record.type == "start":
            self._node = record.data["node"]
        if record.type == "stderr":
            note(record.data)
            return
        texts = record.data if record.type == "printf" and isinstance(record.data, list) else None
        for data in [record.data] if texts is None else texts:
            line: dict[str, Any] = {
                "time": timestamp(record.time),
                "node": self._node,
                "type": record.type,
                "data": data,
            }
            encoded = self._encode(line)
            if self._on_terminal:
                encoded = escape_json(encoded.decode()).encode()
            sys.stdout.buffer.write(encoded + b"\n")

    def flush(self) -> None:
        sys.stdout.buffer.flush()


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
