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

import msgspec

from kubectl_trace._version import __version__
from kubectl_trace.cli.arguments import complain, note, silence_stdout
from kubectl_trace.errors import Exit, StartError, TraceError
from kubectl_trace.results.events import Ended, Event, Notice, Records
from kubectl_trace.results.record import Summary
from kubectl_trace.trace import PROTOCOL, Kill, Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_trace.cli.printer import Printer
    from kubectl_trace.results.events import Sink
    from kubectl_trace.trace import Control

_PATIENCE = 30.0
"""Seconds beyond the grace period in which a runner that was told to stop must say its last."""

_QUEUED = 64
"""Events that may wait for the terminal: pieces of at most some hundred kilobytes."""

_GIVEN_UP = "given up before the trace started"


class Source(Protocol):
    """A runner that can be followed and spoken to."""

    @property
    def started(self) -> bool:
        """Whether the runner has begun."""
        ...

    @property
    def lost_in_transport(self) -> int:
        """Records that never came."""
        ...

    def start(self, sink: Sink) -> None:
        """Begins to follow."""
        ...

    def send(self, message: Control) -> None:
        """Sends a message to the runner."""
        ...

    def close(self) -> None:
        """Ends the following."""
        ...


class Interrupts:
    """Ctrl-C counted from before a trace is created until it is over; nothing else interrupts.

    Signals act at once, also while the terminal blocks our output: the handler runs between two
    tries to write.
    """

    def __init__(self, *, owned: bool) -> None:
        """`owned`: the trace is ours, and SIGTERM and SIGHUP stop it as Ctrl-C does."""
        self._numbers = [signal.SIGINT, *((signal.SIGTERM, signal.SIGHUP) if owned else ())]
        self.count = 0
        self.action: Callable[[int], None] = lambda count: None
        """Called in the main thread with the count at each signal."""
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

    def __exit__(self, *_: object) -> None:
        for number, previous in self._before.items():
            signal.signal(number, previous)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._writing)

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

    code = Exit.NOT_STARTED


def follow(source: Source, printer: Printer, interrupts: Interrupts, *, grace: float) -> int:
    """Follows a trace to its end; the exit code.

    The first Ctrl-C stops the trace and collects its maps, the second gives them up, the third
    leaves at once.

    Raises:
        NeverStarted: Ctrl-C before the runner began.
        TraceError: the trace could not be started, or its stream ended without a summary.
    """
    follower = _Follower(source, printer, interrupts, grace)
    try:
        return follower.run()
    except BrokenPipeError:
        silence_stdout()
        return Exit.DONE
    finally:
        source.close()


class _Follower:
    def __init__(
        self, source: Source, printer: Printer, interrupts: Interrupts, grace: float
    ) -> None:
        self._source = source
        self._printer = printer
        self._interrupts = interrupts
        self._grace = grace
        self._queue: SimpleQueue[Event | _Wake] = SimpleQueue()  # its put is reentrant
        self._room = threading.Semaphore(_QUEUED)
        self._reader_gone = False
        self._give_up_at: float | None = None
        self._summary: Summary | None = None

    def run(self) -> int:
        self._interrupts.action = self._on_interrupt
        self._interrupts.wake = lambda: self._queue.put(_Wake())
        if self._interrupts.count:
            raise NeverStarted(_GIVEN_UP)
        threading.Thread(target=self._watch_reader, daemon=True).start()
        self._source.start(self._put)
        while True:
            try:
                event = self._queue.get(timeout=self._remaining())
            except Empty:
                raise TraceError(
                    "the runner did not end in time; its last records and maps are lost"
                ) from None
            if isinstance(event, _Wake):
                self._on_wake()
                continue
            self._room.release()
            if isinstance(event, Notice):
                note(event.text)
            elif isinstance(event, Records):
                self._on_records(event)
            else:
                return self._on_end(event)

    def _put(self, event: Event) -> None:
        """Takes an event; a source that is quicker than the terminal waits here."""
        self._room.acquire()
        self._queue.put(event)

    def _remaining(self) -> float | None:
        return None if self._give_up_at is None else max(0.0, self._give_up_at - time.monotonic())

    def _on_records(self, event: Records) -> None:
        for record in event.records:
            if record.type == "start" and record.data["protocol"] != PROTOCOL:
                raise StartError(
                    f"version mismatch: the runner is {record.data['version']}, this client is "
                    f"{__version__}; use a runner image of the client's version (--imagename)"
                )
            if record.type == "summary":
                self._summary = msgspec.convert(record.data, Summary)
            self._printer.show(record)
        self._printer.flush()

    def _on_interrupt(self, count: int) -> None:
        """In the signal handler: what was interrupted may be a print."""
        if not self._source.started:
            self._queue.put(_Wake())
        elif count == 1:
            self._tell("stopping, collecting maps (Ctrl-C again gives them up)")
            self._stop(Stop(), self._grace + _PATIENCE)
        elif count == 2:
            self._tell("giving up the maps")
            self._stop(Kill(), _PATIENCE)
        else:
            raise KeyboardInterrupt

    def _stop(self, message: Control, patience: float) -> None:
        self._give_up_at = time.monotonic() + patience
        self._queue.put(_Wake())
        threading.Thread(target=self._send, args=(message,), daemon=True).start()

    def _send(self, message: Control) -> None:
        try:
            self._source.send(message)
        except TraceError as error:
            self._put(Ended(error))

    @staticmethod
    def _tell(text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(2, f"\n{text}\n".encode())

    def _on_wake(self) -> None:
        if self._reader_gone:
            raise BrokenPipeError
        if self._interrupts.count and not self._source.started:
            raise NeverStarted(_GIVEN_UP)

    def _on_end(self, event: Ended) -> int:
        if event.error is not None:
            raise event.error
        assert self._summary is not None
        if self._summary.message:
            complain(self._summary.message)
        note(_account(self._summary, self._source.lost_in_transport))
        return self._summary.exit

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


def _account(summary: Summary, lost_in_transport: int) -> str:
    lost = dict(summary.lost)
    if lost_in_transport:
        lost["transport"] = lost_in_transport
    causes = ", ".join(f"{count} by {cause}" for cause, count in lost.items() if count)
    records = "1 record" if summary.delivered == 1 else f"{summary.delivered} records"
    return f"{summary.reason}: {records}; lost: {causes or 'none'}"
