"""The target's pods as they come and go: what is told of them, and what is not."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, cast

from kubectl_trace.errors import TraceError
from kubectl_trace.kube import growth, placement
from kubectl_trace.kube.growth import Growth
from kubectl_trace.kube.placement import Choice, Placement
from kubectl_trace.kube.resolve import PodSelector, Resolved

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pytest

    from kubectl_trace.kube.client import Client, Object

WEB, API = PodSelector("n", "app=web"), PodSelector("n", "app=api")


def pod(name: str, *, node: str = "a", ready: str = "True", runs: bool = True) -> Object:
    state: dict[str, Any] = {"running": {}} if runs else {"waiting": {}}
    return {
        "metadata": {"name": name, "namespace": "n", "uid": name},
        "spec": {"nodeName": node, "containers": [{"name": "c"}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [
                {"name": "c", "state": state, "containerID": f"containerd://{name}" * runs}
            ],
        },
    }


def told(
    monkeypatch: pytest.MonkeyPatch, *states: list[Object], selectors: tuple[PodSelector, ...]
) -> list[dict[str, Placement]]:
    """What comes of these states of the pods of each selector."""

    def pod_changes(
        client: object, path: str, query: Mapping[str, str]
    ) -> Iterator[dict[str, Object]]:
        for state in states:
            yield {each["metadata"]["uid"]: each for each in state}
        raise TraceError("that is all")

    monkeypatch.setattr(growth, "pod_changes", pod_changes)
    changes: list[dict[str, Placement]] = []
    ended = threading.Semaphore(0)
    watched = Growth(cast("Client", None), Resolved((), Choice(), selectors=selectors))
    watched.start(changes.append, lambda text: ended.release())
    for _ in selectors:
        assert ended.acquire(timeout=20)
    return changes


def names(changes: list[dict[str, Placement]]) -> list[list[str]]:
    return [
        [container.pod for each in change.values() for container in each.containers]
        for change in changes
    ]


def test_a_pod_that_comes_or_goes_is_told_its_readiness_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = pod("web-0"), pod("web-1", node="b")
    states = [
        [first],
        [first, second],
        [pod("web-0", ready="False"), second],
        [pod("web-0"), second],
        [first, second],
        [second],
        [second],
    ]
    changes = told(monkeypatch, *states, selectors=(WEB,))
    assert names(changes) == [["web-0"], ["web-0", "web-1"], ["web-1"]]


def test_a_container_that_begins_to_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = told(monkeypatch, [pod("web-0", runs=False)], [pod("web-0")], selectors=(WEB,))
    ids = [change["a"].containers[0].container_id for change in changes]
    assert ids == ["", "web-0"]


def test_pods_that_two_selectors_find_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = told(monkeypatch, [pod("web-0")], [pod("web-0")], selectors=(WEB, API))
    assert names(changes) == [["web-0"]]


def test_of_many_pods_only_those_that_changed_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_at = 0
    by_node = placement.by_node

    def counted(pods: list[Object], choice: Choice, *, running: bool) -> dict[str, Placement]:
        nonlocal looked_at
        looked_at += len(pods)
        return by_node(pods, choice, running=running)

    monkeypatch.setattr(placement, "by_node", counted)
    pods = [pod(f"web-{number}") for number in range(500)]
    states = [[pod("web-0", ready=f"{number}"), *pods[1:]] for number in range(100)]
    told(monkeypatch, *states, selectors=(WEB,))
    assert looked_at == 500 + 2 * 99
