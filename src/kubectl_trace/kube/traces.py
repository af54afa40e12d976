"""Traces in the cluster: create, find, list, delete, and what state one is in."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

import msgspec

from kubectl_trace.errors import Exit, ForbiddenError, NotFoundError, StartError, TraceError
from kubectl_trace.kube import job as jobs
from kubectl_trace.kube.client import UnavailableError
from kubectl_trace.kube.watch import RECONNECT, pod_changes
from kubectl_trace.results.record import Summary, decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kubectl_trace.kube.client import Client, Object


_PATIENCE = 30.0
"""Seconds beyond its grace period in which a trace must have ended."""
_LOOK_AGAIN = 10


@dataclass(frozen=True)
class Part:
    """A trace on one node: a Job and, where it has one, its pod."""

    job: Object
    pod: Object | None

    @property
    def name(self) -> str:
        """The Job's name."""
        return str(self.job["metadata"]["name"])

    @property
    def node(self) -> str:
        """The node's name."""
        return self.annotation(jobs.ANNOTATION_NODE)

    def annotation(self, name: str) -> str:
        """One of the Job's annotations, or the empty string."""
        return str(self.job["metadata"].get("annotations", {}).get(name, ""))


@dataclass(frozen=True)
class Found:
    """A trace as the cluster knows it: a part a node, by the nodes' names; at least one."""

    parts: tuple[Part, ...]

    @property
    def id(self) -> str:
        """The trace's UUID."""
        return str(self.parts[0].job["metadata"]["labels"][jobs.LABEL_ID])

    @property
    def name(self) -> str:
        """The trace's name: that of its Job, or what the names of its Jobs begin with."""
        return jobs.name_of(self.id)

    @property
    def namespace(self) -> str:
        """The namespace of its Jobs."""
        return str(self.parts[0].job["metadata"]["namespace"])

    @property
    def created(self) -> str:
        """When its first Job was created, RFC 3339."""
        return min(str(part.job["metadata"]["creationTimestamp"]) for part in self.parts)


@dataclass(frozen=True)
class Status:
    """The state of a trace: a phase, and where there is one, the reason for it."""

    phase: str
    """`Pending`, `Running`, `Completed`, `Failed` or `Terminating`."""
    reason: str = ""
    message: str = ""

    def __str__(self) -> str:
        return f"{self.phase} ({self.reason})" if self.reason else self.phase


_EXIT_REASONS = {
    Exit.NOT_STARTED: "NotStarted",
    Exit.FORBIDDEN: "Forbidden",
    Exit.REFUSED: "ProgramRefused",
    Exit.DEADLINE: "DeadlineExceeded",
    Exit.OVERHEAD: "OverheadExceeded",
}


def create(client: Client, job: Object, config_map: Object) -> Object:
    """Creates a Job and the ConfigMap that it is to own; the Job as stored. All or nothing.

    Raises:
        StartError: quota, admission or the like.
        ForbiddenError, NotFoundError: as the API server answers.
    """
    namespace = job["metadata"]["namespace"]
    created = _created(client, f"/apis/batch/v1/namespaces/{namespace}/jobs", job)
    try:
        _created(
            client,
            f"/api/v1/namespaces/{namespace}/configmaps",
            jobs.owned(config_map, created),
        )
    except BaseException:  # Ctrl-C, too
        with contextlib.suppress(TraceError):
            delete_job(client, namespace, created["metadata"]["name"], now=True)
        raise
    return created


def _created(client: Client, path: str, body: Object) -> Object:
    try:
        return client.create(path, body)
    except NotFoundError:
        raise  # the namespace
    except ForbiddenError as error:
        # Quota and admission answer 403, too, but no right of the user's would help.
        if "exceeded quota" in str(error) or "denied the request" in str(error):
            raise StartError(str(error)) from error
        raise
    except TraceError as error:
        raise StartError(str(error)) from error


def find(client: Client, namespace: str, text: str) -> Found:
    """The trace with this ID or name.

    Raises:
        NotFoundError: there is none in the namespace.
    """
    trace_id = jobs.id_of(text)
    is_id = re.fullmatch(r"[\w.-]+", trace_id, re.ASCII)
    found = _list(client, namespace, f"{jobs.LABEL_ID}={trace_id}") if is_id else []
    if not found:
        raise NotFoundError(f"no trace {text} in namespace {namespace}")
    return found[0]


def every(client: Client, namespace: str) -> list[Found]:
    """All traces of a namespace, oldest first; the empty namespace stands for all of them."""
    return _list(client, namespace, jobs.LABEL_ID)


