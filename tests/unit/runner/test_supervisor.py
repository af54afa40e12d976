"""The supervisor with a script in bpftrace's place: how it ends must not depend on a kernel.

The real bpftrace is supervised in the end-to-end tests.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, cast

import msgspec
import pytest

from kubectl_trace.program.rewrite import Rewritten
from kubectl_trace.results.reader import RecordReader
from kubectl_trace.results.record import Summary
from kubectl_trace.runner.bpftrace import ProgramFile
from kubectl_trace.runner.output import RecordWriter
from kubectl_trace.runner.plan import Plan
from kubectl_trace.runner.supervisor import Supervisor, summary_record
from kubectl_trace.runner.translation import Translation
from kubectl_trace.trace import Hello, Kill, Stop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kubectl_trace.results.record import Record
    from kubectl_trace.runner.members import Members
    from kubectl_trace.trace import Control

PRELUDE = """
import json, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
def say(text, kind="printf"): print(json.dumps({"type": kind, "data": text}), flush=True)
def ready(): print("__BPFTRACE_NOTIFY_PROBES_ATTACHED", flush=True)
"""
MAPS_ON_SIGINT = """
class Stopped(Exception): pass
def stop(*_): raise Stopped
signal.signal(signal.SIGINT, stop)
try:
    ready()
    time.sleep(60)
except Stopped:
    time.sleep(0.1)
    say({"@": 1}, "map")
"""
DEAF = "signal.signal(signal.SIGINT, signal.SIG_IGN); ready(); time.sleep(60)"


class Busy:
    """A scope in which something happens all the time."""

    in_use = True

    def __init__(self) -> None:
        happens, happening = os.pipe()
        os.write(happening, b"x")
        self._open = [happens, happening]
        self._epoll = select.epoll()
        self._epoll.register(happens, select.EPOLLIN)
        self.is_clear = False

    def fileno(self) -> int:
        return self._epoll.fileno()

    def tick(self) -> float:
        assert not self.is_clear, "who is in scope is looked at though nobody is to be any more"
        return 0.0

    def drop_ended(self) -> None:
        pass

    def clear(self) -> None:
        self.is_clear = True

    def close(self) -> None:
        self._epoll.close()
        for fd in self._open:
            os.close(fd)


class Run:
    """A supervised script, its control channel and its records."""

    def __init__(
        self,
        script: str,
        *,
        attached: bool = True,
        deadline: float = 60,
        grace: float = 20,
        silence: float = 0,
        held_back: list[str] | None = None,
        may_be_deaf: bool = False,
        members: Busy | None = None,
        target: int = 0,
    ) -> None:
        self.control_read, self.control = os.pipe()
        self._out, out_write = os.pipe()
        self._child = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self._out_write = out_write
        self.supervisor = Supervisor(
            self._child,
            RecordWriter(out_write),
            Translation(Plan(Rewritten.of("")), ProgramFile(""), "", "mine.bt"),
            cast("Members | None", members),
            attached=attached,
            silence=silence,
            held_back=held_back,
            deadline=deadline,
            grace=grace,
            control_fd=self.control_read,
            target=target,
            may_be_deaf=may_be_deaf,
        )
        self.records: list[Record] = []
        self._ready = threading.Event()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        reader = RecordReader()
        while data := os.read(self._out, 65536):
            self.records += reader.feed(data)
            if any(record.type == "ready" for record in self.records):
                self._ready.set()

    def wait_until_ready(self) -> None:
        """Waits until the script is ready."""
        assert self._ready.wait(20)

    def send_when_ready(self, *messages: Control) -> None:
        """Sends messages from another thread once the script is ready."""

        def send() -> None:
            self._ready.wait(20)
            for message in messages:
                os.write(self.control, msgspec.json.encode(message) + b"\n")

        threading.Thread(target=send).start()

    def close_when_ready(self) -> None:
        """Ends the control channel, as a client's death does."""

        def close() -> None:
            self._ready.wait(20)
            os.close(self.control)
            self.control = -1

        threading.Thread(target=close).start()

    def finish(self) -> Summary:
        summary = self.supervisor.run()
        self.close()
        return summary

    def close(self) -> None:
        if self._out_write >= 0:
            os.close(self._out_write)
            self._out_write = -1
            self._reading.join(20)
            os.close(self._out)
            if self.control >= 0:
                os.close(self.control)
            os.close(self.control_read)
            for stream in (self._child.stdout, self._child.stderr):
                assert stream is not None
                stream.close()

    def results(self) -> list[object]:
        """The data of the program's records."""
        about = ("ready", "stopping", "stderr")
        return [record.data for record in self.records if record.type not in about]

    def text(self) -> str:
        """What the program has printed, joined records and single ones alike."""
        return "".join(
            record.data if isinstance(record.data, str) else "".join(record.data)
            for record in self.records
            if record.type == "printf"
        )


