"""`kubectl trace functions`: what can be traced in the target's processes."""

from __future__ import annotations

import sys
from collections import Counter

from kubectl_trace.cli import tracing
from kubectl_trace.cli.arguments import duration, note, verb_parser
from kubectl_trace.errors import UsageError

TYPE_CHECKING = False  # typing is imported once kubectl has been started
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from kubectl_trace.cli.arguments import Parser
    from kubectl_trace.cli.cluster import Cluster
    from kubectl_trace.cli.printer import Printer
    from kubectl_trace.functions.runtimes import Runtime, Wanted
    from kubectl_trace.kube.targets import Targets
    from kubectl_trace.results.account import Account
    from kubectl_trace.results.result import Result
    from kubectl_trace.trace import Functions

_EXAMPLES = """\
  # the functions of nginx whose names begin so
  kubectl trace functions pod/nginx-0 'ngx_http_*'
  # with signatures, sizes and the number of places they return at
  kubectl trace functions pod/nginx-0 ngx_unix_recv -o wide
  # of Python, PHP, Java and Ruby: the functions that are called just now, by their own names
  kubectl trace functions pod/runtimes -c php 'php:*'
  # of a library that it uses, by a regular expression, for a program
  kubectl trace functions pod/nginx-0 --lib libc.so.6 '/^(send|recv)/' -o json
"""
_WIDEST = 120
"""Characters of a column: a longer text stands out of it."""


def parser() -> Parser:
    """The verb's command line."""
    result = verb_parser(
        "functions",
        "List the functions and USDT probes of the target's processes: from symbol tables, debug\n"
        "information and Go's own tables, stripped or not. A PATTERN may have wildcards, or be a\n"
        "/regular expression/; without one all are listed. `kubectl trace calls` traces them.",
        _EXAMPLES,
        "TARGET [PATTERN...] [flags]",
    )
    add = result.add_argument
    add(
        "targets",
        metavar="TARGET",
        nargs="?",
        help="a pod or workload, or local/PID; docs/targets.md",
    )
    add("functions", metavar="PATTERN", nargs="*", help="which functions; all without one")
    add(
        "--lib",
        action="append",
        default=[],
        metavar="FILE",
        help="a library instead of the program",
    )
    add("--debuginfod", default="", metavar="URL", help="a server of debug information")
    add("-o", "--output", default="text", choices=["text", "wide", "json"], help="how to list")
    add(
        "--observe",
        type=duration,
        default=3.0,
        metavar="TIME",
        help="how long to watch for a runtime's functions, such as python:* (3s)",
    )
    tracing.target_flags(result, nodes=False)
    tracing.running_flags(result)
    tracing.object_flags(result)
    result.add_argument("-q", "--quiet", action="store_true", help="no progress while starting")
    result.set_defaults(by="", watch=False, save="", strict=False)
    return result


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb."""
    from kubectl_trace.cli.calls import split_target

    split_target(arguments)
    with tracing.connection(arguments) as cluster:
        return _run(arguments, cluster)


def _run(arguments: argparse.Namespace, cluster: Cluster | None) -> int:
    import msgspec

    from kubectl_trace.functions import patterns, runtimes
    from kubectl_trace.trace import Functions

    try:
        of_runtimes = [runtimes.parse(text) for text in arguments.functions]
        for text in arguments.functions:
            patterns.parse(text)
    except patterns.PatternError as error:
        raise UsageError(str(error)) from error
    if any(of_runtimes) and not all(of_runtimes):
        raise UsageError("functions of a runtime (python:NAME) are listed by themselves")
    targets = tracing.targets(arguments)
    if not targets.has_scope:
        raise UsageError(f"{targets} has no process to look into: name a pod or local/PID")
    tracing.check(arguments, targets)
    wanted = Functions(tuple(arguments.functions), tuple(arguments.lib), arguments.debuginfod)
    if any(of_runtimes):
        parsed = [each for each in of_runtimes if each]
        return _observe(arguments, cluster, targets, wanted, parsed)
    trace = msgspec.structs.replace(
        tracing.trace(arguments, targets, scope=True, attached=True), listing=wanted
    )
    listing = _json if arguments.output == "json" else _table
    is_wide = arguments.output == "wide"
    arguments.output = "text"
    return tracing.begin(
        *(arguments, cluster, targets, trace),
        lambda inner, stop: _Listing(listing, is_wide=is_wide),
    )


def _observe(
    arguments: argparse.Namespace,
    cluster: Cluster | None,
    targets: Targets,
    wanted: Functions,
    parsed: list[Wanted],
) -> int:
    """A runtime's functions are known by being called: lists those of some seconds."""
    import msgspec

    from kubectl_trace.trace import Calls

    if len({each.runtime.name for each in parsed}) > 1:
        raise UsageError("name the functions of one runtime at a time")
    listing = _json if arguments.output == "json" else _table
    arguments.output = "text"
    arguments.deadline = arguments.observe
    note(
        f"the functions that are called within {arguments.observe:g} s; --observe TIME watches longer"
    )
    trace = msgspec.structs.replace(
        tracing.trace(arguments, targets, scope=True, attached=True),
        calls=Calls(wanted, show="count"),
    )
    runtime = parsed[0].runtime
    return tracing.begin(
        *(arguments, cluster, targets, trace),
        lambda inner, stop: _Observed(inner, listing, runtime),
    )


