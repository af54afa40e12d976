"""The live view, `--watch`: what a trace has seen, drawn on the terminal while it runs."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import io
import os
import select
import signal
import sys
import termios
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from rich.console import Console

from kubectl_trace.cli.live_screen import SORTS, MapView, View, screen
from kubectl_trace.cli.report import NO_RESULTS, error_text
from kubectl_trace.errors import UsageError
from kubectl_trace.results.dialect import Output
from kubectl_trace.results.record import ERRORS, MAPS
from kubectl_trace.results.terminal import escape
from kubectl_trace.results.text import render

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import TextIO

    from kubectl_trace.cli.printer import Printer
    from kubectl_trace.results.account import Account
    from kubectl_trace.results.result import Result

_BETWEEN = 0.25  # seconds between two pictures, at least
_IDLE = 1.0  # and where nothing but the age has changed
_WINDOW = 2.0  # seconds that records per second are an average of
_KEPT = 2000  # printed texts, and messages, that are kept for the end
_LONGEST = 4096  # characters of a printed line that are looked at

_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME = "\x1b[H"
_CLEAR_LINE = "\x1b[K"

_GROWING = frozenset({"", "count", "sum"})


def check_terminal() -> None:
    """Makes sure that there is something to draw on.

    Raises:
        UsageError: stdout is no terminal, or one that can't place a text.
    """
    if not sys.stdout.isatty() or os.environ.get("TERM", "") in ("", "dumb"):
        raise UsageError("--watch draws on a terminal, and stdout is none; leave it away")


class LivePrinter:
    """Draws results a few times a second; at the end, shows what is left by another printer.

    The terminal is ours from the first result on: the view is on its alternate screen, and what is
    written to stderr is part of it. `close`, the process's end and deadly signals give it back.
    """

    def __init__(
        self,
        *,
        stop: Callable[[], None],
        last: Printer,
        out: TextIO | None = None,
        keyboard: int = 0,
    ) -> None:
        """Draws nothing yet.

        Args:
            stop: Is called, in another thread, whenever the user wants the trace to end.
            last: Is given, at the end, what is about the run, the last printed lines and the maps
                as they were last.
            out: The terminal, stdout if it is None.
            keyboard: The descriptor that keys come from; if it is no terminal, there are none.
        """
        self._stop = stop
        self._last = last
        self._known = _Known()
        self._lock = threading.Lock()  # of what is known
        self._terminal = _Terminal(out or sys.stdout, keyboard)
        self._console = Console(file=self._terminal.out, force_terminal=True, highlight=False)
        self._paused: View | None = None
        self._sort = SORTS[0]
        self._failure: Exception | None = None
        self._begun = False
        self._closed = False

    def show(self, result: Result) -> None:
        """Takes a result; it is drawn soon."""
        if not self._begun:
            self._begin()
        with self._lock:
            self._known.learn(result)

    def flush(self) -> None:
        """Everything is drawn by itself.

        Raises:
            BrokenPipeError: the terminal is gone.
        """
        if isinstance(self._failure, OSError):
            raise BrokenPipeError from self._failure
        if self._failure is not None:
            raise self._failure

    def close(self, account: Account | None) -> None:
        """Gives the terminal back and shows the last state of everything; only once."""
        if self._closed:
            return
        self._closed = True
        self._terminal.leave()
        for result in self._known.last_state():
            self._last.show(result)
        if self._known.forgotten:
            kept = f"only the last lines of {self._known.printed_texts} are shown"
            print(f"{kept}; --save keeps all", file=sys.stderr)
        self._last.close(account)

    def _begin(self) -> None:
        self._begun = True
        self._terminal.enter(self._on_message)
        threading.Thread(target=self._run, name="live view", daemon=True).start()

    def _on_message(self, text: str) -> None:
        with self._lock:
            self._known.say(text)

    def _run(self) -> None:
        """Draws, and takes keys, until the terminal is given back."""
        try:
            drawn, size, drawn_changes = 0.0, (0, 0), -1
            while self._terminal.entered:
                for key in self._terminal.keys(_BETWEEN):
                    self._on_key(key)
                    drawn_changes = -1
                passed = time.monotonic() - drawn
                changed = self._known.changes != drawn_changes and self._paused is None
                resized = size != self._terminal.size() or drawn_changes == -1
                if passed >= _BETWEEN and (
                    changed or resized or (passed >= _IDLE and self._paused is None)
                ):
                    drawn, drawn_changes = time.monotonic(), self._known.changes
                    size = self._terminal.size()
                    self._draw(*size)
        except Exception as error:  # shown by the main thread
            self._failure = error

    def _on_key(self, key: str) -> None:
        if key == "q":
            with self._lock:
                self._known.stop_asked()
            self._stop()
        elif key == "s":
            self._sort = SORTS[(SORTS.index(self._sort) + 1) % len(SORTS)]
        elif key == "p":
            self._paused = None if self._paused else self._view(500)

    def _draw(self, width: int, height: int) -> None:
        view = self._paused or self._view(height)
        if self._paused:
            view = dataclasses.replace(view, sort=self._sort, status="paused")
        with self._console.capture() as captured:
            self._console.print(screen(view, width, height), width=width, end="", soft_wrap=True)
        lines = captured.get().rstrip("\n").split("\n")
        self._terminal.put(_HOME + "\n".join(_CLEAR_LINE + line for line in lines))

    def _view(self, height: int) -> View:
        with self._lock:
            return self._known.view(height, sort=self._sort, keys=self._terminal.has_keys)


class _Known:
    """What results have told so far, in memory that does not grow with what is printed."""

    def __init__(self) -> None:
        self.changes = 0
        self.forgotten = False
        """Printed lines were too many to be kept."""
        self.printed_texts = 0
        self._begun = time.monotonic()
        self._maps: dict[tuple[str, ...], MapView] = {}
        self._printed: deque[Result] = deque()
        self._kept_texts = 0
        self._tail: deque[Result | str] = deque(maxlen=_KEPT)
        self._about: deque[Result] = deque(maxlen=_KEPT)
        self._nodes: set[str] = set()
        self._running: set[str] = set()
        self._containers: set[tuple[str, ...]] = set()
        self._kinds: dict[str, str] = {}
        self._limited: set[str] = set()
        self._emptied: set[str] = set()
        self._records = 0
        self._lost = 0
        self._status = ""
        self._progress = ""
        self._counts: deque[tuple[float, int]] = deque([(self._begun, 0)])

    def learn(self, result: Result) -> None:
        """Takes a result of any type."""
        self.changes += 1
        kind = result.type
        if kind in MAPS and isinstance(result.data, dict):
            self._records += 1
            for name in result.data:
                self._learn_map(name, result)
        elif kind in NO_RESULTS:
            self._about.append(result)
            self._learn_about(result)
        else:
            self._learn_printed(result)

    def say(self, text: str) -> None:
        """Takes a message for the user; one that begins with a carriage return is of the moment."""
        self.changes += 1
        if text.startswith("\r"):
            self._progress = text.strip("\r\n").removesuffix(_CLEAR_LINE)
        else:
            self._tail.append(text)

    def stop_asked(self) -> None:
        """The user wants the trace to end."""
        self.changes += 1
        self._status = self._status or "stopping"

    def last_state(self) -> list[Result]:
        """What is worth to stay on the terminal: maps as they were last are at the end."""
        shown = {id(each.result): each.result for each in self._maps.values()}
        return [*self._about, *self._printed, *shown.values()]

    def view(self, height: int, *, sort: str, keys: bool) -> View:
        """The picture's content, with at most `height` printed lines."""
        now = time.monotonic()
        self._counts.append((now, self._records))
        while len(self._counts) > 2 and now - self._counts[1][0] >= _WINDOW:
            self._counts.popleft()
        since, before = self._counts[0]
        return View(
            maps=tuple(self._maps.values()),
            lines=self._last_lines(height),
            running=len(self._running),
            nodes=len(self._nodes),
            rate=(self._records - before) / (now - since) if now > since else 0,
            lost=self._lost,
            age=now - self._begun,
            status=self._status or self._progress,
            sort=sort,
            keys=keys,
        )

    def _learn_map(self, name: str, result: Result) -> None:
        key = (name, result.node, result.namespace, result.pod, result.container)
        before, seconds = None, 0.0
        if (old := self._maps.get(key)) and self._kinds.get(name, "") in _GROWING:
            before, seconds = old.content, max(0.0, result.time - old.result.time)
            if name not in self._emptied and self._has_fallen(name, before, result.data[name]):
                # The program empties it, or prints and clears it: each print is what came since.
                self._emptied.add(name)
            if name in self._emptied:
                before = {} if isinstance(before, dict) else 0
        several = len(self._nodes) > 1
        self._maps[key] = MapView(
            name=name,
            place=_place(result) if result.pod or several else "",
            result=result,
            before=before,
            seconds=seconds if result.type == "map" else 0,
            limited=name in self._limited and name not in self._emptied,
        )

    def _has_fallen(self, name: str, before: Any, after: Any) -> bool:
        """Whether a count went back, or away."""
        if not isinstance(before, dict) or not isinstance(after, dict):
            before, after = {"": before}, {"": after}
        gone = 0 if name not in self._limited else float("inf")
        return any(
            isinstance(value, int) and after.get(key, gone) < value
            for key, value in before.items()
            if isinstance(after.get(key, gone), int | float)
        )

    def _learn_printed(self, result: Result) -> None:
        texts = len(result.data) if isinstance(result.data, list) else 1
        self._records += texts
        self.printed_texts += texts
        self._kept_texts += texts
        self._printed.append(result)
        self._tail.append(result)
        while self._kept_texts - _texts(self._printed[0]) >= _KEPT:
            self._kept_texts -= _texts(self._printed.popleft())
            self.forgotten = True

    def _learn_about(self, result: Result) -> None:
        kind, data = result.type, result.data
        if kind == "start":
            self._nodes.add(result.node)
            self._learn_start(data)
        elif kind == "ready":
            self._running.add(result.node)
        elif kind == "summary":
            self._running.discard(result.node)
        elif kind == "scope":
            self._containers |= {_names(member) for member in data.get("joined", ())}
        elif kind == "stopping":
            self._status = f"stopping ({data['reason']}), collecting maps"
        elif kind in ("stderr", "note"):
            self._tail.append(f"{data}\n")
        elif kind in ERRORS:
            if kind == "lost_events":
                self._lost += data["events"]
            self._tail.append(f"{error_text(result)}\n")

    def _learn_start(self, data: dict[str, Any]) -> None:
        self._containers |= {_names(member) for member in data.get("containers", ())}
        self._kinds |= {name: each.get("kind", "") for name, each in data.get("maps", {}).items()}
        self._limited |= {each["map"] for each in data.get("prints", ()) if each.get("top")}

    def _last_lines(self, count: int) -> tuple[str, ...]:
        """The last printed lines and messages, harmless to the terminal."""
        several = len(self._nodes) > 1 or len(self._containers) > 1
        text = ""
        for said in reversed(self._tail):
            text = (said if isinstance(said, str) else _printed_text(said, count, several)) + text
            if text.count("\n") > count:
                break
        lines = text.removesuffix("\n").split("\n") if text else []
        return tuple(
            escape(line.removesuffix("\r")[:_LONGEST]).replace("\t", "    ")
            for line in lines[-count:]
        )