@pytest.fixture
def runs() -> Iterator[list[Run]]:
    started: list[Run] = []
    yield started
    for run in started:
        run.close()


def test_a_program_that_ends_by_itself_is_done() -> None:
    run = Run("ready(); say('a'); say('b')")
    summary = run.finish()
    assert (summary.exit, summary.reason, summary.delivered) == (0, "finished", 2)
    assert run.text() == "ab"


def test_a_stop_collects_the_maps() -> None:
    run = Run(MAPS_ON_SIGINT)
    run.send_when_ready(Hello(), Stop())
    summary = run.finish()
    assert (summary.exit, summary.reason) == (0, "stopped")
    assert {"@": 1} in run.results()


@pytest.mark.parametrize("reason", ["stopped", "deadline"])
def test_the_end_of_a_trace_whose_containers_come_and_go_collects_the_maps(reason: str) -> None:
    with contextlib.closing(Busy()) as members:
        run = Run(MAPS_ON_SIGINT, members=members, deadline=60 if reason == "stopped" else 0.5)
        if reason == "stopped":
            run.send_when_ready(Stop())
        summary = run.finish()
    assert (summary.exit, summary.reason) == (0, reason), summary
    assert {"@": 1} in run.results()
    assert members.is_clear


def test_several_stops_are_one_sigint() -> None:
    # A second SIGINT would end the script in its handler's wake, without its map.
    run = Run(
        MAPS_ON_SIGINT.replace(
            "raise Stopped", "signal.signal(signal.SIGINT, signal.SIG_DFL); raise Stopped"
        )
    )
    run.send_when_ready(Stop(), Stop(), Stop())
    assert run.finish().exit == 0
    assert {"@": 1} in run.results()


# As bpftrace 0.17: a signal that comes while it does not wait is not looked at.
HARD_OF_HEARING = MAPS_ON_SIGINT.replace(
    "def stop(*_): raise Stopped",
    """
def stop(*_): signal.signal(signal.SIGINT, heard)
def heard(*_):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise Stopped
""",
).replace("time.sleep(60)", "[time.sleep(1) for _ in range(60)]")


def test_a_sigint_that_bpftrace_has_not_heard_is_sent_again() -> None:
    run = Run(HARD_OF_HEARING, may_be_deaf=True)
    run.send_when_ready(Stop())
    summary = run.finish()
    assert (summary.exit, summary.reason) == (0, "stopped")
    assert {"@": 1} in run.results()


@pytest.mark.parametrize("does", ["file.close()", "signal.signal(signal.SIGINT, signal.SIG_DFL)"])
def test_one_that_detaches_or_prints_its_maps_has_heard_it(does: str) -> None:
    # Another would end the script without its map.
    script = MAPS_ON_SIGINT.replace(
        "def stop(*_): raise Stopped",
        f"""
file = open("/dev/null")
def stop(*_):
    signal.signal(signal.SIGINT, lambda *_: sys.exit(1))
    {does}
    raise Stopped
""",
    ).replace("time.sleep(0.1)", "time.sleep(1)")
    run = Run(script, may_be_deaf=True)
    run.send_when_ready(Stop())
    assert run.finish().exit == 0
    assert {"@": 1} in run.results()


def test_the_deadline_collects_the_maps() -> None:
    run = Run(MAPS_ON_SIGINT, deadline=0.7)
    summary = run.finish()
    assert (summary.exit, summary.reason) == (0, "deadline")
    assert {"@": 1} in run.results()


def test_a_program_that_does_not_end_after_the_deadline_is_killed_and_told_so() -> None:
    summary = Run(DEAF, deadline=0.7, grace=0.3).finish()
    assert (summary.exit, summary.reason) == (7, "deadline")
    assert "maps lost" in summary.message


