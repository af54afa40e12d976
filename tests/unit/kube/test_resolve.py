from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kubectl_trace.errors import NotFoundError, UsageError
from kubectl_trace.kube import targets
from kubectl_trace.kube.client import Client
from kubectl_trace.kube.resolve import PodSelector, resolve, selector_query

from .pods import a_pod

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kubectl_trace.kube.client import Object

WEB = [a_pod("web", "log", name=f"web-{i}", node=f"node-{i % 2}") for i in range(3)]


class Answers(Client):
    """An API server that has a few objects: what it is asked is what is tested here."""

    def __init__(self, objects: Mapping[str, Object]) -> None:
        self._objects = objects

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        key = path + (f"?{query['labelSelector']}" if query else "")
        if key not in self._objects:
            raise NotFoundError(f"{key} not found")
        return self._objects[key]


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
    assert selector_query(selector) == "app=web,tier in (a,b),env notin (dev),x,!y"


def test_a_workload_is_all_its_pods_and_those_to_come() -> None:
    client = Answers(
        {
            "/apis/apps/v1/namespaces/n/deployments/web": {
                "spec": {"selector": {"matchLabels": {"app": "web"}}}
            },
            "/api/v1/namespaces/n/pods?app=web": {"items": WEB},
        }
    )
    resolved = resolve(client, targets.parse(["deploy/web"]), "n")
    assert [(each.node, len(each.containers)) for each in resolved.placements] == [
        ("node-0", 2),
        ("node-1", 1),
    ]
    assert resolved.selectors == (PodSelector("n", "app=web"),)
    assert len(resolved.notes) == 1, "pods of one workload say the same"


def test_a_pod_that_two_targets_mean_is_traced_once() -> None:
    client = Answers(
        {
            "/api/v1/namespaces/n/pods/web-0": WEB[0],
            "/api/v1/namespaces/n/pods?app=web": {"items": WEB},
        }
    )
    resolved = resolve(client, targets.parse(["pod/web-0"], selector="app=web"), "n")
    assert sum(len(each.containers) for each in resolved.placements) == 3


def test_all_containers_of_all_namespaces() -> None:
    client = Answers({"/api/v1/pods?app=web": {"items": WEB}})
    chosen = targets.parse([], selector="app=web", all_namespaces=True, all_containers=True)
    resolved = resolve(client, chosen, "n")
    assert sum(len(each.containers) for each in resolved.placements) == 6
    assert resolved.notes == ()


def test_a_target_without_pods_or_with_none_that_runs_is_refused_with_the_reason() -> None:
    client = Answers({"/api/v1/namespaces/n/pods?app=web": {"items": []}})
    with pytest.raises(NotFoundError, match="there are no pods -l app=web"):
        resolve(client, targets.parse([], selector="app=web"), "n")
    pending = a_pod("web")
    pending["status"] = {"phase": "Pending"}
    client = Answers({"/api/v1/namespaces/n/pods?app=web": {"items": [pending]}})
    with pytest.raises(NotFoundError, match="none of the 1 pods"):
        resolve(client, targets.parse([], selector="app=web"), "n")


def test_a_container_that_no_pod_has_is_refused_with_what_there_is() -> None:
    client = Answers({"/api/v1/namespaces/n/pods?app=web": {"items": WEB}})
    with pytest.raises(NotFoundError, match="they have web, log"):
        resolve(client, targets.parse([], selector="app=web", container="x"), "n")


def test_a_service_without_a_selector_is_refused() -> None:
    client = Answers({"/api/v1/namespaces/n/services/outside": {"spec": {}}})
    with pytest.raises(UsageError, match="selects no pods"):
        resolve(client, targets.parse(["svc/outside"]), "n")


def test_nodes_are_each_once_and_one_that_is_not_ready_is_named() -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    away = {"conditions": [{"type": "Ready", "status": "False", "message": "kubelet stopped"}]}
    a = {"metadata": {"name": "a"}, "status": ready}
    b = {"metadata": {"name": "b"}, "status": away}
    client = Answers({"/api/v1/nodes/a": a, "/api/v1/nodes": {"items": [a, b]}})
    resolved = resolve(client, targets.parse(["node/a"], all_nodes=True), "n")
    assert [each.node for each in resolved.placements] == ["a", "b"]
    assert resolved.notes == ("node b is not ready: kubelet stopped",)
