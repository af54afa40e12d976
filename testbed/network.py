"""The wires between this machine, the control plane and the nodes.

A bridge in the control plane's namespace joins them all; this machine has one interface and two
routes of its own and needs no forwarding and no packet filter rule.
"""

from __future__ import annotations

import ipaddress
import json

from . import processes
from .commands import run
from .errors import TestbedError
from .namespaces import run_within
from .settings import (
    API_SERVICE_ADDRESS,
    CONTROL_ADDRESS,
    HOST_ADDRESS,
    HOST_INTERFACE,
    NODE_NETWORK,
    NODES,
    SERVICE_NETWORK,
)

CONTROL = "control"


def create() -> None:
    """Join the namespaces `control` and the nodes' with each other and with this machine.

    Raises:
        TestbedError: an address range of the testbed is in use here, or `ip` failed.
    """
    _refuse_overlap()
    prefix = NODE_NETWORK.prefixlen
    run_within(
        CONTROL,
        ["ip", "-batch", "-"],
        f"""\
link set lo up
address add {API_SERVICE_ADDRESS}/32 dev lo
link add bridge type bridge
address add {CONTROL_ADDRESS}/{prefix} dev bridge
link set bridge up
""",
    )
    _wire(HOST_INTERFACE, "host", None, f"{HOST_ADDRESS}/{prefix}")
    for node in NODES:
        _wire("eth0", node.name, node.name, f"{node.address}/{prefix}")
        run_within(node.name, ["ip", "link", "set", "lo", "up"])
        run_within(node.name, ["ip", "route", "add", "default", "via", CONTROL_ADDRESS])
    for place in (CONTROL, *(node.name for node in NODES)):
        # /proc/sys/net is the reader's own namespace's.
        run_within(place, ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
        for node in NODES:
            if node.name != place:
                run_within(place, _route(str(node.pod_network), node.address))
    for node in NODES:
        run(_route(str(node.pod_network), node.address))


def destroy() -> list[str]:
    """Remove the interface and with it the routes; give what is left."""
    if _interface_exists():
        # It goes by itself with the namespace of its other end, at a time of the kernel's choosing.
        run(["sh", "-c", f"ip link delete {HOST_INTERFACE} 2>/dev/null || :"])
    return [f"interface {HOST_INTERFACE}"] if _interface_exists() else []


def _interface_exists() -> bool:
    return any(link["ifname"] == HOST_INTERFACE for link in json.loads(run(["ip", "-j", "link"])))


def _wire(interface: str, port: str, place: str | None, address: str) -> None:
    """A pair of interfaces: `interface` in `place` (None: this machine), `port` on the bridge."""
    control = processes.require(CONTROL).pid
    if place is None:
        run(["ip", "link", "add", interface, "type", "veth", "peer", port, "netns", str(control)])
        run(["ip", "address", "add", address, "dev", interface])
        run(["ip", "link", "set", interface, "up"])
    else:
        there = str(processes.require(place).pid)
        run_within(
            CONTROL, ["ip", "link", "add", port, "type", "veth", "peer", interface, "netns", there]
        )
        run_within(place, ["ip", "address", "add", address, "dev", interface])
        run_within(place, ["ip", "link", "set", interface, "up"])
    run_within(CONTROL, ["ip", "link", "set", port, "master", "bridge", "up"])


def _route(network: str, via: str) -> list[str]:
    return ["ip", "route", "add", network, "via", via]


def _refuse_overlap() -> None:
    ours = [NODE_NETWORK, SERVICE_NETWORK, *(node.pod_network for node in NODES)]
    for route in json.loads(run(["ip", "-4", "-j", "route"])):
        if route["dst"] == "default":
            continue
        theirs = ipaddress.IPv4Network(route["dst"])
        if any(theirs.overlaps(network) for network in ours):
            raise TestbedError(
                f"this machine has a route to {theirs} by {route.get('dev')}, which the testbed "
                f"wants for itself: change the addresses in {__package__}/settings.py"
            )
