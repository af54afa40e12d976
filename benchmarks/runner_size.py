"""What the runner needs beside bpftrace: memory, an image, and time until it is attached."""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import cluster
from benchmarks.errors import BenchmarkError
from benchmarks.row import Row, at_most, at_most_more

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAM = "tracepoint:raw_syscalls:sys_enter { @[comm] = count(); }"
_ROUNDS = 4
_MEGABYTES = 40.0
_SECONDS = 0.3
_PARTS = {
    "bpftrace, and LLVM for it": re.compile(
        r"/usr/bin/bpftrace|/usr/lib/[^/]+/lib(LLVM|clang|z3|bpf|bcc)"
    ),
    "Python, its libraries and the package": re.compile(r"/usr/bin/python3|/usr/lib/python3"),
}
"""What a file is for, by its path."""
_REST = "the rest of Debian"


@dataclass(frozen=True)
class _Measured:
    """MB, and seconds from the start of a process until bpftrace was attached."""

    bpftrace: float
    own: float
    bpftrace_start: float
    whole_start: float


def rows() -> Iterator[Row]:
    """Of a real trace's pod, as the kernel of its node tells it."""
    node = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]
    measured: list[_Measured] = []
    sizes: dict[str, float] = {}
    for _ in range(_ROUNDS):
        with _trace(node) as pod:
            pids = cluster.processes_of(cluster.container_of(pod))
            measured.append(_measure(pids, _attached(pod["metadata"]["name"])))
            sizes = sizes or _unpacked(pids[0])
    yield at_most(
        "memory of the runner beside bpftrace; floor: bpftrace's own",
        [each.own for each in measured],
        unit="MB",
        limit=_MEGABYTES,
        floor=statistics.median(each.bpftrace for each in measured),
    )
    yield at_most_more(
        "start of the runner until attached; floor: of its bpftrace",
        [each.bpftrace_start for each in measured],
        [each.whole_start for each in measured],
        unit="s",
        more=_SECONDS,
    )
    yield Row("the runner's image, unpacked", sum(sizes.values()), "MB")
    for part, size in sizes.items():
        yield Row(f"the runner's image: {part}", size, "MB")


@contextmanager
def _trace(node: str) -> Iterator[dict[str, Any]]:
    """The pod of a trace that is attached."""
    with subprocess.Popen(
        [cluster.COMMAND, "run", f"node/{node}", "-a", "--deadline=1m", "-e", _PROGRAM],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=cluster.environment(),
    ) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith("attached "):
                break
        created = re.search(r"^trace (\S+) created", said, re.MULTILINE)
        if not created or process.poll() is not None:
            raise BenchmarkError(said)
        try:
            yield cluster.pod_of(created[1])
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()
            cluster.delete_trace(created[1])


def _attached(pod: str) -> float:
    """When the runner noticed that bpftrace was attached, by its own clock."""
    records = map(json.loads, cluster.kubectl("logs", pod).splitlines())
    return float(next(record["time"] for record in records if record["type"] == "ready"))


def _measure(pids: list[int], attached: float) -> _Measured:
    """Memory is the proportional set size: of what processes share, a part each."""
    memory = {"bpftrace": 0.0, "runner": 0.0}
    start = {"bpftrace": attached, "runner": attached}
    for pid in pids:
        folder = Path(f"/proc/{pid}")
        who = "bpftrace" if (folder / "comm").read_text().strip() == "bpftrace" else "runner"
        found = re.search(r"^Pss: +(\d+) kB$", (folder / "smaps_rollup").read_text(), re.MULTILINE)
        memory[who] += int(found[1]) * 1024 / 1e6 if found else 0.0
        start[who] = min(start[who], _started(folder))
    return _Measured(
        memory["bpftrace"],
        memory["runner"],
        attached - start["bpftrace"],
        attached - start["runner"],
    )


def _started(process: Path) -> float:
    """When a process was made (proc_pid_stat(5): starttime, in ticks of 10 ms since boot)."""
    ticks = int((process / "stat").read_text().rpartition(")")[2].split()[19])
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - since_boot + ticks / os.sysconf("SC_CLK_TCK")


def _unpacked(pid: int) -> dict[str, float]:
    """Megabytes that the files of a container's image take, by what they are for."""
    root = f"/proc/{pid}/root"
    device = os.stat(root).st_dev
    sizes = dict.fromkeys((*_PARTS, _REST), 0.0)
    seen: set[int] = set()
    for folder, folders, files in os.walk(root):
        folders[:] = [each for each in folders if os.lstat(f"{folder}/{each}").st_dev == device]
        for file in files:
            status = os.lstat(f"{folder}/{file}")
            if status.st_dev != device or status.st_ino in seen:
                continue
            seen.add(status.st_ino)
            path = f"{folder}/{file}".removeprefix(root)
            part = next((name for name, own in _PARTS.items() if own.match(path)), _REST)
            sizes[part] += status.st_blocks * 512 / 1e6
    return sizes
