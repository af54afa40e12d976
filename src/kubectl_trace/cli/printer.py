"""Results to stdout, in the format that the user chose; what is about the run goes to stderr."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from kubectl_trace.cli.arguments import note
from kubectl_trace.results.dialect import Output
from kubectl_trace.results.record import MAPS
from kubectl_trace.results.terminal import escape, escape_json
from kubectl_trace.results.timestamp import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_trace.cli.report import Report
    from kubectl_trace.results.account import Account
    from kubectl_trace.results.result import Result


class Printer(Protocol):
    """Shows results as they come."""

    def show(self, result: Result) -> None:
        """Shows one result, perhaps only at the next flush."""
        ...

    def flush(self) -> None:
        """Makes all that was shown visible.

        Raises:
            BrokenPipeError: nobody reads stdout any more.
        """
        ...

    def close(self, account: Account | None) -> None:
        """Nothing else will come; the account, if it came to that."""
        ...


def printer(
    output_format: str,
    report: Report,
    *,
    by: str = "",
    several: bool = False,
    timestamps: bool = False,
    stop: Callable[[], None] | None = None,
) -> Printer:
    """The printer for an output format.

    Args:
        output_format: One of `arguments.FORMATS`, or `watch`.
        report: Where everything about the run is said.
        by: `node`, `pod` or `container`: how maps are split.
        several: Results may be of several nodes or containers.
        timestamps: Text has the time before each line.
        stop: What ends the trace, for a live view.
    """
    if output_format == "json":
        return _JsonPrinter()
    if output_format == "yaml":
        return _YamlPrinter(report)
    if output_format == "csv":
        from kubectl_trace.results.rows import RowsPrinter

        return _Reporting(RowsPrinter(), report)
    if output_format == "folded":
        from kubectl_trace.results.folded import FoldedPrinter

        return _Reporting(FoldedPrinter(note, by=by), report)
    text = _Reporting(_TextPrinter(several=several, timestamps=timestamps), report)
    if output_format == "watch":
        from kubectl_trace.cli.live import LivePrinter

        assert stop is not None
        return LivePrinter(stop=stop, last=text)
    return text


class _Reporting:
    """What is about the run to the report, everything else to a printer."""

    def __init__(self, inner: Printer, report: Report) -> None:
        self._inner = inner
        self._report = report

    def show(self, result: Result) -> None:
        if result.type == "start":
            self._inner.show(result)
        if not self._report.shows(result):
            self._inner.show(result)

    def flush(self) -> None:
        self._inner.flush()

    def close(self, account: Account | None) -> None:
        self._inner.close(account)


class _TextPrinter:
    """What bpftrace itself would print."""

    def __init__(self, *, several: bool, timestamps: bool) -> None:
        from kubectl_trace.results.text import render

        self._render = render
        self._on_terminal = sys.stdout.isatty()
        self._begins_line = True
        self._timestamps = timestamps
        self._several = several
        self._nodes: set[str] = set()
        self._namespaces: set[str] = set()
        self._texts: list[str] = []

    def show(self, result: Result) -> None:
        if result.type == "start":
            self._learn(result)
        elif result.type == "program":
            self._write(explained(result.data), result)
        elif result.type == "call":
            self._write_call(result)
        elif result.type == "printf":
            data = result.data
            self._write(data if isinstance(data, str) else "".join(data), result)
        else:
            self._write(self._render(Output(result.type, result.data)), result)

    def flush(self) -> None:
        # Few writes, also where Python's own buffer is off.
        texts, self._texts = "".join(self._texts), []
        sys.stdout.write(texts)
        sys.stdout.flush()

    def close(self, account: Account | None) -> None:
        self.flush()

    def _learn(self, start: Result) -> None:
        containers = start.data.get("containers", ())
        self._nodes.add(start.node)
        self._namespaces |= {member["namespace"] for member in containers}
        self._several = self._several or len(containers) > 1 or len(self._nodes) > 1

    def _write(self, text: str, result: Result) -> None:
        """Writes a text with time and place before each line that begins in it and isn't blank."""
        prefix = self._place(result) if self._several else ""
        if self._timestamps:
            prefix += timestamp(result.time) + " "
        if prefix:
            parts: list[str] = []
            for line in re.findall(r"[^\n]*\n|[^\n]+", text):
                parts += [prefix, line] if self._begins_line and line.strip() else [line]
                self._begins_line = line.endswith("\n")
            text = "".join(parts)
        self._texts.append(escape(text) if self._on_terminal else text)

    def _write_call(self, result: Result) -> None:
        from kubectl_trace.results.call import Call, line

        try:
            call = msgspec.convert(result.data, Call)
        except msgspec.ValidationError:  # something that the traced program printed
            self._write(f"{result.data}\n", result)
            return
        who = f"{call.pid}/{call.tid} " if call.pid else ""
        pod = f"{result.pod} " if result.pod and not self._several else ""
        prefix = self._place(result) if self._several else ""
        moment = timestamp(call.time)
        text = f"{moment} {prefix}{pod}{who}{line(call)}\n"
        self._texts.append(escape(text) if self._on_terminal else text)

    def _place(self, result: Result) -> str:
        if result.pod:
            namespace = result.namespace if len(self._namespaces) > 1 else ""
            parts = ("pod", namespace, result.pod, result.container)
            return f"[{'/'.join(filter(None, parts))}] "
        return f"[node/{result.node}] " if result.node else ""