def _list(client: Client, namespace: str, selector: str) -> list[Found]:
    query = {"labelSelector": selector}
    within = f"namespaces/{namespace}/" if namespace else ""
    found_jobs = client.get(f"/apis/batch/v1/{within}jobs", query)["items"]
    if not found_jobs:
        return []
    pods = client.get(f"/api/v1/{within}pods", query)["items"]
    by_job = {
        (pod["metadata"]["namespace"], pod["metadata"]["labels"].get(jobs.LABEL)): pod
        for pod in pods
    }
    parts = [
        Part(job, by_job.get((job["metadata"]["namespace"], job["metadata"]["name"])))
        for job in found_jobs
    ]
    return sorted(_by_trace(parts), key=lambda found: (found.created, found.name))


def _by_trace(parts: Iterable[Part]) -> list[Found]:
    traces: dict[tuple[str, str], list[Part]] = {}
    for part in parts:
        metadata = part.job["metadata"]
        traces.setdefault((metadata["namespace"], metadata["labels"][jobs.LABEL_ID]), []).append(
            part
        )
    return [
        Found(tuple(sorted(each, key=lambda part: (part.node, part.name))))
        for each in traces.values()
    ]


def delete(client: Client, found: Found, *, now: bool) -> None:
    """Deletes a trace's Jobs, and with them what they own. `now`: without the pods' grace period.

    Raises:
        NotFoundError, ForbiddenError, TraceError: as the API server answers; then some are left.
    """
    for part in found.parts:
        delete_job(client, found.namespace, part.name, now=now)