class _Observed:
    """Lists the functions that were called, most called first."""

    def __init__(self, inner: Printer, show: Any, runtime: Runtime) -> None:
        self._inner = inner
        self._show = show
        self._runtime = runtime
        self._calls: Counter[str] = Counter()

    def show(self, result: Result) -> None:
        if result.type == "map" and "@calls" in result.data:
            from kubectl_trace.functions.runtimes import full_name

            for key, count in result.data["@calls"].items():
                owner, _, function = key.rpartition(",") if self._runtime.owner else ("", "", key)
                self._calls[full_name(self._runtime, owner, function)] += count
        else:
            self._inner.show(result)

    def flush(self) -> None:
        self._inner.flush()

    def close(self, account: Account | None) -> None:
        found = [
            {"name": name, "file": "-", "language": self._runtime.name, "signature": f"{n} calls"}
            for name, n in self._calls.most_common()
        ]
        self._calls.clear()
        if found:
            self._show(found, is_wide=False)
        self._inner.close(account)


class _Listing:
    """Collects the functions of all nodes, each once, and lists them at the end."""

    def __init__(self, show: Any, *, is_wide: bool) -> None:
        self._show = show
        self._is_wide = is_wide
        self._functions: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._closed = False

    def show(self, result: Result) -> None:
        if result.type == "functions":
            for each in result.data:
                key = (each["file"], each.get("offset", 0), each["name"])
                self._functions.setdefault(key, each)
        elif result.type == "stderr":
            note(result.data)

    def flush(self) -> None:
        """Everything comes at the end."""

    def close(self, account: Account | None) -> None:
        if not self._closed:
            self._closed = True
            self._show(list(self._functions.values()), is_wide=self._is_wide)


def _json(functions: list[dict[str, Any]], *, is_wide: bool) -> None:
    import msgspec

    from kubectl_trace.results.terminal import escape_json

    for each in functions:
        line = msgspec.json.encode(each).decode()
        print(escape_json(line) if sys.stdout.isatty() else line)


def _table(functions: list[dict[str, Any]], *, is_wide: bool) -> None:
    from kubectl_trace.results.call import printable
    from kubectl_trace.results.terminal import escape

    head = ["NAME", "FILE", "OFFSET", "LANGUAGE"]
    if is_wide:
        head += ["SIZE", "RETURNS"]
    head.append("SIGNATURE")
    rows = [head] if functions else []
    for each in functions:
        row = [
            each["name"],
            each["file"],
            f"{each['offset']:#x}" if "offset" in each else "-",
            each.get("language")
            or ("USDT" if each.get("kind") == "usdt" else each.get("kind", "-")),
        ]
        if is_wide:
            sites = each.get("return_sites")
            row += [str(each.get("size") or "-"), "-" if sites is None else str(sites)]
        rows.append([*row, each.get("signature") or "-"])
    layout = "   ".join([*(f"%-{width}s" for width in _widths(rows)), "%s"])
    is_terminal = sys.stdout.isatty()
    for row in rows:
        line = printable(layout % tuple(row)).rstrip()
        print(escape(line) if is_terminal else line)


def _widths(rows: list[list[str]]) -> list[int]:
    """Of all columns but the last: a few names of hundreds of characters make none wide."""
    columns = list(zip(*rows, strict=True))[:-1]
    return [max(len(cell) for cell in column if len(cell) <= _WIDEST) for column in columns]
