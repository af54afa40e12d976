"""What can be known beforehand of rights and of admission, whatever the API server answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kubectl_trace.errors import ForbiddenError, NotFoundError, TraceError
from kubectl_trace.kube import access, rights, targets
from kubectl_trace.kube import job as jobs
from kubectl_trace.kube.client import Client
from kubectl_trace.kube.placement import Placement
from kubectl_trace.trace import Trace

if TYPE_CHECKING:
    from kubectl_trace.kube.client import Object

JOB = jobs.job(Trace(id="1", program=""), Placement("a"), jobs.JobOptions(namespace="n", target=""))
MAY_NOT = ForbiddenError('User "ada" cannot create resource "pods" in API group ""')


class Server(Client):
    """An API server that answers as it is told."""

    def __init__(
        self,
        *,
        job: TraceError | None = None,
        pod: TraceError | None = None,
        namespace: TraceError | dict[str, str] | None = None,
        allowed: frozenset[tuple[str, str, str]] = frozenset(),
    ) -> None:
        self._answers = {"jobs": job, "pods": pod}
        self._namespace = namespace
        self._allowed = allowed
        self.created: list[tuple[Object, object]] = []

    def create(self, path: str, body: Object, query: object = None) -> Object:
        if "spec" in body and "resourceAttributes" in body["spec"]:
            asked = body["spec"]["resourceAttributes"]
            name = "/".join(filter(None, (asked["resource"], asked["subresource"])))
            key = asked["verb"], name, asked["namespace"]
            return {**body, "status": {"allowed": key in self._allowed}}
        self.created.append((body, query))
        if error := self._answers[path.rpartition("/")[2]]:
            raise error
        return body

    def get(self, path: str, query: object = None) -> Object:
        if isinstance(self._namespace, TraceError):
            raise self._namespace
        return {"metadata": {"labels": self._namespace}}


def test_each_right_is_asked_for_with_its_subresource_in_its_namespace() -> None:
    wanted = rights.for_targets(targets.parse(["pod/web"]), "shop", "traces")
    allowed = frozenset({("get", "pods", "shop"), ("get", "pods/log", "traces")})
    answers = access.answers(Server(allowed=allowed), wanted)
    assert [(each.right, each.namespace) for each in answers] == list(wanted)
    assert {(str(each.right), each.namespace) for each in answers if each.allowed} == {
        ("get pods", "shop"),
        ("get pods/log", "traces"),
    }


def level(name: str) -> dict[str, str]:
    return {"pod-security.kubernetes.io/enforce": name}


@pytest.mark.parametrize(
    ("server", "admits", "said"),
    [
        (Server(), True, "dry run"),
        (Server(pod=ForbiddenError('violates PodSecurity "baseline"')), False, "violates"),
        (Server(pod=TraceError("denied request: a runner has")), False, "a runner has"),
        (Server(pod=TraceError("webhook does not support dry run")), None, "dry run"),
        (Server(job=NotFoundError('namespaces "n" not found')), False, "not found"),
        (Server(job=ForbiddenError("exceeded quota: q")), False, "quota"),
        (Server(job=MAY_NOT, pod=MAY_NOT, namespace=MAY_NOT), None, "not known"),
        (Server(pod=MAY_NOT, namespace=level("privileged")), True, "privileged"),
        (Server(pod=MAY_NOT, namespace=level("baseline")), False, "enforce: privileged"),
        (Server(pod=MAY_NOT, namespace={}), None, "the cluster's default"),
        (Server(pod=MAY_NOT, namespace=None), None, "the cluster's default"),
        (Server(pod=MAY_NOT, namespace=NotFoundError("no namespace n")), False, "no namespace"),
    ],
)
def test_whether_a_runner_is_admitted_is_told_as_far_as_it_can_be_known(
    server: Server, admits: bool | None, said: str
) -> None:
    found = access.admission(server, JOB)
    assert (found.admits, said in found.text) == (admits, True), found


def test_nothing_is_created_to_know_it() -> None:
    server = Server()
    access.admission(server, JOB)
    (job, job_query), (pod, pod_query) = server.created
    assert job_query == pod_query == {"dryRun": "All"}
    assert job is JOB
    assert (pod["kind"], pod["metadata"]["namespace"]) == ("Pod", "n")
    assert pod["spec"] == JOB["spec"]["template"]["spec"]
