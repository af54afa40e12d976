"""What goes wrong in a cluster, done to this one: parts that end, stall or come back, cut wires."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from . import cgroups, controlplane, node, processes
from .errors import TestbedError
from .namespaces import run_within
from .network import CONTROL
from .settings import NODES, Node

if TYPE_CHECKING:
    from collections.abc import Callable

_END = 30  # seconds for a component to end
_START = 60


def stop(name: str) -> None:
    """End a component and wait until it has ended.

    Raises:
        TestbedError: there is no such component, or it does not run.
    """
    _check(name)
    os.kill(processes.require(name).pid, signal.SIGTERM)
    end = time.monotonic() + _END
    while processes.find(name):
        if time.monotonic() > end:
            raise TestbedError(f"{name} does not end")
        time.sleep(0.05)


def start(name: str) -> None:
    """Start a component that was ended, and wait until it answers.

    Raises:
        TestbedError: there is no such component, or it can't be started.
    """
    begin, ready = _check(name)
    if processes.find(name) is None:
        begin()
    processes.wait_ready(name, ready, _START)


def pause(name: str) -> None:
    """Let a component do nothing until `resume`."""
    os.kill(processes.require(name).pid, signal.SIGSTOP)


def resume(name: str) -> None:
    """Let a paused component go on."""
    os.kill(processes.require(name).pid, signal.SIGCONT)


def cut(name: str) -> None:
    """Cut a node's wire: nothing comes through, and nobody is told so."""
    run_within(CONTROL, ["ip", "link", "set", _node(name).name, "down"])


def join(name: str) -> None:
    """Mend a node's wire."""
    run_within(CONTROL, ["ip", "link", "set", _node(name).name, "up"])


def crash(name: str) -> None:
    """End everything on a node at once, as a power cut does; `start` its components afterwards."""
    found = _node(name)
    holder = processes.require(found.name).pid
    here = {pid for pid in _pids() if _mounts(pid) == _mounts(holder)} - {holder}
    for pid in here | cgroups.processes(found.cgroup):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]


def _mounts(pid: int) -> str:
    """The mount namespace of a process; empty: it has ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def _check(name: str) -> tuple[Callable[[], None], Callable[[], bool]]:
    """What starts a component, and what tells whether it is well."""
    known: dict[str, tuple[Callable[[], None], Callable[[], bool]]] = {
        controlplane.API: (controlplane.start_api_server, controlplane.CHECKS[controlplane.API])
    }
    for each in NODES:
        known[node.kubelet_name(each)] = (
            partial(node.start_kubelet, each),
            partial(node.kubelet_answers, each),
        )
        known[node.containerd_name(each)] = (
            partial(node.start_containerd, each),
            partial(node.containerd_answers, each),
        )
    if name not in known:
        raise TestbedError(f"{name} can't be stopped and started; these can: {', '.join(known)}")
    return known[name]


def _node(name: str) -> Node:
    found = next((each for each in NODES if each.name == name), None)
    if found is None:
        raise TestbedError(f"no node {name}; there are {', '.join(each.name for each in NODES)}")
    return found
