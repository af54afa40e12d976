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
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def trace(pod: str, program: str, output: Path) -> Iterator[str]:
    """The ID of a trace whose probes are all attached; what it prints goes to the file.

    When the context ends, it is stopped as by Ctrl-C and deleted; the file has its maps then.
    """
    messages = output.with_name("messages")
    with output.open("wb") as stdout, messages.open("wb") as stderr:
        process = subprocess.Popen(
            [cluster.COMMAND, "run", f"pod/{pod}", "-a", "--deadline=5m", "-e", program],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=cluster.environment(),
        )
    trace_id = ""
    try:
        cluster.wait_until(
            lambda: "attached " in messages.read_text() or process.poll() is not None,
            "the trace is attached",
        )
        created = re.search(r"^trace (\S+) created", messages.read_text(), re.MULTILINE)
        if not created or process.poll() is not None:
            raise BenchmarkError(messages.read_text())
        trace_id = created[1]
        yield trace_id
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        if trace_id:
            cluster.delete_trace(trace_id)
