"""The record of a trace: complete, bounded, harmless, and with no secret in it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.errors import ForbiddenError
from kubectl_trace.kube import audit, target_events
from kubectl_trace.kube import job as jobs
from kubectl_trace.kube.client import Client
from kubectl_trace.kube.job import JobOptions
from kubectl_trace.kube.placement import Placement
from kubectl_trace.kube.target_events import TargetEvents
from kubectl_trace.trace import Calls, Container, Functions, Trace

if TYPE_CHECKING:
    import pytest

    from kubectl_trace.kube.client import Object

TRACE = Trace(id="0b5e", program="BEGIN { exit(); }")
SECRET = "s3cret"
WITH_SECRETS = Trace(
    id="0b5e",
    program="BEGIN { exit(); }",
    parameters=(SECRET, "x"),
    environment={"TOKEN": SECRET},
)
POD = audit.pod_reference("shop", "web-0", "uid-0")


def an_event(trace: Trace = TRACE, owner: str = "ada", reason: str = "why") -> Object:
    return audit.event(trace, POD, "shop", owner=owner, reason=reason, traces_namespace="t")


@given(st.text(), st.integers(1, 50))
def test_bounded_text_is_one_harmless_line_of_at_most_so_many_characters(
    text: str, most: int
) -> None:
    line = audit.bounded(text, most)
    assert len(line) <= most
    assert not any(character in line for character in "\n\r\t\x1b\x9b\u202e")
    assert audit.bounded(line, most) == line


@given(st.text(), st.text(), st.text())
def test_an_event_is_within_the_apis_limit_and_harmless_whatever_users_write(
    program: str, owner: str, reason: str
) -> None:
    event = an_event(Trace(id="0b5e", program=program), owner, reason)
    assert len(event["message"]) <= 1000
    assert not any(character in event["message"] for character in "\n\r\x1b\x9b\u202e")


def test_an_event_says_who_what_where_and_why() -> None:
    event = an_event()
    assert event["involvedObject"] == POD
    assert (event["reason"], event["metadata"]["namespace"]) == ("Traced", "shop")
    for part in ("traced by ada", "reason: why", "trace 0b5e in namespace t", TRACE.program):
        assert part in event["message"]
    assert audit.digest(TRACE)[:16] in event["message"]
    assert event["firstTimestamp"].endswith("Z")


def test_neither_parameters_nor_environment_are_recorded_but_their_number() -> None:
    options = JobOptions(namespace="n", target="pod/web", owner="ada", reason="why")
    job = jobs.job(WITH_SECRETS, Placement("node-a"), options)
    annotations = job["spec"]["template"]["metadata"]["annotations"]
    assert SECRET not in str(job)
    assert SECRET not in str(an_event(WITH_SECRETS))
    assert annotations[jobs.ANNOTATION_PROGRAM].endswith("(2 parameters)")
    assert annotations[jobs.ANNOTATION_REASON] == "why"
    assert (
        jobs.config_map(WITH_SECRETS, job)["metadata"]["annotations"]
        == (job["metadata"]["annotations"])
    )


def test_the_hash_is_the_programs_own_whatever_its_parameters() -> None:
    assert audit.digest(TRACE) == audit.digest(WITH_SECRETS)
    assert audit.digest(TRACE) != audit.digest(Trace(id="0b5e", program="END {}"))


def test_words_of_a_command_line_that_are_no_text_are_recorded_too() -> None:
    trace = Trace(id="1", program="", calls=Calls(Functions(("caf\udce9",))))
    assert "calls caf\\udce9" in an_event(trace, reason="na\udcefve")["message"]


def test_calls_and_listings_are_recorded_by_what_was_asked_for() -> None:
    functions = Functions(("main.*",), ("libc.so.6",), f"https://u:{SECRET}@debug.example")
    calls = Trace(id="1", program="", calls=Calls(functions, show="latency", condition="len > 1"))
    assert audit.what(calls) == "calls main.* --lib libc.so.6 --filter 'len > 1' --latency"
    listing = Trace(id="1", program="", listing=functions)
    assert audit.what(listing) == "functions main.* --lib libc.so.6"
    assert len({audit.digest(calls), audit.digest(listing), audit.digest(TRACE)}) == 3


class Events(Client):
    """An API server that takes Events."""

    def __init__(self, forbidden: str = "") -> None:
        self.events: list[Object] = []
        self._forbidden = forbidden
        self._lock = threading.Lock()
        self.refusals = 0

    def create(self, path: str, body: Object, query: object = None) -> Object:
        with self._lock:
            if self._forbidden and f"/{self._forbidden}/" in path:
                self.refusals += 1
                raise ForbiddenError("may not create events")
            self.events.append(body)
        return body


def containers(count: int, namespace: str = "shop") -> tuple[Container, ...]:
    return tuple(
        Container(namespace, f"web-{i}", name, "id", f"uid-{namespace}-{i}")
        for i in range(count)
        for name in ("app", "sidecar")
    )


def recorded(client: Events, *placements: Placement) -> list[str]:
    said: list[str] = []
    events = TargetEvents(client, TRACE, JobOptions(namespace="t", target="x"), said.append)
    for placement in placements:
        events.record(placement)
    events.close()
    return said


def test_each_pod_gets_one_event_however_many_containers_and_changes() -> None:
    client = Events()
    assert recorded(client, Placement("a", containers(3)), Placement("a", containers(4))) == []
    assert sorted(each["involvedObject"]["name"] for each in client.events) == [
        f"web-{i}" for i in range(4)
    ]
    assert len({each["metadata"]["name"] for each in client.events}) == 4


def test_a_node_gets_its_event_where_those_of_nodes_are() -> None:
    client = Events()
    recorded(client, Placement("node-a"))
    (event,) = client.events
    assert event["metadata"]["namespace"] == "default"
    assert event["involvedObject"] == audit.node_reference("node-a")


def test_of_very_many_pods_the_first_get_events_and_that_is_said_once() -> None:
    client = Events()
    said = recorded(client, Placement("a", containers(60)), Placement("b", containers(70)))
    assert len(client.events) == target_events.MOST
    assert said == ["more than 50 pods are traced: the others get no Event that says so"]


def test_where_events_are_forbidden_it_is_said_once_and_other_namespaces_get_theirs() -> None:
    client = Events(forbidden="shop")
    mixed = (*containers(20), *containers(2, "other"))
    (said,) = recorded(client, Placement("a", mixed))
    assert "may not create events" in said
    assert len(client.events) == 2
    assert client.refusals <= 4, "as many as are asked at the same time"


def test_after_its_end_nothing_more_is_recorded() -> None:
    client = Events()
    events = TargetEvents(client, TRACE, JobOptions(namespace="t", target="x"), print)
    events.close()
    events.record(Placement("a", containers(1)))
    assert client.events == []


def test_who_leaves_at_once_waits_for_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_events, "_LEAVE", 60.0)
    client, asked, answers = Events(), threading.Event(), threading.Event()
    create = client.create

    def late(path: str, body: Object, query: Any = None) -> Object:
        asked.set()
        assert answers.wait(60)
        return create(path, body, query)

    monkeypatch.setattr(client, "create", late)
    events = TargetEvents(client, TRACE, JobOptions(namespace="t", target="x"), print)
    events.record(Placement("node-a"))
    assert asked.wait(20)
    closing = threading.Thread(target=events.close, kwargs={"at_once": True})
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    answers.set()


def test_a_trace_is_the_same_for_the_runner_with_and_without_a_reason() -> None:
    options = JobOptions(namespace="n", target="pod/web", reason="why")
    job = jobs.job(TRACE, Placement("node-a"), options)
    text = jobs.config_map(TRACE, job)["data"]["trace.json"]
    assert msgspec.json.decode(text, type=Trace) == TRACE
