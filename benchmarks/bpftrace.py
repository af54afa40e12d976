"""bpftrace of each version that the project supports, with a program that runs until the end."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import BenchmarkError
from kubectl_trace.runner import bpftrace

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSIONS = ("0.17", "0.23", "0.27")

_REPOSITORY = Path(__file__).parents[1]
_TIMEOUT = 60.0


@contextmanager
def in_path(version: str) -> Iterator[str]:
    """A PATH in which bpftrace is the testbed's of one version."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        script = Path(folder, "bpftrace")
        words = shlex.join([sys.executable, "-m", "testbed", "bpftrace", version])
        repository = shlex.quote(str(_REPOSITORY))
        script.write_text(f'#!/bin/sh\nPYTHONPATH={repository} exec {words} "$@"\n')
        script.chmod(0o755)
        yield f"{folder}:{os.environ['PATH']}"


@contextmanager
def running(version: str, text: str) -> Iterator[int]:
    """The PID of a bpftrace whose probes are all attached; it ends with the context."""
    program = bpftrace.ProgramFile(text)
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "testbed", "bpftrace", version, program.path],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=bpftrace.environment({}, version),
            pass_fds=[program.fd],
        )
        with process:
            try:
                end = time.monotonic() + _TIMEOUT
                # The file's place is the child's, too: only one that does not move it.
                while bpftrace.NOTICE_ATTACHED not in (said := os.pread(output.fileno(), 65536, 0)):
                    if process.poll() is not None or time.monotonic() > end:
                        message = said.decode(errors="replace")
                        raise BenchmarkError(f"bpftrace {version} does not attach: {message}")
                    time.sleep(0.01)
                yield process.pid
            finally:
                os.close(program.fd)
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(_TIMEOUT)
                except subprocess.TimeoutExpired:
                    process.kill()
