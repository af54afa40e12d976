"""`kubectl trace delete`: traces and all their objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_trace.cli.arguments import complain, note, verb_parser
from kubectl_trace.errors import Exit, TraceError, UsageError
from kubectl_trace.results.terminal import escape

if TYPE_CHECKING:
    import argparse

    from kubectl_trace.cli.arguments import Parser
    from kubectl_trace.cli.cluster import Cluster
    from kubectl_trace.kube.traces import Found

_EXAMPLES = """\
  # one trace; a running one detaches first
  kubectl trace delete 83863f22-5178-4fe2-9da5-4e27eabab354
  # every trace of every namespace, without waiting for them to detach
  kubectl trace delete --all -A --now
  # what clients and nodes that died at a bad moment have left, here and in the cluster
  kubectl trace delete --orphans -A
"""


def parser() -> Parser:
    """The verb's command line."""
    result = verb_parser(
        "delete",
        "Remove traces with their Jobs, pods and ConfigMaps. A running program ends as by Ctrl-C, but\n"
        "its maps go with its log: `kubectl trace stop` keeps them.",
        _EXAMPLES,
        "(TRACE... | --all [-A] | --orphans [-A]) [--now] [flags]",
    )
    result.add_argument("traces", metavar="TRACE", nargs="*", help="a trace's ID or name")
    result.add_argument("--all", action="store_true", help="every trace of the namespace")
    result.add_argument(
        "--orphans",
        action="store_true",
        help="objects of traces that nobody will take away soon, and folders of dead clients",
    )
    result.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")
    result.add_argument(
        "--now", action="store_true", help="kill the programs, with no grace period"
    )
    return result


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb."""
    from kubectl_trace.cli.cluster import Cluster

    if sum((bool(arguments.traces), arguments.all, arguments.orphans)) > 1:
        raise UsageError("name traces, or say --all, or --orphans")
    if not (arguments.traces or arguments.all or arguments.orphans):
        raise UsageError("which traces? Name them, or say --all")
    if arguments.all_namespaces and arguments.traces:
        raise UsageError("--all-namespaces goes with --all and --orphans")
    if arguments.orphans:
        return _delete_orphans(arguments)
    code = int(Exit.DONE)
    with Cluster(arguments) as cluster:
        from kubectl_trace.kube import traces

        if arguments.all:
            namespace = "" if arguments.all_namespaces else cluster.namespace
            for found in traces.every(cluster.client, namespace):
                code = _delete(cluster, found, now=arguments.now) or code
        for text in arguments.traces:
            try:
                found = traces.find(cluster.client, cluster.namespace, text)
            except TraceError as error:
                complain(str(error))
                code = code or int(error.code)
            else:
                code = _delete(cluster, found, now=arguments.now) or code
    return code


def _delete(cluster: Cluster, found: Found, *, now: bool) -> int:
    from kubectl_trace.kube import traces

    try:
        traces.delete(cluster.client, found, now=now)
    except TraceError as error:
        complain(f"trace {found.id}: {error}")
        return int(error.code)
    print(f"trace {found.id} deleted")
    return Exit.DONE


def _delete_orphans(arguments: argparse.Namespace) -> int:
    from kubectl_trace.cli.cluster import Cluster
    from kubectl_trace.kube import dead_proxies, orphans
    from kubectl_trace.runner import leftovers

    for folder in dead_proxies.remove():
        print(f"{escape(str(folder))} deleted: its client has died")
    if removed := leftovers.remove_all():
        print(f"{removed} probe definitions of dead processes deleted on this machine")
    code = int(Exit.DONE)
    with Cluster(arguments) as cluster:
        namespace = "" if arguments.all_namespaces else cluster.namespace
        found = orphans.find(cluster.client, namespace)
        if not found:
            note("no orphans in the cluster")
        for each in found:
            try:
                orphans.remove(cluster.client, each)
            except TraceError as error:
                complain(f"{each}; it can't be deleted: {error}")
                code = code or int(error.code)
            else:
                print(f"{escape(str(each))}; deleted")
    return code
