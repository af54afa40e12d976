"""What a runner is told, and how often: a fleet of hundreds bears no word too many."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from kubectl_trace.errors import TraceError
from kubectl_trace.kube import voice
from kubectl_trace.kube.voice import Voice
from kubectl_trace.trace import Container, Hello, Scope, Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_trace.kube.control import ControlChannel

FIRST = (Container("n", "web-0", "web", "id-0", "uid-0"),)
BOTH = (*FIRST, Container("n", "web-1", "web", "id-1", "uid-1"))
BREAK = "break"


class Channel:
    """Takes some messages, then it is over; between two of them the test may do something."""

    def __init__(self, most: int) -> None:
        self.said: list[object] = []
        self.then: dict[int, Callable[[], None] | str] = {}
        """What happens at which message; BREAK: it is lost, with the connection."""
        self._most = most

    def send(self, message: object) -> None:
        self.said.append(message)
        what = self.then.get(len(self.said))
        if isinstance(what, str):
            raise TraceError("the connection to the runner broke")
        if what is not None:
            what()

    def close(self, *, wait: bool) -> None:
        """Nothing is open."""

    def is_over(self) -> bool:
        return len(self.said) >= self._most


def speaker(monkeypatch: pytest.MonkeyPatch, channel: Channel) -> Voice:
    monkeypatch.setattr(voice, "HEARTBEAT", 0.0)
    monkeypatch.setattr(voice, "RECONNECT", 0.0)
    return Voice(cast("ControlChannel", channel), FIRST, is_over=channel.is_over)


def scopes(channel: Channel) -> list[object]:
    return [message for message in channel.said if isinstance(message, Scope)]


def test_a_scope_that_stays_what_it_is_is_not_news(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Channel(2)
    speaks = speaker(monkeypatch, channel)
    speaks.set_scope(FIRST)
    assert not speaks._news.is_set()
    speaks.set_scope(BOTH)
    assert speaks._news.is_set()
    speaks.speak()
    assert channel.said == [Scope(BOTH), Hello()]
    speaks._news.clear()
    speaks.set_scope(tuple(BOTH))
    assert not speaks._news.is_set()


def test_a_scope_is_not_said_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Channel(50)
    speaks = speaker(monkeypatch, channel)
    speaks.set_scope(BOTH)
    speaks.speak()
    assert scopes(channel) == [Scope(BOTH)] * 3
    assert channel.said[-10:] == [Hello()] * 10


def test_a_connection_that_breaks_may_have_swallowed_all(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Channel(50)
    channel.then[20] = BREAK
    speaks = speaker(monkeypatch, channel)
    speaks.set_scope(BOTH)
    speaks.speak()
    assert scopes(channel) == [Scope(BOTH)] * 6
    assert channel.said[20] == Scope(BOTH), "it comes first"


@pytest.mark.parametrize("broken", [False, True])
def test_a_scope_that_is_again_what_it_was_at_first_is_told(
    monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    channel = Channel(50)
    speaks = speaker(monkeypatch, channel)
    speaks.set_scope(BOTH)
    channel.then[10] = lambda: speaks.set_scope(FIRST)
    if broken:
        channel.then[11] = BREAK
    speaks.speak()
    assert scopes(channel) == [Scope(BOTH)] * 3 + [Scope(FIRST)] * (4 if broken else 3)


def test_the_last_word_is_said_with_each_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Channel(30)
    speaks = speaker(monkeypatch, channel)
    speaks.end(Stop())
    speaks.speak()
    assert channel.said == [Stop()] * 30
