"""What becomes of the runners of a trace at bad moments.

The API server is a fake one here: no real one can be made to answer in the middle of a Ctrl-C. On a
real one: tests/e2e/test_fan_out.py.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest

from kubectl_trace import trace as tracing
from kubectl_trace.errors import ForbiddenError, NotFoundError, StartError, TraceError
from kubectl_trace.kube import job as jobs
from kubectl_trace.kube import stream, traces, voice, watch
from kubectl_trace.kube.client import Client, GoneError, UnavailableError
from kubectl_trace.kube.fleet import Fleet
from kubectl_trace.kube.placement import Placement
from kubectl_trace.results.events import Ended, Event, Finished, Notice, Progress, Records
from kubectl_trace.results.record import Record, Summary, encode
from kubectl_trace.runner.output import to_data
from kubectl_trace.trace import Container, Hello, Kill, Scope, Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kubectl_trace.kube.client import Object

SUMMARY = encode(Record(0, 1.0, "summary", to_data(Summary(exit=0, reason="stopped")))) + b"\n"


class Log:
    """A log that is followed: what is put into it, an error that breaks it; None: its end."""

    def __init__(self) -> None:
        self.pieces: SimpleQueue[bytes | Exception | None] = SimpleQueue()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        """Others may read on."""

    def __iter__(self) -> Iterator[bytes]:
        while (piece := self.pieces.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def close(self) -> None:
        self.pieces.put(None)


class Api(Client):
    """An API server with logs by pod, and a list of what was deleted."""

    def __init__(self) -> None:
        self.logs: dict[str, Log] = {}
        self.deleted: list[str] = []
        self.created: set[str] = set()
        self.may_delete = True

    def stream(self, path: str, query: object) -> Any:
        return self.logs.setdefault(path.split("/")[-2], Log())

    def get(self, path: str, query: object = None) -> Object:
        return {"items": [], "metadata": {"resourceVersion": "1"}}

    def watch(self, path: str, query: object, *, seconds: int) -> Iterator[Object]:
        threading.Event().wait(60)
        return iter(())

    def delete(self, path: str, body: Object | None = None) -> Object:
        name = path.split("/")[-1]
        if not self.may_delete:
            raise ForbiddenError("may not delete jobs")
        if name not in self.created:
            raise NotFoundError("no such job")
        self.deleted.append(name)
        return {}


class Trace:
    """A trace of several runners, named as their nodes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *nodes: str, owned: bool = True) -> None:
        self.api = Api()
        self.events: list[Event] = []
        self.said: list[tuple[str, object]] = []
        self.broken = 0
        """How many more messages can't be sent."""
        self.refused = 0
        """How many more the API server does not allow."""
        self.channels = 0
        self.before_stop: Callable[[], object] = lambda: None
        trace = self

        class Channel:
            def __init__(self, client: object, namespace: str, pod: str) -> None:
                self._pod = pod
                trace.channels += 1

            def send(self, message: object) -> None:
                if trace.refused:
                    trace.refused -= 1
                    raise ForbiddenError("may not attach")
                if trace.broken:
                    trace.broken -= 1
                    raise TraceError("the connection to the runner broke")
                if isinstance(message, Stop):
                    trace.before_stop()
                trace.said.append((self._pod, message))

            def close(self, *, wait: bool) -> None:
                """Nothing is open."""

        monkeypatch.setattr(stream, "ControlChannel", Channel)
        self.fleet = Fleet(
            self.api, "n", "id", timeout=20, longest=60, owned=owned, begin=self._begin
        )
        self._nodes = nodes
        self.begun = threading.Event()
        self.create: Callable[[Placement], None] = lambda placement: self.api.created.add(
            placement.node
        )

    def start(self, sink: Callable[[Event], None] | None = None) -> None:
        self.fleet.start(sink or self.events.append)
        assert self.begun.wait(10)

    def _begin(self, fleet: Fleet) -> None:
        containers = (Container("n", "web", "web", "id", "uid"),)
        fleet.launch(
            {node: Placement(node, containers) for node in self._nodes},
            lambda placement: self.create(placement),
        )
        self.begun.set()

    def pod(
        self, node: str, state: str, ready: str = "True", message: str = "", on: str = ""
    ) -> None:
        """The runner's pod is in a state."""
        status = {"name": jobs.CONTAINER, "state": {state: {"message": message}}}
        labels = {jobs.LABEL: node}
        metadata = {"name": node, "namespace": "n", "uid": node, "labels": labels}
        pod = {
            "metadata": metadata,
            "spec": {"nodeName": on} if on else {},
            "status": {
                "phase": "Pending",
                "containerStatuses": [status],
                "conditions": [{"type": "Ready", "status": ready}],
            },
        }
        self.fleet._streams[node].on_pod(pod)

    def runs(self, node: str) -> None:
        self.pod(node, "running")
        until(lambda: (node, "Hello") in self.messages())

    def messages(self) -> list[tuple[str, str]]:
        return [(pod, type(message).__name__) for pod, message in self.said]

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_trace_is_finished_once_when_all_its_runners_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace = Trace(monkeypatch, "a", "b")
    trace.start()
    for node in ("a", "b"):
        trace.runs(node)
        trace.api.logs.setdefault(node, Log()).pieces.put(SUMMARY)
        trace.api.logs[node].pieces.put(None)
    until(lambda: bool(trace.of(Finished)))
    assert sorted(event.node for event in trace.of(Ended)) == ["a", "b"]
    assert [event.error for event in trace.of(Finished)] == [None]
    assert trace.fleet.close() == []
    assert trace.api.deleted == [], "what has run can be read later"