_PLACE = "data"


class _JsonPrinter:
    """One JSON object a line; docs/json.md."""

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder().encode
        self._on_terminal = sys.stdout.isatty()
        self._lines: list[bytes] = []

    def show(self, result: Result) -> None:
        if result.type == "stderr":
            note(f"{result.node}: {result.data}" if result.node else result.data)
            return
        if result.type == "printf" and isinstance(result.data, list):
            self._write_each(result, result.data)
        else:
            self._write(as_line(result, result.data))

    def flush(self) -> None:
        # Few writes, also where Python's own buffer is off.
        lines, self._lines = b"".join(self._lines), []
        sys.stdout.buffer.write(lines)
        sys.stdout.buffer.flush()

    def close(self, account: Account | None) -> None:
        if account is not None:
            import time

            line = {"time": timestamp(time.time()), "type": "account", "data": account.as_data()}
            self._write(line)
        self.flush()

    def _write(self, line: dict[str, Any]) -> None:
        self._add(self._encode(line))

    def _write_each(self, result: Result, texts: list[Any]) -> None:
        """A line for each text: what they have in common is encoded once."""
        head, _, tail = self._encode(as_line(result, _PLACE)).rpartition(self._encode(_PLACE))
        for text in texts:
            self._add(head + self._encode(text) + tail)

    def _add(self, encoded: bytes) -> None:
        if self._on_terminal:
            encoded = escape_json(encoded.decode()).encode()
        self._lines += (encoded, b"\n")


class _YamlPrinter:
    """The account, and the maps as they were last, as one YAML document at the end."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._maps: dict[tuple[str, ...], dict[str, Any]] = {}

    def show(self, result: Result) -> None:
        if self._report.shows(result) or result.type not in MAPS:
            return
        if not isinstance(result.data, dict):
            return  # of a runner that does not say whose they are
        line = as_line(result, result.data)
        for name in result.data:
            place = (name, result.node, result.namespace, result.pod, result.container)
            self._maps[place] = line

    def flush(self) -> None:
        """Everything comes at the end."""

    def close(self, account: Account | None) -> None:
        if account is None:
            return
        import yaml

        document = {**account.as_data(), "maps": list(self._maps.values())}
        # On a terminal nothing is to be but ASCII: what isn't printable is escaped in any case.
        plain = not sys.stdout.isatty()
        yaml.safe_dump(document, sys.stdout, sort_keys=False, allow_unicode=plain)
        sys.stdout.flush()


def as_line(result: Result, data: Any) -> dict[str, Any]:
    """A result as a JSON object: only the fields that say something."""
    line: dict[str, Any] = {"time": timestamp(result.time)}
    if result.node:
        line["node"] = result.node
    if result.pod:
        line["namespace"] = result.namespace
        line["pod"] = result.pod
        if result.container:
            line["container"] = result.container
    if result.missing:
        line["missing"] = result.missing
    return line | {"type": result.type, "data": data}


def explained(program: Any) -> str:
    """A program as it would run, with the reasons before it, as comments."""
    reasons = "".join(
        f"// {change['line']}:{change['column']}: {change['reason']}\n"
        for change in program["changes"]
    )
    head = f"// Changed, by line and column of your program:\n{reasons}" if reasons else ""
    return f"{head or '// Runs as it is.'}\n{program['text'].rstrip()}\n"
