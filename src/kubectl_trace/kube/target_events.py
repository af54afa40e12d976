"""The Events that tell the owners of traced pods and nodes of a trace; best effort."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from kubectl_trace.errors import TraceError
from kubectl_trace.kube import audit
from kubectl_trace.kube.rights import NODES_EVENTS_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from kubectl_trace.kube.client import Client, Object
    from kubectl_trace.kube.job import JobOptions
    from kubectl_trace.kube.placement import Placement
    from kubectl_trace.trace import Trace

MOST = 50
"""Objects of one trace that get an Event."""
_AT_ONCE = 4  # calls at the same time: the trace itself goes first
_LEAVE = 5.0  # seconds at the end for those that are on their way


class TargetEvents:
    """Writes an Event for each pod or node that a trace sees, once, in threads of its own."""

    def __init__(
        self, client: Client, trace: Trace, options: JobOptions, say: Callable[[str], None]
    ) -> None:
        """`say` is told, once, why there are no Events, or not on all."""
        self._client = client
        self._trace = trace
        self._options = options
        self._say = say
        self._pool = ThreadPoolExecutor(_AT_ONCE, "events")
        self._lock = threading.Lock()
        self._known: set[tuple[str, ...]] = set()
        self._futures: list[Future[None]] = []
        self._refused: set[str] = set()
        """Namespaces where it did not work."""
        self._complained = False
        self._closed = False

    def record(self, placement: Placement) -> None:
        """The trace runs here now."""
        pods = {(each.namespace, each.pod, each.pod_uid) for each in placement.containers}
        about = [audit.pod_reference(*pod) for pod in sorted(pods)]
        for each in about or [audit.node_reference(placement.node)]:
            self._record(each)

    def close(self, *, at_once: bool = False) -> None:
        """Waits a little for the Events that are on their way, unless it is to be at once."""
        with self._lock:
            self._closed = True
        wait(self._futures, 0 if at_once else _LEAVE)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _record(self, about: Object) -> None:
        namespace = about.get("namespace", NODES_EVENTS_NAMESPACE)
        key = namespace, about["name"], about["uid"]
        with self._lock:
            if key in self._known or self._closed:
                return
            self._known.add(key)
            if len(self._known) <= MOST:
                self._futures.append(self._pool.submit(self._write, about, namespace))
                return
        self._complain(f"more than {MOST} pods are traced: the others get no Event that says so")

    def _write(self, about: Object, namespace: str) -> None:
        if namespace in self._refused:
            return
        event = audit.event(
            self._trace,
            about,
            namespace,
            owner=self._options.owner,
            reason=self._options.reason,
            traces_namespace=self._options.namespace,
        )
        try:
            self._client.create(f"/api/v1/namespaces/{namespace}/events", event)
        except TraceError as error:
            self._refused.add(namespace)
            kind, name = about["kind"].lower(), about["name"]
            self._complain(f"no Event on {kind} {name} tells of this trace: {error}")

    def _complain(self, text: str) -> None:
        with self._lock:
            if self._complained:
                return
            self._complained = True
        self._say(text)
