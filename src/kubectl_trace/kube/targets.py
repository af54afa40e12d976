"""What the user named, as data: `deploy/web`, `node/a node/b`, `-l app=web`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

# A DNS subdomain, as all names that a target can have (k8s.io/apimachinery, validation).
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")

# As kubectl spells them: plural, singular, short (kubectl api-resources).
_SPELLINGS = {
    "node": ("nodes", "node", "no"),
    "pod": ("pods", "pod", "po"),
    "deployment": ("deployments", "deployment", "deploy"),
    "statefulset": ("statefulsets", "statefulset", "sts"),
    "daemonset": ("daemonsets", "daemonset", "ds"),
    "replicaset": ("replicasets", "replicaset", "rs"),
    "job": ("jobs", "job"),
    "service": ("services", "service", "svc"),
    "local": ("local",),
}
KINDS = {spelling: kind for kind, spellings in _SPELLINGS.items() for spelling in spellings}
"""Kinds of targets by their spellings."""

_FORMS = (
    "a target is NODE, node/NAME, pod/NAME, deploy/, sts/, ds/, rs/, job/ or svc/NAME, "
    "-l SELECTOR, --all-nodes, local or local/PID"
)


@dataclass(frozen=True)
class Target:
    """One thing that the user named, or all that a selector finds."""

    kind: str
    """`node`, `pod`, `local`, or a workload's: `deployment`, `statefulset`, `daemonset`,
    `replicaset`, `job`, `service`."""
    name: str = ""
    """Empty: all that the selector finds."""
    selector: str = ""
    """A label selector, as kubectl's `-l` takes it; empty: any labels."""

    def __str__(self) -> str:
        if self.name or self.kind == "local":
            return f"{self.kind}/{self.name}" if self.name else self.kind
        return f"{self.kind}s -l {self.selector}" if self.selector else f"all {self.kind}s"


@dataclass(frozen=True)
class Targets:
    """All that one trace is to see, and the choice of containers."""

    each: tuple[Target, ...]
    container: str = ""
    """The user's choice; empty: each pod's default container."""
    all_containers: bool = False
    all_namespaces: bool = False

    @property
    def has_scope(self) -> bool:
        """Whether they are containers, or a process; else they are whole nodes or this machine."""
        return any(
            target.kind != "node" and (target.kind, target.name) != ("local", "")
            for target in self.each
        )

    @property
    def is_local(self) -> bool:
        """Whether it is this machine, with no cluster."""
        return self.each[0].kind == "local"

    @property
    def is_single(self) -> bool:
        """Whether they are on one node for ever: a node, a pod, or this machine."""
        return (
            len(self.each) == 1
            and bool(self.each[0].name or self.is_local)
            and (self.each[0].kind in ("node", "pod", "local"))
        )

    def __str__(self) -> str:
        return " ".join(map(str, self.each))


def parse(
    words: Sequence[str],
    *,
    selector: str | None = None,
    all_nodes: bool = False,
    all_namespaces: bool = False,
    container: str = "",
    all_containers: bool = False,
) -> Targets:
    """The targets of a command line.

    Args:
        words: `NAME` (a node) or `TYPE/NAME`, `local`, `local/PID`; `pods` or `nodes` with a
            selector; after a single pod or workload its container's name.
        selector: A label selector, of pods unless a word says nodes.
        all_nodes: Every node is a target.
        all_namespaces: The selector's pods may be in any namespace.
        container: The container of each pod.
        all_containers: All containers of each pod.

    Raises:
        UsageError: an unknown type, no name, or a combination that means nothing.
    """
    words, container = _split_container(words, container)
    kinds = {KINDS[word] for word in words if word in KINDS and word != "local"}
    each = [_target(word) for word in words if word not in KINDS or word == "local"]
    if kinds - {"pod", "node"}:
        raise UsageError(f"{min(kinds)}s are named: {min(kinds)}/NAME")
    if selector is not None:
        if not selector.strip():
            raise UsageError("-l takes a label selector, such as app=web")
        each += [Target(kind, selector=selector) for kind in kinds or {"pod"}]
    elif kinds == {"pod"} and all_namespaces:
        each.append(Target("pod"))
    elif kinds == {"node"} and not all_nodes:
        raise UsageError("which nodes? Name them, or say -l SELECTOR or --all-nodes")
    elif kinds == {"pod"}:
        raise UsageError("which pods? Name them (pod/NAME), or say -l SELECTOR")
    if all_nodes:
        each.append(Target("node"))
    targets = Targets(
        tuple(dict.fromkeys(each)), container, all_containers, all_namespaces=all_namespaces
    )
    _check(targets)
    return targets


def _split_container(words: Sequence[str], container: str) -> tuple[list[str], str]:
    """The words but the container's name, which may stand after a single target."""
    if len(words) != 2 or "/" in words[1] or "/" not in words[0] or words[1] in KINDS:
        return list(words), container
    if KINDS.get(words[0].partition("/")[0]) == "node":
        return list(words), container
    if container:
        raise UsageError("specify the container as an argument or with -c, not both")
    return [words[0]], words[1]


def _target(text: str) -> Target:
    kind, slash, name = text.partition("/")
    if not slash:
        if not _NAME.fullmatch(text):
            raise UsageError(f"{text!r} is no name of a node")
        return Target("local") if text == "local" else Target("node", text)
    if kind not in KINDS:
        raise UsageError(f"{text!r}: unknown type {kind!r}; {_FORMS}")
    if not _NAME.fullmatch(name):
        raise UsageError(f"{text!r} names no {KINDS[kind]}")
    if KINDS[kind] == "local" and not name.isdigit():
        raise UsageError(f"{text!r}: local/PID takes the number of a process")
    return Target(KINDS[kind], name)


def _check(targets: Targets) -> None:
    if not targets.each:
        raise UsageError(f"what is to be traced? {_FORMS[0].upper()}{_FORMS[1:]}")
    kinds = {target.kind for target in targets.each}
    if "local" in kinds and len(targets.each) > 1:
        raise UsageError("local is this machine alone: it goes with no other target")
    if "node" in kinds and len(kinds) > 1:
        raise UsageError(
            "nodes and pods do not go together: of a node every task is seen, of pods only "
            "theirs (nodes by their labels: nodes -l SELECTOR)"
        )
    if targets.all_namespaces and all(target.name for target in targets.each):
        raise UsageError("-A goes with -l SELECTOR, or with pods")
    if kinds <= {"node", "local"}:
        if targets.container:
            raise UsageError(f"{targets} has no containers: leave {targets.container!r} away")
        if targets.all_containers:
            raise UsageError(f"{targets} has no containers: leave --all-containers away")
        if targets.all_namespaces:
            raise UsageError(f"{targets} is in no namespace: leave -A away")
    if targets.container and targets.all_containers:
        raise UsageError("-c chooses one container, --all-containers all of them: not both")
