"""An attached trace of the installed command on a pod of the cluster."""

from __future__ import annotations

import re
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks import cluster
from benchmarks.errors import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_LAST = 60.0  # seconds from Ctrl-C to the end


@contextmanager
def command(words: Sequence[str], output: Path, env: Mapping[str, str]) -> Iterator[int]:
    """The PID of the installed command once its probes are attached; it shows into the file.

    When the context ends, it is stopped as by Ctrl-C, and what it has in the cluster is deleted;
    the file has its maps then, and `messages` beside it what it said.

    Raises:
        BenchmarkError: they can't be attached.
    """
    messages = output.with_name("messages")
    with output.open("wb") as stdout, messages.open("wb") as stderr:
        process = subprocess.Popen(
            [cluster.COMMAND, *words],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=dict(env),
        )
    try:
        cluster.wait_until(
            lambda: "attached " in messages.read_text() or process.poll() is not None,
            "the trace is attached",
        )
        if process.poll() is not None:
            raise BenchmarkError(messages.read_text())
        yield process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(_LAST)
        if words[1] != "local" and (trace_id := created(output)):
            cluster.delete_trace(trace_id)


def created(output: Path) -> str:
    """The ID of the trace that shows into the file; empty: there is none."""
    found = re.search(r"^trace (\S+) created", output.with_name("messages").read_text(), re.M)
    return found[1] if found else ""


@contextmanager
def trace(pod: str, program: str, output: Path) -> Iterator[str]:
    """The ID of a trace of a pod whose probes are all attached (see `command`)."""
    words = ["run", f"pod/{pod}", "-a", "--deadline=5m", "--max-overhead=none", "-e", program]
    with command(words, output, cluster.environment()):
        yield created(output)
