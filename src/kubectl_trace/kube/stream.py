"""One runner of a trace, followed: its pod's states, its log read from byte 0, its stdin held."""

from __future__ import annotations

import threading
import time
from queue import Empty, SimpleQueue
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
from kubectl_trace.kube.early import EarlyOutput
from kubectl_trace.kube.voice import AWAY, Voice
from kubectl_trace.kube.watch import RECONNECT
from kubectl_trace.results.events import Ended, Notice, Progress, Records
from kubectl_trace.results.reader import RecordReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_trace.kube.client import Client, Object, Stream
    from kubectl_trace.results.events import Sink
    from kubectl_trace.trace import Container, Kill, Stop

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
_LOOK_AGAIN = 0.2  # seconds
_FIRST_DELAY = 0.1  # seconds before a log that broke off is read again; doubled each time


class _Speaks:
    """The runner's container runs, though the kubelet does not know it yet: there is output."""


class RunnerStream:
    """Follows one runner from its creation to its summary record, in threads of its own."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        node: str,
        *,
        timeout: float,
        owned: bool,
        containers: tuple[Container, ...],
        sink: Sink,
        on_start: Callable[[RunnerStream], None],
        on_end: Callable[[RunnerStream], None],
        early: bool = False,
    ) -> None:
        """Is told the states of the runner's pod by `on_pod`, and says all else to the sink.

        Args:
            client: The API server.
            namespace: Where the trace's objects are.
            name: The Job's name.
            node: The node's name.
            timeout: Seconds for the runner to start.
            owned: The runner shall end with us.
            containers: The scope that it starts with.
            sink: Takes the events.
            on_start: Called once, when the runner runs.
            on_end: Called once, after the runner's `Ended`.
            early: Its first output is to come before its log can be read.
        """
        self.name = name
        self.node = node
        self.ended = False
        self._client = client
        self._namespace = namespace
        self._timeout = timeout
        self._owned = owned
        self._containers = self._scope = containers
        self._sink = sink
        self._on_start = on_start
        self._on_end = on_end
        self._reader = RecordReader()
        self._wants_early = early
        self._early: EarlyOutput | None = None
        self._has_log = threading.Event()
        self._voice: Voice | None = None
        self._end_lock = threading.Lock()
        self._states: SimpleQueue[Object | TraceError | _Speaks | None] = SimpleQueue()
        self._pod: Object | None = None
        self._is_gone = False
        self._is_out_of_reach = False
        self._stream: Stream | None = None
        self._started = threading.Event()
        self._is_speaking = False
        self._is_useless = False
        self._closed = False
        self._awaited_since = 0.0
        self._away_since = self._refused_since = 0.0
        self._has_read = False
        self._start_lock = threading.Lock()
        self._last_word: Stop | Kill | None = None
        self._progress = ""
        self._shown = ""  # the last trouble that the user was told of

    @property
    def started(self) -> bool:
        """Whether the runner's container has run."""
        return self._started.is_set()

    @property
    def is_worthless(self) -> bool:
        """Whether nothing of it can be read later, and something of it may still run.

        It has not run, or runs without a client to stop it; or its pod was deleted or evicted: the
        Job controller begins it anew in another pod.
        """
        return not self.started or self._is_useless or self._is_deleted

    @property
    def begun_in(self) -> str:
        """The UID of the pod that its runner has begun in; empty: it has not begun."""
        return str(self._pod["metadata"]["uid"]) if self.started and self._pod else ""

    @property
    def _is_deleted(self) -> bool:
        return self._is_gone or (
            self._pod is not None and "deletionTimestamp" in self._pod["metadata"]
        )

    def start(self) -> None:
        """Begins to follow."""
        self._in_thread(self._follow)

    def on_pod(self, pod: Object) -> None:
        """The runner's pod is this now."""
        if pod is self._pod:
            return
        self._pod = pod
        self._look_for_output(pod)
        if not self.started:
            self._states.put(pod)
        elif traces.is_out_of_reach(pod) != self._is_out_of_reach:
            self._is_out_of_reach = not self._is_out_of_reach
            text = "the node does not answer: what comes next is late, or lost"
            self._sink(
                Notice(text if self._is_out_of_reach else "the node answers again", self.node)
            )

    def on_pod_gone(self) -> None:
        """There is no pod any more, or not the one that the runner has begun in."""
        self._is_gone = True
        self._has_log.set()
        self._states.put(None)

    def end(self, message: Stop | Kill) -> None:
        """Tells the runner to end; one that has not started is given up."""
        with self._start_lock:
            self._last_word = message
            voice = self._voice
            if voice is None:
                self._states.put(StartError("stopped before it started"))
                return
            starts = not self._is_speaking
            self._is_speaking = True
        voice.end(message)
        if starts:
            self._in_thread(self._speak)

    def fail(self, error: TraceError) -> None:
        """Gives up a runner that has not started; one that has is read on."""
        self._has_log.set()  # nobody says any more when it can be read
        self._states.put(error)

    def set_scope(self, containers: tuple[Container, ...]) -> None:
        """Lets these containers be the runner's scope, at once or as soon as it runs."""
        with self._start_lock:
            self._scope = containers
            if self._voice is not None:
                self._voice.set_scope(containers)

    def give_up(self) -> None:
        """It must have ended by now."""
        self._end(TraceError("the runner did not end in time; its last records and maps are lost"))

    def give_up_soon(self) -> None:
        """The user waits for the end: a runner out of reach is waited for a while only."""
        self._awaited_since = self._awaited_since or time.monotonic()

    def close(self, *, at_once: bool = False) -> None:
        """Ends the following, and an owned runner with it; `at_once`: it has been told to end."""
        if self._voice is not None:
            self._voice.close(stop=self._owned and not self.ended and not at_once)
        self._closed = True
        self._has_log.set()
        if self._early is not None:
            self._early.stop()
        if self._stream is not None:
            self._stream.close()

    @property
    def pod_name(self) -> str:
        """The name of the runner's pod, once there is one."""
        assert self._pod is not None
        return str(self._pod["metadata"]["name"])

    def _in_thread(self, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except TraceError as error:
                self._end(error)
            except Exception as error:
                # Without its end the client would wait for ever.
                self._end(TraceError(f"kubectl trace itself failed: {error!r}"))
                raise

        threading.Thread(target=guarded, name=f"{self.node} {work.__name__}", daemon=True).start()

    def _end(self, error: TraceError | None = None) -> None:
        with self._end_lock:
            if self.ended or self._closed:
                return
            self.ended = True
        self._sink(Ended(self.node, self._reader.lost, error, self.started))
        self._on_end(self)

    # From creation to the running container.

    def _follow(self) -> None:
        self._wait_for_start()
        voice = Voice(
            ControlChannel(self._client, self._namespace, self.pod_name),
            self._containers,
            is_over=self._needs_no_word,
        )
        with self._start_lock:
            self._voice = voice
            self._started.set()
            voice.set_scope(self._scope)
            if self._last_word is not None:
                voice.end(self._last_word)
            self._is_speaking = self._owned or self._last_word is not None
        self._on_start(self)
        if self._is_speaking:
            self._in_thread(self._speak)
        self._await_log()
        self._read_log()

    def _speak(self) -> None:
        assert self._voice is not None
        try:
            self._voice.speak()
        except ForbiddenError:
            self._is_useless = not self._voice.greeted
            raise

    def _needs_no_word(self) -> bool:
        """Whether the runner has ended, as far as is known."""
        return self.ended or self._has_terminated() or self._is_gone

    def _wait_for_start(self) -> None:
        """Waits until the runner's container runs or has ended."""
        end = time.monotonic() + self._timeout
        while True:
            try:
                pod = self._states.get(timeout=max(0.0, end - time.monotonic()))
            except Empty:
                raise self._not_in_time() from None
            if isinstance(pod, TraceError):
                raise pod
            if pod is None:
                raise StartError("the trace's pod was deleted before it started")
            if isinstance(pod, _Speaks) or traces.runner_state(pod).keys() & {
                "running",
                "terminated",
            }:
                return
            self._explain(pod)

    def _explain(self, pod: Object) -> None:
        status = traces.pod_status(pod)
        if status.phase == "Failed":
            raise StartError(self._failed_before_start(pod, status))
        text = f"{status.reason}: {status.message}" if status.message else status.reason
        if status.reason in _HOPELESS:
            raise StartError(text)
        if status.reason != self._progress:
            self._progress = status.reason
            self._sink(Progress(self.node, status.reason or "waiting"))
        if status.message and text != self._shown:
            self._sink(Notice(f"waiting: {text}", self.node))
            self._shown = text

    def _failed_before_start(self, pod: Object, status: traces.Status) -> str:
        text = f"the trace's pod failed: {status.reason or 'unknown'}"
        if status.message:
            text += f": {status.message}"
        said = init_log(self._client, pod)
        return f"{text}\n{said}" if said else text

    def _not_in_time(self) -> StartError:
        text = f"not started within {self._timeout:g} s"
        why = self._shown or self._last_event()
        return StartError(f"{text}: {why}" if why else text)

    def _last_event(self) -> str:
        """What the cluster last complained about the runner's pod, or that it can't be created."""
        name = self.name if self._pod is None else self.pod_name
        try:
            events = self._client.get(
                f"/api/v1/namespaces/{self._namespace}/events",
                {"fieldSelector": f"involvedObject.name={name}"},
            )["items"]
        except ForbiddenError as error:
            return f"why is not known: {error}"
        except TraceError:
            return ""
        warnings = [event for event in events if event.get("type") == "Warning"]
        if warnings:
            return f"{warnings[-1]['reason']}: {warnings[-1]['message']}"
        if self._pod is None:
            return "it has no pod"
        return f"the pod is {self._pod['status']['phase']} on {self.node}; is its kubelet up?"

    # From the running container to the summary record.

    def _look_for_output(self, pod: Object) -> None:
        """Reads what there is before the log, once it can be that there is something."""
        if traces.runner_state(pod).keys() & {"running", "terminated"}:
            self._has_log.set()
        elif self._closed or not self._wants_early or self._early is not None:
            return
        elif pod.get("spec", {}).get("nodeName"):
            name = pod["metadata"]["name"]
            self._early = EarlyOutput(self._client, self._namespace, name, self._take_early)

    def _take_early(self, lines: bytes) -> None:
        if not self.started:
            self._states.put(_Speaks())
        while not self._started.wait(_LOOK_AGAIN):
            if self._closed or self.ended:
                return
        if records := self._reader.feed(lines):
            self._sink(Records(self.node, records))
        if self._reader.ended:
            self._has_log.set()

    def _await_log(self) -> None:
        """Waits until the log can be read, if there was output before that; that is over then."""
        if self._early is None:
            return
        self._has_log.wait()
        self._early.close()
        if self._reader.ended:
            self._end()

    def _has_terminated(self) -> bool:
        return self._pod is not None and traces.has_terminated(self._pod)

    def _read_log(self) -> None:
        """Reads the log to its end; where it breaks off, again, without what has come already.

        Kubelets may end a followed log before its last lines, when the container has ended.
        """
        delay = _FIRST_DELAY
        while not (self._closed or self.ended):
            before_read = self._has_terminated()
            self._reader.restart()
            try:
                self._read_log_once()
            except ForbiddenError as error:
                self._is_useless = not self._has_read
                if self._is_useless:
                    raise
                # API servers that have just started may refuse what they will allow.
                self._refused_since = self._refused_since or time.monotonic()
                self._wait_for_return(error, self._refused_since)
            except UnavailableError as error:
                self._refused_since = 0.0
                self._wait_for_return(error, self._awaited_since)
            except NotFoundError as error:
                if self._is_gone:
                    raise self._pod_is_gone() from error
            if self._reader.ended:
                self._end()
                return
            if self._is_gone:
                raise self._pod_is_gone()
            if before_read and not self._away_since:
                self._take_last_words()
                return
            time.sleep(delay)
            delay = min(2 * delay, RECONNECT)

    def _take_last_words(self) -> None:
        """The summary from the pod's status: the log has none, it could not be written.

        Raises:
            TraceError: there is none, the runner was killed.
        """
        self._reader.restart()
        records = self._reader.feed(traces.last_line(self._pod or {}))
        if not self._reader.ended:
            raise _no_summary(self._pod or {})
        self._sink(Notice("the node could not write its log to the end", self.node))
        self._sink(Records(self.node, records))
        self._end()

    def _wait_for_return(self, error: TraceError, since: float) -> None:
        """Tells why nothing can be read; gives up some time after `since`, 0: never."""
        self._away_since = self._away_since or time.monotonic()
        if str(error) != self._shown:
            self._sink(Notice(f"{error}; trying to read on", self.node))
            self._shown = str(error)
        if since and time.monotonic() - max(self._away_since, since) > AWAY:
            raise TraceError(f"out of reach, its last records and maps are lost: {error}")

    def _read_log_once(self) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/pods/{self.pod_name}/log"
        query = {"container": jobs.CONTAINER, "follow": "true"}
        with self._client.stream(path, query) as stream:
            self._stream = stream
            self._away_since = self._refused_since = 0.0
            for data in stream:
                self._has_read = True
                if records := self._reader.feed(data):
                    self._sink(Records(self.node, records))
                if self._reader.ended:
                    return  # the kubelet may take a second more to see the end

    def _pod_is_gone(self) -> TraceError:
        """Why there is no pod any more: the Job controller deletes it at the Job's own deadline."""
        try:
            job = self._client.get(f"/apis/batch/v1/namespaces/{self._namespace}/jobs/{self.name}")
        except ForbiddenError as error:
            return TraceError(
                "the trace's pod was deleted: its last records and maps are lost; whether by the "
                f"Job's deadline is not known: {error}"
            )
        except TraceError:
            job = {}
        reasons = [each.get("reason") for each in job.get("status", {}).get("conditions") or []]
        if "DeadlineExceeded" in reasons:
            return DeadlineError("the Job's deadline ended the runner; its maps are lost")
        return TraceError("the trace's pod was deleted: its last records and maps are lost")


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


def _memory_limit(pod: Object) -> str:
    """What the runner may use, as its pod says."""
    for container in pod.get("spec", {}).get("containers", ()):
        if container["name"] == jobs.CONTAINER:
            return str(container.get("resources", {}).get("limits", {}).get("memory", "?"))
    return "?"


def _no_summary(pod: Object) -> TraceError:
    terminated = traces.runner_state(pod).get("terminated", {})
    reason = terminated.get("reason", "unknown")
    message = terminated.get("message", "")
    if reason == "OOMKilled":
        return TraceError(
            f"the runner was killed: it needed more than --memory {_memory_limit(pod)}; its maps "
            "and its last records are lost (raise it, or keep fewer map keys)"
        )
    text = f"the runner ended without a summary: {reason}"
    if terminated.get("exitCode") is not None:
        text += f", exit code {terminated['exitCode']}"
    return (
        StartError(text)
        if terminated.get("exitCode") == 128
        else TraceError(f"{text} {message}".rstrip())
    )
