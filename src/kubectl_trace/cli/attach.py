"""`kubectl trace attach`: follow a trace that runs already."""

from __future__ import annotations

import time

from kubectl_trace.cli.arguments import duration, verb_parser, view_flags

TYPE_CHECKING = False  # typing is imported once kubectl has been started
if TYPE_CHECKING:
    import argparse

    from kubectl_trace.cli.arguments import Parser

_EXAMPLES = """\
  # read a trace from its first line on; Ctrl-C stops it and prints its maps
  kubectl trace attach 83863f22-5178-4fe2-9da5-4e27eabab354
"""


def parser() -> Parser:
    """The verb's command line."""
    result = verb_parser(
        "attach",
        "Follow a trace from its first record to its end. Ctrl-C stops the trace and prints its\n"
        "maps; a client that is killed leaves it running, unless `run -a` started it.",
        _EXAMPLES,
        "TRACE [flags]",
    )
    result.add_argument("trace", metavar="TRACE", help="a trace's ID or name")
    view_flags(result)
    result.add_argument("--strict", action="store_true", help="exit code 8 if anything was lost")
    result.add_argument(
        "--timeout", type=duration, default=120.0, metavar="TIME", help="wait for the start (2m)"
    )
    return result


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb."""
    from kubectl_trace.cli.cluster import Cluster

    with Cluster(arguments) as cluster:
        from kubectl_trace.cli.follow import Interrupts, follow
        from kubectl_trace.cli.printer import printer
        from kubectl_trace.cli.report import Report
        from kubectl_trace.cli.view import View
        from kubectl_trace.kube import traces
        from kubectl_trace.kube.fleet import Fleet

        found = traces.find(cluster.client, cluster.namespace, arguments.trace)
        fleet = Fleet(
            cluster.client,
            found.namespace,
            found.id,
            timeout=arguments.timeout,
            longest=traces.longest(found),
            owned=False,
            begin=lambda fleet: fleet.follow(found.parts),
        )
        report = Report(len(found.parts))
        with Interrupts(owned=False) as interrupts:
            shows = printer(arguments.output, report, by=arguments.by, several=len(found.parts) > 1)
            view = View(shows, report, by=arguments.by, strict=arguments.strict)
            view.expect((part.node for part in found.parts), time.monotonic())
            return follow(fleet, view, interrupts, grace=traces.grace(found))
