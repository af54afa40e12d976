"""Where the testbed keeps things, and the addresses it takes."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CHECKOUT = FOLDER.parent

#: Built once a machine and kept by `down`: Kubernetes' binaries, image archives.
CACHE = Path(os.environ.get("KUBECTL_TRACE_CACHE", "/var/cache/kubectl-trace"))
#: Everything of a running cluster: logs, certificates, the nodes' disks. `down` removes it.
STATE = Path("/var/lib/kubectl-trace-testbed")
LOGS = STATE / "logs"
CERTIFICATES = STATE / "certificates"
KUBECONFIG = FOLDER / "kubeconfig"
CONTEXT = "kubectl-trace-testbed"

#: Every process of the testbed is in this cgroup of every hierarchy, so none can be missed.
CGROUP = "kubectl-trace-testbed"

KUBERNETES_VERSION = "v1.20.2"
KUBERNETES = CACHE / f"kubernetes-{KUBERNETES_VERSION}"
FEATURE_GATES = {"TTLAfterFinished": True, "EphemeralContainers": True}

#: The only interface in the machine's own network namespace.
HOST_INTERFACE = "kttb0"
NODE_NETWORK = ipaddress.IPv4Network("10.213.64.0/24")
CONTROL_ADDRESS = "10.213.64.1"
HOST_ADDRESS = "10.213.64.254"
SERVICE_NETWORK = ipaddress.IPv4Network("10.213.96.0/24")
#: The Service `kubernetes`: on the control plane's loopback, since no kube-proxy runs.
API_SERVICE_ADDRESS = "10.213.96.1"
CLUSTER_DNS_ADDRESS = "10.213.96.10"
API_SERVER = f"https://{CONTROL_ADDRESS}:443"


@dataclass(frozen=True)
class Node:
    """A node of the cluster: its name, its address and the subnet its pods get addresses from."""

    name: str
    address: str
    pod_network: ipaddress.IPv4Network

    @property
    def disk(self) -> Path:
        """The folder that holds what a machine of its own would have on its disk."""
        return STATE / self.name

    @property
    def cgroup(self) -> str:
        """The cgroup, below every hierarchy's root, that the node's pods live in."""
        return f"{CGROUP}/{self.name}"


NODES = (
    Node("node-a", "10.213.64.11", ipaddress.IPv4Network("10.213.65.0/24")),
    Node("node-b", "10.213.64.12", ipaddress.IPv4Network("10.213.66.0/24")),
)
