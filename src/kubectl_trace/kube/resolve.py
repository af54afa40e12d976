"""Targets to placements: asks the API server where what the user named runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.errors import ForbiddenError, NotFoundError, TraceError, UsageError
from kubectl_trace.kube import placement
from kubectl_trace.kube.placement import Choice, Placement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubectl_trace.kube.client import Client, Object
    from kubectl_trace.kube.targets import Target, Targets

_WORKLOADS = {
    "deployment": "apis/apps/v1/namespaces/{}/deployments",
    "statefulset": "apis/apps/v1/namespaces/{}/statefulsets",
    "daemonset": "apis/apps/v1/namespaces/{}/daemonsets",
    "replicaset": "apis/apps/v1/namespaces/{}/replicasets",
    "job": "apis/batch/v1/namespaces/{}/jobs",
    "service": "api/v1/namespaces/{}/services",
}


@dataclass(frozen=True)
class PodSelector:
    """Pods that may become more or fewer."""

    namespace: str
    """Empty: of all namespaces."""
    labels: str
    """A label selector, as the API server's query parameter `labelSelector` takes it."""

    @property
    def path(self) -> str:
        """Where the API server lists them."""
        return f"/api/v1/namespaces/{self.namespace}/pods" if self.namespace else "/api/v1/pods"

    @property
    def query(self) -> dict[str, str]:
        """The query for them."""
        return {"labelSelector": self.labels} if self.labels else {}


@dataclass(frozen=True)
class Resolved:
    """Where a trace's targets run now, and what tells where they will run."""

    placements: tuple[Placement, ...]
    """One a node, by the nodes' names."""
    choice: Choice
    named: tuple[Object, ...] = ()
    """Pods that the user named: they stay what they are."""
    selectors: tuple[PodSelector, ...] = ()
    """Whose pods come and go."""
    notes: tuple[str, ...] = ()
    """What the user should know about the choice."""


def resolve(client: Client, targets: Targets, namespace: str) -> Resolved:
    """Where the targets run.

    Raises:
        NotFoundError: no such object or container, or none of its pods runs.
        UsageError: a service without a selector.
        ForbiddenError, TraceError: as the API server answers.
    """
    if not targets.has_scope:
        return _nodes(client, targets.each)
    choice = Choice(targets.container, targets.all_containers)
    named: list[Object] = []
    selectors: list[PodSelector] = []
    selected: list[Object] = []
    for target in targets.each:
        if target.kind == "pod" and target.name:
            pod = client.get(f"/api/v1/namespaces/{namespace}/pods/{target.name}")
            placement.containers(pod, choice)  # named, it must run
            named.append(pod)
            continue
        selector = _selector(client, target, "" if targets.all_namespaces else namespace, namespace)
        pods = _listed(client, selector.path, target.selector, selector.query)
        _check_runs(target, pods, choice)
        selectors.append(selector)
        selected += pods
    pods = distinct([*named, *selected])
    placements = placement.by_node(pods, choice, running=True)
    return Resolved(
        placements=tuple(placements.values()),
        choice=choice,
        named=tuple(named),
        selectors=tuple(dict.fromkeys(selectors)),
        notes=_notes(pods, choice),
    )


def distinct(pods: Iterable[Object]) -> list[Object]:
    """The pods, each once; of two states of one the later."""
    return list({pod["metadata"]["uid"]: pod for pod in pods}.values())


def selector_query(selector: Object) -> str:
    """A LabelSelector as the query parameter `labelSelector` wants it."""
    terms = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or []:
        key, operator = expression["key"], expression["operator"]
        values = ",".join(expression.get("values") or [])
        terms.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": key,
                "DoesNotExist": f"!{key}",
            }[operator]
        )
    return ",".join(terms)


def _nodes(client: Client, targets: Iterable[Target]) -> Resolved:
    placements: dict[str, Placement] = {}
    notes: list[str] = []
    for target in targets:
        if target.name:
            found = [_node(client, target.name)]
        else:
            query = {"labelSelector": target.selector} if target.selector else {}
            found = _listed(client, "/api/v1/nodes", target.selector, query)
            if not found:
                raise NotFoundError(f"there are no {target}")
        for node in found:
            name = node["metadata"]["name"]
            placements[name] = Placement(name)
            if note := _why_not_ready(node):
                notes.append(note)
    ordered = tuple(placements[name] for name in sorted(placements))
    return Resolved(ordered, Choice(), notes=tuple(dict.fromkeys(notes)))


def _listed(client: Client, path: str, selector: str, query: dict[str, str]) -> list[Object]:
    """What a list has; the user's own selector may be none."""
    try:
        return list(client.get(path, query)["items"])
    except TraceError as error:
        if selector and "unable to parse requirement" in str(error):
            raise UsageError(f"-l {selector}: {error}") from error
        raise


def _node(client: Client, name: str) -> Object:
    try:
        return client.get(f"/api/v1/nodes/{name}")
    except ForbiddenError:
        return {"metadata": {"name": name}}  # the scheduler will say if there is no such node
    except NotFoundError as error:
        raise NotFoundError(f"{error} (a pod is named pod/{name})") from error


def _why_not_ready(node: Object) -> str:
    conditions = node.get("status", {}).get("conditions") or []
    ready: Object = next((each for each in conditions if each["type"] == "Ready"), {})
    if not node.get("status") or ready.get("status") == "True":
        return ""
    why = ready.get("message") or ready.get("reason") or "unknown"
    return f"node {node['metadata']['name']} is not ready: {why}"


def _selector(client: Client, target: Target, within: str, namespace: str) -> PodSelector:
    """The pods that a workload or a selector means; `within`: the namespace of selectors."""
    if target.kind == "pod":
        return PodSelector(within, target.selector)
    found = client.get(f"/{_WORKLOADS[target.kind].format(namespace)}/{target.name}")
    selector = found["spec"].get("selector")
    if target.kind == "service":
        selector = {"matchLabels": selector} if selector else None
    if not selector:
        raise UsageError(f"{target} selects no pods: name them, or use -l SELECTOR")
    return PodSelector(namespace, selector_query(selector))


def _check_runs(target: Target, pods: list[Object], choice: Choice) -> None:
    if placement.by_node(pods, choice, running=True):
        return
    if not pods:
        raise NotFoundError(f"{target} has no pods" if target.name else f"there are no {target}")
    if choice.container and not any(map(choice.names, pods)):
        names = dict.fromkeys(name for pod in pods for name in placement.container_names(pod))
        raise NotFoundError(
            f"no pod of {target} has a container {choice.container!r}; they have {', '.join(names)}"
        )
    raise NotFoundError(f"none of the {len(pods)} pods of {target} runs")


def _notes(pods: list[Object], choice: Choice) -> tuple[str, ...]:
    if choice.every:
        return ()
    if choice.container:
        lacking = [pod["metadata"]["name"] for pod in pods if not choice.names(pod)]
        without = f"pods without a container {choice.container}: {', '.join(lacking)}"
        return (without,) if lacking else ()
    # Pods of one workload say the same.
    return tuple(dict.fromkeys(note for pod in pods if (note := placement.note_on_default(pod))))
