"""The live view on a real terminal: a pseudo-terminal, whose other side is read as bytes."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from kubectl_trace.cli import live
from kubectl_trace.cli.live import LivePrinter
from kubectl_trace.errors import UsageError
from kubectl_trace.results.account import Account
from kubectl_trace.results.result import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTERED = b"\x1b[?1049h"
LEFT = b"\x1b[?1049l"
START = {"version": "0", "bpftrace": "0.23", "kernel": "6", "containers": []}
ACCOUNT = Account(0, "stopped", 1, {}, {})
_PATIENCE = 10.0


class Screen:
    """The terminal's other side."""

    def __init__(self) -> None:
        self.main, self.terminal = os.openpty()
        self.resize(80, 24)
        self.seen = b""

    def resize(self, width: int, height: int) -> None:
        size = struct.pack("HHHH", height, width, 0, 0)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, size)

    def type(self, keys: bytes) -> None:
        os.write(self.main, keys)

    def wait_for(self, text: bytes) -> bytes:
        """Reads on until the text comes; what came up to it."""
        end = time.monotonic() + _PATIENCE
        while text not in self.seen:
            assert time.monotonic() < end, (text, self.seen[-2000:])
            self._read(0.05)
        before, found, self.seen = self.seen.partition(text)
        return before + found

    def rest(self, seconds: float) -> bytes:
        """All that comes within some time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._read(left)
        seen, self.seen = self.seen, b""
        return seen

    def local_modes(self) -> int:
        return int(termios.tcgetattr(self.terminal)[3])

    def _read(self, seconds: float) -> None:
        if select.select([self.main], [], [], seconds)[0]:
            self.seen += os.read(self.main, 65536)


class Last:
    """What is shown at the end."""

    def __init__(self) -> None:
        self.shown: list[Result] = []
        self.closed: list[Account | None] = []

    def show(self, result: Result) -> None:
        self.shown.append(result)

    def flush(self) -> None:
        raise AssertionError

    def close(self, account: Account | None) -> None:
        self.closed.append(account)


@contextmanager
def watching(stops: list[str] | None = None) -> Iterator[tuple[Screen, LivePrinter, Last]]:
    screen, last = Screen(), Last()
    stopped = [] if stops is None else stops
    with open(screen.terminal, "w", closefd=False) as out:
        printer = LivePrinter(
            stop=lambda: stopped.append("q"), last=last, out=out, keyboard=screen.terminal
        )
        try:
            yield screen, printer, last
        finally:
            printer.close(None)
            os.close(screen.main)
            os.close(screen.terminal)


def start(node: str = "node-a", **more: Any) -> Result:
    return Result(1.0, "start", START | more, node=node)


def test_the_terminal_is_left_alone_until_the_first_result() -> None:
    with watching() as (screen, printer, _):
        modes = screen.local_modes()
        assert screen.rest(0.3) == b""
        assert screen.local_modes() == modes
        printer.show(start())
        screen.wait_for(ENTERED)
        assert not screen.local_modes() & (termios.ICANON | termios.ECHO)
        assert screen.local_modes() & termios.ISIG  # Ctrl-C is a signal as ever


def test_maps_and_printed_lines_are_drawn() -> None:
    with watching() as (screen, printer, _):
        printer.show(start())
        printer.show(Result(1.0, "map", {"@calls": {"nginx": 5}}))
        printer.show(Result(1.0, "printf", ["one\n", "two\n"], node="node-a"))
        screen.wait_for(b"nginx")
        screen.wait_for(b"two")
        printer.show(Result(2.0, "map", {"@calls": {"nginx": 9}}))
        assert b"4.0/s" in screen.wait_for(b"4.0/s")


def test_text_of_the_traced_program_does_not_reach_the_terminal_as_commands() -> None:
    with watching() as (screen, printer, _):
        printer.show(Result(1.0, "printf", "\x1b]0;title\x07 [red]plain[/red]\rover\n"))
        screen.wait_for(rb"\x1b]0;title\x07 [red]plain[/red]\x0dover")


def test_counts_of_a_map_that_is_emptied_at_each_print_are_all_new() -> None:
    with watching() as (screen, printer, _):
        for when, value in ((1.0, 50), (2.0, 40), (4.0, 80)):
            printer.show(Result(when, "map", {"@calls": {"nginx": value}}))
        screen.wait_for(b"40.0/s")


def test_a_last_value_has_no_rate() -> None:
    with watching() as (screen, printer, _):
        printer.show(start(maps={"@v": {"kind": "max"}}))
        printer.show(Result(1.0, "map", {"@v": {"x": 1}}))
        printer.show(Result(2.0, "map", {"@v": {"x": 5}}))
        shown = screen.wait_for(b"s sort")
        while b"x" not in shown:
            shown = screen.wait_for(b"s sort")
        assert b"/s\r" not in shown


def test_nodes_are_counted_and_lost_events_too() -> None:
    with watching() as (screen, printer, _):
        for node in ("node-a", "node-b"):
            printer.show(start(node))
        printer.show(Result(1.0, "ready", None, node="node-a"))
        printer.show(Result(1.0, "lost_events", {"events": 1234}, node="node-a"))
        screen.wait_for(b"1 of 2 nodes running")
        screen.wait_for(b"1,234 events lost")


def test_q_stops_the_trace() -> None:
    stops: list[str] = []
    with watching(stops) as (screen, printer, _):
        printer.show(start())
        screen.wait_for(b"q stop")
        screen.type(b"q")
        screen.wait_for(b"stopping")
        assert stops == ["q"]


def test_s_takes_the_next_order() -> None:
    with watching() as (screen, printer, _):
        printer.show(start())
        screen.wait_for(b"sort: value")
        screen.type(b"s")
        screen.wait_for(b"sort: key")
        screen.type(b"s")
        screen.wait_for(b"sort: rate")


def test_p_lets_the_picture_stand_still_while_records_are_taken() -> None:
    with watching() as (screen, printer, _):
        printer.show(Result(1.0, "map", {"@": {"before": 1}}))
        screen.wait_for(b"before")
        screen.type(b"p")
        screen.wait_for(b"paused")
        screen.rest(0.3)
        printer.show(Result(2.0, "map", {"@": {"after": 1}}))
        assert screen.rest(1.5) == b""
        screen.type(b"p")
        screen.wait_for(b"after")


def test_a_resized_terminal_is_drawn_anew_also_while_the_picture_stands_still() -> None:
    with watching() as (screen, printer, _):
        printer.show(start())
        screen.wait_for(b"q stop")
        screen.type(b"p")
        screen.wait_for(b"paused")
        screen.rest(0.3)
        screen.resize(60, 10)
        assert screen.rest(1.0).count(b"\n") == 9


def test_there_are_at_most_four_pictures_a_second() -> None:
    with watching() as (screen, printer, _):
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            printer.show(Result(1.0, "map", {"@": {"k": 1}}))
            time.sleep(0.001)
        screen.type(b"ssss")
        assert screen.rest(0.1).count(b"\x1b[H") <= 6


def test_the_end_gives_the_terminal_back_and_shows_the_last_state_of_everything() -> None:
    with watching() as (screen, printer, last):
        modes = screen.local_modes()
        shown = [
            start(),
            Result(1.0, "map", {"@a": {"x": 1}}),
            Result(1.0, "printf", "said\n"),
            Result(2.0, "map", {"@a": {"x": 2}}),
            Result(2.0, "hist", {"@h": []}, node="node-a"),
        ]
        for result in shown:
            printer.show(result)
        screen.wait_for(ENTERED)
        printer.close(ACCOUNT)
        screen.wait_for(LEFT)
        assert screen.rest(0.5) == b""
        assert screen.local_modes() == modes
        assert last.shown == [shown[0], shown[2], shown[3], shown[4]]
        assert last.closed == [ACCOUNT]


def test_of_very_many_printed_lines_the_last_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    with watching() as (_, printer, last):
        for i in range(100):
            printer.show(Result(float(i), "printf", [f"{i}\n"] * 100))
        printer.close(None)
        assert [result.time for result in last.shown] == [float(i) for i in range(80, 100)]
    assert "of 10000" in capsys.readouterr().err


def test_what_is_written_to_stderr_meanwhile_is_on_the_screen_and_later_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with watching() as (screen, printer, _):
        printer.show(start())
        print("a note", file=sys.stderr)
        screen.wait_for(b"a note")
        assert capsys.readouterr().err == ""
        printer.close(None)
        assert capsys.readouterr().err == "a note\n"


class Gone(io.StringIO):
    """A terminal that hangs up once it was entered."""

    def write(self, text: str) -> int:
        if text != "\x1b[?1049h\x1b[?25l":
            raise OSError(errno.EIO, "Input/output error")
        return len(text)


def test_a_terminal_that_is_gone_is_told() -> None:
    no_keys = os.open(os.devnull, os.O_RDONLY)
    printer = LivePrinter(stop=lambda: None, last=Last(), out=Gone(), keyboard=no_keys)
    printer.show(start())
    end = time.monotonic() + _PATIENCE
    with pytest.raises(BrokenPipeError):
        flush_until(printer, end)
    printer.close(None)
    os.close(no_keys)


def flush_until(printer: LivePrinter, end: float) -> None:
    while time.monotonic() < end:
        printer.flush()
        time.sleep(0.01)


@pytest.mark.parametrize("how", ["SIGTERM", "SIGHUP", "exception", "exit"])
def test_the_terminal_is_given_back_however_the_process_ends(how: str) -> None:
    screen = Screen()
    modes = screen.local_modes()
    script = textwrap.dedent("""
        import sys, time
        from kubectl_trace.cli.live import LivePrinter
        from kubectl_trace.results.result import Result
        printer = LivePrinter(stop=lambda: None, last=None)
        printer.show(Result(1.0, "printf", "drawn"))
        if sys.argv[1].startswith("SIG"):
            while True: time.sleep(0.01)
        time.sleep(0.5)
        if sys.argv[1] == "exception":
            raise RuntimeError("oops")
    """)
    child = subprocess.Popen(
        [sys.executable, "-c", script, how],
        stdin=screen.terminal,
        stdout=screen.terminal,
        stderr=screen.terminal,
        env={**os.environ, "TERM": "xterm"},
        # Under nohup it is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    screen.wait_for(b"drawn")
    if how.startswith("SIG"):
        child.send_signal(getattr(signal, how))
    screen.wait_for(LEFT)
    code = child.wait(_PATIENCE)
    assert code == {"exception": 1, "exit": 0}.get(how, -getattr(signal, how, 0))
    if how == "exception":
        screen.wait_for(b"RuntimeError: oops")
    assert screen.local_modes() == modes
    os.close(screen.main)
    os.close(screen.terminal)


def test_it_hardly_needs_a_cpu_while_nothing_happens() -> None:
    with watching() as (screen, printer, _):
        printer.show(start())
        printer.show(Result(1.0, "map", {"@": {f"key {i}": i for i in range(1000)}}))
        screen.wait_for(b"q stop")
        before = time.process_time()
        screen.rest(3.0)
        assert time.process_time() - before < 0.15  # 5 %: the machine may be busy


@pytest.mark.parametrize("term", ["", "dumb"])
def test_a_terminal_that_can_place_no_text_is_refused(
    monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", term)
    with pytest.raises(UsageError, match="--watch"):
        live.check_terminal()


def test_a_pipe_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(UsageError, match="--watch"):
        live.check_terminal()