def _texts(result: Result) -> int:
    return len(result.data) if isinstance(result.data, list) else 1


def _printed_text(result: Result, count: int, several: bool) -> str:
    data = result.data[-count:] if isinstance(result.data, list) else result.data
    text = render(Output(result.type, data))
    place = _place(result) if several else ""
    if not place:
        return text
    return "".join(f"[{place}] {line}" for line in text.splitlines(keepends=True))


def _place(result: Result) -> str:
    if result.pod:
        return "/".join(filter(None, ("pod", result.pod, result.container)))
    return f"node/{result.node}" if result.node else ""


def _names(member: dict[str, Any]) -> tuple[str, ...]:
    return member["namespace"], member["pod"], member["container"]


class _Terminal:
    """The terminal: its alternate screen, its keys, and the way back."""

    def __init__(self, out: TextIO, keyboard: int) -> None:
        self.out = out
        self.entered = False
        self.has_keys = os.isatty(keyboard)
        self._keyboard = keyboard
        self._drawing = threading.RLock()  # a signal may come while the main thread holds it
        self._signals: dict[int, Any] = {}
        self._messages: _Messages | None = None

    def enter(self, on_message: Callable[[str], None]) -> None:
        """Takes the terminal; `on_message` is called with what is written to stderr from now on."""
        atexit.register(self.leave)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is signal.SIG_DFL:
                    self._signals[number] = signal.signal(number, self._on_signal)
        if self.has_keys:
            self._attributes = termios.tcgetattr(self._keyboard)
            changed = termios.tcgetattr(self._keyboard)
            changed[3] &= ~(termios.ECHO | termios.ICANON)
            changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
            changed[6][termios.VSUSP] = b"\0"  # Ctrl-Z would leave the shell our screen
            termios.tcsetattr(self._keyboard, termios.TCSADRAIN, changed)
        self._messages = _Messages(sys.stderr, on_message)
        sys.stderr = self._messages
        self.entered = True
        self.put(_ENTER)

    def leave(self) -> None:
        """Gives the terminal back as it was, with what was written to stderr; once."""
        with self._drawing:
            if not self.entered:
                return
            with contextlib.suppress(OSError, ValueError):
                self.put(_LEAVE)
            self.entered = False
            if self.has_keys:
                with contextlib.suppress(termios.error):
                    termios.tcsetattr(self._keyboard, termios.TCSADRAIN, self._attributes)
            if self._messages is not None:
                if sys.stderr is self._messages:
                    sys.stderr = self._messages.inner
                with contextlib.suppress(OSError, ValueError):
                    self._messages.write_back()
        if threading.current_thread() is threading.main_thread():
            for number, before in self._signals.items():
                if signal.getsignal(number) == self._on_signal:
                    signal.signal(number, before)
        atexit.unregister(self.leave)

    def put(self, text: str) -> None:
        """Writes to the terminal, while it is ours."""
        with self._drawing:
            if self.entered:
                self.out.write(text)
                self.out.flush()

    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            width, height = os.get_terminal_size(self.out.fileno())
        except (OSError, ValueError):
            return 80, 24
        return width or 80, height or 24

    def keys(self, seconds: float) -> str:
        """The keys that were pressed; waits for one at most so long."""
        if not self.has_keys:
            time.sleep(seconds)
            return ""
        poll = select.poll()
        poll.register(self._keyboard, select.POLLIN)
        if not poll.poll(seconds * 1000) or not self.entered:
            return ""
        try:
            pressed = os.read(self._keyboard, 64)
        except OSError:
            pressed = b""
        self.has_keys = bool(pressed)
        return pressed.decode("ascii", "replace")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.leave()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


class _Messages(io.TextIOBase):
    """Stands for stderr while the screen is ours: what is written there is shown, and kept."""

    def __init__(self, inner: TextIO, on_message: Callable[[str], None]) -> None:
        self.inner = inner
        self._on_message = on_message
        self._kept: deque[str] = deque(maxlen=_KEPT)

    def write(self, text: str) -> int:
        if not text.startswith("\r"):  # progress means nothing later
            self._kept.append(text)
        self._on_message(text)
        return len(text)

    def isatty(self) -> bool:
        return self.inner.isatty()

    def fileno(self) -> int:
        return self.inner.fileno()

    def write_back(self) -> None:
        """Writes what was kept to the real one."""
        self.inner.write("".join(self._kept))
        self.inner.flush()
