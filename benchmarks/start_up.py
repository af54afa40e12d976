"""How long the verbs take that a user runs many times a day."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks import cluster
from benchmarks.errors import BenchmarkError
from benchmarks.row import Row, spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ROUNDS = 15
_PYTHON = (sys.executable, "-c", "pass")
_KUBECTL = ("kubectl", "get", "jobs")


def rows() -> Iterator[Row]:
    """Of commands that need no cluster beside Python alone, of `get` beside kubectl."""
    help_, version = (cluster.COMMAND, "--help"), (cluster.COMMAND, "version", "--client")
    times = _in_turns(_PYTHON, help_, version)
    yield _row("--help; floor: python3 -c pass", times[_PYTHON], times[help_], most=3)
    yield _row("version --client; floor: python3 -c pass", times[_PYTHON], times[version], most=3)
    get = (cluster.COMMAND, "get")
    times = _in_turns(_KUBECTL, get)
    yield _row("get; floor: kubectl get jobs", times[_KUBECTL], times[get], most=1.5)


def _in_turns(*commands: Sequence[str]) -> dict[Sequence[str], list[float]]:
    """The seconds of each run of each command; the first runs are not counted."""
    times: dict[Sequence[str], list[float]] = {command: [] for command in commands}
    for turn in range(_ROUNDS + 1):
        for command in commands:
            begin = time.perf_counter()
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=cluster.environment(),
                check=False,
            )
            if done.returncode:
                raise BenchmarkError(f"{' '.join(command)}: {done.stderr.decode()}")
            if turn:
                times[command].append(time.perf_counter() - begin)
    return times


def _row(name: str, floors: Sequence[float], values: Sequence[float], *, most: float) -> Row:
    floor, value = statistics.median(floors) * 1e3, statistics.median(values) * 1e3
    met = value <= most * floor
    return Row(name, value, "ms", floor, f"<= {most:g} x floor", met, spread(values) * 1e3)
