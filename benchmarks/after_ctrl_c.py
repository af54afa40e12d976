"""How long after one Ctrl-C the maps are there, and whether they always are."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from benchmarks import cluster
from benchmarks.errors import BenchmarkError
from benchmarks.row import Row, at_most, at_most_more

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# The line says that it is attached and runs.
_PROGRAM = 'interval:ms:20 { @ticks = count(); if (!@said) { printf("runs\\n"); @said = 1; } }'
_MAP = "@ticks"
_MORE = 0.5
_ROUNDS = {"local": 12, "node": 4}
_TIMEOUT = 60.0
_DEAF = 2.0
"""Seconds in which a bpftrace that has heard its SIGINT ends: 0.17 may not hear the first one."""


def rows() -> Iterator[Row]:
    """Of this machine with its own bpftrace, and of a node with that of the runner's image."""
    node = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]
    for kind, target, release in (("local", "local", "0.17"), ("node", f"node/{node}", "0.23")):
        floors: list[float] = []
        values: list[float] = []
        lost = 0
        for _ in range(_ROUNDS[kind]):
            floors.append(_bare(release))
            seconds = traced(target)
            if seconds is None:
                lost += 1
            else:
                values.append(seconds)
        if values:
            name = f"maps after Ctrl-C, {kind}; floor: bpftrace {release} alone"
            yield at_most_more(name, floors, values, unit="s", more=_MORE)
        name = f"of {_ROUNDS[kind]} Ctrl-C: maps lost, {kind}"
        yield at_most(name, [float(lost)], unit="traces", limit=0)


def traced(target: str) -> float | None:
    """Seconds from Ctrl-C until the command has written the map; None: it never did."""
    seconds, said = _interrupted(
        [cluster.COMMAND, "run", target, "-a", "--deadline=1m", "-e", _PROGRAM]
    )
    trace = re.search(r"^trace (\S+) created", said, re.MULTILINE)
    if trace and target != "local":
        cluster.delete_trace(trace[1])
    return seconds


def _bare(release: str) -> float:
    """The same of bpftrace alone."""
    seconds, said = _interrupted(
        [sys.executable, "-m", "testbed", "bpftrace", release, "-e", _PROGRAM], again=_DEAF
    )
    if seconds is None:
        raise BenchmarkError(f"bpftrace {release} shows no map: {said}")
    return seconds


def _interrupted(command: Sequence[str], *, again: float = _TIMEOUT) -> tuple[float | None, str]:
    """Interrupts a command once its program runs: seconds until the map, and what it complains.

    `again`: seconds after which a command that has not ended is interrupted once more.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=cluster.environment(),
    ) as process:
        assert process.stdout is not None
        if not any(line.strip() == "runs" for line in process.stdout):
            raise BenchmarkError(process.communicate()[1])
        begin = time.perf_counter()
        process.send_signal(signal.SIGINT)
        more = threading.Timer(again, process.send_signal, (signal.SIGINT,))
        more.start()
        seconds = None
        for line in process.stdout:
            if seconds is None and line.startswith(_MAP):
                seconds = time.perf_counter() - begin
        more.cancel()
        _, said = process.communicate(timeout=_TIMEOUT)
    return seconds, said