def test_a_runner_that_begins_while_the_user_stops_is_stopped_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace = Trace(monkeypatch, "a", "b")
    room = threading.Event()

    def sink(event: Event) -> None:
        trace.events.append(event)
        if isinstance(event, Progress) and event.node == "b" and event.text != "creating":
            assert room.wait(20)  # a slow terminal

    trace.start(sink)
    trace.runs("a")
    trace.pod("b", "waiting")
    until(lambda: any(event.node == "b" for event in trace.of(Progress)[2:]))
    trace.pod("b", "running")
    trace.fleet.send(Stop())
    room.set()
    until(lambda: ("b", "Stop") in trace.messages())
    assert ("a", "Stop") in trace.messages()


def test_who_gives_up_and_leaves_waits_for_no_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third Ctrl-C: of hundreds of runners the kubelets of some may not answer."""
    nodes = [f"node-{number}" for number in range(30)]
    trace = Trace(monkeypatch, *nodes)
    answers = threading.Event()
    trace.start()
    for node in nodes:
        trace.runs(node)
    trace.fleet.send(Kill())
    until(lambda: {(node, "Kill") for node in nodes} <= set(trace.messages()))
    trace.before_stop = lambda: answers.wait(60)
    closing = threading.Thread(target=trace.fleet.close)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    answers.set()


def test_who_leaves_before_all_is_taken_back_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = Trace(monkeypatch, "a", "b")
    trace.start()
    trace.runs("a")
    until(lambda: trace.api.created == {"a", "b"})
    trace.api.may_delete = False
    trace.fleet.send(Stop())
    until(lambda: trace.fleet._streams["b"].ended)
    trace.fleet.send(Kill())
    assert trace.fleet.close() == [
        "some of the trace's objects may be left: kubectl trace delete id"
    ]


def test_what_has_been_taken_back_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = Trace(monkeypatch, "a", "b")
    trace.start()
    trace.runs("a")
    until(lambda: trace.api.created == {"a", "b"})
    trace.fleet.send(Stop())
    until(lambda: trace.api.deleted == ["b"])
    trace.fleet.close()
    assert trace.api.deleted == ["b"]


def test_what_has_not_begun_when_the_user_stops_is_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace = Trace(monkeypatch, "a", "b")
    trace.start()
    trace.runs("a")
    until(lambda: "b" in trace.api.created)
    trace.fleet.send(Stop())
    until(lambda: trace.api.deleted == ["b"])
    (ended,) = trace.of(Ended)
    assert (ended.node, ended.started) == ("b", False)
    assert isinstance(ended.error, StartError)


def test_a_job_that_is_created_after_its_runner_was_given_up_is_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace = Trace(monkeypatch, "a")
    slow = threading.Event()

    def create(placement: Placement) -> None:
        assert slow.wait(20)
        trace.api.created.add(placement.node)

    trace.create = create
    trace.start()
    trace.fleet.send(Stop())
    until(lambda: bool(trace.of(Ended)))
    slow.set()
    until(lambda: trace.api.deleted == ["a"])


def test_the_reason_why_objects_can_not_all_be_created_is_told_not_that_the_pod_went(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace = Trace(monkeypatch, "a")

    def create(placement: Placement) -> None:
        metadata = {"name": "a", "uid": "a", "labels": {jobs.LABEL: "a"}}
        pod = {"metadata": metadata, "status": {}}
        trace.fleet._on_pods([pod], [])
        trace.fleet._on_pods([], [pod])  # taken back with its Job
        raise ForbiddenError("may not create configmaps")

    trace.create = create
    trace.start()
    until(lambda: bool(trace.of(Finished)))
    (ended,) = trace.of(Ended)
    assert str(ended.error) == "may not create configmaps"


def test_without_the_right_to_get_jobs_it_is_said_that_the_reason_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace = Trace(monkeypatch, "a")

    def get(path: str, query: object = None) -> Object:
        if "/jobs/" in path:
            raise ForbiddenError("may not get jobs")
        return {"items": [], "metadata": {"resourceVersion": "1"}}

    monkeypatch.setattr(trace.api, "get", get)
    trace.start()
    trace.runs("a")
    trace.fleet._streams["a"].on_pod_gone()
    trace.api.logs.setdefault("a", Log()).pieces.put(None)
    until(lambda: bool(trace.of(Finished)))
    (ended,) = trace.of(Ended)
    assert "deadline is not known: may not get jobs" in str(ended.error)


def test_a_runner_whose_log_may_not_be_read_is_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace = Trace(monkeypatch, "a")
    trace.start()
    trace.api.logs.setdefault("a", Log()).pieces.put(ForbiddenError("may not get pods/log"))
    trace.pod("a", "running")
    until(lambda: trace.api.deleted == ["a"])


@pytest.mark.parametrize("owned", [True, False])
def test_a_runner_whose_pod_was_evicted_is_not_begun_anew_and_its_end_is_read(
    monkeypatch: pytest.MonkeyPatch, owned: bool
) -> None:
    """The Job controller puts a new pod in the place of one that is deleted while it runs."""
    trace = Trace(monkeypatch, "a", owned=owned)
    trace.start()
    running = {"name": jobs.CONTAINER, "state": {"running": {}}}
    status = {"phase": "Running", "containerStatuses": [running]}
    first: Object = {
        "metadata": {"name": "a", "uid": "1", "labels": {jobs.LABEL: "a"}},
        "status": status,
    }
    trace.fleet._on_pods([first], [])
    log = trace.api.logs.setdefault("a", Log())
    until(lambda: trace.fleet.started)
    evicted = {**first, "metadata": {**first["metadata"], "deletionTimestamp": "now"}}
    second: Object = {**first, "metadata": {**first["metadata"], "name": "b", "uid": "2"}}
    trace.fleet._on_pods([evicted], [])
    trace.fleet._on_pods([second], [])
    log.pieces.put(UnavailableError("a break: what comes next is asked for again"))
    log.pieces.put(SUMMARY)
    until(lambda: bool(trace.of(Finished)))
    assert [event.error for event in trace.of(Ended)] == [None]
    assert list(trace.api.logs) == ["a"]
    assert trace.api.deleted == (["a"] if owned else [])


def test_a_runner_whose_pod_is_gone_is_not_read_on_in_the_one_that_replaces_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace = Trace(monkeypatch, "a")
    trace.start()
    trace.runs("a")
    first: Object = {"metadata": {"name": "a", "uid": "a", "labels": {jobs.LABEL: "a"}}}
    second: Object = {"metadata": {"name": "b", "uid": "b", "labels": {jobs.LABEL: "a"}}}
    trace.fleet._on_pods([{**first, "status": {}}], [])
    trace.fleet._on_pods([{**second, "status": {}}], [first])
    trace.api.logs.setdefault("a", Log()).pieces.put(None)
    until(lambda: bool(trace.of(Finished)))
    (ended,) = trace.of(Ended)
    assert "the trace's pod was deleted" in str(ended.error)
    assert list(trace.api.logs) == ["a"]
    assert trace.api.deleted == ["a"]


def test_what_can_not_be_taken_back_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = Trace(monkeypatch, "a")
    trace.api.may_delete = False
    trace.start()
    until(lambda: "a" in trace.api.created)
    assert trace.fleet.close() == [
        "the trace's objects are still there: may not delete jobs",
    ]


def test_a_runner_that_is_out_of_reach_twice_has_the_whole_time_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "AWAY", 0.4)
    monkeypatch.setattr(stream, "RECONNECT", 0.01)
    trace = Trace(monkeypatch, "a")
    trace.start()
    trace.runs("a")
    log = trace.api.logs.setdefault("a", Log())
    trace.fleet.send(Stop())
    for _ in range(4):
        log.pieces.put(UnavailableError("a break"))
        time.sleep(0.2)  # it is read well meanwhile
    log.pieces.put(SUMMARY)
    log.pieces.put(None)
    until(lambda: bool(trace.of(Finished)))
    assert [event.error for event in trace.of(Ended)] == [None]


def test_the_last_scope_is_the_one_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = Trace(monkeypatch, "a")
    trace.start()
    trace.runs("a")
    for number in range(100):
        containers = (Container("n", f"web-{number}", "web", "id", "uid"),)
        trace.fleet.update({"a": Placement("a", containers)})

    def last() -> str:
        scopes = [message for _, message in trace.said if isinstance(message, Scope)]
        return scopes[-1].containers[0].pod if scopes else ""

    until(lambda: last() == "web-99")
    assert trace.messages()[-1] in (("a", "Scope"), ("a", "Hello"))


def test_a_node_that_does_not_answer_is_named_and_so_is_its_return(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace = Trace(monkeypatch, "a")
    trace.start()
    trace.runs("a")
    for ready in ("False", "False", "True"):
        trace.pod("a", "running", ready)
    said = [(event.node, event.text) for event in trace.of(Notice) if event.node]
    assert said == [
        ("a", "the node does not answer: what comes next is late, or lost"),
        ("a", "the node answers again"),
    ]


def test_a_summary_that_the_log_lacks_comes_from_the_pods_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace = Trace(monkeypatch, "a")
    trace.start()
    trace.runs("a")
    summary = encode(Record(7, 1.0, "summary", to_data(Summary(exit=0, reason="stopped"))))
    trace.pod("a", "terminated", message=summary.decode() + "\n")
    trace.api.logs.setdefault("a", Log()).pieces.put(None)
    trace.api.logs["a"].pieces.put(None)
    until(lambda: bool(trace.of(Ended)))
    (ended,) = trace.of(Ended)
    assert (ended.error, ended.lost) == (None, 7)


def test_a_connection_that_breaks_is_made_anew_and_the_last_word_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(voice, "RECONNECT", 0.01)
    monkeypatch.setattr(voice, "HEARTBEAT", 0.01)
    trace = Trace(monkeypatch, "a")
    trace.start()
    trace.runs("a")
    trace.broken = 20
    until(lambda: trace.broken < 15)
    trace.fleet.send(Stop())
    until(lambda: ("a", "Stop") in trace.messages())
    assert not trace.of(Ended)


def test_what_a_dying_connection_has_swallowed_is_said_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bytes that were sent need not have come."""
    monkeypatch.setattr(voice, "RECONNECT", 0.01)
    monkeypatch.setattr(voice, "HEARTBEAT", 0.01)
    trace = Trace(monkeypatch, "a")
    trace.start()
    trace.runs("a")
    later = (Container("n", "web-2", "web", "id", "uid"),)
    trace.fleet.update({"a": Placement("a", later)})
    until(lambda: ("a", "Scope") in trace.messages())
    until(lambda: trace.messages()[-5:] == [("a", "Hello")] * 5)
    trace.said.clear()
    trace.broken = 1
    until(lambda: ("a", Scope(later)) in trace.said)
    trace.fleet.send(Stop())
    until(lambda: ("a", "Stop") in trace.messages())
    trace.said.clear()
    trace.broken = 1
    until(lambda: ("a", Stop()) in trace.said and ("a", Scope(later)) in trace.said)
    assert ("a", Hello()) not in trace.said


