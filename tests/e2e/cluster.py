"""What the end-to-end tests ask of a cluster, by way of kubectl."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .command import Command, Result, kubectl, wait_until

LABEL = "iovisor.org/kubectl-trace-id"


@dataclass(frozen=True)
class Pod:
    """A pod that runs."""

    name: str
    node: str
    ip: str
    uid: str


class Cluster:
    """The cluster that KUBECONFIG names."""

    def wait_until_ready(self) -> None:
        """Waits for the workloads that the tests need."""
        for what in (
            *("deployment/nginx", "pod/multi", "pod/multi-default"),
            *("pod/functions", "pod/runtimes"),
        ):
            condition = "available" if what.startswith("deployment") else "ready"
            done = kubectl("wait", f"--for=condition={condition}", what, "--timeout=90s")
            assert done.code == 0, done

    def pods(self, selector: str, namespace: str = "default") -> list[Pod]:
        """The running pods with these labels, by name."""
        return sorted(
            (
                Pod(
                    item["metadata"]["name"],
                    item["spec"]["nodeName"],
                    item["status"]["podIP"],
                    item["metadata"]["uid"],
                )
                for item in self.get("pods", "-l", selector, "-n", namespace)["items"]
                if item["status"]["phase"] == "Running"
                and "deletionTimestamp" not in item["metadata"]
            ),
            key=lambda pod: pod.name,
        )

    def get(self, *words: str) -> dict[str, Any]:
        """What `kubectl get … -o json` says."""
        done = kubectl("get", *words, "-o", "json")
        assert done.code == 0, done
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def request(self, pod: Pod, times: int = 1) -> None:
        """Requests the pod's page, a connection each, from inside the cluster."""
        script = f"for i in $(seq {times}); do wget -q -O /dev/null http://{pod.ip}/; done"
        done = kubectl("exec", "multi", "-c", "app", "--", "sh", "-c", script)
        assert done.code == 0, done

    def objects(self, trace_id: str) -> list[str]:
        """The names, with their types, of what a trace has in the cluster."""
        done = kubectl(
            "get", "jobs,pods,configmaps", "-A", "-l", f"{LABEL}={trace_id}", "-o", "name"
        )
        return done.stdout.split()

    def wait_until_gone(self, trace_id: str) -> None:
        """Waits until nothing of a trace is left."""
        wait_until(lambda: not self.objects(trace_id), f"trace {trace_id} is gone")

    def wait_for_phase(self, trace_id: str, phase: str) -> None:
        """Waits until the trace's pod is in a phase."""

        def reached() -> bool:
            items = self.get("pods", "-A", "-l", f"{LABEL}={trace_id}")["items"]
            return any(item["status"]["phase"] == phase for item in items)

        wait_until(reached, f"trace {trace_id} is {phase}")

    def apply(self, manifest: dict[str, Any]) -> Result:
        """Applies an object."""
        return Command("kubectl", "apply", "-f", "-", stdin=json.dumps(manifest)).finish()
