"""One supervisor for one bpftrace: the only place that signals it.

Told to stop, it sends one SIGINT (another where bpftrace has not heard it), waits for bpftrace to
detach, run END and print its maps, and kills it only after the grace period or when the user gives
up the maps.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import time
from typing import TYPE_CHECKING

import msgspec

from kubectl_trace.errors import Exit, StartError
from kubectl_trace.results.dialect import Output
from kubectl_trace.runner import bpfmap, bpftrace, ending, hearing, output_limit, overhead
from kubectl_trace.runner.ending import Ending
from kubectl_trace.runner.output import KERNEL_BUFFER, Given, RecordWriter, to_data
from kubectl_trace.runner.signals import Signals
from kubectl_trace.runner.streams import (
    CHUNK,
    Lines,
    gathering,
    left_in,
    lines_of,
    waiting,
    widened,
)
from kubectl_trace.trace import Control, Kill, Scope, Stop

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from kubectl_trace.results.record import Summary
    from kubectl_trace.runner.members import Members
    from kubectl_trace.runner.overhead import Overhead
    from kubectl_trace.runner.tally import LostTexts
    from kubectl_trace.runner.translation import Translation

_SCOPE_MAP_PERIOD = 0.002  # seconds
_LOOK_AGAIN = 1.0  # seconds
_LONGEST_WAIT = 3600.0  # seconds: epoll takes no more than 2^31 milliseconds

_FLOOD = 0.01  # seconds between two reads, at most

# A program that prints is let run dry before it is interrupted (see `_run_dry`).
_QUIET = 0.1  # seconds without output: bpftrace waits so long for events (src/bpftrace.cpp: poll)
_LONGEST_DRY = 2.0  # seconds

_decode_control = msgspec.json.Decoder(Control).decode


class Supervisor:
    """Runs one bpftrace to its end, with its output, its client and its deadline."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        writer: RecordWriter,
        translation: Translation,
        members: Members | None = None,
        scope_map: str = "",
        *,
        attached: bool,
        silence: float = 0,
        held_back: list[str] | None = None,
        deadline: float,
        grace: float,
        control_fd: int | None = 0,
        target: int = 0,
        overhead: Overhead | None = None,
        may_be_deaf: bool = False,
    ) -> None:
        self._child = child
        self._may_be_deaf = may_be_deaf
        self._overhead = overhead
        self._writer = writer
        self._translation = translation
        self._members = members
        self._scope_map = scope_map
        self.held_back = held_back
        self.lost_texts: list[LostTexts] = []
        """Known when it has ended."""
        self._failure: tuple[Exit, str] | None = None
        self._complained = False
        self._attached = attached
        self._silence = silence
        self._grace = grace
        self._control_fd = control_fd
        self._target = target
        self._selector = selectors.DefaultSelector()
        self._outputs: dict[int, tuple[Lines, Callable[[bytes], None]]] = {}
        self._timers: dict[str, tuple[float, Callable[[], None]]] = {}
        self._reason = ""
        self._ready = False
        self._is_unread = False
        self._room = CHUNK
        self._last_output = 0.0
        self._is_dry = False
        self._killed = self._interrupted = False
        self._set_timer("deadline", deadline, lambda: self._stop("deadline"))
        if members is not None:
            self._set_timer("scope", 0.0, self._find_scope_map)
        self._await_client()

    def run(self) -> Summary:
        """Runs until bpftrace has ended and its output is read; what the summary record says.

        A process that is the target takes bpftrace with it, as it does with `bpftrace -p`.
        """
        assert self._child.stdout is not None
        assert self._child.stderr is not None
        outputs = self._outputs = {
            self._child.stdout.fileno(): (Lines(), self._on_stdout),
            self._child.stderr.fileno(): (Lines(), self._on_stderr),
        }
        os.set_blocking(self._child.stdout.fileno(), False)
        self._room = widened(self._child.stdout.fileno())  # see `_interrupt`, too
        control = Lines()
        child_fd = os.pidfd_open(self._child.pid)
        for fd in (*outputs, child_fd):
            self._selector.register(fd, selectors.EVENT_READ)
        if self._control_fd is not None:
            # Not every standard input can be waited for (/dev/null); then nobody speaks to us.
            with contextlib.suppress(PermissionError):
                self._selector.register(self._control_fd, selectors.EVENT_READ)
        scope_fd = target_fd = -1
        if self._members is not None:
            scope_fd = self._members.fileno()
            self._selector.register(scope_fd, selectors.EVENT_READ)
        if self._target:
            try:
                target_fd = os.pidfd_open(self._target)
                self._selector.register(target_fd, selectors.EVENT_READ)
            except ProcessLookupError:
                self._stop("target ended")
            except OSError:
                pass  # a thread's ID: its process is traced, until somebody stops that
        with Signals() as signals:
            self._selector.register(signals.fd, selectors.EVENT_READ)
            ended = False
            while not ended:
                for key, _ in self._selector.select(self._next_timer()):
                    if key.fd == child_fd:
                        ended = True
                        continue
                    if key.fd == target_fd:
                        self._selector.unregister(target_fd)
                        self._stop("target ended")
                        continue
                    if key.fd == scope_fd:
                        if self._members is not None:
                            self._look_at_scope(self._members)
                        continue
                    if key.fd == self._child.stdout.fileno():
                        self._gather(key.fd)
                    try:
                        data = os.read(key.fd, CHUNK)
                    except BlockingIOError:  # read by `_interrupt` meanwhile
                        continue
                    if key.fd == signals.fd:
                        self._stop("terminated")
                    elif key.fd == self._control_fd:
                        self._on_control(control.feed(data), ended=not data)
                    else:
                        self._last_output = time.monotonic()
                        lines, handle = outputs[key.fd]
                        handle(lines.feed(data))
                        if not data:
                            self._selector.unregister(key.fd)
                self._fire_timers()
                self._flush()
                self._look_at_output()
            # Its own children may hold the pipes open: what is in them now is all that counts.
            for fd, (lines, handle) in outputs.items():
                handle(lines.feed(left_in(fd)))
                handle(lines.feed(b""))
            for given in self._translation.rest():
                self._writer.add_output(given)
            self._count_lost()
            self._say_full()
            self._writer.add_rest()
            self._flush()
        for fd in (child_fd, target_fd):
            if fd >= 0:
                os.close(fd)
        self._selector.close()
        status = self._child.wait()
        if self._overhead is not None:
            self._overhead.finish()
        return self._summary(status)

    def _set_timer(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        self._timers[name] = (time.monotonic() + seconds, action)

    def _next_timer(self) -> float | None:
        if not self._timers:
            return None
        remaining = min(due for due, _ in self._timers.values()) - time.monotonic()
        return min(max(0.0, remaining), _LONGEST_WAIT)

    def _fire_timers(self) -> None:
        now = time.monotonic()
        for name in [name for name, (due, _) in self._timers.items() if due <= now]:
            # What was done meanwhile may have stopped it, or set it anew.
            timer = self._timers.get(name)
            if timer is not None and timer[0] <= now:
                del self._timers[name]
                timer[1]()

    def _gather(self, fd: int) -> None:
        """Lets more output come, where much has come just now."""
        is_flood = time.monotonic() - self._last_output < _FLOOD
        if is_flood and (seconds := gathering(waiting(fd), self._room)):
            select.select((), (), (), seconds)  # no clock that steps matters to it

    def _on_stdout(self, block: bytes) -> None:
        for part in self._translation.parts(block):
            if isinstance(part, bytes):
                self._on_lines(part)
            else:
                self._writer.add_texts(part)

    def _on_lines(self, lines: bytes) -> None:
        for line in lines_of(lines):
            if line.startswith(bpftrace.NOTICE_ATTACHED):
                self._on_ready()
                continue
            for given in self._translation.output(line):
                if given.output.type == "attached_probes" and self._translation.hides_probes:
                    self._check_probes(given.output.data)
                if given.output.type == "raw":
                    # Up to 0.27.0 warnings of the compiler may come on stdout, among the records.
                    self._on_stderr(line)
                else:
                    self._writer.add_output(given)

    def _on_stderr(self, lines: bytes) -> None:
        for line in lines_of(lines):
            if line.startswith(bpftrace.NOTICE_ATTACHED):
                self._on_ready()
                continue
            self._say(self._translation.message(line))

    def _say(self, texts: list[str]) -> None:
        if self.held_back is not None:
            self.held_back += texts
            return
        for text in texts:
            self._writer.add("stderr", text)

    def _check_probes(self, data: object) -> None:
        """Ends a program of which nothing is attached but what the user did not write."""
        if isinstance(data, dict) and data["probes"] <= 0:
            self._say(["ERROR: No probes to attach"])
            self._fail(Exit.REFUSED, "bpftrace refused the program")

    def _count_lost(self) -> None:
        """Counts what bpftrace has not told; what comes after a program's own exit() is not lost.

        Interrupted, bpftrace detaches and then reads all that is there. What has run dry has
        printed all that is its scope's, and may print of no container until its exit() is heard.
        """
        if self._translation.has_ended_itself or not (self._interrupted or self._is_dry):
            return
        self.lost_texts = [
            each for each in self._translation.tally.lost() if self._interrupted or each.container
        ]
        told = self._writer.lost.get(KERNEL_BUFFER, 0)
        more = sum(each.lost for each in self.lost_texts) - told
        if more > 0:
            self._writer.add_output(Given(Output("lost_events", {"events": more})))

    def _say_full(self) -> None:
        for name in sorted(self._translation.full):
            self._say(
                [
                    f"{name} is full: keys that came later are not in it, and how many is not "
                    "known; raise BPFTRACE_MAX_MAP_KEYS (--env)"
                ]
            )

    def _look_at_output(self) -> None:
        limit = self._writer.limit
        if limit is not None and limit.is_reached:
            self._stop(output_limit.CAUSE)

    def _look_at_cost(self) -> None:
        assert self._overhead is not None
        if self._reason:
            return
        if self._overhead.is_too_much():
            self._stop(overhead.REASON)
        else:
            self._set_timer("cost", overhead.PERIOD, self._look_at_cost)

    def _on_ready(self) -> None:
        self._ready = True
        if self._overhead is not None and self._overhead.begin(self._child.pid):
            self._set_timer("cost", overhead.PERIOD, self._look_at_cost)
        self._translation.attached()
        if self.held_back is not None:
            held_back, self.held_back = self.held_back, None
            self._say(held_back)
        if self._members is not None:
            if not self._members.in_use:
                self._find_scope_map()
            if not self._members.in_use:
                self._fail(Exit.NOT_STARTED, "the program's scope can't be set: its map is missing")
                return
            self._members.drop_ended()
            self._look_at_scope(self._members)
        self._writer.add("ready", None)

    def _on_control(self, lines: bytes, *, ended: bool) -> None:
        for line in lines_of(lines):
            try:
                message = _decode_control(line)
            except msgspec.MsgspecError:
                continue
            self._await_client()
            if isinstance(message, Stop):
                self._stop("stopped")
            elif isinstance(message, Kill):
                self._kill("killed")
            elif isinstance(message, Scope) and self._members is not None:
                self._members.set_containers(message.containers)
                self._look_at_scope(self._members)
        if ended and self._control_fd is not None:
            self._selector.unregister(self._control_fd)
            if self._attached and not self._silence:
                self._stop("client gone")

    def _await_client(self) -> None:
        """Gives the client its time anew."""
        if self._attached and self._silence and not self._reason:
            self._set_timer("client", self._silence, lambda: self._stop("client gone"))

    def _find_scope_map(self) -> None:
        """Looks for the program's map until it is there: bpftrace makes it before it attaches."""
        members = self._members
        assert members is not None
        try:
            found = bpfmap.find(self._child.pid, self._scope_map)
            if found is None:
                self._set_timer("scope", _SCOPE_MAP_PERIOD, self._find_scope_map)
                return
            members.use(found)
        except OSError as error:
            self._fail(Exit.NOT_STARTED, f"the program's scope can't be set: {error.strerror}")
        except StartError as error:
            self._fail(error.code, str(error))
        else:
            self._look_at_scope(members)

    def _look_at_scope(self, members: Members) -> None:
        try:
            wait = members.tick()
        except OSError as error:
            wait = _LOOK_AGAIN
            if not self._complained:
                self._complained = True
                self._say([f"scope: it is not up to date for now: {error}"])
        if members.in_use:
            self._set_timer("scope", wait, lambda: self._look_at_scope(members))

    def _fail(self, code: Exit, message: str) -> None:
        self._failure = code, message
        self._kill("failed")

    def _flush(self) -> None:
        try:
            self._writer.flush()
        except BrokenPipeError:
            # Nobody reads any more: only a client's death does that, and then nobody wants maps.
            self._is_unread = True
            self._kill("client gone")

    def _stop(self, reason: str) -> None:
        if self._reason:
            return
        self._reason = reason
        self._timers.pop("deadline", None)
        self._timers.pop("client", None)
        self._writer.add("stopping", {"reason": reason})
        self._set_timer("grace", self._grace, lambda: self._kill(reason))
        self._translation.stopping()
        if self._overhead is not None:
            self._overhead.stopping()
        self._run_dry()

    def _run_dry(self) -> None:
        """Lets no more events in, and bpftrace print those that it has; then ends it.

        Interrupted, it loses what comes while it detaches (seen with 0.17 and 0.23.2).
        """
        members = self._members
        if members is None or not members.in_use:
            self._end()
            return
        self._members = None
        self._timers.pop("scope", None)
        self._selector.unregister(members.fileno())
        longest = min(_LONGEST_DRY, self._grace / 4)
        self._go_on_when_dry(members, time.monotonic() + longest)

    def _go_on_when_dry(self, members: Members, latest: float) -> None:
        # Again, each time: a task that was just being forked may have come in.
        with contextlib.suppress(OSError):
            members.clear()
        now = time.monotonic()
        quiet_at = min(self._last_output + _QUIET, latest)
        if now < quiet_at:
            self._set_timer("dry", quiet_at - now, lambda: self._go_on_when_dry(members, latest))
        else:
            self._is_dry = now < latest
            self._end()

    def _end(self) -> None:
        if not self._ask_to_stop():
            self._interrupt()

    def _ask_to_stop(self) -> bool:
        """Lets the program end itself, where it knows how: it gives all that it has printed."""
        name = self._translation.stopping_map
        if not name or not self._ready:
            return False
        try:
            found = bpfmap.find(self._child.pid, name)
            if found is None:
                return False
            found.set(0, 1)
        except OSError:
            return False
        # It may be detaching for long; a signal in the midst of that would lose its last lines.
        self._set_timer("asked", self._grace / 2, self._interrupt)
        return True

    def _kill(self, reason: str) -> None:
        if self._killed:
            return
        self._reason = reason
        self._killed = True
        self._signal(signal.SIGKILL)

    def _interrupt(self) -> None:
        """Lets bpftrace end as by Ctrl-C, while it has room to write.

        If it waits for room, the signal makes that write fail, and nothing that it prints from then
        on comes, maps neither (libstdc++'s std::cout over stdio, which gives up at EINTR).
        """
        assert self._child.stdout is not None
        fd = self._child.stdout.fileno()
        data = b""
        with contextlib.suppress(BlockingIOError):
            data = os.read(fd, CHUNK)
        self._listen()
        self._signal(signal.SIGINT)
        self._interrupted = True
        if data:
            lines, handle = self._outputs[fd]
            handle(lines.feed(data))

    def _listen(self) -> None:
        """Lets bpftrace be interrupted again, should it not hear what it is to get now."""
        if not self._may_be_deaf:
            return
        pid = self._child.pid
        with contextlib.suppress(OSError):
            files = hearing.open_files(pid)
            self._set_timer(
                "hearing",
                hearing.PATIENCE,
                lambda: self._interrupt() if hearing.is_deaf(pid, files) else None,
            )

    def _signal(self, number: signal.Signals) -> None:
        # Popen polls first, so that a PID used anew is never signalled.
        self._child.send_signal(number)

    def _summary(self, status: int) -> Summary:
        limit_says = ""
        if self._reason == overhead.REASON and self._overhead is not None:
            limit_says = self._overhead.message
        elif self._reason == output_limit.CAUSE and self._writer.limit is not None:
            limit_says = self._writer.limit.message()
        return ending.summary(
            Ending(
                status,
                self._reason,
                self._failure,
                is_attached=self._ready,
                is_interrupted=self._interrupted,
                is_killed=self._killed,
                is_cut=self._translation.is_cut,
                is_unread=self._is_unread,
                grace=self._grace,
                silence=self._silence,
                limit_says=limit_says,
                delivered=self._writer.delivered,
                lost=self._writer.lost,
            )
        )


def summary_record(writer: RecordWriter, summary: Summary, again: Path | None = None) -> None:
    """Writes the last record; a reader that is gone is no error any more.

    `again`: a file that gets it, too. What is in it when a container ends is in its pod's status
    (`terminationMessagePath`, at most 4 KiB), also where its log could not be written.
    """
    line = writer.add("summary", to_data(summary))
    with contextlib.suppress(BrokenPipeError):
        writer.flush()
    if again is not None and again.exists():
        with contextlib.suppress(OSError):
            again.write_bytes(line)
