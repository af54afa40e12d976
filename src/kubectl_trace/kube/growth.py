"""The target's pods while a trace runs: they come, move and go; watched, not polled."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from kubectl_trace.errors import ForbiddenError, TraceError
from kubectl_trace.kube import placement
from kubectl_trace.kube.resolve import distinct
from kubectl_trace.kube.watch import pod_changes

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_trace.kube.client import Client, Object
    from kubectl_trace.kube.placement import Placement
    from kubectl_trace.kube.resolve import PodSelector, Resolved


class Growth:
    """Watches what a resolved target will be, and says where it runs at each change."""

    def __init__(self, client: Client, resolved: Resolved) -> None:
        self._client = client
        self._resolved = resolved
        self._pods: dict[PodSelector, dict[str, Object]] = {}
        self._last: dict[str, Placement] | None = None
        self._lock = threading.Lock()

    def start(
        self,
        on_change: Callable[[dict[str, Placement]], None],
        complain: Callable[[str], None],
    ) -> None:
        """Begins to watch, in threads of its own.

        Args:
            on_change: Called with all placements by node, at first and when they are others; never
                by two threads at once.
            complain: Called with what the user should know.
        """
        for selector in self._resolved.selectors:
            threading.Thread(
                target=self._watch, args=(selector, on_change, complain), daemon=True
            ).start()

    def _watch(
        self,
        selector: PodSelector,
        on_change: Callable[[dict[str, Placement]], None],
        complain: Callable[[str], None],
    ) -> None:
        try:
            for pods in pod_changes(self._client, selector.path, selector.query):
                with self._lock:
                    before = self._pods.get(selector)
                    self._pods[selector] = pods
                    if before is None or self._have_moved(before, pods):
                        self._tell(on_change)
        except ForbiddenError as error:
            complain(f"pods that come later are not traced: {error}")
        except TraceError as error:
            complain(f"pods that come from now on are not traced: {error}")

    def _have_moved(self, before: dict[str, Object], now: dict[str, Object]) -> bool:
        """Whether any pod is elsewhere, or other containers of it are there.

        Most of what happens to a pod, such as its readiness, is nothing to us; and of hundreds of
        pods one changes at a time.
        """
        return any(
            self._place(before.get(uid)) != self._place(now.get(uid))
            for uid in before.keys() | now.keys()
            if before.get(uid) is not now.get(uid)
        )

    def _place(self, pod: Object | None) -> dict[str, Placement]:
        return placement.by_node([pod] if pod else [], self._resolved.choice, running=False)

    def _tell(self, on_change: Callable[[dict[str, Placement]], None]) -> None:
        if len(self._pods) < len(self._resolved.selectors):
            return
        placements = self._placements()
        if placements != self._last:
            self._last = placements
            on_change(placements)

    def _placements(self) -> dict[str, Placement]:
        selected = [pod for pods in self._pods.values() for pod in pods.values()]
        pods = distinct([*self._resolved.named, *selected])
        return placement.by_node(pods, self._resolved.choice, running=False)