def delete_job(client: Client, namespace: str, name: str, *, now: bool) -> None:
    """Deletes a trace's Job on one node, and what it owns. `now`: without the pod's grace period.

    Raises:
        NotFoundError, ForbiddenError, TraceError: as the API server answers.
    """
    client.delete(
        f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}", {"propagationPolicy": "Background"}
    )
    if not now:
        return
    # After the Job, whose controller would put a new pod in the place of a deleted one.
    pods = f"/api/v1/namespaces/{namespace}/pods"
    try:
        for pod in client.get(pods, {"labelSelector": f"{jobs.LABEL}={name}"})["items"]:
            with contextlib.suppress(NotFoundError):
                client.delete(f"{pods}/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})
    except ForbiddenError as error:
        raise ForbiddenError(
            f"its Job is deleted, but its pod goes only when its grace period is over: {error}"
        ) from error


def status(found: Found) -> Status:
    """The trace's state: that of its one part, or what its parts' states come to."""
    states = [part_status(part) for part in found.parts]
    if len(states) == 1:
        return states[0]
    for phase in ("Terminating", "Running", "Pending", "Failed"):
        in_phase = [state for state in states if state.phase == phase]
        if len(in_phase) == len(states) and len(set(in_phase)) == 1:
            return in_phase[0]
        if in_phase:
            reasons = sorted({state.reason for state in in_phase if state.reason})
            detail = f"{len(in_phase)}/{len(states)} {'/'.join(reasons)}".rstrip()
            return Status(phase, detail, next((each.message for each in in_phase), ""))
    return Status("Completed")


def part_status(part: Part) -> Status:
    """The state of a trace on one node, told from its Job and its pod."""
    if "deletionTimestamp" in part.job["metadata"]:
        return Status("Terminating")
    conditions = {
        condition["type"]: condition
        for condition in part.job.get("status", {}).get("conditions") or []
        if condition["status"] == "True"
    }
    if "Complete" in conditions:
        return Status("Completed")
    if part.pod is None:
        failed = conditions.get("Failed")
        if failed:
            return Status("Failed", failed.get("reason", ""), failed.get("message", ""))
        return Status("Pending")
    return pod_status(part.pod)


def is_starting(part: Part) -> bool:
    """Whether its runner may have begun already: a kubelet says so up to a second later."""
    if part.pod is None or not part.pod["spec"].get("nodeName"):
        return False
    status = part_status(part)
    return status.phase == "Pending" and status.reason in ("", "ContainerCreating", "Initializing")


def pod_status(pod: Object) -> Status:
    """The state of a trace's pod, with the reason that a user can act on."""
    state = pod.get("status", {})
    phase = state.get("phase", "Unknown")
    statuses = [
        *(state.get("initContainerStatuses") or []),
        *(state.get("containerStatuses") or []),
    ]
    for container in statuses:
        terminated = container.get("state", {}).get("terminated")
        if terminated and terminated.get("exitCode", 0) != 0:
            reason = _EXIT_REASONS.get(terminated["exitCode"], terminated.get("reason", "Error"))
            said = last_words(pod)
            message = terminated.get("message", "") if said is None else said.message
            return Status("Failed", reason, message)
    if phase == "Succeeded":
        return Status("Completed")
    if phase == "Failed":
        return Status("Failed", state.get("reason", ""), state.get("message", ""))
    if "deletionTimestamp" in pod["metadata"]:
        return Status("Terminating")
    for container in statuses:
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            return Status("Pending", waiting["reason"], waiting.get("message", ""))
    for condition in state.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Status("Pending", condition.get("reason", ""), condition.get("message", ""))
    if phase == "Running":
        return Status("Running")
    for container in statuses:
        if "running" in container.get("state", {}):
            return Status("Pending", "Initializing")
    return Status(phase, "ContainerCreating" if statuses else "")


def grace(found: Found) -> float:
    """Seconds that the trace's program gets to detach."""
    spec = found.parts[0].job["spec"]["template"]["spec"]
    return float(spec.get("terminationGracePeriodSeconds", 30))


def longest(found: Found) -> float:
    """Seconds after which the Job controller has ended the trace at the latest."""
    return float(found.parts[0].job["spec"]["activeDeadlineSeconds"]) + grace(found)


def wait_for_end(client: Client, found: Found) -> None:
    """Waits until a trace that was told to stop has ended.

    Raises:
        TraceError: as the API server answers, or it has not ended within its grace period.
    """
    path = f"/api/v1/namespaces/{found.namespace}/pods"
    query = {"labelSelector": f"{jobs.LABEL_ID}={found.id}"}
    end = time.monotonic() + grace(found) + _PATIENCE
    for pods in pod_changes(client, path, query, seconds=_LOOK_AGAIN):
        running = [pod for pod in pods.values() if not has_terminated(pod)]
        if not running:
            return
        if time.monotonic() > end:
            nodes = ", ".join(sorted(pod["spec"].get("nodeName", "?") for pod in running))
            raise TraceError(f"it has not ended on {nodes} (are their kubelets up?)")


def runner_state(pod: Object) -> Object:
    """The state of the runner's container: `running`, `waiting` or `terminated`, with details."""
    statuses = pod.get("status", {}).get("containerStatuses") or []
    state: Object = next(
        (status.get("state", {}) for status in statuses if status["name"] == jobs.CONTAINER), {}
    )
    return state


def last_line(pod: Object) -> bytes:
    """The summary record's line, which a runner leaves in its pod's status, too; else empty."""
    message = runner_state(pod).get("terminated", {}).get("message", "")
    return str(message).encode()


def last_words(pod: Object) -> Summary | None:
    """What the runner's summary in its pod's status says; None: there is none."""
    try:
        record = decode(last_line(pod))
        return msgspec.convert(record.data, Summary) if record.type == "summary" else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def is_out_of_reach(pod: Object) -> bool:
    """Whether a pod that runs is on a node that does not answer any more.

    The node controller takes such pods' condition `Ready` away after some 40 s.
    """
    conditions = pod.get("status", {}).get("conditions") or []
    ready = next((each["status"] for each in conditions if each["type"] == "Ready"), "")
    return "running" in runner_state(pod) and ready == "False"


def has_terminated(pod: Object) -> bool:
    """Whether the runner has ended, or will never run."""
    phase = pod.get("status", {}).get("phase")
    return "terminated" in runner_state(pod) or phase in ("Succeeded", "Failed")


def changes(client: Client, namespace: str) -> Iterator[Found]:
    """Each trace whenever one of its Jobs or pods changes, without an end."""
    within = f"namespaces/{namespace}/" if namespace else ""
    events: SimpleQueue[tuple[str, Object] | TraceError] = SimpleQueue()
    for kind, path in (("job", f"/apis/batch/v1/{within}jobs"), ("pod", f"/api/v1/{within}pods")):
        threading.Thread(target=_watch_into, args=(client, kind, path, events), daemon=True).start()
    known: dict[str, dict[tuple[str, str], Object]] = {"job": {}, "pod": {}}
    while True:
        event = events.get()
        if isinstance(event, TraceError):
            raise event
        kind, changed = event[0], event[1]["object"]
        metadata = changed["metadata"]
        key = metadata["namespace"], metadata["labels"].get(jobs.LABEL, "")
        known[kind][key] = changed
        if event[1]["type"] == "DELETED":
            del known[kind][key]
            if kind == "job":
                metadata.setdefault("deletionTimestamp", "")
                yield Found((Part(changed, None),))
                continue
        of_trace = [
            Part(job, known["pod"].get(key))
            for key, job in known["job"].items()
            if job["metadata"]["labels"][jobs.LABEL_ID] == metadata["labels"][jobs.LABEL_ID]
        ]
        yield from _by_trace(of_trace)


def _watch_into(
    client: Client, kind: str, path: str, events: SimpleQueue[tuple[str, Object] | TraceError]
) -> None:
    while True:
        try:
            for event in client.watch(path, {"labelSelector": jobs.LABEL_ID}, seconds=3600):
                events.put((kind, event))
        except UnavailableError:
            time.sleep(RECONNECT)
        except TraceError as error:
            events.put(error)
            return
