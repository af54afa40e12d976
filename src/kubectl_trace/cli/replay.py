"""`kubectl trace replay`: a saved session again, in any view, without a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_trace.cli.arguments import complain, verb_parser, view_flags
from kubectl_trace.errors import Exit

if TYPE_CHECKING:
    import argparse

    from kubectl_trace.cli.arguments import Parser
    from kubectl_trace.errors import TraceError

_EXAMPLES = """\
  # what `run --save nginx.session` has kept, as it was shown
  kubectl trace replay nginx.session
  # the same by node, for a program
  kubectl trace replay nginx.session --by node -o json
"""


def parser() -> Parser:
    """The verb's command line."""
    result = verb_parser(
        "replay",
        "Show a session that `run --save FILE` has kept: its results anew, in any format, merged or\n"
        "by node, pod or container. It needs no cluster.",
        _EXAMPLES,
        "FILE [-o FORMAT] [--by WHAT] [--timestamps]",
        connection=False,
    )
    result.add_argument("file", metavar="FILE", help="the saved session")
    result.add_argument("--timestamps", action="store_true", help="the time before each line")
    view_flags(result)
    return result


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb: the exit code is the trace's own."""
    from contextlib import closing

    from kubectl_trace.cli.printer import printer
    from kubectl_trace.cli.report import Report
    from kubectl_trace.cli.view import View
    from kubectl_trace.results import session
    from kubectl_trace.results.events import Finished

    header, events = session.read(arguments.file)
    report = Report(quiet=True)
    report.say(f"trace {header.trace} of {header.target}, {header.created}")
    shows = printer(arguments.output, report, by=arguments.by, timestamps=arguments.timestamps)
    view = View(shows, report, by=arguments.by)
    error: TraceError | None = None
    with closing(events), closing(view):
        for event in events:
            # Nothing is late: what came is all there, and is joined however long it took.
            view.take(event, 0)
            if isinstance(event, Finished):
                error = event.error
        code = view.finish().exit
    if error is not None:
        complain(str(error))
    return code or int(error.code if error is not None else Exit.DONE)
