"""Pods as they change: one list, then a watch, through all that breaks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kubectl_trace.errors import ForbiddenError
from kubectl_trace.kube.client import GoneError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kubectl_trace.kube.client import Client, Object

_WATCH_SECONDS = 300
_REFUSED = 60.0  # seconds in which what was allowed before may be refused
RECONNECT = 1.0  # seconds between two attempts to reach an API server that is away


def pod_changes(
    client: Client, path: str, query: Mapping[str, str], *, seconds: int = _WATCH_SECONDS
) -> Iterator[dict[str, Object]]:
    """All pods of a list, by UID: now, after each change, and each time a watch is over.

    It has no end. An API server that is away for a while is waited for.

    Args:
        client: The API server.
        path: The list.
        query: Which of it.
        seconds: How long one watch lasts.

    Raises:
        ForbiddenError, TraceError: as the API server answers.
    """
    was_allowed = False
    refused_since = 0.0
    while True:
        begun = time.monotonic()
        try:
            listed = client.get(path, query)
            pods = {pod["metadata"]["uid"]: pod for pod in listed["items"]}
            version = listed["metadata"]["resourceVersion"]
            while True:
                yield dict(pods)
                begun = time.monotonic()
                # Bookmarks keep the version of a quiet list young enough to go on from.
                since = {**query, "resourceVersion": version, "allowWatchBookmarks": "true"}
                for event in client.watch(path, since, seconds=seconds):
                    was_allowed, refused_since = True, 0.0
                    pod = event["object"]
                    version = pod["metadata"]["resourceVersion"]
                    if event["type"] == "BOOKMARK":
                        continue
                    pods[pod["metadata"]["uid"]] = pod
                    if event["type"] == "DELETED":
                        del pods[pod["metadata"]["uid"]]
                    yield dict(pods)
                if time.monotonic() - begun < RECONNECT:
                    time.sleep(RECONNECT)
        except (GoneError, UnavailableError):
            # A quiet watch has no events.
            was_allowed = was_allowed or time.monotonic() - begun > RECONNECT
            time.sleep(RECONNECT)
        except ForbiddenError:
            # API servers that have just started may refuse what they will allow.
            refused_since = refused_since or time.monotonic()
            if not was_allowed or time.monotonic() - refused_since > _REFUSED:
                raise
            time.sleep(RECONNECT)


def differences(
    states: Iterable[dict[str, Object]],
) -> Iterator[tuple[list[Object], list[Object]]]:
    """What each state of `pod_changes` adds to the one before.

    Of hundreds of pods one changes at a time: who looks at all of them each time is slow.

    Yields:
        The pods that are new or not as they were, and those that are gone.
    """
    before: dict[str, Object] = {}
    for pods in states:
        changed = [pod for uid, pod in pods.items() if before.get(uid) is not pod]
        yield changed, [before[uid] for uid in before.keys() - pods.keys()]
        before = pods