def test_a_right_that_is_refused_for_a_moment_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An API server that has just started does not know all roles yet."""
    for module in (stream, voice):
        monkeypatch.setattr(module, "RECONNECT", 0.01)
    monkeypatch.setattr(voice, "HEARTBEAT", 0.01)
    trace = Trace(monkeypatch, "a")
    trace.start()
    trace.runs("a")
    log = trace.api.logs.setdefault("a", Log())
    log.pieces.put(encode(Record(0, 1.0, "printf", "x")) + b"\n")
    until(lambda: bool(trace.of(Records)))
    trace.refused = 5
    log.pieces.put(ForbiddenError("may not read logs"))
    until(lambda: not trace.refused)
    log.pieces.put(encode(Record(1, 1.0, "summary", to_data(Summary(0, "stopped")))) + b"\n")
    until(lambda: bool(trace.of(Finished)))
    assert [event.error for event in trace.of(Ended)] == [None]
    trace.fleet.close()
    assert trace.api.deleted == []


def test_a_job_whose_creation_was_not_answered_is_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace = Trace(monkeypatch, "a")

    def create(placement: Placement) -> None:
        trace.api.created.add(placement.node)
        raise StartError("the connection broke") from UnavailableError("the connection broke")

    trace.create = create
    trace.start()
    until(lambda: trace.api.deleted == ["a"])


def test_pods_that_did_not_change_tell_nothing_new(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = Trace(monkeypatch, "a")
    trace.start()
    for _ in range(5):
        trace.pod("a", "waiting")
    trace.runs("a")
    assert len(trace.of(Progress)) == 2, "creating, waiting"


def test_without_the_states_of_pods_what_runs_is_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = Trace(monkeypatch, "a")
    forbidden = threading.Event()

    def changes(*_: object) -> Iterator[dict[str, Object]]:
        assert forbidden.wait(20)
        raise TraceError("Unauthorized")
        yield {}

    monkeypatch.setattr("kubectl_trace.kube.fleet.pod_changes", changes)
    trace.start()
    trace.runs("a")
    forbidden.set()
    until(lambda: any("Unauthorized" in event.text for event in trace.of(Notice)))
    trace.api.logs.setdefault("a", Log()).pieces.put(SUMMARY)
    trace.api.logs["a"].pieces.put(None)
    until(lambda: bool(trace.of(Finished)))
    assert [event.error for event in trace.of(Ended)] == [None]


def test_a_refusal_is_waited_for_also_after_a_long_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    answers = iter(["ok", "no", "no", "ok"])

    class Starting(Api):
        def watch(self, path: str, query: object, *, seconds: int) -> Iterator[Object]:
            nonlocal now
            now += 280  # a quiet watch, and then the API server restarts
            raise UnavailableError("it is away")

        def get(self, path: str, query: object = None) -> Object:
            if next(answers) == "no":
                raise ForbiddenError("not now")
            return {"metadata": {"resourceVersion": "1"}, "items": []}

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("kubectl_trace.kube.watch.time.sleep", sleep)
    monkeypatch.setattr("kubectl_trace.kube.watch.time.monotonic", lambda: now)
    states = watch.pod_changes(Starting(), "/pods", {})
    assert [next(states), next(states)] == [{}, {}]


@pytest.mark.parametrize("refused", ["get", "watch"])
def test_what_was_never_allowed_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise ForbiddenError("no")

    api = Api()
    monkeypatch.setattr(api, "get", lambda *_: {"metadata": {"resourceVersion": "1"}, "items": []})
    monkeypatch.setattr(api, refused, refuse)
    with pytest.raises(ForbiddenError):
        list(watch.pod_changes(api, "/pods", {}))


def test_a_list_whose_version_is_gone_is_not_listed_without_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    class Gone(Api):
        def watch(self, path: str, query: object, *, seconds: int) -> Iterator[Object]:
            raise GoneError("too old")

    monkeypatch.setattr("kubectl_trace.kube.watch.time.sleep", pauses.append)
    states = watch.pod_changes(Gone(), "/pods", {})
    assert [next(states) for _ in range(3)] == [{}, {}, {}]
    assert pauses == [watch.RECONNECT] * 2


class Early:
    """Output that comes before the log; the test gives it."""

    made: list[Early]

    def __init__(
        self, client: object, namespace: str, pod: str, give: Callable[[bytes], None]
    ) -> None:
        self.give = give
        self.is_closed = False
        self.made.append(self)

    def close(self) -> None:
        self.is_closed = True

    stop = close


def printed(number: int) -> bytes:
    return encode(Record(number, 1.0, "printf", f"{number}\n")) + b"\n"


def with_early(monkeypatch: pytest.MonkeyPatch, *nodes: str) -> Trace:
    monkeypatch.setattr(stream, "EarlyOutput", Early)
    Early.made = []
    trace = Trace(monkeypatch, *nodes)
    trace.start()
    return trace


def texts(trace: Trace) -> list[object]:
    return [record.data for event in trace.of(Records) for record in event.records]


def test_output_that_comes_before_the_log_is_shown_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = with_early(monkeypatch, "a")
    trace.pod("a", "waiting", on="node")
    (early,) = Early.made
    early.give(printed(0))
    until(lambda: texts(trace) == ["0\n"])
    assert trace.fleet.started, "Ctrl-C collects its maps from now on"
    until(lambda: ("a", "Hello") in trace.messages())
    early.give(printed(1))
    assert "a" not in trace.api.logs, "the kubelet does not know yet that it runs"
    trace.pod("a", "running", on="node")
    until(lambda: "a" in trace.api.logs)
    assert early.is_closed
    trace.api.logs["a"].pieces.put(printed(0) + printed(1) + printed(2))
    until(lambda: texts(trace) == ["0\n", "1\n", "2\n"])
    trace.api.logs["a"].pieces.put(SUMMARY.replace(b'"seq":0', b'"seq":3'))
    until(lambda: bool(trace.of(Finished)))
    assert [event.lost for event in trace.of(Ended)] == [0]


def test_a_trace_that_ends_before_its_log_can_be_read_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace = with_early(monkeypatch, "a")
    trace.pod("a", "waiting", on="node")
    Early.made[0].give(SUMMARY)
    until(lambda: bool(trace.of(Finished)))
    assert [event.error for event in trace.of(Ended)] == [None]
    assert "a" not in trace.api.logs


def test_a_pod_that_goes_after_its_first_output_ends_the_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace = with_early(monkeypatch, "a")
    trace.pod("a", "waiting", on="node")
    Early.made[0].give(printed(0))
    until(lambda: trace.fleet.started)
    trace.api.logs["a"] = Log()
    trace.api.logs["a"].pieces.put(NotFoundError("no such pod"))
    trace.fleet._streams["a"].on_pod_gone()
    until(lambda: bool(trace.of(Finished)))
    assert "deleted" in str(trace.of(Ended)[0].error)


def test_of_many_runners_none_is_asked_before_it_is_known_to_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = [f"node-{number}" for number in range(10)]
    trace = with_early(monkeypatch, *nodes)
    for node in nodes:
        trace.pod(node, "waiting", on=node)
    assert Early.made == []


def test_of_many_pods_only_those_that_changed_are_looked_at() -> None:
    a, b, later = {"metadata": {"uid": "a"}}, {"metadata": {"uid": "b"}}, {"metadata": {"uid": "a"}}
    states = [{"a": a}, {"a": a, "b": b}, {"a": later, "b": b}, {"b": b}, {"b": b}]
    differences = list(watch.differences(states))
    expected = [([a], []), ([b], []), ([later], []), ([], [later]), ([], [])]
    assert differences == expected
    assert differences[2][0][0] is later


@pytest.mark.parametrize("count", [2, 20])
def test_a_trace_takes_four_calls_a_node_and_three_beside_them(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    nodes = [f"node-{number}" for number in range(count)]
    trace = Trace(monkeypatch, *nodes)
    calls: Counter[str] = Counter()

    def counted(name: str) -> None:
        call = getattr(trace.api, name)

        def counting(path: str, *rest: Any, **named: Any) -> Any:
            calls[f"{name} {path.rpartition('/')[2]}"] += 1
            return call(path, *rest, **named)

        monkeypatch.setattr(trace.api, name, counting)

    def create(path: str, body: Object, query: object = None) -> Object:
        return {**body, "metadata": {**body["metadata"], "uid": "u"}}

    monkeypatch.setattr(trace.api, "create", create)
    for name in ("create", "get", "stream", "watch", "delete"):
        counted(name)
    described = tracing.Trace(id="id", program="BEGIN {}", merge=True)
    options = jobs.JobOptions(namespace="n", target="nodes")

    def begin(placement: Placement) -> None:
        job = jobs.job(described, placement, options)
        traces.create(trace.api, job, jobs.config_map(described, job))

    trace.create = begin
    trace.start()
    for node in nodes:
        trace.runs(node)
        trace.api.logs.setdefault(node, Log()).pieces.put(SUMMARY)
        trace.api.logs[node].pieces.put(None)
    until(lambda: bool(trace.of(Finished)))
    trace.fleet.close()
    assert calls == {
        "create jobs": count,
        "create configmaps": count,
        "stream log": count,
        "get pods": 1,
        "watch pods": 1,
        "watch events": 1,
    }
    assert trace.channels == count
