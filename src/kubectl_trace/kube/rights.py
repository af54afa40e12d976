"""The API rights that the verbs use: what each is for, and what is lost without it. Pure.

The one source: the tables of docs/rights.md and the roles of deploy/rbac are held against it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubectl_trace.kube.client import Object
    from kubectl_trace.kube.targets import Target, Targets

Where = Literal["traces", "targets", "default", "cluster"]
"""Where a right must be held: in the namespace of the traces' objects, in that of the targets, in
the namespace `default` (Events of nodes are there), or in the whole cluster."""

NODES_EVENTS_NAMESPACE = "default"
"""Where the Events of objects without a namespace are (k8s.io/kubernetes, ValidateEventCreate)."""

_TRACING = ("run", "calls", "functions")
_APPS = ("deployment", "statefulset", "daemonset", "replicaset")
_SELECTING = ("pods", *_APPS, "job", "service")


@dataclass(frozen=True)
class Right:
    """One verb on one resource, for one purpose."""

    verb: str
    resource: str
    """With its subresource: `pods/log`."""
    group: str
    where: Where
    purpose: str
    needed_by: tuple[str, ...] = ()
    """Verbs of ours that fail without it."""
    helps: tuple[str, ...] = ()
    """Verbs of ours that go on without it."""
    lost: str = ""
    """What is lost without it, where tracing itself goes on."""
    kinds: tuple[str, ...] = ()
    """For which targets, as `kind_of` calls them; none: for all."""
    owners: bool = False
    """Only for who looks after the cluster: a tracer could take its policy away with it."""

    @property
    def is_needed(self) -> bool:
        """Whether a trace, from its start to its end, fails without it."""
        return any(verb in _TRACING for verb in self.needed_by)

    def __str__(self) -> str:
        name, slash, subresource = self.resource.partition("/")
        return f"{self.verb} {name}{'.' * bool(self.group)}{self.group}{slash}{subresource}"


def _workloads() -> Iterable[Right]:
    """What workloads and services as targets need, each its own."""
    apps = [(kind, f"{kind}s", "apps") for kind in _APPS]
    for kind, resource, group in (*apps, ("job", "jobs", "batch"), ("service", "services", "")):
        yield Right(
            *("get", resource, group, "targets", f"a {kind} as the target", _TRACING),
            kinds=(kind,),
        )
        yield Right(
            *("list", resource, group, "targets", f"names of {resource}", (), ("completion",)),
            lost="their names are not completed",
            kinds=(kind,),
        )


RIGHTS: tuple[Right, ...] = (
    Right("create", "jobs", "batch", "traces", "the runners", _TRACING),
    Right("create", "configmaps", "", "traces", "the program, for the runners", _TRACING),
    Right(
        *("list", "pods", "", "traces", "the runners' states"),
        (*_TRACING, "attach", "logs", "get", "stop", "delete"),
    ),
    Right(
        *("watch", "pods", "", "traces", "the runners' states, as they change"),
        (*_TRACING, "attach", "logs", "get", "stop"),
    ),
    Right("get", "pods/log", "", "traces", "the results", (*_TRACING, "attach", "logs")),
    Right(
        *(
            "get",
            "pods/attach",
            "",
            "traces",
            "stopping a runner, holding it, its first output",
        ),
        (*_TRACING, "stop"),
        ("attach",),
        "Ctrl-C in `attach` does not stop the trace",
    ),
    # AuthorizePodWebsocketUpgradeCreatePermission, on by default from Kubernetes 1.35.
    Right(
        *("create", "pods/attach", "", "traces"),
        "the same, where the API server is 1.35 or later; stopping the runners of a killed client",
        (*_TRACING, "stop"),
        ("attach",),
        "Ctrl-C in `attach` does not stop the trace",
    ),
    Right(
        *("get", "pods", "", "traces", "stopping the runners of a killed client"),
        helps=_TRACING,
        lost="the runners of a killed client end a minute later only",
    ),
    Right(
        *("list", "jobs", "batch", "traces", "finding traces"),
        ("attach", "logs", "get", "stop", "delete"),
        ("functions",),
        "`attach`, `logs`, `get`, `stop` and `delete` find no trace; the objects of `functions` "
        "and --explain stay for --ttl",
    ),
    Right(
        *("watch", "jobs", "batch", "traces", "traces, as they change", ("get",)),
        lost="`get -w` does not work",
    ),
    Right(
        *("get", "jobs", "batch", "traces", "why a runner's pod is gone"),
        helps=(*_TRACING, "attach", "logs"),
        lost="whether the Job's own deadline took a pod away is not told",
    ),
    Right(
        *("delete", "jobs", "batch", "traces", "deleting traces, taking back what can't run"),
        ("delete",),
        (*_TRACING, "stop"),
        "`delete` does not work; a trace that could not begin and the objects of `functions` and "
        "--explain stay for --ttl",
    ),
    Right(
        *("delete", "pods", "", "traces", "ending a runner at once"),
        ("delete",),
        (*_TRACING, "stop"),
        "`delete --now` does not work; a runner that is given up takes its grace period",
    ),
    Right(
        *("list", "configmaps", "", "traces", "finding what nobody will take away", ("delete",)),
        lost="`delete --orphans` does not work",
        owners=True,
    ),
    Right(
        *("delete", "configmaps", "", "traces", "programs whose Jobs are gone", ("delete",)),
        lost="`delete --orphans` can't delete programs",
        owners=True,
    ),
    Right(
        *("list", "events", "", "traces", "why a runner does not start"),
        helps=(*_TRACING, "attach", "logs"),
        lost="why a runner does not start is not told",
    ),
    Right(
        *("watch", "events", "", "traces", "why a runner does not start, at once"),
        helps=(*_TRACING, "attach", "logs"),
        lost="that no pod can be created is told at the time-out only",
    ),
    Right(
        *("get", "namespaces", "", "traces", "whether the namespace admits runners"),
        helps=("auth",),
        lost="whether the namespace admits runners is not known before one is started",
    ),
    Right("get", "pods", "", "targets", "a pod as the target", _TRACING, kinds=("pod",)),
    Right(
        *("list", "pods", "", "targets", "the pods of a workload, service or selector", _TRACING),
        kinds=_SELECTING,
    ),
    Right(
        *("watch", "pods", "", "targets", "pods that come later"),
        helps=("run", "calls"),
        lost="pods that come later are not traced",
        kinds=_SELECTING,
    ),
    *_workloads(),
    Right(
        *("create", "events", "", "targets", "the record on traced pods"),
        helps=("run", "calls"),
        lost="no Event on the pods says that they were traced",
        kinds=("pod", *_SELECTING),
    ),
    Right(
        *("create", "events", "", "default", "the record on traced nodes"),
        helps=("run",),
        lost="no Event on the nodes says that they were traced",
        kinds=("node", "nodes"),
    ),
    Right(
        *("get", "nodes", "", "cluster", "a node as the target"),
        helps=("run",),
        lost="a wrong name is found out at the time-out only",
        kinds=("node",),
    ),
    Right(
        *("list", "nodes", "", "cluster", "`--all-nodes`, `nodes -l SELECTOR`"),
        ("run",),
        ("completion",),
        "their names are not completed",
        kinds=("nodes",),
    ),
    Right(
        *("list", "namespaces", "", "cluster", "names of namespaces"),
        helps=("completion",),
        lost="their names are not completed",
    ),
)

TRACING = tuple(right for right in RIGHTS if not right.owners)
"""The rights of one who traces everything."""


def kind_of(target: Target) -> str:
    """A target's kind; of those that a selector finds, in the plural."""
    return target.kind if target.name else f"{target.kind}s"


