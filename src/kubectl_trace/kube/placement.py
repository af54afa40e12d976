"""Targets resolved: the nodes, and the containers on each. Pure; what it is told are objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.errors import NotFoundError
from kubectl_trace.kube.job import LABEL_ID
from kubectl_trace.trace import Container

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kubectl_trace.kube.client import Object

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"

# On a static pod's mirror: the UID that the kubelet's directories and cgroups have
# (k8s.io/kubernetes pkg/kubelet/types/pod_update.go).
_STATIC_POD_UID = "kubernetes.io/config.hash"


@dataclass(frozen=True)
class Placement:
    """A node, and the target's containers on it; none where the node is the target."""

    node: str
    containers: tuple[Container, ...] = ()


@dataclass(frozen=True)
class Choice:
    """Which containers of a pod."""

    container: str = ""
    """Its name; empty: the pod's default container."""
    every: bool = False
    """All of them."""

    def names(self, pod: Object) -> list[str]:
        """The names of the chosen containers of a pod; none: it has none such."""
        names = container_names(pod)
        if self.every:
            return names
        if self.container:
            return [self.container] if self.container in names else []
        return [default_container(pod)]


def by_node(pods: Iterable[Object], choice: Choice, *, running: bool) -> dict[str, Placement]:
    """The chosen containers of these pods, by node.

    Args:
        pods: Pods; those that wait for a node, that have ended, or that are runners, do not count.
        choice: Which of their containers.
        running: Only containers that run. Else those that will, too: a container that is not there
            (yet, or just now) has no ID.
    """
    found: dict[str, list[Container]] = {}
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if not node or pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            continue
        if LABEL_ID in pod["metadata"].get("labels", {}):
            continue  # a runner: what it sees would make it see more
        found.setdefault(node, []).extend(_containers(pod, choice, running=running))
    return {
        node: Placement(node, tuple(sorted(containers, key=_order)))
        for node, containers in sorted(found.items())
        if containers
    }


def containers(pod: Object, choice: Choice) -> list[Container]:
    """The chosen containers of one pod that the user named; each must run, if it was named.

    Raises:
        NotFoundError: the container is not there or does not run.
    """
    found = list(_containers(pod, choice, running=True))
    if found:
        return found
    name = pod["metadata"]["name"]
    chosen = choice.names(pod)
    if not chosen:
        raise NotFoundError(
            f"pod {name} has no container {choice.container!r}; it has "
            f"{', '.join(container_names(pod))}"
        )
    status = container_statuses(pod).get(chosen[0])
    raise NotFoundError(
        f"container {chosen[0]} of pod {name} does not run: {_why_not(pod, status)}"
    )


def note_on_default(pod: Object) -> str:
    """What the user should know where the choice of the default container was a guess."""
    first, *others = (container["name"] for container in pod["spec"]["containers"])
    annotated = pod["metadata"].get("annotations", {}).get(DEFAULT_CONTAINER)
    if not others or annotated in (first, *others):
        return ""
    return (
        f"tracing container {first}; the pod also has {', '.join(others)} (choose with -c, or "
        "--all-containers)"
    )


def default_container(pod: Object) -> str:
    """The container to trace when the user names none: the annotated one, else the first."""
    annotated = pod["metadata"].get("annotations", {}).get(DEFAULT_CONTAINER)
    names = [str(container["name"]) for container in pod["spec"]["containers"]]
    return annotated if annotated in names else names[0]


def container_names(pod: Object) -> list[str]:
    """The names of all containers of a pod, or of a workload's pods."""
    spec = pod["spec"].get("template", pod)["spec"]
    return [
        container["name"]
        for field in ("containers", "initContainers", "ephemeralContainers")
        for container in spec.get(field) or []
    ]


def container_statuses(pod: Object) -> dict[str, Object]:
    """The statuses of all the pod's containers, init and ephemeral ones included, by name."""
    return {
        status["name"]: status
        for field in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
        for status in pod.get("status", {}).get(field) or []
    }


def _containers(pod: Object, choice: Choice, *, running: bool) -> Iterator[Container]:
    statuses = container_statuses(pod)
    for name in choice.names(pod):
        status = statuses.get(name, {})
        runs = "running" in status.get("state", {})
        if runs or not running:
            yield Container(
                namespace=pod["metadata"]["namespace"],
                pod=pod["metadata"]["name"],
                container=name,
                # Every runtime's: containerd://ID, cri-o://ID, docker://ID.
                container_id=status["containerID"].rpartition("://")[2] if runs else "",
                pod_uid=pod["metadata"].get("annotations", {}).get(_STATIC_POD_UID)
                or pod["metadata"].get("uid", ""),
            )


def _order(container: Container) -> tuple[str, str, str]:
    return container.namespace, container.pod, container.container


def _why_not(pod: Object, status: Object | None) -> str:
    for state in ("waiting", "terminated"):
        detail = (status or {}).get("state", {}).get(state)
        if detail:
            return ": ".join(
                part for part in (detail.get("reason"), detail.get("message")) if part
            ) or str(state)
    return f"the pod is {pod.get('status', {}).get('phase', 'Unknown')}"
