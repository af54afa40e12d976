"""`kubectl trace logs`: what a trace has put out, also after its end and after a failure."""

from __future__ import annotations

from queue import Queue
from typing import TYPE_CHECKING

from kubectl_trace.cli.arguments import complain, note, verb_parser
from kubectl_trace.errors import Exit, NotFoundError, TraceError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from kubectl_trace.cli.arguments import Parser
    from kubectl_trace.cli.printer import Printer
    from kubectl_trace.kube.client import Client
    from kubectl_trace.kube.traces import Found
    from kubectl_trace.results.record import Record

_START_TIMEOUT = 86400.0
"""Seconds: whoever follows the log of a trace that waits, waits with it."""

_QUEUED = 64  # pieces of the log that may wait for the terminal

_EXAMPLES = """\
  # all that a trace has put out
  kubectl trace logs 83863f22-5178-4fe2-9da5-4e27eabab354
  # and what it will, until it ends; Ctrl-C only ends the reading
  kubectl trace logs -f --timestamps 83863f22-5178-4fe2-9da5-4e27eabab354
"""


def parser() -> Parser:
    """The verb's command line."""
    result = verb_parser(
        "logs",
        "Print what a trace has put out, from its first record on: while it runs, after its end,\n"
        "and when it failed.",
        _EXAMPLES,
        "TRACE [-f] [--timestamps] [flags]",
    )
    result.add_argument("trace", metavar="TRACE", help="a trace's ID or name")
    result.add_argument("-f", "--follow", action="store_true", help="read on until the trace ends")
    result.add_argument("--timestamps", action="store_true", help="the time before each line")
    result.add_argument("-o", "--output", default="text", choices=["text", "json"])
    return result


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb."""
    from kubectl_trace.cli.cluster import Cluster
    from kubectl_trace.cli.printer import printer
    from kubectl_trace.kube import traces
    from kubectl_trace.kube.stream import init_log

    with Cluster(arguments) as cluster:
        found = traces.find(cluster.client, cluster.namespace, arguments.trace)
        if found.pod is not None and (said := init_log(cluster.client, found.pod)):
            note(said)
        shown = printer(arguments.output, timestamps=arguments.timestamps)
        try:
            if arguments.follow:
                return _follow(cluster.client, found, shown)
            return _show(cluster.client, found, shown)
        except KeyboardInterrupt:
            return Exit.DONE


def _follow(client: Client, found: Found, shown: Printer) -> int:
    """Reads on until the trace ends, also through breaks, without holding it."""
    from kubectl_trace.kube.stream import TraceStream
    from kubectl_trace.results.events import Ended, Event, Notice, Records

    stream = TraceStream(client, found.namespace, found.id, timeout=_START_TIMEOUT, owned=False)
    events: Queue[Event] = Queue(maxsize=_QUEUED)
    stream.start(events.put)
    while True:
        event = events.get()
        if isinstance(event, Records):
            _print(event.records, shown)
        elif isinstance(event, Notice):
            note(event.text)
        elif isinstance(event, Ended):
            if event.error is not None:
                raise event.error
            _tell_lost(stream.lost_in_transport)
            return Exit.DONE


def _show(client: Client, found: Found, shown: Printer) -> int:
    """What is there now."""
    from kubectl_trace.kube import job as jobs
    from kubectl_trace.kube import traces
    from kubectl_trace.results.reader import RecordReader

    status = traces.status(found)
    if found.pod is None:
        raise NotFoundError(f"trace {found.id} has no pod, and so no log: {status}")
    if status.phase == "Pending":
        note(": ".join(filter(None, (str(status), status.message))))
        return Exit.DONE
    reader = RecordReader()
    path = f"/api/v1/namespaces/{found.namespace}/pods/{found.pod['metadata']['name']}/log"
    try:
        with client.stream(path, {"container": jobs.CONTAINER}) as stream:
            for data in stream:
                _print(reader.feed(data), shown)
    except TraceError as error:
        if status.phase != "Failed":
            raise
        complain(f"no log: {error}")
    _tell_lost(reader.lost)
    if status.phase in ("Completed", "Failed") and not reader.ended:
        complain(": ".join(filter(None, (str(status), status.message, "the log has no summary"))))
        return Exit.FAILED
    return Exit.DONE


def _print(records: Iterable[Record], shown: Printer) -> None:
    for record in records:
        shown.show(record)
        if record.type == "summary" and record.data["message"]:
            complain(record.data["message"])
    shown.flush()


def _tell_lost(count: int) -> None:
    if count:
        note(f"{count} records are no longer in the node's log (it was rotated)")
