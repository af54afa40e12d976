from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.cli.follow import Interrupts, follow
from kubectl_trace.cli.printer import printer
from kubectl_trace.cli.report import Report
from kubectl_trace.cli.view import View
from kubectl_trace.errors import TraceError
from kubectl_trace.results.events import Notice

if TYPE_CHECKING:
    from kubectl_trace.results.events import Event, Sink
    from kubectl_trace.trace import Control


def test_a_signal_that_another_thread_gets_reaches_the_waiting_main_thread() -> None:
    woken = threading.Event()
    counts: list[int] = []
    with Interrupts(owned=True) as interrupts:
        interrupts.action = counts.append
        interrupts.wake = woken.set
        sender = threading.Thread(
            target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        )
        sender.start()
        assert woken.wait(20)
        sender.join()
    assert counts == [1]


def test_signals_before_the_trace_is_followed_are_counted() -> None:
    with Interrupts(owned=False) as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.count == 1


class Endless:
    """Runners that never stop to speak, also while they are closed."""

    started = True
    nodes: list[str] = []  # noqa: RUF012

    def __init__(self) -> None:
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.closed = False

    def start(self, sink: Sink) -> None:
        def speak() -> None:
            while not self._closing.is_set():
                sink(Notice("again"))

        self._thread = threading.Thread(target=speak)
        self._thread.start()

    def send(self, message: Control) -> None:
        """Nobody is there to be told."""

    def close(self) -> None:
        self._closing.set()
        assert self._thread is not None
        self._thread.join(20)
        self.closed = not self._thread.is_alive()


def test_a_source_that_waits_for_room_can_be_closed(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(View):
        def take(self, event: Event, now: float) -> None:
            raise TraceError("it is over")

    source = Endless()
    report = Report()
    with Interrupts(owned=False) as interrupts, pytest.raises(TraceError, match="it is over"):
        follow(source, Broken(printer("json", report), report), interrupts, grace=1)
    assert source.closed
