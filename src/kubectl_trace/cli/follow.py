"""A trace followed on the terminal: events in, results out, Ctrl-C and broken pipes in between."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol

from kubectl_trace.cli.arguments import note, silence_stdout
from kubectl_trace.errors import Exit, StartError, TraceError
from kubectl_trace.results.events import Ended, Event, Finished
from kubectl_trace.trace import Kill, Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubectl_trace.cli.view import View
    from kubectl_trace.results.events import Sink

PATIENCE = 30.0
"""Seconds beyond the grace period in which a runner that was told to stop must say its last."""

_QUEUED = 64
"""Events that may wait for the terminal: pieces of at most some hundred kilobytes."""

_GATHERING = 0.005
"""Seconds in which events gather in a flood: handing each over from its thread costs more than what
is done with it."""

_LOOK_AGAIN = 0.2  # seconds until one who waits for room sees that nobody makes any

_COLLECTING = "stopping, collecting maps (Ctrl-C again gives them up)"
_GIVEN_UP = "given up before the trace started"


class Source(Protocol):
    """Runners that can be followed and spoken to."""

    @property
    def started(self) -> bool:
        """Whether any runner has begun."""
        ...

    @property
    def nodes(self) -> list[str]:
        """The nodes of the runners there are, or were."""
        ...

    def start(self, sink: Sink) -> None:
        """Begins to follow."""
        ...

    def send(self, message: Stop | Kill) -> None:
        """Tells all runners to end."""
        ...

    def close(self) -> Sequence[str]:
        """Ends the following; what the user should know of that."""
        ...


class Interrupts:
    """Ctrl-C counted from before a trace is created until it is over; nothing else interrupts.

    A signal that comes later, while the command tidies up, is ignored: the answer stands.

    Signals act at once, also while the terminal blocks our output: the handler runs between two
    tries to write.
    """

    def __init__(self, *, owned: bool) -> None:
        """`owned`: the trace is ours, and SIGTERM and SIGHUP stop it as Ctrl-C does."""
        self._numbers = [signal.SIGINT, *((signal.SIGTERM, signal.SIGHUP) if owned else ())]
        self.count = 0
        self.action: Callable[[int], None] = lambda count: None
        """Called in the main thread at each signal with the count; with 0 for `enough`."""
        self.wake: Callable[[], None] = lambda: None
        """Called in another thread at each signal: it must bring the main thread out of a wait."""

    def __enter__(self) -> Interrupts:
        # The kernel may give a signal to any thread, and Python runs handlers in the main thread
        # only, which then knows nothing of it while it waits.
        reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reading,), daemon=True).start()
        self._before = {number: signal.signal(number, self._on_signal) for number in self._numbers}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, previous in self._before.items():
            signal.signal(number, previous if kind else signal.SIG_IGN)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._writing)

    def interrupt(self) -> None:
        """Does what Ctrl-C does, from any thread."""
        signal.raise_signal(signal.SIGINT)

    def enough(self) -> None:
        """Stops the trace, from the main thread; a Ctrl-C that the user adds is still the first."""
        self.action(0)

    def _watch(self, reading: int) -> None:
        while os.read(reading, 64):
            self.wake()
        os.close(reading)

    def _on_signal(self, number: int, frame: object) -> None:
        self.count += 1
        self.action(self.count)


@dataclass(frozen=True)
class _Wake:
    """Something has changed that is no event of the source."""


class NeverStarted(TraceError):
    """The user gave up before the trace ran."""

    code = Exit.GIVEN_UP


def follow(
    source: Source,
    view: View,
    interrupts: Interrupts,
    *,
    grace: float,
    require_all: bool = False,
) -> int:
    """Follows a trace to its end; the exit code.

    The first Ctrl-C stops the trace and collects its maps, the second gives them up, the third
    leaves at once.

    Args:
        source: The runners.
        view: What the user sees.
        interrupts: The user's signals.
        grace: Seconds that a runner gets to detach and print its maps.
        require_all: A node that can't begin ends the trace.

    Raises:
        NeverStarted: Ctrl-C before a runner began.
        TraceError: the trace could not be started, or its stream ended without a summary.
    """
    follower = _Follower(source, view, interrupts, grace, require_all=require_all)
    try:
        return follower.run()
    except BrokenPipeError:
        silence_stdout()
        return Exit.DONE
    except KeyboardInterrupt:
        silence_stdout()  # what could not be written yet would be waited for
        raise
    finally:
        follower.leave()
        for text in source.close():
            note(text)
        view.close()


class _Follower:
    def __init__(
        self, source: Source, view: View, interrupts: Interrupts, grace: float, *, require_all: bool
    ) -> None:
        self._source = source
        self._view = view
        self._interrupts = interrupts
        self._grace = grace
        self._require_all = require_all
        self._queue: SimpleQueue[Event | _Wake] = SimpleQueue()  # its put is reentrant
        self._room = threading.Semaphore(_QUEUED)
        self._reader_gone = False
        self._left = False
        self._said: Stop | Kill | None = None
        self._give_up_at: float | None = None

    def run(self) -> int:
        self._interrupts.action = self._on_interrupt
        self._interrupts.wake = lambda: self._queue.put(_Wake())
        if self._interrupts.count:
            raise NeverStarted(_GIVEN_UP)
        threading.Thread(target=self._watch_reader, daemon=True).start()
        self._source.start(self._put)
        last = 0.0
        while True:
            if self._queue.empty() and time.monotonic() - last < _GATHERING:
                select.select((), (), (), _GATHERING)  # no clock that steps matters to it
            try:
                event = self._queue.get(timeout=self._next())
            except Empty:
                if self._is_too_late():
                    return self._give_up()
                self._view.tick(time.monotonic())
                continue
            if isinstance(event, _Wake):
                self._on_wake()
                continue
            self._room.release()
            last = time.monotonic()
            self._view.take(event, last)
            if isinstance(event, Finished):
                return self._on_finished(event)
            if isinstance(event, Ended):
                self._on_end(event)

    def leave(self) -> None:
        """Takes no more events: nobody is to wait for room."""
        self._left = True

    def _put(self, event: Event) -> None:
        """Takes an event; a source that is quicker than the terminal waits here."""
        while not self._left:
            if self._room.acquire(timeout=_LOOK_AGAIN):
                self._queue.put(event)
                return

    def _next(self) -> float | None:
        """Seconds until there is something to do though nothing comes."""
        now = time.monotonic()
        waits = [self._view.wait(now)]
        if self._give_up_at is not None:
            waits.append(self._give_up_at - now)
        return min((max(0.0, wait) for wait in waits if wait is not None), default=None)

    def _is_too_late(self) -> bool:
        return self._give_up_at is not None and time.monotonic() >= self._give_up_at

    def _give_up(self) -> int:
        """The nodes that have not ended are lost; the others' answer stands."""
        error = TraceError("the runner did not end in time; its last records and maps are lost")
        for node in self._source.nodes:
            if node not in self._view.ended:
                self._view.take(Ended(node, error=error), time.monotonic())
        self._view.take(Finished(), time.monotonic())
        return self._view.finish().exit

    def _on_end(self, event: Ended) -> None:
        account = self._view.ended[event.node]
        if self._require_all and not account.began:
            error = StartError(f"--require-all: {event.node}: {account.message}")
            error.code = Exit(account.exit)
            raise error

    def _on_finished(self, event: Finished) -> int:
        if self._interrupts.count and not self._source.started:
            raise NeverStarted(_GIVEN_UP)
        if event.error is not None:
            raise event.error
        return self._view.finish().exit

    def _on_interrupt(self, count: int) -> None:
        """In the signal handler: what was interrupted may be a print."""
        if not self._source.started:
            self._queue.put(_Wake())
        elif self._said is None:
            self._ask_to_stop(told=not count)
        elif count < 2:
            if count:  # the trace was stopping by itself
                self._tell(_COLLECTING)
        elif isinstance(self._said, Stop):
            self._stop(Kill(), PATIENCE)
            self._tell("giving up the maps")
        else:
            raise KeyboardInterrupt

    def _ask_to_stop(self, *, told: bool = False) -> None:
        # First: who has read the words may press Ctrl-C again before they are all written.
        self._stop(Stop(), self._grace + PATIENCE)
        if not told:
            self._tell(_COLLECTING)

    def _stop(self, message: Stop | Kill, patience: float) -> None:
        self._said = message
        self._give_up_at = time.monotonic() + patience
        self._queue.put(_Wake())
        # Not here: the signal may have interrupted one who holds the locks that this takes.
        threading.Thread(target=self._source.send, args=(message,), daemon=True).start()

    @staticmethod
    def _tell(text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(2, f"\n{text}\n".encode())

    def _on_wake(self) -> None:
        if self._reader_gone:
            raise BrokenPipeError
        if not self._interrupts.count or self._said is not None:
            return
        if not self._source.started:
            raise NeverStarted(_GIVEN_UP)
        self._ask_to_stop()  # the first runner has begun just after Ctrl-C

    def _watch_reader(self) -> None:
        """Notices that the reader of a pipe is gone also while there is nothing to write."""
        poll = select.poll()
        try:
            poll.register(sys.stdout.fileno(), 0)
            self._reader_gone = any(happened & select.POLLERR for _, happened in poll.poll())
        except (OSError, ValueError):
            return
        if self._reader_gone:
            self._queue.put(_Wake())
