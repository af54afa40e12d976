"""Pods and the installed command on the cluster that KUBECONFIG names, else the testbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.errors import BenchmarkError
from kubectl_trace.runner import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_TESTBED = Path(__file__).parents[1] / "testbed" / "kubeconfig"
_IMAGE = "kubectl-trace-testbed/app:1"
_TRACE_LABEL = "iovisor.org/kubectl-trace-id"
_TIMEOUT = 60.0

COMMAND = str(Path(sys.executable).with_name("kubectl-trace"))


def environment() -> dict[str, str]:
    """In which kubectl and the command find the cluster."""
    return {"KUBECONFIG": str(_TESTBED), **os.environ}


def kubectl(*words: str, given: str = "") -> str:
    """What kubectl writes."""
    done = subprocess.run(
        ["kubectl", *words],
        input=given,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    if done.returncode != 0:
        raise BenchmarkError(f"{done.stderr.strip()} (is the cluster up? make cluster-up)")
    return done.stdout


@contextmanager
def pods(commands: Mapping[str, Sequence[str]], image: str = _IMAGE) -> Iterator[dict[str, str]]:
    """Pods of one container each, all on one node, by name; their containers' IDs."""
    node = json.loads(kubectl("get", "nodes", "-o", "json"))["items"][0]["metadata"]["name"]
    items = [_pod(name, image, command, node) for name, command in commands.items()]
    names = [f"pod/{name}" for name in commands]
    remove = ("delete", *names, "--ignore-not-found", "--now")
    kubectl(*remove)
    try:
        kubectl(
            "apply",
            "-f",
            "-",
            given=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}),
        )
        kubectl("wait", "--for=condition=ready", *names, f"--timeout={_TIMEOUT:.0f}s")
        pods = {name: json.loads(kubectl("get", "pod", name, "-o", "json")) for name in commands}
        yield {name: container_of(pod) for name, pod in pods.items()}
    finally:
        kubectl(*remove)


def runner_of(trace_id: str) -> str:
    """The container ID of the trace's runner."""
    return container_of(pod_of(trace_id))


def pod_of(trace_id: str) -> dict[str, Any]:
    """The pod of the trace's runner, which runs: its output may come before the kubelet knows."""
    selector = f"{_TRACE_LABEL}={trace_id}"
    kubectl("wait", "--for=condition=ready", "pod", "-l", selector, f"--timeout={_TIMEOUT:.0f}s")
    found = json.loads(kubectl("get", "pods", "-l", selector, "-o", "json"))
    pod: dict[str, Any] = found["items"][0]
    return pod


def delete_trace(trace_id: str) -> None:
    """Removes what a trace has left in the cluster."""
    subprocess.run(
        [COMMAND, "delete", trace_id], env=environment(), stdout=subprocess.DEVNULL, check=False
    )


def processes_of(container_id: str) -> list[int]:
    """The PIDs of a container's processes, as this machine sees them."""
    found = [process.pid for process in processes.of_container(container_id)]
    if not found:
        raise BenchmarkError("the nodes' processes are not to be seen from this machine")
    return found


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Waits for a condition, not for ever."""
    end = time.monotonic() + _TIMEOUT
    while not condition():
        if time.monotonic() > end:
            raise BenchmarkError(f"not within {_TIMEOUT:.0f} s: {what}")
        time.sleep(0.05)


def _pod(name: str, image: str, command: Sequence[str], node: str) -> dict[str, Any]:
    main = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [main]},
    }


def container_of(pod: dict[str, Any]) -> str:
    """The ID of a pod's one container."""
    found: str = pod["status"]["containerStatuses"][0]["containerID"]
    return found.partition("://")[2]