def test_a_second_ctrl_c_gives_up_the_maps() -> None:
    run = Run(DEAF)
    run.send_when_ready(Hello(), Stop(), Kill())
    summary = run.finish()
    assert (summary.exit, summary.reason) == (130, "killed")


def test_an_attached_trace_ends_with_its_client() -> None:
    run = Run(MAPS_ON_SIGINT, attached=True)
    run.close_when_ready()
    assert run.finish().reason == "client gone"


@pytest.mark.parametrize("is_over", [False, True])
def test_a_trace_of_a_process_ends_with_it(*, is_over: bool) -> None:
    target = subprocess.Popen(["sleep", "60"])
    if is_over:
        target.kill()
        target.wait()
    run = Run(MAPS_ON_SIGINT, target=target.pid)

    def end() -> None:
        run.wait_until_ready()
        target.kill()

    ending = threading.Thread(target=end)
    if not is_over:
        ending.start()
    summary = run.finish()
    assert (summary.exit, summary.reason) == (0, "target ended")
    if not is_over:
        ending.join()
        target.wait()
        assert {"@": 1} in run.results()


def test_a_thread_can_be_the_target() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    assert thread.native_id
    run = Run("ready(); say('still here')", target=thread.native_id)
    summary = run.finish()
    done.set()
    thread.join()
    assert (summary.reason, run.results()) == ("finished", ["still here"])


def test_a_detached_trace_outlives_its_client() -> None:
    run = Run("ready(); time.sleep(0.5); say('still here')", attached=False)
    run.close_when_ready()
    summary = run.finish()
    assert (summary.reason, run.results()) == ("finished", ["still here"])


def test_an_attached_trace_whose_client_never_comes_ends() -> None:
    run = Run(MAPS_ON_SIGINT, silence=0.5)
    summary = run.finish()
    assert (summary.reason, summary.exit) == ("client gone", 1)
    assert "not heard of for 0.5 s" in summary.message
    assert {"@": 1} in run.results()


def test_a_client_that_goes_on_saying_hello_is_not_gone() -> None:
    run = Run("ready(); time.sleep(1.2); say('still here')", silence=0.5)
    stopped = threading.Event()

    def speak() -> None:
        while not stopped.wait(0.05):
            os.write(run.control, msgspec.json.encode(Hello()) + b"\n")

    speaking = threading.Thread(target=speak)
    speaking.start()
    summary = run.supervisor.run()
    stopped.set()
    speaking.join()
    run.close()
    assert (summary.reason, summary.exit) == ("finished", 0)


def test_a_connection_that_ends_is_not_the_end_of_a_client_that_says_hello() -> None:
    run = Run("ready(); time.sleep(0.6); say('still here')", silence=20)
    run.close_when_ready()
    assert run.finish().reason == "finished"


def test_what_a_try_says_before_it_is_attached_can_be_held_back() -> None:
    complain = "print('ERROR: no', file=sys.stderr, flush=True)"
    refused = Run(f"{complain}; sys.exit(1)", held_back=[])
    assert refused.finish().exit == 6
    assert refused.records == []
    assert refused.supervisor.held_back == ["ERROR: no"]
    taken = Run(f"{complain}; ready()", held_back=[])
    taken.finish()
    assert [record.data for record in taken.records if record.type == "stderr"] == ["ERROR: no"]


def test_a_deadline_before_the_probes_are_attached_is_no_success() -> None:
    summary = Run(MAPS_ON_SIGINT.replace("ready()", "pass"), deadline=0.7).finish()
    assert (summary.exit, summary.reason) == (7, "deadline")


def test_a_refused_program_shows_what_bpftrace_said() -> None:
    run = Run("print('stdin:1:1-2: ERROR: no', file=sys.stderr); sys.exit(1)")
    summary = run.finish()
    assert (summary.exit, summary.reason) == (6, "refused")
    assert [record.data for record in run.records] == ["stdin:1:1-2: ERROR: no"]


def test_a_program_that_exits_with_a_status_has_failed_and_was_not_refused() -> None:
    summary = Run("ready(); say('x'); sys.exit(3)").finish()
    assert (summary.exit, summary.message) == (1, "bpftrace ended with status 3")


