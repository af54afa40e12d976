from __future__ import annotations

from typing import Any

import pytest

from kubectl_trace.errors import NotFoundError, UsageError
from kubectl_trace.kube import targets
from kubectl_trace.kube.targets import Target


def a_pod(
    *names: str, annotations: dict[str, str] | None = None, runtime: str = "containerd"
) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "n", "annotations": annotations or {}},
        "spec": {"nodeName": "node-a", "containers": [{"name": name} for name in names]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [
                {"name": name, "containerID": f"{runtime}://id-{name}", "state": {"running": {}}}
                for name in names
            ],
        },
    }


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("worker-1", Target("node", "worker-1")),
        ("node/worker-1", Target("node", "worker-1")),
        ("pod/web-0", Target("pod", "web-0")),
        ("po/web-0", Target("pod", "web-0")),
        ("pods/web-0", Target("pod", "web-0")),
        ("deploy/web", Target("deployment", "web")),
        ("deployment/web", Target("deployment", "web")),
        ("local", Target("local", "")),
        ("local/42", Target("local", "42")),
    ],
)
def test_reads_a_target(text: str, target: Target) -> None:
    assert targets.parse(text) == target


@pytest.mark.parametrize(
    "text",
    ["", "pod/", "sts/x", "pod/a/b", "local/nginx", "/x", "..", "pod/a?b=c", "pod/ñ", "Node"],
)
def test_refuses_what_is_no_target(text: str) -> None:
    with pytest.raises(UsageError):
        targets.parse(text)


@pytest.mark.parametrize("runtime", ["containerd", "docker", "cri-o", "rkt"])
def test_a_container_id_has_no_runtime_in_it(runtime: str) -> None:
    placement = targets.pod_placement(a_pod("web", runtime=runtime), "")
    assert placement.containers[0].container_id == "id-web"


def test_the_only_container_is_the_default() -> None:
    assert targets.default_container(a_pod("web")) == ("web", "")


def test_the_annotated_container_is_the_default() -> None:
    pod = a_pod("a", "b", annotations={targets.DEFAULT_CONTAINER: "b"})
    assert targets.default_container(pod) == ("b", "")


def test_else_the_first_container_with_a_note_that_names_the_others() -> None:
    name, note = targets.default_container(a_pod("a", "b", "c"))
    assert name == "a"
    assert "b, c" in note


def test_an_annotation_that_names_no_container_means_nothing() -> None:
    pod = a_pod("a", annotations={targets.DEFAULT_CONTAINER: "gone"})
    assert targets.default_container(pod) == ("a", "")


def test_init_sidecar_and_ephemeral_containers_are_found() -> None:
    pod = a_pod("app")
    pod["spec"]["initContainers"] = [{"name": "mesh"}]
    pod["status"]["initContainerStatuses"] = [
        {"name": "mesh", "containerID": "containerd://i", "state": {"running": {}}}
    ]
    pod["status"]["ephemeralContainerStatuses"] = [
        {"name": "debugger", "containerID": "containerd://e", "state": {"running": {}}}
    ]
    assert targets.pod_placement(pod, "mesh").containers[0].container_id == "i"
    assert targets.pod_placement(pod, "debugger").containers[0].container_id == "e"


def test_a_wrong_container_is_refused_with_what_there_is() -> None:
    with pytest.raises(NotFoundError, match="it has web"):
        targets.pod_placement(a_pod("web"), "wbe")


def test_a_container_that_does_not_run_is_refused_with_the_reason() -> None:
    pod = a_pod("web")
    pod["status"]["containerStatuses"][0]["state"] = {
        "waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m"}
    }
    with pytest.raises(NotFoundError, match="CrashLoopBackOff: back-off 5m"):
        targets.pod_placement(pod, "web")


def test_a_pod_that_is_not_scheduled_is_refused_with_its_phase() -> None:
    pod = a_pod("web")
    pod["status"] = {"phase": "Pending"}
    with pytest.raises(NotFoundError, match="the pod is Pending"):
        targets.pod_placement(pod, "")


def test_a_pod_on_its_way_out_is_not_ready() -> None:
    pod = a_pod("web")
    assert targets.is_ready(pod)
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not targets.is_ready(pod)


def test_a_label_selector_keeps_its_expressions() -> None:
    selector = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]},
            {"key": "env", "operator": "NotIn", "values": ["dev"]},
            {"key": "x", "operator": "Exists"},
            {"key": "y", "operator": "DoesNotExist"},
        ],
    }
    assert targets.selector_query(selector) == "app=web,tier in (a,b),env notin (dev),x,!y"
