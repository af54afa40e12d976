"""What the user may do, as the API server says it, and whether a namespace admits a runner."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.errors import ForbiddenError, NotFoundError, TraceError
from kubectl_trace.kube.client import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubectl_trace.kube.client import Client, Object
    from kubectl_trace.kube.rights import Right

_AT_ONCE = 10  # questions at the same time
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_ENFORCE = "pod-security.kubernetes.io/enforce"
_DRY_RUN = {"dryRun": "All"}


@dataclass(frozen=True)
class Answer:
    """Whether the user has a right."""

    right: Right
    namespace: str
    """Empty: in the whole cluster."""
    allowed: bool


@dataclass(frozen=True)
class Admission:
    """Whether a namespace would let a runner in."""

    admits: bool | None
    """None: that can't be known beforehand."""
    text: str
    """How that is known, or why not."""


def answers(client: Client, asked: Iterable[tuple[Right, str]]) -> list[Answer]:
    """Which of these rights, each in its namespace, the user has.

    Raises:
        TraceError: the API server does not say.
    """

    def ask(pair: tuple[Right, str]) -> Answer:
        right, namespace = pair
        return Answer(right, namespace, _may(client, right, namespace))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(ask, asked))


def _may(client: Client, right: Right, namespace: str) -> bool:
    resource, _, subresource = right.resource.partition("/")
    return _reviewed(
        client,
        {
            "verb": right.verb,
            "group": right.group,
            "resource": resource,
            "subresource": subresource,
            "namespace": namespace,
        },
    )


def _reviewed(client: Client, attributes: Object) -> bool:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool(client.create(_REVIEWS, review).get("status", {}).get("allowed"))


def admission(client: Client, job: Object) -> Admission:
    """Whether the namespace of this Job, as we would create it, admits its pod.

    Admission acts on the pod, which the Job controller creates, and not on the Job. So what tells
    for certain is a dry run of the pod itself, which needs the right to create pods; else the
    namespace's Pod Security level; of webhooks and policies nothing is known then.

    Raises:
        TraceError: the API server does not say.
    """
    namespace = job["metadata"]["namespace"]
    try:
        client.create(f"/apis/batch/v1/namespaces/{namespace}/jobs", job, _DRY_RUN)
    except ForbiddenError as error:
        if "cannot create resource" not in str(error):
            return Admission(False, str(error))  # quota or an admission plug-in
    except (NotFoundError, UnavailableError) as error:
        return Admission(False if isinstance(error, NotFoundError) else None, str(error))
    except TraceError as error:
        return _refused(error)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        **job["spec"]["template"],
    }
    pod["metadata"] = {**pod["metadata"], "name": job["metadata"]["name"], "namespace": namespace}
    try:
        client.create(f"/api/v1/namespaces/{namespace}/pods", pod, _DRY_RUN)
    except ForbiddenError as error:
        if "cannot create resource" in str(error):
            return _by_label(client, namespace)
        return Admission(False, str(error))
    except TraceError as error:
        return _refused(error)
    return Admission(True, "a dry run of the runner's pod was admitted")


def _refused(error: TraceError) -> Admission:
    """A webhook that can't be asked in a dry run says nothing of a real one."""
    return Admission(None if "dry run" in str(error).lower() else False, str(error))


def _by_label(client: Client, namespace: str) -> Admission:
    try:
        found = client.get(f"/api/v1/namespaces/{namespace}")
    except ForbiddenError:
        return Admission(None, "not known: you may neither create pods nor get the namespace")
    except NotFoundError as error:
        return Admission(False, str(error))
    level = (found["metadata"].get("labels") or {}).get(_ENFORCE)
    if level is None:
        return Admission(
            None, f"not known: the namespace has no label {_ENFORCE}, the cluster's default holds"
        )
    if level == "privileged":
        return Admission(True, f"its Pod Security level is {level}; other policies are not known")
    return Admission(
        False, f"its Pod Security level is {level}; a runner needs {_ENFORCE}: privileged"
    )
