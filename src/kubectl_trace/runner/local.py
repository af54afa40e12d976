"""The target `local`: the runner as a child process of the client, with pipes for the log path."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kubectl_trace.errors import TraceError
from kubectl_trace.results.events import Ended, Finished, Records
from kubectl_trace.results.reader import RecordReader
from kubectl_trace.trace import Hello

if TYPE_CHECKING:
    from kubectl_trace.results.events import Sink
    from kubectl_trace.trace import Control, Trace

_CHUNK = 1 << 18


class LocalRunner:
    """Runs a trace on this machine and follows it."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._reader = RecordReader()
        self._node = os.uname().nodename
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def started(self) -> bool:
        """Whether the runner has been started."""
        return self._child is not None

    @property
    def nodes(self) -> list[str]:
        """This machine."""
        return [self._node] if self._child is not None else []

    def start(self, sink: Sink) -> None:
        """Starts the runner; events go to the sink from now on."""
        # The description goes by an unlinked file: standard input is for control messages.
        with tempfile.TemporaryFile() as description:
            description.write(msgspec.json.encode(self._trace))
            description.seek(0)
            self._child = subprocess.Popen(
                [
                    sys.executable,
                    "-P",  # root must not import what lies in the user's folder
                    "-m",
                    "kubectl_trace.runner",
                    "trace",
                    f"/proc/self/fd/{description.fileno()}",
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=[description.fileno()],
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            )
        self.send(Hello())
        threading.Thread(target=self._follow, args=(sink,), name="local", daemon=True).start()

    def send(self, message: Control) -> None:
        """Sends a message to the runner; one that is gone needs none."""
        assert self._child is not None
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(msgspec.json.encode(message) + b"\n")
        except (BrokenPipeError, ValueError):
            return

    def close(self) -> tuple[()]:
        """Ends the runner's standard input: the client is gone."""
        if self._child is not None and self._child.stdin is not None:
            self._child.stdin.close()
        return ()

    def _follow(self, sink: Sink) -> None:
        assert self._child is not None
        assert self._child.stdout is not None
        with self._child.stdout as stdout:
            while data := os.read(stdout.fileno(), _CHUNK):
                if records := self._reader.feed(data):
                    sink(Records(self._node, records))
        status = self._child.wait()
        error = None
        if not self._reader.ended:
            error = TraceError(f"the runner ended without a summary, status {status}")
        sink(Ended(self._node, self._reader.lost, error))
        sink(Finished())
