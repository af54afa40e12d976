"""Simulated kubelets, all in one process: python -m benchmarks.scale.kubelets WORD… (`main`).

Real nodes and leases, real states of the pods that the scheduler binds to them, a log and a
standard input behind the API server; the containers are scripted (`scripted`).

What a kubelet sends is sent here too: its Node once, its lease each 10 s; of each pod a GET of the
ConfigMap, a PATCH of the status when its containers are created, run and have ended, a DELETE when
it is to go. What it only reads (its node, its own watch) is read once for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec

from benchmarks.scale.endpoint import Endpoint
from benchmarks.scale.http1 import Api
from benchmarks.scale.scripted import Runner
from kubectl_trace.trace import Trace

_AT_ONCE = 16
_STARTS_IN = 0.5
"""Seconds from a pod that is bound to its container that runs; the testbed's nodes need 0.5."""
_LEASE, _RENEWED = 40, 10.0
"""Seconds that a lease holds, and between two renewals (k8s.io/kubernetes pkg/kubelet)."""
_PATCH = "application/strategic-merge-patch+json"
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


def name(number: int) -> str:
    """A node's name, by its number from 0."""
    return f"sim-{number:04d}"


class _Kubelets:
    def __init__(self, api: Api, nodes: int) -> None:
        self._api = api
        self._numbers = {name(number): number for number in range(nodes)}
        self._runners: dict[tuple[str, str], Runner] = {}
        self._pods: dict[str, asyncio.Task[None]] = {}
        self._deleted: set[str] = set()

    async def run(self, tls: ssl.SSLContext) -> None:
        port = await Endpoint(self._find).listen(tls)
        await asyncio.gather(*(self._register(node, port) for node in self._numbers))
        async with asyncio.TaskGroup() as self._work:  # what fails ends all
            self._work.create_task(self._watch())
            self._work.create_task(self._renew())

    def _find(self, namespace: str, pod: str) -> Runner | None:
        return self._runners.get((namespace, pod))

    # Nodes.

    async def _register(self, node: str, port: int) -> None:
        await self._api.call("POST", "/api/v1/nodes", _node(node, port))
        await self._api.call("POST", _LEASES, _lease(node))

    async def _renew(self) -> None:
        """Each lease every ten seconds, evenly over them."""
        while True:
            for node in self._numbers:
                async with asyncio.TaskGroup() as both:
                    both.create_task(asyncio.sleep(_RENEWED / len(self._numbers)))
                    both.create_task(
                        self._api.call(
                            "PATCH",
                            f"{_LEASES}/{node}",
                            _lease(node),
                            "application/merge-patch+json",
                        )
                    )

    # Pods.

    async def _watch(self) -> None:
        listed = await self._api.call("GET", "/api/v1/pods")
        print("ready", flush=True)
        version = listed["metadata"]["resourceVersion"]
        async for event in self._api.watch(
            f"/api/v1/pods?watch=true&resourceVersion={version}&timeoutSeconds=3600"
        ):
            self._on_pod(event["type"], event["object"])

    def _on_pod(self, kind: str, pod: dict[str, Any]) -> None:
        uid = pod["metadata"]["uid"]
        number = self._numbers.get(pod["spec"].get("nodeName", ""))
        if number is None:
            return
        if kind == "DELETED":
            if task := self._pods.pop(uid, None):
                task.cancel()
        elif "deletionTimestamp" in pod["metadata"]:
            if uid not in self._deleted:
                self._deleted.add(uid)
                self._keep(uid + "-end", self._remove(pod))
        elif uid not in self._pods:
            self._keep(uid, self._live(number, pod))

    def _keep(self, key: str, work: Any) -> None:
        self._pods[key] = self._work.create_task(work)

    async def _live(self, number: int, pod: dict[str, Any]) -> None:
        metadata, spec = pod["metadata"], pod["spec"]
        where = metadata["namespace"], metadata["name"]
        path = f"/api/v1/namespaces/{where[0]}/pods/{where[1]}"
        container = spec["containers"][0]
        waiting = {"waiting": {"reason": "ContainerCreating"}}
        await self._say(path, container, "Pending", waiting, "")
        [config] = [
            each["configMap"]["name"] for each in spec["volumes"] if each["name"] == "trace"
        ]
        config_map = f"/api/v1/namespaces/{where[0]}/configmaps/{config}"
        while True:
            with contextlib.suppress(OSError):  # not there yet: a kubelet tries again, too
                found = await self._api.call("GET", config_map)
                break
            await asyncio.sleep(0.5)
        trace = msgspec.json.decode(found["data"]["trace.json"], type=Trace)
        await asyncio.sleep(_STARTS_IN)
        runner = self._runners[where] = Runner(number, spec["nodeName"], trace)
        running = self._work.create_task(runner.run())
        container_id, since = f"containerd://{uuid4().hex}{uuid4().hex}", _now()
        await self._say(path, container, "Running", {"running": {"startedAt": since}}, container_id)
        message = await running
        ended = {
            "exitCode": 0,
            "reason": "Completed",
            "message": message.decode(),
            "startedAt": since,
            "finishedAt": _now(),
            "containerID": container_id,
        }
        await self._say(path, container, "Succeeded", {"terminated": ended}, container_id)

    async def _remove(self, pod: dict[str, Any]) -> None:
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
        with contextlib.suppress(OSError):
            await self._api.call("DELETE", path, options)

    async def _say(
        self,
        path: str,
        container: dict[str, Any],
        phase: str,
        state: dict[str, Any],
        container_id: str,
    ) -> None:
        runs = "True" if phase == "Running" else "False"
        conditions = {"Initialized": "True", "Ready": runs, "ContainersReady": runs}
        status = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "containerID": container_id,
            "ready": phase == "Running",
            "restartCount": 0,
            "state": state,
        }
        body = {
            "status": {
                "phase": phase,
                "hostIP": "127.0.0.1",
                "startTime": _now(),
                "conditions": [
                    {"type": kind, "status": is_so, "lastTransitionTime": _now()}
                    for kind, is_so in conditions.items()
                ],
                "containerStatuses": [status],
            }
        }
        with contextlib.suppress(OSError):  # it is gone
            await self._api.call("PATCH", f"{path}/status", body, _PATCH)


