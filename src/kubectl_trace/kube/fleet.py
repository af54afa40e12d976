"""All runners of a trace as one: created, watched, followed, told and ended together."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TYPE_CHECKING

from kubectl_trace.errors import NotFoundError, StartError, TraceError
from kubectl_trace.kube import early, traces
from kubectl_trace.kube import job as jobs
from kubectl_trace.kube.client import UnavailableError
from kubectl_trace.kube.stream import RunnerStream
from kubectl_trace.kube.watch import differences, pod_changes
from kubectl_trace.results.events import Finished, Notice, Progress
from kubectl_trace.trace import Kill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from kubectl_trace.kube.client import Client, Object
    from kubectl_trace.kube.placement import Placement
    from kubectl_trace.kube.traces import Part
    from kubectl_trace.results.events import Sink
    from kubectl_trace.trace import Container, Stop

AT_ONCE = 10
"""Runners that are created, or closed, at the same time: the API server has others to serve."""

_LONGEST_SLEEP = 3600.0  # seconds


class Fleet:
    """Follows the runners of one trace."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        trace_id: str,
        *,
        timeout: float,
        longest: float,
        owned: bool,
        begin: Callable[[Fleet], None],
        own: Callable[[str, str], None] = lambda namespace, pod: None,
    ) -> None:
        """Does nothing yet.

        Args:
            client: The API server.
            namespace: Where the trace's objects are.
            trace_id: The trace's UUID.
            timeout: Seconds for each runner to start.
            longest: Seconds after which each runner that has started must have ended.
            owned: The trace shall end with us.
            begin: Called once it is started: launches runners, or follows those that there are.
            own: Takes the namespace and pod of each runner that runs.
        """
        self._client = client
        self._namespace = namespace
        self._id = trace_id
        self._timeout = timeout
        self._longest = longest
        self._owned = owned
        self._begin = begin
        self._own = own
        self._created: set[str] = set()
        self._creating: dict[str, bool] = {}
        """Whose objects are not all there yet, by the Job's name: whether its pod is gone again."""
        self._streams: dict[str, RunnerStream] = {}
        """By the Job's name."""
        self._running: SimpleQueue[tuple[float, RunnerStream]] = SimpleQueue()
        """The runners that have begun, each with the time by which it must have ended."""
        self._lock = threading.Lock()
        self._sink: Sink = lambda event: None
        self._launching = 0
        self._stopping = False
        self._is_given_up = False
        """All have been told to end at once: nobody waits for anything any more."""
        self._finished = False
        self._pool: ThreadPoolExecutor | None = None
        self._pods: dict[str, dict[str, Object]] = {}
        """By the Job's name and the UID."""
        self._told: set[str] = set()

    @property
    def started(self) -> bool:
        """Whether any runner has begun."""
        return any(stream.started for stream in list(self._streams.values()))

    @property
    def nodes(self) -> list[str]:
        """The nodes of the runners there are, or were."""
        return [stream.node for stream in list(self._streams.values())]

    def start(self, sink: Sink) -> None:
        """Begins to follow; events go to the sink from now on."""
        self._sink = sink
        for work in (self._watch_pods, self._watch_job_events, self._watch_ends, self._launch):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()

    def _launch(self) -> None:
        try:
            self._begin(self)
        except Exception as error:
            # Without its end the client would wait for ever.
            self._sink(Finished(TraceError(f"kubectl trace itself failed: {error!r}")))
            raise

    def say(self, text: str) -> None:
        """Something that the user should see."""
        self._sink(Notice(text))

    def follow(self, parts: Iterable[Part]) -> None:
        """Follows the runners of a trace that is there."""
        with self._lock:
            self._launching += 1
        for part in parts:
            stream = self._add(part.name, part.node)
            status = traces.part_status(part)
            if part.pod is None and status.phase == "Failed":
                stream.fail(StartError(f"{status.reason}: {status.message}"))
        with self._lock:
            self._launching -= 1
        self._check_finished()

    def launch(self, runners: Mapping[str, Placement], create: Callable[[Placement], None]) -> None:
        """Creates runners, several at a time, and follows them.

        Args:
            runners: The names of their Jobs, and where they are to run.
            create: Creates the objects of one; what it raises is that runner's end.
        """
        with self._lock:
            if self._finished:
                return
            self._launching += len(runners)
            self._pool = self._pool or ThreadPoolExecutor(AT_ONCE, "launch")
        is_early = len(self._streams) + len(runners) <= early.AT_MOST
        for name, placement in runners.items():
            stream = self._add(name, placement.node, placement.containers, is_early=is_early)
            self._sink(Progress(placement.node, "creating"))
            with self._lock:
                if not self._finished:
                    self._pool.submit(self._create, stream, placement, create)

    def update(self, placements: Mapping[str, Placement]) -> list[Placement]:
        """Lets the target be at these places now; those on nodes that have had no runner yet.

        Containers that came and went join and leave the scopes of the runners that there are.
        """
        streams = list(self._streams.values())
        for stream in streams:
            here = placements.get(stream.node)
            stream.set_scope(here.containers if here else ())
            if stream.ended and here and stream.node not in self._told:
                self._told.add(stream.node)
                self.say(
                    f"{stream.node}: the program has ended there, pods that come are not traced"
                )
        known = {stream.node for stream in streams}
        return [placement for node, placement in placements.items() if node not in known]

    def send(self, message: Stop | Kill) -> None:
        """Tells all runners to end; those that have not started are given up."""
        self._stopping = True
        self._is_given_up = isinstance(message, Kill)
        for stream in list(self._streams.values()):
            if not stream.ended:
                stream.end(message)
                stream.give_up_soon()

    def close(self) -> list[str]:
        """Ends the following, and an owned trace with it; what the user should know of that."""
        with self._lock:
            self._finished = True
        if self._pool is not None:
            self._pool.shutdown(wait=not self._is_given_up, cancel_futures=True)
        streams = list(self._streams.values())
        if not streams:
            return []
        if self._is_given_up:
            return self._leave(streams)
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            return [text for text in pool.map(self._close, streams) if text]
        finally:
            # Who leaves at once (Ctrl-C) does not wait for hundreds of goodbyes.
            pool.shutdown(wait=False, cancel_futures=True)

    def _leave(self, streams: list[RunnerStream]) -> list[str]:
        """Waits for no answer; those that have not heard us end when they hear nothing more."""
        for stream in streams:
            stream.close(at_once=True)
        if self._owned and any(
            each.is_worthless and each.name in self._created for each in streams
        ):
            return [f"some of the trace's objects may be left: kubectl trace delete {self._id}"]
        return []

    def _close(self, stream: RunnerStream) -> str:
        stream.close()
        return self._take_back(stream) if self._owned and stream.is_worthless else ""

    def _add(
        self,
        name: str,
        node: str,
        containers: tuple[Container, ...] = (),
        *,
        is_early: bool = False,
    ) -> RunnerStream:
        with self._lock:
            if name in self._streams:
                return self._streams[name]
            stream = self._streams[name] = RunnerStream(
                self._client,
                self._namespace,
                name,
                node,
                timeout=self._timeout,
                owned=self._owned,
                containers=containers,
                sink=self._sink,
                on_start=self._on_start,
                on_end=self._on_end,
                early=is_early,
            )
        stream.start()
        return stream

    def _create(
        self, stream: RunnerStream, placement: Placement, create: Callable[[Placement], None]
    ) -> None:
        try:
            if self._stopping:
                raise StartError("stopped before it started")
            self._created.add(stream.name)
            self._creating[stream.name] = False
            create(placement)
            self.say(f"trace {self._id} created")
            _prepare_control()
            if stream.ended and stream.is_worthless:
                self._take_back(stream)  # it was given up meanwhile
        except TraceError as error:
            if not isinstance(error.__cause__, UnavailableError):
                self._created.discard(stream.name)  # all or nothing; else it may be there
            stream.fail(error)
        except BaseException as error:
            stream.fail(TraceError(f"kubectl trace itself failed: {error!r}"))
            raise
        finally:
            with self._lock:
                self._launching -= 1
                pod_is_gone = self._creating.pop(stream.name, False)
            if pod_is_gone:
                stream.on_pod_gone()
            self._check_finished()

    def _on_start(self, stream: RunnerStream) -> None:
        self._running.put((time.monotonic() + self._longest, stream))
        self._own(self._namespace, stream.pod_name)

    def _watch_ends(self) -> None:
        """Gives up who has not ended in time: those that began first come first."""
        while True:
            end, stream = self._running.get()
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(left, _LONGEST_SLEEP))
            stream.give_up()

    def _on_end(self, stream: RunnerStream) -> None:
        # It must not start when nobody follows it any more.
        if self._owned and stream.is_worthless and (text := self._take_back(stream)):
            self._sink(Notice(text, stream.node))
        self._check_finished()

    def _take_back(self, stream: RunnerStream) -> str:
        """Deletes what a runner has in the cluster; what stands in the way, if it can't be."""
        if stream.name in self._created:
            try:
                traces.delete_job(self._client, self._namespace, stream.name, now=True)
                self._created.discard(stream.name)
            except NotFoundError:
                pass
            except TraceError as error:
                return f"the trace's objects are still there: {error}"
        return ""

    def _check_finished(self) -> None:
        with self._lock:
            running = self._launching or any(not each.ended for each in self._streams.values())
            if running or self._finished:
                return
            self._finished = True
        self._sink(Finished())

    def _watch_pods(self) -> None:
        query = {"labelSelector": f"{jobs.LABEL_ID}={self._id}"}
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        try:
            for changed, gone in differences(pod_changes(self._client, path, query)):
                self._on_pods(changed, gone)
        except TraceError as error:
            if not self.started:
                self._sink(Finished(error))
                return
            self.say(f"the states of the trace's pods are not known any more: {error}")
            for stream in list(self._streams.values()):
                stream.fail(error)
        except Exception as error:
            # Without its end the client would wait for ever.
            self._sink(Finished(TraceError(f"kubectl trace itself failed: {error!r}")))
            raise

    def _on_pods(self, changed: Iterable[Object], gone: Iterable[Object]) -> None:
        touched: dict[str, None] = {}
        for pod in changed:
            job = _job_of(pod)
            self._pods.setdefault(job, {})[pod["metadata"]["uid"]] = pod
            touched[job] = None
        for pod in gone:
            job = _job_of(pod)
            del self._pods[job][pod["metadata"]["uid"]]
            touched[job] = None
        for job in touched:
            if current := self._pod_of(job):
                self._on_pod(job, current)
            else:
                self._on_pod_gone(job)

    def _pod_of(self, job: str) -> Object | None:
        """The pod that a runner has begun in, not one that replaces it; else the Job's last one."""
        pods = self._pods[job]
        stream = self._streams.get(job)
        if stream is not None and stream.begun_in:
            return pods.get(stream.begun_in)
        return list(pods.values())[-1] if pods else None

    def _on_pod(self, job: str, pod: Object) -> None:
        stream = self._streams.get(job)
        if stream is None:
            # Another client's trace has got a new node.
            node = pod["metadata"].get("annotations", {}).get(jobs.ANNOTATION_NODE, "")
            stream = self._add(job, node)
        stream.on_pod(pod)

    def _on_pod_gone(self, job: str) -> None:
        with self._lock:
            if job in self._creating:
                self._creating[job] = True  # why comes from who creates it
                return
        self._streams[job].on_pod_gone()

    def _watch_job_events(self) -> None:
        """The Job controller says in events, and nowhere else, why it can't create a pod."""
        path = f"/api/v1/namespaces/{self._namespace}/events"
        query = {"fieldSelector": "involvedObject.kind=Job,reason=FailedCreate"}
        with contextlib.suppress(TraceError):  # without the right to read them: the time-out
            for event in self._client.watch(path, query, seconds=int(self._timeout) + 1):
                if self._finished:
                    return
                stream = self._streams.get(event["object"]["involvedObject"]["name"])
                if stream is not None and not stream.started:
                    stream.fail(StartError(event["object"]["message"]))


def _job_of(pod: Object) -> str:
    return str(pod["metadata"]["labels"].get(jobs.LABEL, ""))


def _prepare_control() -> None:
    """What the control channels need is imported while the pods start: hello comes at once."""
    import websockets.client  # noqa: F401
