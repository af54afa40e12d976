from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.cli import follow as module
from kubectl_trace.cli.follow import Interrupts, follow
from kubectl_trace.cli.printer import printer
from kubectl_trace.cli.report import Report
from kubectl_trace.cli.view import View
from kubectl_trace.errors import TraceError
from kubectl_trace.results.events import Ended, Finished, Notice, Records
from kubectl_trace.results.record import Record, Start, Summary
from kubectl_trace.runner.output import to_data
from kubectl_trace.trace import PROTOCOL, Kill, Stop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubectl_trace.results.account import Account
    from kubectl_trace.results.events import Event, Sink
    from kubectl_trace.results.result import Result


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The signals' handlers, as a terminal's programs have them, and afterwards as they were."""
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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


def test_a_ctrl_c_after_the_end_of_the_trace_changes_nothing() -> None:
    with Interrupts(owned=True):
        pass
    os.kill(os.getpid(), signal.SIGINT)


def test_a_ctrl_c_after_a_failure_interrupts_what_comes_then() -> None:
    with pytest.raises(TraceError), Interrupts(owned=True):
        raise TraceError("no such pod")
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


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

    def send(self, message: Stop | Kill) -> None:
        """Nobody is there to be told."""

    def close(self) -> list[str]:
        self._closing.set()
        assert self._thread is not None
        self._thread.join(20)
        self.closed = not self._thread.is_alive()
        return []


def test_a_source_that_waits_for_room_can_be_closed(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(View):
        def take(self, event: Event, now: float) -> None:
            raise TraceError("it is over")

    source = Endless()
    report = Report()
    with Interrupts(owned=False) as interrupts, pytest.raises(TraceError, match="it is over"):
        follow(source, Broken(printer("json", report), report), interrupts, grace=1)
    assert source.closed


class Runners:
    """Two runners that do what the test says."""

    nodes = ["a", "b"]  # noqa: RUF012

    def __init__(self) -> None:
        self.started = False
        self.sent: list[str] = []
        self.sink: Sink = lambda event: None

    def start(self, sink: Sink) -> None:
        self.sink = sink
        threading.Thread(target=self.play, daemon=True).start()

    def play(self) -> None:
        raise NotImplementedError

    def send(self, message: Stop | Kill) -> None:
        self.sent.append(type(message).__name__)

    def close(self) -> list[str]:
        return []

    def begins(self, node: str) -> None:
        start = Start("t", "0", PROTOCOL, node, "6.1", "0.23", merge=True)
        records = [Record(0, 1.0, "start", to_data(start)), Record(1, 1.0, "ready")]
        self.started = True
        self.sink(Records(node, records))

    def ends(self, node: str, reason: str) -> None:
        summary = to_data(Summary(exit=0, reason=reason))
        maps = Record(2, 1.0, "map", {"@": 5})
        self.sink(Records(node, [maps, Record(3, 1.0, "summary", summary)]))
        self.sink(Ended(node))


def followed(source: Runners, interrupts: Interrupts) -> int:
    report = Report(2)
    return follow(source, View(printer("text", report), report), interrupts, grace=0.1)


def test_a_node_whose_runner_is_told_to_go_does_not_take_the_others_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    going = threading.Event()

    class Drained(Runners):
        def play(self) -> None:
            self.begins("a")
            self.begins("b")
            self.ends("a", "stopped")  # its node is drained
            going.wait(0.6)  # longer than grace and patience together
            self.ends("b", "finished")
            self.sink(Finished())

    with Interrupts(owned=True) as interrupts:
        assert followed(Drained(), interrupts) == 0
    assert "lost: none" in capsys.readouterr().err


def test_a_ctrl_c_just_before_the_first_runner_begins_stops_it() -> None:
    """The signal finds nothing to stop; when it is looked at, there is something."""

    class Beginning(Runners):
        def play(self) -> None:
            """All happens in the main thread."""

        def send(self, message: Stop | Kill) -> None:
            super().send(message)
            self.begins("a")
            for node in self.nodes:
                self.ends(node, "stopped")
            self.sink(Finished())

        def start(self, sink: Sink) -> None:
            super().start(sink)
            os.kill(os.getpid(), signal.SIGINT)
            self.started = True

    source = Beginning()
    with Interrupts(owned=True) as interrupts:
        assert followed(source, interrupts) == 0
    assert source.sent == ["Stop"]


@pytest.mark.parametrize(("interrupts_sent", "sent"), [(1, ["Stop"]), (2, ["Stop", "Kill"])])
def test_a_ctrl_c_after_the_view_has_had_enough_is_the_first_one(
    interrupts_sent: int, sent: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    interrupted = threading.Event()

    all_sent = threading.Event()

    class Busy(Runners):
        def send(self, message: Stop | Kill) -> None:
            super().send(message)
            if self.sent == sent:
                all_sent.set()

        def play(self) -> None:
            self.begins("a")
            self.begins("b")
            interrupted.wait(10)
            self.ends("a", "stopped")
            self.ends("b", "stopped")
            self.sink(Finished())

    source = Busy()
    report = Report(2)
    with Interrupts(owned=True) as interrupts:

        class Enough:
            def show(self, result: Result) -> None:
                """Nothing."""

            def flush(self) -> None:
                if source.started and not interrupted.is_set():
                    interrupts.enough()
                    for _ in range(interrupts_sent):
                        os.kill(os.getpid(), signal.SIGINT)
                    assert all_sent.wait(10)
                    interrupted.set()

            def close(self, account: Account | None) -> None:
                """Nothing is open."""

        assert follow(source, View(Enough(), report), interrupts, grace=1) == 0
    assert source.sent == sent
    assert capfd.readouterr().err.count("Ctrl-C again gives them up") == 1


def test_a_node_that_was_killed_is_named_in_the_maps_of_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Killed(Runners):
        def play(self) -> None:
            self.begins("a")
            self.begins("b")
            summary = to_data(Summary(exit=130, reason="killed", message="maps given up"))
            self.sink(Records("b", [Record(2, 1.0, "summary", summary)]))
            self.sink(Ended("b"))
            self.ends("a", "finished")
            self.sink(Finished())

    report = Report(2)
    shown: list[Result] = []

    class Kept:
        def show(self, result: Result) -> None:
            shown.append(result)

        def flush(self) -> None:
            """Nothing is kept back."""

        def close(self, account: Account | None) -> None:
            """Nothing is open."""

    with Interrupts(owned=True) as interrupts:
        code = follow(Killed(), View(Kept(), report), interrupts, grace=1)
    assert code == 130
    assert [result.missing for result in shown if result.type == "map"] == [("b",)]
