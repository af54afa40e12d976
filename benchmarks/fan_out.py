"""One trace on many nodes: a real control plane, simulated kubelets (`scale`), the real client.

By hand with another number of nodes, or a controller manager and a scheduler as slow as they are by
default: python -m benchmarks.fan_out --help
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.cluster import COMMAND
from benchmarks.errors import BenchmarkError
from benchmarks.row import Row, table
from benchmarks.scale import audit, client, control_plane, scripted
from testbed.commands import UNTIL_WE_END

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from benchmarks.scale.control_plane import ControlPlane
    from benchmarks.scale.http1 import Api

_NODES = 500
_SECONDS, _MEGABYTES, _CALLS = 60.0, 300.0, 5.0  # the aims
_TIMEOUT = 120.0


def rows() -> Iterator[Row]:
    """One trace on 500 nodes."""
    yield from _rows(_NODES)


def _rows(nodes: int, *, by_default: bool = False) -> Iterator[Row]:
    with control_plane.running(by_default=by_default) as plane, _kubelets(plane, nodes):
        kubeconfig = f"--kubeconfig={plane.kubeconfig(control_plane.TRACER)}"
        argv = [COMMAND, kubeconfig, "run", "--all-nodes", "--yes", "-a"]
        argv += ["--timeout", f"{_TIMEOUT:g}s", "-e", scripted.PROGRAM]
        ran = client.run(argv, until=f"on {nodes} nodes", timeout=_TIMEOUT)
        _check(ran.output, ran.errors, nodes)
        calls = audit.calls(plane.audit_log)
        _tell(ran, calls)
        floor = _floor(plane, [*argv, "--dry-run=client", "-o", "json"])
    name = f"one trace on {nodes} simulated nodes"
    started = ran.attached
    yield Row(
        f"{name}, until all have attached",
        started,
        "s",
        floor,
        f"<= {_SECONDS:g}",
        started <= _SECONDS,
    )
    yield Row(f"{name}, from Ctrl-C to the merged map", ran.stopped, "s")
    yield Row(
        f"{name}: memory of client and kubectl",
        ran.memory,
        "MB",
        aim=f"<= {_MEGABYTES:g}",
        met=ran.memory <= _MEGABYTES,
    )
    each = sum(calls.values()) / nodes
    yield Row(f"{name}: API calls", each, "/node", aim=f"<= {_CALLS:g}", met=each <= _CALLS)
    yield Row(f"{name}: processor time of client and kubectl", ran.processor, "s")


@contextmanager
def _kubelets(plane: ControlPlane, nodes: int) -> Iterator[None]:
    certificate, key = plane.folder / "kubelets.crt", plane.folder / "kubelets.key"
    control_plane.openssl(
        *("req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-keyout", str(key), "-out", str(certificate), "-subj", "/CN=kubelets"),
    )
    words = (plane.port, plane.authority, certificate, key, control_plane.KUBELETS, nodes)
    with (plane.folder / "kubelets.log").open("w+") as log:
        process = subprocess.Popen(
            [
                *(*UNTIL_WE_END, sys.executable, "-m", "benchmarks.scale.kubelets"),
                *(str(word) for word in words),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                log.seek(0)
                raise BenchmarkError(f"the simulated kubelets failed: {log.read()[-2000:]}")
            yield
        finally:
            process.kill()
            process.wait()


def _check(output: str, errors: str, nodes: int) -> None:
    """Every node's counts must be in the map, once.

    Raises:
        BenchmarkError: they are not.
    """
    expected = [f"@[{key}]: {count}" for key, count in scripted.sums(nodes).items()]
    if sorted(filter(None, output.splitlines())) != sorted(expected):
        raise BenchmarkError(f"the merged map is not the sum of {nodes} nodes; it said\n{errors}")


def _floor(plane: ControlPlane, dry_run: list[str]) -> float:
    """Seconds until all runners run whose objects are created without a client of ours."""
    done = subprocess.run(dry_run, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchmarkError(done.stderr)
    return asyncio.run(_created(plane, json.loads(done.stdout)["items"]))


async def _created(plane: ControlPlane, objects: list[dict[str, Any]]) -> float:
    api = plane.api(control_plane.TRACER)
    await _job_controller_is_idle(api)
    begun = time.monotonic()
    jobs = {each["metadata"]["name"] for each in objects if each["kind"] == "Job"}
    listed = await api.call("GET", "/api/v1/namespaces/default/pods")
    version = listed["metadata"]["resourceVersion"]

    async def watch() -> None:
        async for event in api.watch(
            f"/api/v1/namespaces/default/pods?watch=true&resourceVersion={version}"
        ):
            if event["object"].get("status", {}).get("phase") == "Running":
                jobs.discard(event["object"]["metadata"]["labels"]["job-name"])
            if not jobs:
                return

    try:
        async with asyncio.timeout(_TIMEOUT), asyncio.TaskGroup() as every:
            every.create_task(watch())
            for each in objects:
                group = "/apis/batch/v1" if each["kind"] == "Job" else "/api/v1"
                path = f"{group}/namespaces/default/{each['kind'].lower()}s"
                every.create_task(api.call("POST", path, each))
    except TimeoutError as error:
        raise BenchmarkError(f"{len(jobs)} pods do not run after {_TIMEOUT:g} s") from error
    return time.monotonic() - begun


async def _job_controller_is_idle(api: Api) -> None:
    """Waits until it has taken notice of all that has ended: it sends so much a second only."""
    end = time.monotonic() + _TIMEOUT
    while True:
        jobs = (await api.call("GET", "/apis/batch/v1/namespaces/default/jobs"))["items"]
        open_jobs = [job for job in jobs if "completionTime" not in job["status"]]
        if not open_jobs:
            return
        if time.monotonic() > end:
            raise BenchmarkError(f"{len(open_jobs)} Jobs of the trace have not ended")
        await asyncio.sleep(1)


def _tell(ran: client.Run, calls: Counter[str]) -> None:
    """What the rows are sums of, and what there is should the floor not be had."""
    print(f"attached {ran.attached:.1f} s, stopped {ran.stopped:.1f} s", file=sys.stderr)
    parts = ", ".join(f"{name} {megabytes:.0f} MB" for name, megabytes in ran.memory_of.items())
    print(f"memory: {parts}", file=sys.stderr)
    parts = ", ".join(f"{count} {call}" for call, count in calls.most_common())
    print(f"calls: {parts}", file=sys.stderr)


def main() -> None:
    """The table alone."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fan_out")
    parser.add_argument("nodes", type=int, nargs="?", default=_NODES)
    parser.add_argument("--by-default", action="store_true", help="slow controllers")
    given = parser.parse_args()
    print(table(list(_rows(given.nodes, by_default=given.by_default))))


if __name__ == "__main__":
    main()
