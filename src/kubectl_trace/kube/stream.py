"""A trace in the cluster, followed: its pod watched, its log read from byte 0, its stdin held."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from kubectl_trace.errors import (
    DeadlineError,
    ForbiddenError,
    NotFoundError,
    StartError,
    TraceError,
)
from kubectl_trace.kube import job as jobs
from kubectl_trace.kube import traces
from kubectl_trace.kube.client import UnavailableError
from kubectl_trace.kube.control import ControlChannel
from kubectl_trace.results.events import Ended, Notice, Records
from kubectl_trace.results.reader import RecordReader
from kubectl_trace.trace import Hello, Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_trace.kube.client import Client, Object, Stream
    from kubectl_trace.results.events import Sink
    from kubectl_trace.trace import Control

# Waiting reasons that time does not cure, or that have been tried more than once already.
_HOPELESS = {
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
}
_FIRST_DELAY = 0.1  # seconds before a log that broke off is read again; doubled each time
_HELLO_TIMEOUT = 15.0
"""Seconds for the kubelet to let us attach; the runner waits for a client twice as long."""


class TraceStream:
    """Follows one trace from its creation to its summary record, in threads of its own."""

    def __init__(
        self, client: Client, namespace: str, trace_id: str, *, timeout: float, owned: bool
    ) -> None:
        """`timeout`: seconds for the runner to start. `owned`: the trace shall end with us."""
        self._client = client
        self._namespace = namespace
        self._id = trace_id
        self._name = jobs.name_of(trace_id)
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._selector = {"labelSelector": f"{jobs.LABEL_ID}={trace_id}"}
        self._timeout = timeout
        self._owned = owned
        self._reader = RecordReader()
        self._channel: ControlChannel | None = None
        self._channel_lock = threading.Lock()
        self._pod_name = ""
        self._stream: Stream | None = None
        self._started = threading.Event()
        self._closed = False
        self._shown = ""  # the last trouble that the user was told of

    @property
    def lost_in_transport(self) -> int:
        """Records that the runner numbered and that never came."""
        return self._reader.lost

    @property
    def started(self) -> bool:
        """Whether the runner's container has run."""
        return self._started.is_set()

    def start(self, sink: Sink) -> None:
        """Begins to follow; events go to the sink from now on."""
        for work in (self._follow, self._watch_job_events, _prepare_control):
            threading.Thread(
                target=self._guarded, args=(work, sink), name=work.__name__, daemon=True
            ).start()

    def send(self, message: Control) -> None:
        """Sends a message to the runner.

        Raises:
            TraceError: the runner can't be reached.
        """
        with self._channel_lock:
            if self._channel is None:
                self._channel = ControlChannel(self._client, self._namespace, self._pod_name)
            self._channel.send(message)

    def close(self) -> None:
        """Ends the following, and an owned trace with it."""
        if self._owned and self.started and not self._reader.ended:
            # The end of its standard input says it, too, but only once we hold that.
            with contextlib.suppress(TraceError):
                self.send(Stop())
        self._closed = True
        if self._stream is not None:
            self._stream.close()
        if self._channel is not None:
            self._channel.close()

    def _guarded(self, work: Callable[[Sink], None], sink: Sink) -> None:
        try:
            work(sink)
        except TraceError as error:
            if not self._closed:
                sink(Ended(error))
        except Exception as error:
            # Without its end the client would wait for ever.
            sink(Ended(TraceError(f"kubectl trace itself failed: {error!r}")))
            raise

    # From creation to the running container.

    def _follow(self, sink: Sink) -> None:
        pod = self._wait_for_start(sink)
        self._pod_name = pod["metadata"]["name"]
        self._started.set()
        if self._owned and not traces.has_terminated(pod):
            threading.Thread(
                target=self._guarded, args=(self._say_hello, sink), name="hello", daemon=True
            ).start()
        self._read_log(sink)

    def _say_hello(self, sink: Sink) -> None:
        """Takes the runner's standard input; a runner that has ended meanwhile needs no hello."""
        end = time.monotonic() + _HELLO_TIMEOUT
        while not (self._closed or self._reader.ended):
            try:
                self.send(Hello())
            except ForbiddenError:
                raise
            except TraceError:
                if traces.has_terminated(self._pod()):
                    return
                if time.monotonic() > end:
                    raise
                time.sleep(traces.RECONNECT)
            else:
                return

    def _wait_for_start(self, sink: Sink) -> Object:
        """The trace's pod, once its container runs or has ended."""
        timer = threading.Timer(self._timeout, self._give_up, args=(sink,))
        timer.daemon = True
        timer.start()
        try:
            for pod in traces.pod_states(self._client, self._namespace, self._id):
                if "running" in traces.runner_state(pod) or traces.has_terminated(pod):
                    return pod
                self._explain(pod, sink)
        finally:
            timer.cancel()
        raise StartError("the trace's pod was deleted before it started")

    def _explain(self, pod: Object, sink: Sink) -> None:
        status = traces.pod_status(pod)
        if status.phase == "Failed":
            raise StartError(self._failed_before_start(pod, status))
        text = f"{status.reason}: {status.message}" if status.message else status.reason
        if status.reason in _HOPELESS:
            raise StartError(text)
        if status.message and text != self._shown:
            sink(Notice(f"waiting: {text}"))
            self._shown = text

    def _failed_before_start(self, pod: Object, status: traces.Status) -> str:
        text = f"the trace's pod failed: {status.reason or 'unknown'}"
        if status.message:
            text += f": {status.message}"
        said = init_log(self._client, pod)
        return f"{text}\n{said}" if said else text

    def _give_up(self, sink: Sink) -> None:
        if self.started or self._closed:
            return
        text = f"not started within {self._timeout:g} s"
        why = self._shown or self._last_event()
        sink(Ended(StartError(f"{text}: {why}" if why else text)))

    def _last_event(self) -> str:
        """What the cluster last complained about the trace's pod."""
        try:
            pods = self._client.get(self._pods, self._selector)["items"]
            events = self._client.get(
                f"/api/v1/namespaces/{self._namespace}/events",
                {"fieldSelector": f"involvedObject.name={pods[0]['metadata']['name']}"},
            )["items"]
        except (TraceError, IndexError):
            return ""
        warnings = [event for event in events if event.get("type") == "Warning"]
        if not warnings:
            node = pods[0]["spec"].get("nodeName", "")
            return f"the pod is {pods[0]['status']['phase']} on node {node}; is its kubelet up?"
        return f"{warnings[-1]['reason']}: {warnings[-1]['message']}"

    def _watch_job_events(self, sink: Sink) -> None:
        """The Job controller says in events, and nowhere else, why it can't create the pod."""
        path = f"/api/v1/namespaces/{self._namespace}/events"
        query = {"fieldSelector": f"involvedObject.name={self._name}"}
        try:
            for event in self._client.watch(path, query, seconds=int(self._timeout) + 1):
                if self.started or self._closed:
                    return
                if event["object"].get("reason") == "FailedCreate":
                    sink(Ended(StartError(event["object"]["message"])))
                    return
        except TraceError:
            return  # without the right to read events there is still the time-out

    # From the running container to the summary record.

    def _read_log(self, sink: Sink) -> None:
        """Reads the log to its end; where it breaks off, again, without what has come already.

        Kubelets may end a followed log before its last lines, when the container has ended.
        """
        delay = _FIRST_DELAY
        while not self._closed:
            before_read = traces.has_terminated(self._pod())
            self._reader.restart()
            try:
                self._read_log_once(sink)
            except UnavailableError as error:
                if str(error) != self._shown:
                    sink(Notice(f"{error}; trying to read on"))
                    self._shown = str(error)
            if self._reader.ended:
                sink(Ended())
                return
            if before_read:
                raise _no_summary(self._pod())
            time.sleep(delay)
            delay = min(2 * delay, traces.RECONNECT)

    def _read_log_once(self, sink: Sink) -> None:
        query = {"container": jobs.CONTAINER, "follow": "true"}
        with self._client.stream(f"{self._pods}/{self._pod_name}/log", query) as stream:
            self._stream = stream
            for data in stream:
                if records := self._reader.feed(data):
                    sink(Records(records))

    def _pod(self) -> Object:
        """The trace's pod; waits for an API server that is away, as long as the user does."""
        while True:
            try:
                return self._client.get(f"{self._pods}/{self._pod_name}")
            except NotFoundError as error:
                raise self._pod_is_gone() from error
            except UnavailableError:
                if self._closed:
                    raise
                time.sleep(traces.RECONNECT)

    def _pod_is_gone(self) -> TraceError:
        """Why there is no pod any more: the Job controller deletes it at the Job's own deadline."""
        try:
            job = self._client.get(
                f"/apis/batch/v1/namespaces/{self._namespace}/jobs", self._selector
            )["items"][0]
        except (TraceError, IndexError):
            job = {}
        reasons = [each.get("reason") for each in job.get("status", {}).get("conditions") or []]
        if "DeadlineExceeded" in reasons:
            return DeadlineError("the Job's deadline ended the runner; its maps are lost")
        return TraceError("the trace's pod was deleted: its last records and maps are lost")


def _prepare_control(sink: Sink) -> None:
    """Imports what the control channel needs while the pod starts, so that hello comes at once."""
    import websockets.sync.client  # noqa: F401


def init_log(client: Client, pod: Object) -> str:
    """What the pod's init container said, if it has one and it ran; else the empty string."""
    if not pod["spec"].get("initContainers"):
        return ""
    metadata = pod["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log"
    try:
        with client.stream(path, {"container": jobs.INIT_CONTAINER}) as stream:
            return b"".join(stream).decode(errors="replace").strip()
    except TraceError:
        return ""


def _no_summary(pod: Object) -> TraceError:
    terminated = traces.runner_state(pod).get("terminated", {})
    reason = terminated.get("reason", "unknown")
    message = terminated.get("message", "")
    text = f"the runner ended without a summary: {reason}"
    if terminated.get("exitCode") is not None:
        text += f", exit code {terminated['exitCode']}"
    if reason == "OOMKilled":
        text += " (raise the memory limit with --patch, or keep fewer map keys)"
    return (
        StartError(text)
        if terminated.get("exitCode") == 128
        else TraceError(f"{text} {message}".rstrip())
    )
