from __future__ import annotations

from typing import Any

import pytest

from kubectl_trace.errors import ForbiddenError, StartError, TraceError
from kubectl_trace.kube import job as jobs
from kubectl_trace.kube import traces
from kubectl_trace.kube.client import Client, Object
from kubectl_trace.kube.placement import Placement
from kubectl_trace.kube.traces import Found, Part, Status
from kubectl_trace.trace import Trace


def a_job(**status: Any) -> Object:
    return {
        "metadata": {"name": "kubectl-trace-1", "namespace": "n", "labels": {jobs.LABEL_ID: "1"}},
        "status": status,
    }


def a_pod(phase: str = "Running", state: Object | None = None, **status: Any) -> Object:
    return {
        "metadata": {"name": "p"},
        "status": {
            "phase": phase,
            "containerStatuses": [{"name": jobs.CONTAINER, "state": state or {}}],
            **status,
        },
    }


def a_trace(*found: Object) -> Found:
    return Found(tuple(Part(job, None) for job in found))


def ended_with(condition: str, reason: str = "") -> Object:
    return a_job(conditions=[{"type": condition, "status": "True", "reason": reason}])


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ([ended_with("Complete"), ended_with("Complete")], "Completed"),
        ([ended_with("Complete"), a_job()], "Pending (1/2)"),
        ([a_job(), a_job()], "Pending"),
        ([ended_with("Complete"), ended_with("Failed", "OOMKilled")], "Failed (1/2 OOMKilled)"),
        ([ended_with("Failed", "OOMKilled")] * 2, "Failed (OOMKilled)"),
    ],
)
def test_the_state_of_a_trace_on_several_nodes_says_on_how_many(
    found: list[Object], status: str
) -> None:
    assert str(traces.status(a_trace(*found))) == status


@pytest.mark.parametrize(
    ("pod", "status"),
    [
        (a_pod(state={"running": {}}), Status("Running")),
        (
            a_pod("Pending", {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}),
            Status("Pending", "ImagePullBackOff", "no"),
        ),
        (
            a_pod("Pending", {"waiting": {"reason": "ContainerCreating"}}),
            Status("Pending", "ContainerCreating"),
        ),
        (a_pod("Failed", {"terminated": {"exitCode": 6}}), Status("Failed", "ProgramRefused")),
        (a_pod("Failed", {"terminated": {"exitCode": 7}}), Status("Failed", "DeadlineExceeded")),
        (
            a_pod("Failed", {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            Status("Failed", "OOMKilled"),
        ),
        (a_pod("Failed", reason="OutOfcpu", message="m"), Status("Failed", "OutOfcpu", "m")),
        (a_pod("Succeeded", {"terminated": {"exitCode": 0}}), Status("Completed")),
        (
            {
                "metadata": {},
                "status": {
                    "phase": "Pending",
                    "conditions": [
                        {
                            "type": "PodScheduled",
                            "status": "False",
                            "reason": "Unschedulable",
                            "message": "0/2 nodes",
                        }
                    ],
                },
            },
            Status("Pending", "Unschedulable", "0/2 nodes"),
        ),
    ],
)
def test_a_pods_state_is_told_with_its_reason(pod: Object, status: Status) -> None:
    assert traces.pod_status(pod) == status


def test_a_failing_init_container_is_the_reason() -> None:
    pod = a_pod("Pending", {"waiting": {"reason": "PodInitializing"}})
    pod["status"]["initContainerStatuses"] = [
        {"name": "i", "state": {"terminated": {"exitCode": 5, "reason": "Error"}}}
    ]
    assert traces.pod_status(pod) == Status("Failed", "NotStarted")


def test_a_job_without_a_pod_is_pending_or_says_why_it_failed() -> None:
    assert traces.status(a_trace(a_job())) == Status("Pending")
    failed = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "m"}
    found = a_trace(a_job(conditions=[failed]))
    assert traces.status(found) == Status("Failed", "DeadlineExceeded", "m")


def test_a_deleted_job_is_terminating() -> None:
    job = a_job()
    job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert traces.status(a_trace(job)) == Status("Terminating")


class FailingClient(Client):
    """An API server, in place of a real one that would have to refuse the right call."""

    def __init__(self, error: TraceError, at: str) -> None:
        self._error = error
        self._at = at
        self.deleted: list[str] = []

    def get(self, path: str, query: object = None) -> Object:
        return {"items": []}

    def create(self, path: str, body: Object, query: object = None) -> Object:
        if path.endswith(self._at):
            raise self._error
        return {**body, "metadata": {**body["metadata"], "uid": "u"}}

    def delete(self, path: str, body: Object | None = None) -> Object:
        self.deleted.append(path)
        return {}


def a_manifest() -> tuple[Object, Object]:
    trace = Trace(id="1", program="BEGIN {}")
    job = jobs.job(trace, Placement("a"), jobs.JobOptions(namespace="n", target="node/a"))
    return job, jobs.config_map(trace, job)


def test_where_the_config_map_can_not_be_created_no_job_is_left() -> None:
    client = FailingClient(ForbiddenError("may not"), at="configmaps")
    with pytest.raises(ForbiddenError):
        traces.create(client, *a_manifest())
    assert client.deleted == ["/apis/batch/v1/namespaces/n/jobs/kubectl-trace-1"]


def test_a_quota_is_no_missing_right() -> None:
    error = ForbiddenError('jobs "x" is forbidden: exceeded quota: q')
    with pytest.raises(StartError, match="exceeded quota"):
        traces.create(FailingClient(error, at="jobs"), *a_manifest())


@pytest.mark.parametrize(
    ("state", "node", "is_starting"),
    [
        ({"waiting": {"reason": "ContainerCreating"}}, "node-a", True),
        ({}, "node-a", True),
        ({"waiting": {"reason": "ImagePullBackOff"}}, "node-a", False),
        ({"waiting": {"reason": "ContainerCreating"}}, "", False),
    ],
)
def test_a_runner_whose_kubelet_creates_its_container_may_have_begun(
    state: Object, node: str, *, is_starting: bool
) -> None:
    pod = {**a_pod("Pending", state), "spec": {"nodeName": node}}
    assert traces.is_starting(Part(a_job(), pod)) == is_starting
    assert not traces.is_starting(Part(ended_with("Complete"), pod))
    assert not traces.is_starting(Part(a_job(), None))