def test_a_crash_names_the_signal() -> None:
    summary = Run("ready(); import os; os.abort()").finish()
    assert (summary.exit, summary.message) == (1, "bpftrace ended with SIGABRT")


def test_lost_events_are_accounted_for() -> None:
    run = Run("ready(); say({'events': 5}, 'lost_events'); say({'events': 2}, 'lost_events')")
    summary = run.finish()
    assert summary.lost == {"kernel buffer": 7}
    assert summary.delivered == 0


def test_an_unreadable_message_is_ignored() -> None:
    run = Run("ready(); time.sleep(0.3)", attached=False)
    os.write(run.control, b"stop\n{}\n\xff\n")
    assert run.finish().reason == "finished"


def test_nobody_to_read_ends_the_program() -> None:
    run = Run("ready()\nwhile True: say('x' * 1000)")
    os.close(run._out_write)
    run._out_write = os.open("/dev/full", os.O_WRONLY)
    reading, writing = os.pipe()
    os.close(reading)
    run.supervisor._writer = RecordWriter(writing)
    assert run.finish().reason == "client gone"
    os.close(writing)


def test_many_printfs_become_few_records_and_none_is_lost() -> None:
    run = Run(
        "ready()\n"
        'record = \'{"type":"printf","data":"%d\\\\n"}\\n\'\n'
        "sys.stdout.write(''.join(record % i for i in range(20000)))"
    )
    summary = run.finish()
    assert run.text() == "".join(f"{i}\n" for i in range(20000))
    assert summary.delivered == 20000
    assert len(run.records) < 2000


def test_a_stop_before_all_probes_are_attached_is_no_refusal() -> None:
    run = Run("print('x', file=sys.stderr, flush=True); time.sleep(60)")
    os.write(run.control, msgspec.json.encode(Stop()) + b"\n")
    summary = run.finish()
    assert (summary.exit, summary.reason) == (0, "stopped")
    assert "before its probes were attached" in summary.message


def test_a_runner_that_is_told_to_end_collects_the_maps_and_says_so() -> None:
    run = Run(MAPS_ON_SIGINT)
    ended = threading.Event()

    def evict() -> None:
        run.wait_until_ready()
        os.kill(os.getpid(), signal.SIGTERM)
        ended.set()

    threading.Thread(target=evict).start()
    summary = run.finish()
    assert ended.wait(20)
    assert (summary.exit, summary.reason) == (1, "terminated")
    assert "deleted or evicted" in summary.message
    assert {"@": 1} in run.results()


def test_a_runner_that_is_told_to_end_while_it_attaches_has_not_done_its_work() -> None:
    run = Run("print('x', file=sys.stderr, flush=True); time.sleep(60)")

    def evict() -> None:
        while not run.records:  # the supervisor runs, and catches signals
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    evicting = threading.Thread(target=evict)
    evicting.start()
    summary = run.finish()
    evicting.join()
    assert (summary.exit, summary.reason) == (1, "terminated")
    assert "before it was attached" in summary.message


def test_the_summary_is_also_where_the_kubelet_looks_for_it(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # the log can't be written
    file = tmp_path / "termination-log"
    writer = RecordWriter(writing)
    summary_record(writer, Summary(exit=1, reason="failed"), file)
    assert not file.exists(), "only where there is one already"
    file.touch()
    summary_record(writer, Summary(exit=1, reason="failed"), file)
    os.close(writing)
    (record,) = RecordReader().feed(file.read_bytes())
    assert (record.type, record.data["reason"]) == ("summary", "failed")


def test_a_killed_bpftrace_is_no_refusal() -> None:
    summary = Run("import os; os.kill(os.getpid(), 9)").finish()
    assert (summary.exit, summary.message) == (1, "bpftrace ended with SIGKILL")


def test_a_child_that_keeps_the_pipes_open_does_not_keep_the_trace() -> None:
    script = "import subprocess; subprocess.Popen(['sleep', '60']); ready(); say('last')"
    run = Run(script)
    begin = time.monotonic()
    summary = run.finish()
    assert (summary.exit, run.text()) == (0, "last")
    assert time.monotonic() - begin < 30, "not as long as the child sleeps"


def test_a_deadline_of_a_year_is_no_error() -> None:
    assert Run("ready()", deadline=365 * 86400).finish().exit == 0
