"""What runs on the cluster for the tests and for a user's first try."""

from __future__ import annotations

import json
from typing import Any

from .commands import last_lines, run
from .errors import TestbedError
from .settings import FOLDER, KUBECONFIG, NODES

MANIFESTS = FOLDER / "workloads"


def kubectl(*argv: str) -> str:
    """Run kubectl on the testbed's cluster and give its output.

    Raises:
        TestbedError: it failed.
    """
    return run(["kubectl", f"--kubeconfig={KUBECONFIG}", *argv], timeout=120)


def nodes_ready() -> dict[str, bool]:
    """Whether each node that has registered is Ready, by name."""
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    return {node["metadata"]["name"]: _condition(node, "Ready") for node in nodes}


def all_nodes_ready() -> bool:
    """Whether every node of the testbed has registered and is Ready."""
    ready = nodes_ready()
    return all(ready.get(node.name, False) for node in NODES)


def apply() -> None:
    """Apply the manifests."""
    kubectl("apply", "-f", str(MANIFESTS))


def wait(bound: int) -> None:
    """Wait until every workload is ready.

    Raises:
        TestbedError: one was not after `bound` seconds; the message has pods and events.
    """
    try:
        kubectl("rollout", "status", "deployment/nginx", f"--timeout={bound}s")
        kubectl("wait", "--for=condition=Ready", "pod", "--selector=testbed", f"--timeout={bound}s")
    except TestbedError as error:
        pods = last_lines(kubectl("get", "pods", "-A", "-o", "wide"))
        events = last_lines(kubectl("get", "events", "-A", "--sort-by=.lastTimestamp"))
        raise TestbedError(f"{error}\npods:\n{pods}\nlast events:\n{events}") from error


def ready() -> dict[str, bool]:
    """Whether each workload is ready, by name."""
    found: dict[str, bool] = {}
    for item in json.loads(kubectl("get", "-f", str(MANIFESTS), "-o", "json"))["items"]:
        name = f"{item['kind'].lower()}/{item['metadata']['name']}"
        if item["kind"] == "Deployment":
            found[name] = item["status"].get("readyReplicas", 0) == item["spec"]["replicas"]
        elif item["kind"] == "Pod":
            found[name] = _condition(item, "Ready")
    return found


def _condition(item: dict[str, Any], kind: str) -> bool:
    conditions = item["status"].get("conditions", [])
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)
