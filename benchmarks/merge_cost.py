"""How long maps of many keys from many nodes take to become one, from the wire's bytes on."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.errors import BenchmarkError
from benchmarks.row import Row, at_most
from kubectl_trace.results.merge import Merger
from kubectl_trace.results.reader import RecordReader
from kubectl_trace.results.record import Map, Record, Start, encode
from kubectl_trace.runner.output import to_data

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEYS = 10_000
_BUCKETS = 20
_REPETITIONS = 7

_FEW_NODES = 5
_SECONDS_A_NODE = 0.2

_MANY_NODES = 100
_SECONDS = 2.0
_MEGABYTES = 500

_TEXTS = 100_000
_TEXTS_A_RECORD = 1000


def rows() -> Iterator[Row]:
    """Histograms by node, counts of many nodes, and texts, which are not merged."""
    floors: list[float] = []
    values: list[float] = []
    lines = [_histograms(node) for node in range(_FEW_NODES)]
    for _ in range(_REPETITIONS):
        floors.append(_decoded(lines) / _FEW_NODES)
        values.append(_merged("hist", lines) / _FEW_NODES)
    yield at_most(
        f"merging {_KEYS:,} histograms of {_BUCKETS}, a node",
        values,
        unit="s",
        limit=_SECONDS_A_NODE,
        floor=statistics.median(floors),
    )
    measured = [_in_a_process() for _ in range(_REPETITIONS)]
    name = f"merging {_MANY_NODES} nodes x {_KEYS:,} keys"
    yield at_most(name, [each[0] for each in measured], unit="s", limit=_SECONDS)
    yield at_most(f"{name}: memory", [each[1] for each in measured], unit="MB", limit=_MEGABYTES)
    seconds = [_texts() for _ in range(_REPETITIONS)]
    yield Row("1 M texts past the merging", statistics.median(seconds) * 10, "s")


def _histograms(node: int) -> bytes:
    histograms = {
        f"process-{key},{key * 7}": [
            {"min": 1 << low, "max": (2 << low) - 1, "count": 1 + (key * low + node) % 1000}
            for low in range(key % 5, key % 5 + _BUCKETS)
        ]
        for key in range(_KEYS)
    }
    return encode(Record(1, 1.5, "hist", {"@": histograms})) + b"\n"


def _counts(node: int) -> bytes:
    counts = {f"process-{key},{key * 7}": key + node for key in range(_KEYS)}
    return encode(Record(1, 1.5, "map", {"@": counts})) + b"\n"


def _decoded(lines: list[bytes]) -> float:
    """Seconds for JSON alone, into plain objects."""
    start = time.perf_counter()
    for line in lines:
        json.loads(line)
    return time.perf_counter() - start


def _merged(kind: str, lines: list[bytes]) -> float:
    """Seconds from the bytes of each node to the one map."""
    merger = _merger({"hist": "hist", "map": "count"}[kind], len(lines))
    start = time.perf_counter()
    for node, line in enumerate(lines):
        for record in RecordReader().feed(line):
            merger.add(f"node-{node}", record, 1.0)
        merger.ended(f"node-{node}", 2.0, complete=True)
    (merged,) = merger.finish()
    seconds = time.perf_counter() - start
    if merged.missing or len(merged.data["@"]) != _KEYS:
        raise BenchmarkError("the merged map is not whole")
    return seconds


def _merger(kind: str, nodes: int) -> Merger:
    """A merger whose nodes have all begun."""
    merger = Merger()
    for node in range(nodes):
        name = f"node-{node}"
        start = Start("t", "", 0, name, "", "", merge=True, maps={"@": Map(kind)})
        merger.add(name, Record(0, 1.0, "start", to_data(start)), 0.0)
    return merger


def _texts() -> float:
    """Seconds for the texts of four containers."""
    record = Record(
        0,
        1.0,
        "printf",
        ["GET /index.html 200 in 1234 us\n"] * _TEXTS_A_RECORD,
        [1 + i // 10 % 4 for i in range(_TEXTS_A_RECORD)],
    )
    merger = _merger("", 1)
    start = time.perf_counter()
    for _ in range(_TEXTS // _TEXTS_A_RECORD):
        merger.add("node-0", record, 1.0)
    return time.perf_counter() - start


def _in_a_process() -> tuple[float, float]:
    """Seconds and megabytes of many nodes, in a process that has done nothing else."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.merge_cost"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    if done.returncode:
        raise BenchmarkError(done.stderr)
    seconds, megabytes = done.stdout.split()
    return float(seconds), float(megabytes)


def _peak_memory() -> float:
    """Megabytes that this process has held at most."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(_merged("map", [_counts(node) for node in range(_MANY_NODES)]), _peak_memory())
