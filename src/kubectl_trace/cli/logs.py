"""`kubectl trace logs`: what a trace has put out, also after its end and after a failure."""

from __future__ import annotations

import time
from queue import Empty, Queue
from typing import TYPE_CHECKING

from kubectl_trace.cli.arguments import complain, note, verb_parser, view_flags
from kubectl_trace.errors import Exit, NotFoundError, TraceError

if TYPE_CHECKING:
    import argparse

    from kubectl_trace.cli.arguments import Parser
    from kubectl_trace.cli.view import View
    from kubectl_trace.kube.client import Client
    from kubectl_trace.kube.traces import Found, Part
    from kubectl_trace.results.events import Event

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
    view_flags(result)
    return result


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb."""
    from kubectl_trace.cli.cluster import Cluster

    with Cluster(arguments) as cluster:
        from kubectl_trace.cli.printer import printer
        from kubectl_trace.cli.report import Report
        from kubectl_trace.cli.view import View
        from kubectl_trace.kube import traces
        from kubectl_trace.kube.stream import init_log

        found = traces.find(cluster.client, cluster.namespace, arguments.trace)
        for part in found.parts:
            if part.pod is not None and (said := init_log(cluster.client, part.pod)):
                note(said)
        report = Report(len(found.parts), quiet=True)
        shows = printer(
            arguments.output,
            report,
            by=arguments.by,
            several=len(found.parts) > 1,
            timestamps=arguments.timestamps,
        )
        view = View(shows, report, by=arguments.by)
        now = time.monotonic() if arguments.follow else 0
        view.expect((part.node for part in found.parts), now)
        try:
            if arguments.follow:
                return _follow(cluster.client, found, view)
            return _show(cluster.client, found, view)
        except KeyboardInterrupt:
            return Exit.DONE


def _follow(client: Client, found: Found, view: View) -> int:
    """Reads on until the trace ends, also through breaks, without holding it."""
    from kubectl_trace.kube import traces
    from kubectl_trace.kube.fleet import Fleet
    from kubectl_trace.results.events import Finished

    fleet = Fleet(
        client,
        found.namespace,
        found.id,
        timeout=_START_TIMEOUT,
        longest=traces.longest(found),
        owned=False,
        begin=lambda fleet: fleet.follow(found.parts),
    )
    events: Queue[Event] = Queue(maxsize=_QUEUED)
    fleet.start(events.put)
    while True:
        try:
            event = events.get(timeout=view.wait(time.monotonic()))
        except Empty:
            view.tick(time.monotonic())
            continue
        if isinstance(event, Finished):
            if event.error is not None:
                raise event.error
            view.finish()
            return _code(view)
        view.take(event, time.monotonic())


def _show(client: Client, found: Found, view: View) -> int:
    """What is there now, of one node after the other: nothing is late then."""
    from kubectl_trace.kube import traces

    status = traces.status(found)
    if all(part.pod is None for part in found.parts):
        raise NotFoundError(f"trace {found.id} has no pod, and so no log: {status}")
    if status.phase == "Pending":
        note(": ".join(filter(None, (str(status), status.message))))
        return Exit.DONE
    for part in found.parts:
        _read(client, part, view, single=len(found.parts) == 1)
    if len(view.ended) == len(found.parts):
        view.finish()
    else:
        view.stop()
    return _code(view)


def _code(view: View) -> Exit:
    """Whether all that there was could be read; the trace's own end is not ours."""
    lost = any(node.reason == "lost" for node in view.ended.values())
    return Exit.FAILED if lost else Exit.DONE


def _read(client: Client, part: Part, view: View, *, single: bool) -> None:
    """One runner's log, as far as it has come."""
    from kubectl_trace.kube import job as jobs
    from kubectl_trace.kube import traces
    from kubectl_trace.results.events import Ended, Records
    from kubectl_trace.results.reader import RecordReader

    status = traces.part_status(part)
    if part.pod is None or status.phase == "Pending":
        note(f"{part.node}: {': '.join(filter(None, (str(status), status.message)))}")
        return
    reader = RecordReader()
    metadata = part.pod["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log"
    try:
        with client.stream(path, {"container": jobs.CONTAINER}) as stream:
            for data in stream:
                if records := reader.feed(data):
                    view.take(Records(part.node, records), 0)
    except TraceError as error:
        if single and status.phase != "Failed":
            raise
        complain(f"{part.node}: no log: {error}")
        if status.phase == "Running":
            view.take(Ended(part.node, reader.lost, error), 0)
            return
    if not reader.ended and traces.last_words(part.pod) is not None:
        reader.restart()
        view.take(Records(part.node, reader.feed(traces.last_line(part.pod))), 0)
        note(f"{part.node}: the node could not write its log to the end")
    elif reader.lost:
        note(f"{reader.lost} records are no longer in the node's log (it was rotated)")
    if reader.ended:
        view.take(Ended(part.node, reader.lost), 0)
    elif status.phase in ("Completed", "Failed"):
        said = ": ".join(filter(None, (str(status), status.message, "the log has no summary")))
        view.take(Ended(part.node, reader.lost, TraceError(said)), 0)