def _node(node: str, port: int) -> dict[str, Any]:
    capacity = {"cpu": "4", "memory": "16Gi", "pods": "110"}
    conditions = {"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node,
            "labels": {"kubernetes.io/hostname": node, "kubernetes.io/os": "linux"},
        },
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": [
                {"type": "InternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": node},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "conditions": [
                {
                    "type": kind,
                    "status": is_so,
                    "reason": "Simulated",
                    "message": "a simulated kubelet",
                    "lastHeartbeatTime": _now(),
                    "lastTransitionTime": _now(),
                }
                for kind, is_so in conditions.items()
            ],
            "nodeInfo": {
                "kubeletVersion": "v1.20.2",
                "kernelVersion": "simulated",
                "osImage": "simulated",
                "containerRuntimeVersion": "containerd://simulated",
                "architecture": "amd64",
                "operatingSystem": "linux",
                **dict.fromkeys(("machineID", "systemUUID", "bootID", "kubeProxyVersion"), ""),
            },
        },
    }


def _lease(node: str) -> dict[str, Any]:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": node, "namespace": "kube-node-lease"},
        "spec": {
            "holderIdentity": node,
            "leaseDurationSeconds": _LEASE,
            "renewTime": datetime.now(UTC)
            .isoformat(timespec="microseconds")
            .replace("+00:00", "Z"),
        },
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def main(words: list[str]) -> None:
    """Runs until it is killed; says `ready` on standard output when all nodes are registered.

    `words`: the API server's port, its certificate's authority, the kubelets' own certificate and
    key, their token, how many they are.
    """
    port, authority, certificate, key, token, nodes = words
    trusted = ssl.create_default_context(cafile=authority)
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(certificate, key)

    async def run() -> None:
        api = Api(int(port), token, trusted, at_once=_AT_ONCE)
        await _Kubelets(api, int(nodes)).run(own)

    asyncio.run(run())


if __name__ == "__main__":
    main(sys.argv[1:])
