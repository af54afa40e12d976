"""A runner's output before its log can be read: whole records, from the first on, or nothing."""

from __future__ import annotations

import itertools
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosedOK

from kubectl_trace.errors import ForbiddenError, TraceError
from kubectl_trace.kube import early
from kubectl_trace.kube.early import Beginning, EarlyOutput
from kubectl_trace.results.record import Record, encode

if TYPE_CHECKING:
    import pytest

    from kubectl_trace.kube.client import Client


def lines(*numbers: int) -> bytes:
    return b"".join(encode(Record(number, 1.0, "printf", "text")) + b"\n" for number in numbers)


@settings(deadline=None)
@given(st.integers(0, 8), st.lists(st.integers(0, 700), max_size=6))
def test_a_stream_comes_whole_however_it_is_cut(count: int, cuts: list[int]) -> None:
    stream = lines(*range(count))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    beginning = Beginning()
    pieces = [stream[start:end] for start, end in itertools.pairwise(edges)]
    assert b"".join(map(beginning.feed, pieces)) == stream
    assert not beginning.is_over


def test_who_came_too_late_for_the_first_record_gets_nothing() -> None:
    for late in (lines(1, 2), lines(0)[7:] + lines(1)):
        beginning = Beginning()
        assert beginning.feed(late) == b""
        assert beginning.is_over
        assert beginning.feed(lines(0)) == b""


def test_after_a_gap_nothing_comes() -> None:
    beginning = Beginning()
    assert beginning.feed(lines(0, 1, 3, 4)) == lines(0, 1)
    assert beginning.is_over


def test_a_line_without_an_end_is_given_up() -> None:
    beginning = Beginning()
    assert beginning.feed(b"x" * (1 << 20)) == b""
    assert beginning.is_over


class Connection:
    """Gives what is put into it; None: the other side has closed it."""

    def __init__(self) -> None:
        self.messages: SimpleQueue[bytes | None] = SimpleQueue()
        self.socket = self

    def recv(self) -> bytes:
        message = self.messages.get()
        if message is None:
            raise ConnectionClosedOK(None, None)
        return message

    def shutdown(self, how: int) -> None:
        self.messages.put(None)


def begun(
    monkeypatch: pytest.MonkeyPatch, *answers: Connection | TraceError
) -> tuple[EarlyOutput, SimpleQueue[bytes]]:
    left = list(answers)

    def attach(*_: object) -> Connection:
        answer = left.pop(0)
        if isinstance(answer, TraceError):
            raise answer
        return answer

    monkeypatch.setattr(early, "_attach", attach)
    monkeypatch.setattr(early, "_FIRST", 0.0)
    monkeypatch.setattr(early, "_AGAIN", 0.0)
    given: SimpleQueue[bytes] = SimpleQueue()
    return EarlyOutput(cast("Client", None), "n", "pod", given.put), given


def test_output_is_read_as_soon_as_the_container_can_be_attached_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = Connection()
    not_yet = TraceError("container not found")
    output, given = begun(monkeypatch, not_yet, not_yet, connection)
    for message in (b"\1", b"\1" + lines(0)[:9], b"\2noise", b"\1" + lines(0)[9:]):
        connection.messages.put(message)
    assert given.get(timeout=10) == lines(0)
    output.close()
    connection.messages.put(b"\1" + lines(1))
    assert given.empty(), "nothing is given once it is closed"


def test_the_log_does_not_wait_for_a_kubelet_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection, asked, answers = Connection(), threading.Event(), threading.Event()

    def attach(*_: object) -> Connection:
        asked.set()
        assert answers.wait(20)
        return connection

    monkeypatch.setattr(early, "_attach", attach)
    monkeypatch.setattr(early, "_FIRST", 0.0)
    given: SimpleQueue[bytes] = SimpleQueue()
    output = EarlyOutput(cast("Client", None), "n", "pod", given.put)
    assert asked.wait(20)
    closing = threading.Thread(target=output.close)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    connection.messages.put(b"\1" + lines(0))
    answers.set()
    output._thread.join(10)
    assert not output._thread.is_alive()
    assert given.empty()


def test_once_it_is_closed_all_that_was_given_has_been_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection, taking, may_end = Connection(), threading.Event(), threading.Event()
    taken: list[bytes] = []

    def take(data: bytes) -> None:
        taking.set()
        assert may_end.wait(20)
        taken.append(data)

    monkeypatch.setattr(early, "_attach", lambda *_: connection)
    monkeypatch.setattr(early, "_FIRST", 0.0)
    output = EarlyOutput(cast("Client", None), "n", "pod", take)
    connection.messages.put(b"\1" + lines(0))
    assert taking.wait(20)
    closing = threading.Thread(target=output.close)
    closing.start()
    may_end.set()
    closing.join(20)
    assert taken == [lines(0)]


def test_a_flood_is_left_to_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Connection()
    output, given = begun(monkeypatch, connection)
    size = len(lines(*range(1000)))
    for start in range(0, 20_000, 1000):
        connection.messages.put(b"\1" + lines(*range(start, start + 1000)))
    output._thread.join(10)
    assert not output._thread.is_alive()
    assert given.qsize() * size < 2 * early._ENOUGH


def test_who_may_not_attach_does_not_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    output, given = begun(monkeypatch, ForbiddenError("pods/attach"))
    output._thread.join(10)
    assert not output._thread.is_alive()
    assert given.empty()
