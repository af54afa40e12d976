"""When a new trace's first event is on the screen, and whether BEGIN's output is there, too."""

from __future__ import annotations

import datetime
import json
import re
import statistics
import subprocess
import time
from typing import TYPE_CHECKING

from benchmarks import cluster
from benchmarks.errors import BenchmarkError
from benchmarks.row import Row, at_most, spread

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROUNDS = 6
_PROGRAM = 'BEGIN { printf("begin\\n"); } interval:ms:1 { printf("first\\n"); exit(); }'
_LIMIT = 1.2
_POD = "bench-first-event"
_TIMEOUT = 60.0


def rows() -> Iterator[Row]:
    """The floor is the same program in a plain pod of the same image, as kubectl makes it."""
    node = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]
    image = _image(node)
    floors: list[float] = []
    values: list[float] = []
    unseen = 0
    for turn in range(_ROUNDS + 1):
        floor = _plain(f"{_POD}-{turn}", node, image)
        value, has_begin = _traced(node)
        unseen += not has_begin
        if turn:  # the first of each finds caches empty
            floors.append(floor)
            values.append(value)
    floor, value = statistics.median(floors), statistics.median(values)
    yield Row(
        "first event after run -a; floor: written in a plain pod",
        value,
        "s",
        floor,
        f"<= {_LIMIT:g} x floor",
        value <= _LIMIT * floor,
        spread(values),
    )
    name = f"of {_ROUNDS + 1} traces: BEGIN's output not shown"
    yield at_most(name, [float(unseen)], unit="traces", limit=0)


def _image(node: str) -> str:
    """The runner's image, as a trace on the node would have it."""
    shown = subprocess.run(
        [cluster.COMMAND, "run", f"node/{node}", "--dry-run=client", "-o", "json", "-e", _PROGRAM],
        capture_output=True,
        text=True,
        env=cluster.environment(),
        check=True,
    ).stdout
    job = next(each for each in json.loads(shown)["items"] if each["kind"] == "Job")
    return str(job["spec"]["template"]["spec"]["containers"][0]["image"])


def _plain(name: str, node: str, image: str) -> float:
    """Seconds from the start of kubectl until the runtime has the line: its own time stamp."""
    main = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["bpftrace", "-e", _PROGRAM],
        "securityContext": {"privileged": True},
        "volumeMounts": [{"name": "tracefs", "mountPath": "/sys/kernel/tracing"}],
    }
    spec = {
        "nodeName": node,
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "containers": [main],
        "volumes": [{"name": "tracefs", "hostPath": {"path": "/sys/kernel/tracing"}}],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    remove = ("delete", "pod", name, "--ignore-not-found", "--now")
    cluster.kubectl(*remove)
    try:
        begin = time.time()
        cluster.kubectl("apply", "--validate=false", "-f", "-", given=json.dumps(pod))
        return _written(name) - begin
    finally:
        cluster.kubectl(*remove, "--wait=false")


def _written(pod: str) -> float:
    """When the pod's first event was written; nodes and this machine have one clock here."""
    log = ""

    def is_there() -> bool:
        nonlocal log
        done = subprocess.run(
            ["kubectl", "logs", pod, "--timestamps"],
            capture_output=True,
            text=True,
            env=cluster.environment(),
            check=False,
        )
        log = done.stdout
        return " first\n" in log

    cluster.wait_until(is_there, "a plain pod runs bpftrace")
    (stamp,) = re.findall(r"^(\S+?)(?:\d{3})?Z first$", log, re.MULTILINE)
    return datetime.datetime.fromisoformat(f"{stamp}+00:00").timestamp()


def _traced(node: str) -> tuple[float, bool]:
    """Seconds until the command writes the first event; whether BEGIN's line came before it."""
    begin = time.perf_counter()
    with subprocess.Popen(
        [cluster.COMMAND, "run", f"node/{node}", "-a", "--deadline=1m", "-e", _PROGRAM],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=cluster.environment(),
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        seconds = 0.0
        for line in process.stdout:
            lines.append(line.strip())
            if lines[-1] == "first":
                seconds = time.perf_counter() - begin
        _, said = process.communicate(timeout=_TIMEOUT)
    if trace := re.search(r"^trace (\S+) created", said, re.MULTILINE):
        cluster.delete_trace(trace[1])
    if not seconds:
        raise BenchmarkError(f"no event came: {said}")
    return seconds, lines[0] == "begin"
