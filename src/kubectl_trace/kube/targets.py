"""Targets to placements: what the user named, and where it runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.errors import ForbiddenError, NotFoundError, UsageError
from kubectl_trace.trace import Container

if TYPE_CHECKING:
    from kubectl_trace.kube.client import Client, Object

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"

# On a static pod's mirror: the UID that the kubelet's directories and cgroups have
# (k8s.io/kubernetes pkg/kubelet/types/pod_update.go).
_STATIC_POD_UID = "kubernetes.io/config.hash"

# A DNS subdomain, as all names that a target can have (k8s.io/apimachinery, validation).
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")

_KINDS = {
    "node": "node",
    "nodes": "node",
    "no": "node",
    "pod": "pod",
    "pods": "pod",
    "po": "pod",
    "deploy": "deployment",
    "deployment": "deployment",
    "deployments": "deployment",
    "local": "local",
}


@dataclass(frozen=True)
class Target:
    """What the user named."""

    kind: str
    """`node`, `pod`, `deployment` or `local`."""
    name: str

    def __str__(self) -> str:
        if self.kind == "local" and not self.name:
            return "local"
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class Placement:
    """A target resolved: a node, and the containers on it; none where the node is the target."""

    node: str
    containers: tuple[Container, ...] = ()
    note: str = ""
    """What the user should know about the choice."""


def parse(text: str) -> Target:
    """The target that the text names: `NAME` (a node) or `TYPE/NAME`, `local`, `local/PID`.

    Raises:
        UsageError: an unknown type, or no name.
    """
    kind, slash, name = text.partition("/")
    if not slash:
        if not _NAME.fullmatch(text):
            raise UsageError(f"{text!r} is no name of a node")
        return Target("local", "") if text == "local" else Target("node", text)
    if kind not in _KINDS:
        raise UsageError(
            f"{text!r}: unknown type {kind!r}; a target is NODE, node/NAME, pod/NAME, deploy/NAME, "
            "local or local/PID"
        )
    if not _NAME.fullmatch(name):
        raise UsageError(f"{text!r} names no {_KINDS[kind]}")
    if _KINDS[kind] == "local" and not name.isdigit():
        raise UsageError(f"{text!r}: local/PID takes the number of a process")
    return Target(_KINDS[kind], name)


def resolve(client: Client, target: Target, namespace: str, container: str) -> Placement:
    """Where the target runs. `container` is the user's choice, or empty.

    Raises:
        NotFoundError: no such object or container, or none of its pods runs.
        UsageError: a container of a node.
        ForbiddenError, TraceError: as the API server answers.
    """
    if target.kind == "node":
        if container:
            raise UsageError(f"{target} has no containers: leave {container!r} away")
        return _node(client, target.name)
    if target.kind == "pod":
        return pod_placement(
            client.get(f"/api/v1/namespaces/{namespace}/pods/{target.name}"), container
        )
    return _deployment(client, target, namespace, container)


def pod_placement(pod: Object, container: str) -> Placement:
    """The pod's node, and the container that the user chose or that `default_container` gives.

    Raises:
        NotFoundError: the container is not there or does not run.
    """
    name = pod["metadata"]["name"]
    note = ""
    if not container:
        container, note = default_container(pod)
    status = container_statuses(pod).get(container)
    if status is None and container not in container_names(pod):
        raise NotFoundError(
            f"pod {name} has no container {container!r}; it has {', '.join(container_names(pod))}"
        )
    if status is None or "running" not in status.get("state", {}):
        raise NotFoundError(
            f"container {container} of pod {name} does not run: {_why_not(pod, status)}"
        )
    return Placement(
        node=pod["spec"]["nodeName"],
        containers=(
            Container(
                namespace=pod["metadata"]["namespace"],
                pod=name,
                container=container,
                # Every runtime's: containerd://ID, cri-o://ID, docker://ID.
                container_id=status["containerID"].rpartition("://")[2],
                pod_uid=pod["metadata"].get("annotations", {}).get(_STATIC_POD_UID)
                or pod["metadata"].get("uid", ""),
            ),
        ),
        note=note,
    )


def default_container(pod: Object) -> tuple[str, str]:
    """The container to trace when the user names none, and a note where that was a choice."""
    annotated = pod["metadata"].get("annotations", {}).get(DEFAULT_CONTAINER)
    names = [container["name"] for container in pod["spec"]["containers"]]
    if annotated in names:
        return annotated, ""
    if len(names) == 1:
        return names[0], ""
    others = ", ".join(names[1:])
    return names[0], f"tracing container {names[0]}; the pod also has {others} (choose with -c)"


def container_statuses(pod: Object) -> dict[str, Object]:
    """The statuses of all the pod's containers, init and ephemeral ones included, by name."""
    return {
        status["name"]: status
        for field in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
        for status in pod.get("status", {}).get(field) or []
    }


def is_ready(pod: Object) -> bool:
    """Whether the pod's Ready condition holds and it isn't on its way out."""
    return "deletionTimestamp" not in pod["metadata"] and any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in pod.get("status", {}).get("conditions") or []
    )


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


def _node(client: Client, name: str) -> Placement:
    try:
        node = client.get(f"/api/v1/nodes/{name}")
    except ForbiddenError:
        return Placement(node=name)  # the scheduler will say if there is no such node
    except NotFoundError as error:
        raise NotFoundError(f"{error} (a pod is named pod/{name})") from error
    ready: Object = next(
        (
            condition
            for condition in node.get("status", {}).get("conditions") or []
            if condition["type"] == "Ready"
        ),
        {},
    )
    note = ""
    if ready.get("status") != "True":
        note = (
            f"node {name} is not ready: {ready.get('message') or ready.get('reason') or 'unknown'}"
        )
    return Placement(node=name, note=note)


def _deployment(client: Client, target: Target, namespace: str, container: str) -> Placement:
    deployment = client.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{target.name}")
    pods = client.get(
        f"/api/v1/namespaces/{namespace}/pods",
        {"labelSelector": selector_query(deployment["spec"]["selector"])},
    )["items"]
    ready = sorted((pod for pod in pods if is_ready(pod)), key=lambda pod: pod["metadata"]["name"])
    if not ready:
        raise NotFoundError(f"none of the {len(pods)} pods of {target} is ready")
    placement = pod_placement(ready[0], container)
    notes = [f"tracing pod/{ready[0]['metadata']['name']}, 1 of {len(ready)} ready pods"]
    if placement.note:
        notes.append(placement.note)
    return Placement(placement.node, placement.containers, "; ".join(notes))


def container_names(pod: Object) -> list[str]:
    """The names of all containers of a pod, or of a workload's pods."""
    spec = pod["spec"].get("template", pod)["spec"]
    return [
        container["name"]
        for field in ("containers", "initContainers", "ephemeralContainers")
        for container in spec.get(field) or []
    ]


def _why_not(pod: Object, status: Object | None) -> str:
    for state in ("waiting", "terminated"):
        detail = (status or {}).get("state", {}).get(state)
        if detail:
            return ": ".join(
                part for part in (detail.get("reason"), detail.get("message")) if part
            ) or str(state)
    return f"the pod is {pod.get('status', {}).get('phase', 'Unknown')}"
