"""A trace followed on the terminal: events in, results out, Ctrl-C and broken pipes in between."""

from __future__ import annotations

import contextlib
import select
import signal
import sys
import threading
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol

import msgspec

from kubectl_trace.cli.arguments import complain, note, silence_stdout
from kubectl_trace.errors import Exit, TraceError
from kubectl_trace.results.events import Ended, Event, Notice, Records
from kubectl_trace.results.record import Summary
from kubectl_trace.trace import Kill, Stop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubectl_trace.cli.printer import Printer
    from kubectl_trace.results.events import Sink
    from kubectl_trace.trace import Control

_PATIENCE = 30.0
"""Seconds beyond the grace period in which a runner that was told to stop must say its last."""

INTERRUPTED = 130


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


@dataclass(frozen=True)
class _Interrupted:
    """Ctrl-C, or another signal that asks us to end."""


@dataclass(frozen=True)
class _ReaderGone:
    """Nobody reads our stdout any more."""


class NeverStarted(TraceError):
    """The user gave up before the trace ran."""

    code = Exit.NOT_STARTED


def follow(source: Source, printer: Printer, *, grace: float) -> int:
    """Follows a trace to its end; the exit code.

    The first Ctrl-C stops the trace and collects its maps, the second gives them up.

    Raises:
        NeverStarted: Ctrl-C before the runner began.
        TraceError: the trace could not be started, or its stream ended without a summary.
    """
    queue: SimpleQueue[Event | _Interrupted | _ReaderGone] = SimpleQueue()
    with _interrupts(queue):
        threading.Thread(target=_watch_reader, args=(queue,), daemon=True).start()
        try:
            source.start(queue.put)
            return _Follower(source, printer, grace).run(queue)
        except BrokenPipeError:
            silence_stdout()
            return Exit.DONE
        finally:
            source.close()


class _Follower:
    def __init__(self, source: Source, printer: Printer, grace: float) -> None:
        self._source = source
        self._printer = printer
        self._grace = grace
        self._interrupts = 0
        self._give_up_at: float | None = None
        self._summary: Summary | None = None

    def run(self, queue: SimpleQueue[Event | _Interrupted | _ReaderGone]) -> int:
        while True:
            try:
                event = queue.get(timeout=self._remaining())
            except Empty:
                raise TraceError(
                    "the runner did not end in time; its last records and maps are lost"
                ) from None
            if isinstance(event, Notice):
                note(event.text)
            elif isinstance(event, Records):
                self._on_records(event)
            elif isinstance(event, _Interrupted):
                self._on_interrupt()
            elif isinstance(event, _ReaderGone):
                raise BrokenPipeError
            else:
                return self._on_end(event)

    def _remaining(self) -> float | None:
        return None if self._give_up_at is None else max(0.0, self._give_up_at - time.monotonic())

    def _on_records(self, event: Records) -> None:
        for record in event.records:
            if record.type == "summary":
                self._summary = msgspec.convert(record.data, Summary)
            self._printer.show(record)
        self._printer.flush()

    def _on_interrupt(self) -> None:
        self._interrupts += 1
        if not self._source.started:
            raise NeverStarted("given up before the trace started")
        if self._interrupts == 1:
            note("\nstopping, collecting maps (Ctrl-C again gives them up)")
            self._give_up_at = time.monotonic() + self._grace + _PATIENCE
            self._source.send(Stop())
        elif self._interrupts == 2:
            note("\ngiving up the maps")
            self._give_up_at = time.monotonic() + _PATIENCE
            self._source.send(Kill())
        else:
            raise KeyboardInterrupt

    def _on_end(self, event: Ended) -> int:
        if event.error is not None:
            raise event.error
        assert self._summary is not None
        if self._summary.message:
            complain(self._summary.message)
        note(_account(self._summary, self._source.lost_in_transport))
        return self._summary.exit


def _account(summary: Summary, lost_in_transport: int) -> str:
    lost = dict(summary.lost)
    if lost_in_transport:
        lost["transport"] = lost_in_transport
    causes = ", ".join(f"{count} by {cause}" for cause, count in lost.items() if count)
    records = "1 record" if summary.delivered == 1 else f"{summary.delivered} records"
    return f"{summary.reason}: {records}; lost: {causes or 'none'}"


@contextlib.contextmanager
def _interrupts(queue: SimpleQueue[Event | _Interrupted | _ReaderGone]) -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP as events."""

    def handler(number: int, frame: object) -> None:
        queue.put(_Interrupted())  # SimpleQueue.put is reentrant, as a handler needs

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _watch_reader(queue: SimpleQueue[Event | _Interrupted | _ReaderGone]) -> None:
    """Notices that the reader of a pipe is gone also while there is nothing to write."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
        while True:
            for _, happened in poll.poll():
                if happened & select.POLLERR:
                    queue.put(_ReaderGone())
                return
    except (OSError, ValueError):
        return
