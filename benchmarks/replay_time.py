"""How long a saved session of a million records takes to be shown again, and how much memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import BenchmarkError
from benchmarks.row import Row, at_most
from kubectl_trace.results.events import Ended, Finished, Records
from kubectl_trace.results.record import Member, Record, Start, Summary
from kubectl_trace.results.session import Header, create, read
from kubectl_trace.runner.output import to_data
from kubectl_trace.trace import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Iterator

_RECORDS = 1_000_000
_NODES = 4
_TOGETHER = 500
_REPETITIONS = 3
_SECONDS = 10.0
_MEGABYTES = 200

_COMMAND = Path(sys.executable).with_name("kubectl-trace")


def rows() -> Iterator[Row]:
    """A session of printed lines, as text and as JSON; the floor is reading it alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "session"
        _save(path)
        floors = [_read(path) for _ in range(_REPETITIONS)]
        floor = sorted(floors)[_REPETITIONS // 2]
        for output in ("text", "json"):
            measured = [_replayed(path, output) for _ in range(_REPETITIONS)]
            name = f"replaying {_RECORDS:,} records, -o {output}"
            yield at_most(
                name, [each[0] for each in measured], unit="s", limit=_SECONDS, floor=floor
            )
            memory = [each[1] for each in measured]
            yield at_most(f"{name}: memory", memory, unit="MB", limit=_MEGABYTES)


def _save(path: Path) -> None:
    writer = create(str(path), Header("0", "0", "deploy/web", ""), _fail)
    nodes = [f"node-{number}" for number in range(_NODES)]
    for node in nodes:
        start = Start(
            trace="0",
            version="0",
            protocol=PROTOCOL,
            node=node,
            kernel="6.1",
            bpftrace="0.23.2",
            containers=(Member(1, "default", f"web-{node}", "web", "0"),),
            merge=True,
        )
        writer.add(
            Records(node, [Record(0, 0.0, "start", to_data(start)), Record(1, 0.0, "ready")])
        )
    for first in range(0, _RECORDS, _TOGETHER):
        records = [
            Record(number, 1.7e9 + number / 1e5, "printf", f"open {number % 4000}\n", 1)
            for number in range(first, first + _TOGETHER)
        ]
        writer.add(Records(nodes[first // _TOGETHER % _NODES], records))
    for node in nodes:
        summary = to_data(Summary(exit=0, reason="finished", delivered=_RECORDS // _NODES))
        writer.add(Records(node, [Record(_RECORDS, 1.8e9, "summary", summary)]))
        writer.add(Ended(node))
    writer.add(Finished())
    writer.close()


def _read(path: Path) -> float:
    begin = time.perf_counter()
    _, events = read(str(path))
    for _ in events:
        pass
    return time.perf_counter() - begin


def _replayed(path: Path, output: str) -> tuple[float, float]:
    """Seconds, and megabytes at most, of the command that a user runs."""
    begin = time.perf_counter()
    command = [str(_COMMAND), "replay", str(path), "-o", output]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise BenchmarkError(f"{' '.join(command)} ended with {child.returncode}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def _fail(text: str) -> None:
    raise BenchmarkError(text)
