"""`kubectl trace stop`: SIGINT to the program, its maps collected, its objects kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kubectl_trace.cli.arguments import complain, note, verb_parser
from kubectl_trace.errors import Exit, TraceError

if TYPE_CHECKING:
    import argparse

    from kubectl_trace.cli.arguments import Parser
    from kubectl_trace.cli.cluster import Cluster
    from kubectl_trace.kube.control import ControlChannel
    from kubectl_trace.kube.traces import Found, Part

_SETTLING = 3.0  # seconds that a runner that is just starting gets to be told to stop
_LOOK_AGAIN = 0.1

_EXAMPLES = """\
  # stop a trace; its maps are in its log then
  kubectl trace stop 83863f22-5178-4fe2-9da5-4e27eabab354
  kubectl trace logs 83863f22-5178-4fe2-9da5-4e27eabab354
"""


def parser() -> Parser:
    """The verb's command line."""
    result = verb_parser(
        "stop",
        "Stop traces: each program ends as by Ctrl-C and its maps go to its log, which stays.\n"
        "The command returns when the maps are there.",
        _EXAMPLES,
        "TRACE... [flags]",
    )
    result.add_argument("traces", metavar="TRACE", nargs="+", help="a trace's ID or name")
    return result


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb."""
    from kubectl_trace.cli.cluster import Cluster

    code = int(Exit.DONE)
    with Cluster(arguments) as cluster:
        for text in arguments.traces:
            try:
                print(f"trace {_stop(cluster, text)}")
            except TraceError as error:
                complain(str(error))
                code = code or int(error.code)
    return code


def _stop(cluster: Cluster, text: str) -> str:
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import ExitStack

    from kubectl_trace.kube import traces
    from kubectl_trace.kube.fleet import AT_ONCE

    found = _known(cluster, text)
    phase = traces.status(found).phase
    if phase in ("Completed", "Failed"):
        return f"{found.id} has ended already ({phase})"
    if phase == "Terminating":
        traces.wait_for_end(cluster.client, found)
        return f"{found.id} was being deleted"
    running = [part for part in found.parts if traces.part_status(part).phase == "Running"]
    if not running:
        traces.delete(cluster.client, found, now=True)
        return f"{found.id} had not started; deleted"
    for part in found.parts:
        if traces.part_status(part).phase == "Pending":
            traces.delete_job(cluster.client, found.namespace, part.name, now=True)
            note(f"{part.node}: had not started; deleted")
    errors: list[str] = []
    with ThreadPoolExecutor(AT_ONCE) as pool, ExitStack() as stack:

        def tell(part: Part) -> None:
            try:
                stack.callback(_told(cluster, part).close)
            except TraceError as error:
                if len(running) == 1:
                    raise
                errors.append(f"{part.node}: {error}")

        list(pool.map(tell, running))
        traces.wait_for_end(cluster.client, found)
    if errors:
        raise TraceError(f"trace {found.id} is not stopped on all nodes: {'; '.join(errors)}")
    return f"{found.id} stopped"


def _known(cluster: Cluster, text: str) -> Found:
    """The trace as it is once it is known what runs of it, or after a while."""
    from kubectl_trace.kube import traces

    end = time.monotonic() + _SETTLING
    while True:
        found = traces.find(cluster.client, cluster.namespace, text)
        if not any(map(traces.is_starting, found.parts)) or time.monotonic() > end:
            return found
        time.sleep(_LOOK_AGAIN)


def _told(cluster: Cluster, part: Part) -> ControlChannel:
    """A runner told to stop; the channel stays open until it has ended."""
    from kubectl_trace.kube.control import ControlChannel
    from kubectl_trace.trace import Stop

    assert part.pod is not None
    metadata = part.pod["metadata"]
    channel = ControlChannel(cluster.client, metadata["namespace"], metadata["name"])
    channel.send(Stop())
    return channel