def for_targets(
    targets: Targets, target_namespace: str, traces_namespace: str
) -> dict[tuple[Right, str], None]:
    """The rights for tracing these targets, each with its namespace; empty: the whole cluster."""
    found: dict[tuple[Right, str], None] = {}
    for right in TRACING:
        if not {*right.needed_by, *right.helps} - {"completion"}:
            continue
        for target in targets.each:
            kind = kind_of(target)
            if right.kinds and kind not in right.kinds:
                continue
            namespaces: dict[Where, str] = {
                "traces": traces_namespace,
                "targets": "" if kind == "pods" and targets.all_namespaces else target_namespace,
                "default": NODES_EVENTS_NAMESPACE,
                "cluster": "",
            }
            found[right, namespaces[right.where]] = None
    return found


def rules(rights: Iterable[Right]) -> list[Object]:
    """The rights as the rules of a Role; resources of one group with the same verbs in one."""
    verbs: dict[tuple[str, str], dict[str, None]] = {}
    for right in rights:
        verbs.setdefault((right.group, right.resource), {})[right.verb] = None
    resources: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (group, resource), each in verbs.items():
        resources.setdefault((group, tuple(each)), []).append(resource)
    return [
        {"apiGroups": [group], "resources": listed, "verbs": list(each)}
        for (group, each), listed in resources.items()
    ]


def rule_text(rule: Object) -> str:
    """A rule as YAML: an item of a Role's `rules`, in three lines."""
    lines = (f"{key}: [{', '.join(map(_scalar, values))}]" for key, values in rule.items())
    return "- " + "\n  ".join(lines)


def _scalar(text: str) -> str:
    return text or '""'


# k8s.io/apiserver pkg/endpoints/handlers/responsewriters/errors.go: forbiddenMessage.
_FORBIDDEN = re.compile(
    r'cannot (?P<verb>[a-z]+) resource "(?P<resource>[a-z/]+)" '
    r'in API group "(?P<group>[a-z0-9.]*)" '
    r'(?:in the namespace "(?P<namespace>[a-z0-9-]+)"|at the cluster scope)'
)


def explained(message: str) -> str:
    """The API server's words for a missing right, with the rule that grants it."""
    found = _FORBIDDEN.search(message)
    if found is None:
        return message
    namespace = found["namespace"]
    where = f"a Role in namespace {namespace}" if namespace else "a ClusterRole, bound cluster-wide"
    group = _scalar(found["group"])
    rule = f"apiGroups: [{group}], resources: [{found['resource']}], verbs: [{found['verb']}]"
    return f"{message} (needs in {where}: {rule}; docs/rights.md)"
