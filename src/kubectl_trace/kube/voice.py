"""What a client says to one runner: hello all the time, its scope, and at last how to end."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from kubectl_trace.errors import ForbiddenError, TraceError
from kubectl_trace.kube.watch import RECONNECT
from kubectl_trace.trace import HEARTBEAT, Hello, Scope, Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_trace.kube.control import ControlChannel
    from kubectl_trace.trace import Container, Kill

AWAY = 30.0
"""Seconds that a runner out of reach is waited for by a user who wants the end."""

_HELLO_TIMEOUT = 15.0
"""Seconds for the kubelet to let us attach the first time; the runner waits for us longer."""
_LAST_TRY = 1.0  # seconds to wait, at the end, for a message that is just being sent
_TIMES = 3
"""How often a scope is said on a connection that holds."""


class Voice:
    """Says all again until it must have come, so that no connection that dies swallows a word.

    A message that was sent may never have come; but then its connection breaks, or answers no ping
    (`control`), and all is said again on the next one. The runner takes each message as the state
    of things: to hear it twice changes nothing.
    """

    def __init__(
        self,
        channel: ControlChannel,
        containers: tuple[Container, ...],
        *,
        is_over: Callable[[], bool],
    ) -> None:
        """Says nothing yet.

        Args:
            channel: The way to the runner.
            containers: The scope that the runner was made with.
            is_over: Whether there is nobody to speak to any more.
        """
        self._channel = channel
        self._containers = self._said = containers
        self._has_changed = False
        self._left = 0  # how often the scope is still to be said; only who speaks touches it
        self._is_over = is_over
        self._last: Stop | Kill | None = None
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._closed = False
        self.greeted = False
        """The runner has been spoken to."""

    def set_scope(self, containers: tuple[Container, ...]) -> None:
        """These are the containers from now on."""
        if containers == self._containers:
            return
        self._containers = containers
        self._news.set()

    def end(self, message: Stop | Kill) -> None:
        """This is said from now on, instead of hello."""
        self._last = message
        self._news.set()

    def speak(self) -> None:
        """Speaks until it is over. A connection that breaks is made anew.

        Raises:
            ForbiddenError: the user may not attach.
            TraceError: the runner can't be reached in time.
        """
        failing = refused = 0.0  # since when
        while not (self._closed or self._is_over()):
            self._news.clear()
            try:
                self._say()
            except TraceError as error:
                self._left = _TIMES if self._has_changed else 0
                now = time.monotonic()
                failing = failing or now
                refused = (refused or now) if isinstance(error, ForbiddenError) else 0.0
                if self._is_hopeless(now - failing, now - refused if refused else None):
                    raise
                time.sleep(RECONNECT)
                continue
            failing = refused = 0.0
            self.greeted = True
            self._news.wait(HEARTBEAT)

    def close(self, *, stop: bool) -> None:
        """Falls silent; `stop`: the runner is told to stop, if it can be reached at once."""
        self._closed = True
        self._news.set()
        if not self._lock.acquire(timeout=_LAST_TRY if stop else 0):
            return  # a connection that is just being made; silence says the rest
        try:
            if stop:
                with contextlib.suppress(TraceError):
                    self._channel.send(Stop())
            self._channel.close(wait=stop)  # hundreds that have ended are left at once
        finally:
            self._lock.release()

    def _say(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._say_scope()
            self._channel.send(self._last or Hello())

    def _say_scope(self) -> None:
        containers = self._containers
        if containers != self._said:
            self._said, self._left, self._has_changed = containers, _TIMES, True
        if self._left:
            self._left -= 1
            self._channel.send(Scope(containers))

    def _is_hopeless(self, failing: float, refused: float | None) -> bool:
        """After so many seconds without an answer, and of refusals (None: that is not why)."""
        if self.greeted:
            # API servers that have just started may refuse what they will allow.
            is_refused = refused is not None and refused > AWAY
            return is_refused or (self._last is not None and failing > AWAY)
        return refused is not None or failing > _HELLO_TIMEOUT
