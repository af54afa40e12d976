"""Pods as they change: one list, then a watch, through all that breaks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kubectl_trace.kube.client import GoneError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kubectl_trace.kube.client import Client, Object

_WATCH_SECONDS = 300
RECONNECT = 1.0  # seconds between two attempts to reach an API server that is away


def pod_changes(client: Client, path: str, query: Mapping[str, str]) -> Iterator[dict[str, Object]]:
    """All pods of a list, by UID, now and after each change, without an end.

    An API server that is away for a while is waited for.

    Raises:
        ForbiddenError, TraceError: as the API server answers.
    """
    while True:
        try:
            listed = client.get(path, query)
            pods = {pod["metadata"]["uid"]: pod for pod in listed["items"]}
            yield dict(pods)
            version = listed["metadata"]["resourceVersion"]
            while True:
                since = {**query, "resourceVersion": version}
                for event in client.watch(path, since, seconds=_WATCH_SECONDS):
                    pod = event["object"]
                    version = pod["metadata"]["resourceVersion"]
                    pods[pod["metadata"]["uid"]] = pod
                    if event["type"] == "DELETED":
                        del pods[pod["metadata"]["uid"]]
                    yield dict(pods)
        except GoneError:
            continue
        except UnavailableError:
            time.sleep(RECONNECT)
