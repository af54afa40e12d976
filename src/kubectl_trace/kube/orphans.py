"""What clients and controllers that died at a bad moment have left in the cluster."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kubectl_trace.errors import NotFoundError
from kubectl_trace.kube import job as jobs
from kubectl_trace.kube import traces

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubectl_trace.kube.client import Client, Object

YOUNG = 60.0
"""Seconds in which a client may still be about to create what is missing."""

_KINDS = {
    "job": "/apis/batch/v1/{}jobs",
    "pod": "/api/v1/{}pods",
    "configmap": "/api/v1/{}configmaps",
}


@dataclass(frozen=True)
class Orphan:
    """An object of a trace that nobody will take away soon."""

    kind: str
    """`job`, `pod` or `configmap`."""
    namespace: str
    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name} in namespace {self.namespace}: {self.why}"


def find(client: Client, namespace: str) -> list[Orphan]:
    """The orphans of a namespace; the empty one stands for all namespaces.

    Raises:
        ForbiddenError, TraceError: as the API server answers.
    """
    within = f"namespaces/{namespace}/" if namespace else ""
    query = {"labelSelector": jobs.LABEL_ID}
    # Jobs last: what was created meanwhile has its Job there.
    found = {
        kind: client.get(path.format(within), query)["items"]
        for kind, path in reversed(_KINDS.items())
    }
    return orphans(found["job"], found["pod"], found["configmap"], datetime.now(UTC))


def orphans(
    of_jobs: Iterable[Object],
    pods: Iterable[Object],
    config_maps: Iterable[Object],
    now: datetime,
) -> list[Orphan]:
    """Those of these objects that are orphans."""
    there = {_key(job): job for job in of_jobs}
    with_program = {_key(each) for each in config_maps}
    by_job = {_key(pod): pod for pod in pods}
    found = [
        Orphan(kind, *_name(each), "its Job is gone")
        for kind, objects in (("pod", by_job.values()), ("configmap", config_maps))
        for each in objects
        if _key(each) not in there and "deletionTimestamp" not in each["metadata"]
    ]
    for key, job in there.items():
        age = (now - _created(job)).total_seconds()
        if "deletionTimestamp" in job["metadata"] or age < YOUNG:
            continue
        part = traces.Part(job, by_job.get(key))
        if traces.part_status(part).phase != "Pending":
            continue
        patience = _seconds(part.annotation(jobs.ANNOTATION_TIMEOUT)) + YOUNG
        if key not in with_program:
            found.append(Orphan("job", *_name(job), "it has no program: its client has died"))
        elif part.annotation(jobs.ANNOTATION_ATTACHED) == "true" and age > patience:
            found.append(Orphan("job", *_name(job), "its client no longer waits for its start"))
    return found


def remove(client: Client, orphan: Orphan) -> None:
    """Deletes an orphan, with what it owns; one that has gone meanwhile is no error.

    Raises:
        ForbiddenError, TraceError: as the API server answers.
    """
    with contextlib.suppress(NotFoundError):
        if orphan.kind == "job":
            traces.delete_job(client, orphan.namespace, orphan.name, now=True)
            return
        path = _KINDS[orphan.kind].format(f"namespaces/{orphan.namespace}/")
        client.delete(f"{path}/{orphan.name}")


def _key(each: Object) -> tuple[str, str]:
    """The namespace and the name of the Job that an object belongs to."""
    return each["metadata"]["namespace"], each["metadata"]["labels"].get(jobs.LABEL, "")


def _name(each: Object) -> tuple[str, str]:
    return each["metadata"]["namespace"], each["metadata"]["name"]


def _seconds(text: str) -> float:
    """What our clients write, a whole number; anybody may have written anything."""
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0.0


def _created(each: Object) -> datetime:
    return datetime.fromisoformat(each["metadata"]["creationTimestamp"].replace("Z", "+00:00"))
