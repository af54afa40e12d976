"""`kubectl trace logs`: what a trace has put out, also after its end and after a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kubectl_trace.cli.arguments import complain, note, verb_parser
from kubectl_trace.errors import Exit, NotFoundError

if TYPE_CHECKING:
    import argparse

    from kubectl_trace.cli.arguments import Parser
    from kubectl_trace.kube.client import Client
    from kubectl_trace.kube.traces import Found

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
    from kubectl_trace.kube import traces

    with Cluster(arguments) as cluster:
        found = traces.find(cluster.client, cluster.namespace, arguments.trace)
        if found.pod is None:
            raise NotFoundError(
                f"trace {found.id} has no pod, and so no log: {traces.status(found)}"
            )
        try:
            return _show(arguments, cluster.client, found)
        except KeyboardInterrupt:
            return Exit.DONE


def _show(arguments: argparse.Namespace, client: Client, found: Found) -> int:
    from kubectl_trace.cli.printer import printer
    from kubectl_trace.kube import job as jobs
    from kubectl_trace.kube import traces
    from kubectl_trace.kube.stream import init_log
    from kubectl_trace.results.reader import RecordReader
    from kubectl_trace.results.record import Summary

    assert found.pod is not None
    if said := init_log(client, found.pod):
        note(said)
    status = traces.pod_status(found.pod)
    if status.phase == "Pending" and not arguments.follow:
        note(": ".join(filter(None, (str(status), status.message))))
        return Exit.DONE
    shown = printer(arguments.output, timestamps=arguments.timestamps)
    reader = RecordReader()
    path = f"/api/v1/namespaces/{found.namespace}/pods/{found.pod['metadata']['name']}/log"
    query = {"container": jobs.CONTAINER, "follow": str(arguments.follow).lower()}
    with client.stream(path, query) as stream:
        for data in stream:
            for record in reader.feed(data):
                shown.show(record)
                if record.type == "summary":
                    summary = msgspec.convert(record.data, Summary)
                    if summary.message:
                        complain(summary.message)
            shown.flush()
    if reader.lost:
        note(f"{reader.lost} records are no longer in the node's log (it was rotated)")
    if status.phase == "Failed" and not reader.ended:
        note(": ".join(filter(None, (str(status), status.message))))
    return Exit.DONE
