"""`kubectl_complete-trace`: what the word under the cursor could become.

kubectl 1.26 and later runs it for `kubectl trace …` with the words after `trace`, the last one the
one to complete. It prints a candidate a line, perhaps a tab and a description, and at last a colon
and a number, cobra's directive (spf13/cobra, completions.go: ShellCompDirective).
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from kubectl_trace.cli import arguments as command_line
from kubectl_trace.cli import main as main_module
from kubectl_trace.errors import TraceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kubectl_trace.cli.cluster import Cluster

_DEFAULT, _NO_SPACE, _NO_FILES = 0, 2, 4

_TYPES = {
    "pod/": "a pod",
    "deploy/": "the pods of a deployment",
    "sts/": "the pods of a stateful set",
    "ds/": "the pods of a daemon set",
    "rs/": "the pods of a replica set",
    "job/": "the pods of a job",
    "svc/": "the pods of a service",
    "node/": "a node",
    "local": "this machine",
    "local/": "a process of this machine",
}
_PATHS = {
    "node": "/api/v1/nodes",
    "pod": "/api/v1/namespaces/{}/pods",
    "deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "statefulset": "/apis/apps/v1/namespaces/{}/statefulsets",
    "daemonset": "/apis/apps/v1/namespaces/{}/daemonsets",
    "replicaset": "/apis/apps/v1/namespaces/{}/replicasets",
    "job": "/apis/batch/v1/namespaces/{}/jobs",
    "service": "/api/v1/namespaces/{}/services",
}
"""Where the API server lists what a target can be."""
_TRACE_VERBS = ("attach", "logs", "get", "stop", "delete")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the candidates; 0 always, since a shell has no use for errors here."""
    words = list(sys.argv[1:] if argv is None else argv) or [""]
    try:
        candidates, directive = complete(words[:-1], words[-1])
    except (TraceError, SystemExit):
        candidates, directive = [], _NO_FILES
    for candidate in candidates:
        if candidate.startswith(words[-1]):
            print(candidate)
    print(f":{directive}")
    return 0


def complete(before: Sequence[str], word: str) -> tuple[Iterable[str], int]:
    """Candidates for a word that follows others, and what the shell shall do with them.

    Raises:
        TraceError: the cluster can't be asked.
    """
    verb, rest = command_line.split_verb(before)
    if verb is None:
        return [f"{name}\t{text}" for name, text in main_module.VERBS.items()], _NO_FILES
    verb = main_module.ALIASES.get(verb, verb)
    module = main_module.verb_module(verb)
    if module is None or "--" in rest:
        return [], _DEFAULT
    if verb == "auth":
        if not rest:
            return ["can-i\twhether a target can be traced, and what is missing"], _NO_FILES
        rest = rest[1:]
    parser = module.parser()
    actions = {flag: action for action in parser._actions for flag in action.option_strings}
    if rest and rest[-1] in actions and actions[rest[-1]].nargs is None:
        return _values(actions[rest[-1]], rest)
    if word.startswith("-"):
        return [
            f"{flag}\t{action.help}"
            for flag, action in actions.items()
            if action.help != argparse.SUPPRESS and flag.startswith("--")
        ], _NO_FILES
    if verb in ("run", "calls", "functions", "auth"):
        return _run_positional(rest, word, actions)
    if verb in _TRACE_VERBS:
        return _trace_ids(rest), _NO_FILES
    if verb == "completion":
        return ["bash", "zsh", "fish"], _NO_FILES
    return [], _NO_FILES


def _values(action: argparse.Action, rest: Sequence[str]) -> tuple[Iterable[str], int]:
    """Candidates for the value of a flag."""
    if action.choices:
        return [str(choice) for choice in action.choices], _NO_FILES
    if action.dest in ("namespace", "target_namespace"):
        return _names(rest, "/api/v1/namespaces"), _NO_FILES
    if action.dest == "container":
        return _containers(rest), _NO_FILES
    if action.dest in ("filename", "patch", "kubeconfig"):
        return [], _DEFAULT
    return [], _NO_FILES


def _run_positional(
    rest: Sequence[str], word: str, actions: dict[str, argparse.Action]
) -> tuple[Iterable[str], int]:
    from kubectl_trace.kube.targets import KINDS

    kind, slash, _ = word.partition("/")
    if not slash:
        types = [f"{name}\t{text}" for name, text in _TYPES.items()]
        # After a single pod or workload, the second word may be its container.
        containers = _containers(rest) if _target(rest, actions) else []
        return [*containers, *types], _NO_FILES if containers else _NO_FILES | _NO_SPACE
    path = _PATHS.get(KINDS.get(kind, ""))
    return [f"{kind}/{name}" for name in _names(rest, path)] if path else [], _NO_FILES


def _target(rest: Sequence[str], actions: dict[str, argparse.Action]) -> str:
    """The target among the words, if it is there already."""
    skip = False
    for word in rest:
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word in actions and actions[word].nargs is None
        else:
            return word
    return ""


def _names(rest: Sequence[str], path: str) -> list[str]:
    with _cluster(rest) as cluster:
        items = cluster.client.get(path.format(cluster.namespace))["items"]
        return [item["metadata"]["name"] for item in items]


def _containers(rest: Sequence[str]) -> list[str]:
    """The containers of the pod, or of the deployment's pods, that the words name."""
    from kubectl_trace.cli import run
    from kubectl_trace.kube.placement import container_names
    from kubectl_trace.kube.targets import KINDS

    actions = {flag: each for each in run.parser()._actions for flag in each.option_strings}
    kind, _, name = _target(rest, actions).partition("/")
    path = _PATHS.get(KINDS.get(kind, ""))
    if path is None or KINDS[kind] in ("node", "service"):
        return []
    with _cluster(rest) as cluster:
        found = cluster.client.get(f"{path.format(cluster.namespace)}/{name}")
        return container_names(found)


def _trace_ids(rest: Sequence[str]) -> list[str]:
    from kubectl_trace.kube import job as jobs
    from kubectl_trace.kube import traces

    with _cluster(rest) as cluster:
        return [
            f"{found.id}\t{found.parts[0].annotation(jobs.ANNOTATION_TARGET)} {traces.status(found).phase}"
            for found in traces.every(cluster.client, cluster.namespace)
        ]


def _cluster(rest: Sequence[str]) -> Cluster:
    """The cluster that the connection flags among the words name."""
    from kubectl_trace.cli.cluster import Cluster

    parser = command_line.verb_parser("complete", "", "", "")
    return Cluster(parser.parse_args(_connection_words(rest)))


def _connection_words(rest: Sequence[str]) -> list[str]:
    words: list[str] = []
    for index, word in enumerate(rest):
        flag = word.partition("=")[0]
        if command_line.takes_value(flag):
            words += [word] if "=" in word else list(rest[index : index + 2])
    return words
