"""`kubectl trace get`: traces, and what state they are in."""

from __future__ import annotations

import contextlib
import sys

from kubectl_trace.cli.arguments import complain, note, verb_parser
from kubectl_trace.errors import Exit, TraceError, UsageError

TYPE_CHECKING = False  # typing is imported once kubectl has been started
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from typing import Any

    from kubectl_trace.cli.arguments import Parser
    from kubectl_trace.cli.cluster import Cluster
    from kubectl_trace.kube.traces import Found, Part

_EXAMPLES = """\
  # the traces of the namespace; of all namespaces
  kubectl trace get
  kubectl trace get -A
  # only the IDs, say for `kubectl trace delete`
  kubectl trace get -o name
  # a line at each change
  kubectl trace get -w
"""

_FORMATS = ("table", "wide", "json", "yaml", "name")
_COLUMNS = ("NAMESPACE", "NODE", "NAME", "TARGET", "TRACER", "STATUS", "OWNER", "AGE")
_WIDE = ("POD", "IMAGE", "PROGRAM", "REASON")
_MOST = 60  # characters of a cell that others may have written


def parser() -> Parser:
    """The verb's command line."""
    result = verb_parser(
        "get",
        "List traces: where they run, what they trace, and their state with its reason.",
        _EXAMPLES,
        "[TRACE...] [-A] [-w] [-o FORMAT] [flags]",
    )
    result.add_argument("traces", metavar="TRACE", nargs="*", help="a trace's ID or name")
    result.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")
    result.add_argument("-w", "--watch", action="store_true", help="go on with a line each change")
    result.add_argument("-o", "--output", default="table", choices=_FORMATS)
    result.add_argument("--no-headers", action="store_true", help="leave the table's head away")
    return result


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb."""
    from kubectl_trace.cli.cluster import Cluster

    if arguments.watch and arguments.output in ("json", "yaml"):
        raise UsageError(f"-w and -o {arguments.output} do not go together")
    with Cluster(arguments) as cluster:
        code, found = _found(arguments, cluster)
        if not found and not arguments.watch:
            if arguments.traces:
                return code
            if arguments.output in ("table", "wide"):
                where = "" if arguments.all_namespaces else f" in {cluster.namespace} namespace"
                note(f"No resources found{where}.")
                return code
        _print(arguments, found, head=not arguments.no_headers)
        if arguments.watch:
            with contextlib.suppress(KeyboardInterrupt):
                _watch(arguments, cluster, found)
    return code


def _found(arguments: argparse.Namespace, cluster: Cluster) -> tuple[int, list[Found]]:
    from kubectl_trace.kube import traces

    namespace = "" if arguments.all_namespaces else cluster.namespace
    if not arguments.traces:
        return Exit.DONE, traces.every(cluster.client, namespace)
    code, result = int(Exit.DONE), []
    for text in arguments.traces:
        try:
            result.append(traces.find(cluster.client, namespace, text))
        except TraceError as error:
            complain(str(error))
            code = code or int(error.code)
    return code, result


def _watch(arguments: argparse.Namespace, cluster: Cluster, shown: Iterable[Found]) -> None:
    """Prints a line for each trace whose state changes, until Ctrl-C."""
    from kubectl_trace.kube import traces
    from kubectl_trace.kube.job import id_of

    wanted = {id_of(text) for text in arguments.traces}
    states = {found.id: str(traces.status(found)) for found in shown}
    namespace = "" if arguments.all_namespaces else cluster.namespace
    for found in traces.changes(cluster.client, namespace):
        state = str(traces.status(found))
        if (not wanted or found.id in wanted) and states.get(found.id) != state:
            states[found.id] = state
            _print(arguments, [found], head=False)
            sys.stdout.flush()


def _print(arguments: argparse.Namespace, found: Sequence[Found], *, head: bool) -> None:
    if arguments.output == "name":
        for each in found:
            print(each.id)
    elif arguments.output in ("json", "yaml"):
        _print_objects(arguments, found)
    else:
        wide = arguments.output == "wide"
        columns = _COLUMNS + (_WIDE if wide else ())
        # Whoever may create Jobs writes their annotations.
        rows = [[_one_line(row[column]) for column in columns] for row in map(_row, found)]
        print(_table([list(columns), *rows] if head else rows), end="")
    sys.stdout.flush()


def _one_line(cell: str) -> str:
    from kubectl_trace.results.terminal import escape

    return escape(cell.replace("\n", "\\n").replace("\t", "\\t"))


def _print_objects(arguments: argparse.Namespace, found: Sequence[Found]) -> None:
    items = [_summary(each) for each in found]
    listed: Any = items[0] if len(arguments.traces) == 1 and items else {"items": items}
    if arguments.output == "yaml":
        import yaml

        print(yaml.safe_dump(listed, sort_keys=False), end="")
    else:
        import msgspec

        from kubectl_trace.results.terminal import escape_json

        text = msgspec.json.format(msgspec.json.encode(listed), indent=4).decode()
        print(escape_json(text) if sys.stdout.isatty() else text)


def _row(found: Found) -> dict[str, str]:
    from datetime import UTC, datetime

    from kubectl_trace.kube import audit

    summary = _summary(found)
    return {
        "NAMESPACE": summary["namespace"],
        "NODE": summary["node"] if len(found.parts) < 3 else f"{len(found.parts)} nodes",
        "NAME": summary["name"],
        "TARGET": summary["target"],
        "TRACER": summary["tracer"],
        "STATUS": summary["status"]["reason"] or summary["status"]["phase"],
        "OWNER": audit.bounded(summary["owner"], _MOST),
        "AGE": age(summary["created"], datetime.now(UTC)),
        "POD": summary["pod"],
        "IMAGE": summary["image"],
        "PROGRAM": summary["programSHA256"][:12],
        "REASON": audit.bounded(summary["reason"], _MOST),
    }


def _summary(found: Found) -> dict[str, Any]:
    """A trace as `-o json` shows it."""
    from kubectl_trace.kube import audit, traces
    from kubectl_trace.kube import job as jobs

    status = traces.status(found)
    first = found.parts[0]
    spec = first.job["spec"]["template"]["spec"]
    return {
        "id": found.id,
        "name": found.name,
        "namespace": found.namespace,
        "node": ",".join(part.node for part in found.parts),
        "target": first.annotation(jobs.ANNOTATION_TARGET),
        "tracer": first.annotation(jobs.ANNOTATION_TRACER),
        "owner": first.annotation(jobs.ANNOTATION_OWNER),
        "reason": audit.bounded(first.annotation(jobs.ANNOTATION_REASON), audit.MOST_OF_REASON),
        "created": found.created,
        "status": {
            "phase": status.phase,
            "reason": status.reason,
            "message": status.message,
        },
        "pod": ",".join(part.pod["metadata"]["name"] for part in found.parts if part.pod),
        "image": spec["containers"][0]["image"],
        "program": audit.bounded(first.annotation(jobs.ANNOTATION_PROGRAM), audit.MOST_OF_PROGRAM),
        "programSHA256": first.annotation(jobs.ANNOTATION_PROGRAM_HASH),
        "nodes": [_part(part) for part in found.parts],
    }


def _part(part: Part) -> dict[str, Any]:
    """A trace on one node as `-o json` shows it."""
    from kubectl_trace.kube import traces

    status = traces.part_status(part)
    return {
        "node": part.node,
        "job": part.name,
        "pod": part.pod["metadata"]["name"] if part.pod else "",
        "status": {"phase": status.phase, "reason": status.reason, "message": status.message},
    }


def age(created: str, now: datetime) -> str:
    """The time since an RFC 3339 moment as kubectl writes ages: `45s`, `3m20s`, `5h`, `12d`."""
    from datetime import datetime

    seconds = max(0, int((now - datetime.fromisoformat(created)).total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    return f"{hours}h" if hours < 48 else f"{days}d"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns three spaces apart, as kubectl's."""
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        + "\n"
        for row in rows
    )
