"""Pods as the API server gives them."""

from __future__ import annotations

from typing import Any


def a_pod(
    *names: str,
    name: str = "p",
    node: str = "node-a",
    namespace: str = "n",
    annotations: dict[str, str] | None = None,
    runtime: str = "containerd",
) -> dict[str, Any]:
    """A pod whose containers run."""
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "annotations": annotations or {},
            "uid": f"uid-{name}",
        },
        "spec": {"nodeName": node, "containers": [{"name": each} for each in names]},
        "status": {
            "phase": "Running",
            "containerStatuses": [
                {
                    "name": each,
                    "containerID": f"{runtime}://id-{name}-{each}",
                    "state": {"running": {}},
                }
                for each in names
            ],
        },
    }
