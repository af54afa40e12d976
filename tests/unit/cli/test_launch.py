"""What a launch tells of the pods that it traces; all else is for tests/e2e."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from kubectl_trace.cli import launch, run, tracing
from kubectl_trace.kube import traces
from kubectl_trace.kube.client import Client
from kubectl_trace.kube.placement import Choice, Placement
from kubectl_trace.kube.resolve import PodSelector, Resolved
from kubectl_trace.trace import Container, Trace

if TYPE_CHECKING:
    import pytest

    from kubectl_trace.cli.cluster import Cluster
    from kubectl_trace.kube.client import Object
    from kubectl_trace.kube.fleet import Fleet

FIRST = (Container("n", "web-0", "web", "id-0", "uid-0"),)
BOTH = (*FIRST, Container("n", "web-1", "web", "id-1", "uid-1"))


class Api(Client):
    """An API server that keeps what it is given."""

    def __init__(self) -> None:
        self.created: list[Object] = []

    def create(self, path: str, body: Object, query: object = None) -> Object:
        self.created.append(body)
        return body


def test_pods_that_come_while_their_runner_is_created_get_their_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing may be told of them again: nothing about them changes any more."""
    monkeypatch.setattr(traces, "create", lambda *_: None)
    api = Api()
    cluster = SimpleNamespace(client=api, namespace="n", user="ada")
    arguments = run.parser().parse_args(["deploy/web", "-a", "-e", "BEGIN { exit(); }"])
    resolved = Resolved((Placement("a", FIRST),), Choice(), selectors=(PodSelector("n", "a=b"),))
    launched = launch._Launch(
        arguments,
        cast("Cluster", cluster),
        tracing.targets(arguments),
        Trace(id="id", program="BEGIN { exit(); }", merge=True),
        resolved,
        None,
    )
    said: list[str] = []
    launched._tell_targets(said.append)
    fleet: Any = SimpleNamespace(update=lambda placements: [], nodes=["a"])
    launched._on_change(cast("Fleet", fleet), {"a": Placement("a", BOTH)})
    launched._create(resolved.placements[0])
    assert launched._events is not None
    launched._events.close()
    pods = {each["involvedObject"]["name"] for each in api.created}
    assert (pods, said) == ({"web-0", "web-1"}, [])
