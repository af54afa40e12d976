"""The whole cluster: brought up, taken down, looked at."""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from . import (
    certificates,
    cgroups,
    controlplane,
    images,
    kubernetes,
    namespaces,
    network,
    node,
    packages,
    processes,
    programs,
    workloads,
)
from .commands import say
from .errors import TestbedError
from .lock import locked
from .settings import CACHE, KUBECONFIG, NODES, STATE, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .layout import Built

#: The testbed's own sources at the time the running cluster was started.
_FINGERPRINT = STATE / "fingerprint"


def up() -> None:
    """Bring the cluster to life, or up to date where it lives already.

    Raises:
        TestbedError: something failed; the message says what and shows its last lines.
    """
    packages.ensure()
    with locked(CACHE / "testbed.lock", "end"):
        started = time.monotonic()
        workload_images, runner_image = _build()
        reason = _why_anew()
        if reason:
            if reason != _ABSENT:
                say(f"starting anew: {reason}")
            _remove()
            _start(workload_images)
        with ThreadPoolExecutor() as pool:
            loading = [
                pool.submit(node.load, each, [*workload_images, runner_image]) for each in NODES
            ]
            _deploy()
            for future in loading:
                future.result()
        say(f"the cluster is up ({time.monotonic() - started:.0f} s): KUBECONFIG={KUBECONFIG}")


def down() -> None:
    """Remove everything that `up` made but the caches.

    Raises:
        TestbedError: something could not be removed; the message says what.
    """
    with locked(CACHE / "testbed.lock", "end"):
        _remove()


def image() -> Path:
    """Build the runner's image where its sources have changed; give its archive."""
    packages.ensure()
    with locked(CACHE / "testbed.lock", "end"):
        return images.archive(images.runner())


def status() -> dict[str, str]:
    """What is wrong with each part of the cluster, by its name; empty where nothing is."""
    parts: dict[str, str] = {}
    for name, check in _components():
        if processes.find(name) is None:
            parts[name] = "does not run"
        else:
            parts[name] = "" if check() else "does not answer"
    if parts[controlplane.API]:
        return parts
    if not KUBECONFIG.exists():
        return parts | {"kubeconfig": "is missing"}
    registered = workloads.nodes_ready()
    for each in NODES:
        parts[f"node/{each.name}"] = "" if registered.get(each.name) else "not Ready"
    try:
        found = workloads.ready()
    except TestbedError as error:
        return parts | {"workloads": str(error).splitlines()[-1].strip()}
    return parts | {name: "" if ready else "not ready" for name, ready in found.items()}


def _components() -> Iterator[tuple[str, Callable[[], bool]]]:
    for name in (network.CONTROL, *(each.name for each in NODES)):
        yield name, lambda: True
    yield from controlplane.CHECKS.items()
    for each in NODES:
        yield node.containerd_name(each), partial(node.containerd_answers, each)
        yield node.kubelet_name(each), partial(node.kubelet_answers, each)


_ABSENT = "there is none"


def _why_anew() -> str:
    """Why what runs is no use, or nothing."""
    if not STATE.exists() and not cgroups.exist():
        return _ABSENT
    if not _FINGERPRINT.exists():
        return "an earlier start was not finished"
    if _FINGERPRINT.read_text() != _fingerprint():
        return "the testbed's own code has changed"
    for name, check in _components():
        if processes.find(name) is None:
            return f"{name} does not run; its log said\n{processes.log_tail(name)}"
        if not check():
            return f"{name} does not answer; its log says\n{processes.log_tail(name)}"
    return ""


def _fingerprint() -> str:
    """Changes with the code that makes a cluster: the modules of this package that are imported."""
    files = [m.__file__ for name, m in sys.modules.items() if name.startswith(f"{__package__}.")]
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def _build() -> tuple[list[Built], Built]:
    """Kubernetes, the workloads' images and the runner's, each where it is not built yet."""
    with ThreadPoolExecutor() as pool:
        building = pool.submit(kubernetes.ensure)
        programs.ensure()
        *of_workloads, of_runner = images.ensure([*images.WORKLOADS, images.runner()])
        building.result()
    return of_workloads, of_runner


def _start(workload_images: Sequence[Built]) -> None:
    say("starting the cluster")
    node.make_mount_points()
    for name in (network.CONTROL, *(each.name for each in NODES)):
        namespaces.create(name)
    network.create()
    for each in NODES:
        node.furnish(each)
    certificates.create()
    with ThreadPoolExecutor() as pool:
        brain = pool.submit(controlplane.start)
        limbs = [pool.submit(_start_node, workload_images, each) for each in NODES]
        for future in (brain, *limbs):
            future.result()
    _write_kubeconfig()
    for each in NODES:
        processes.wait_ready(node.kubelet_name(each), workloads.all_nodes_ready, 60)
    _FINGERPRINT.write_text(_fingerprint())


def _start_node(workload_images: Sequence[Built], each: Node) -> None:
    node.start_containerd(each)
    node.load(each, workload_images)
    node.start_kubelet(each)


def _deploy() -> None:
    _write_kubeconfig()
    workloads.apply()
    workloads.wait(60)


def _write_kubeconfig() -> None:
    KUBECONFIG.touch(0o600)
    KUBECONFIG.write_text(certificates.kubeconfig("admin"))


def _remove() -> None:
    KUBECONFIG.unlink(missing_ok=True)
    left = cgroups.destroy()
    left += network.destroy()
    left += node.remove_mount_points()
    # What is still mounted below must not be emptied.
    mounted = [m for m in _mount_points() if m.is_relative_to(STATE)]
    left += [f"mount {m}" for m in mounted]
    if STATE.exists() and not left:
        shutil.rmtree(STATE)
    if left:
        raise TestbedError("could not remove\n" + "\n".join(f"  {each}" for each in left))


def _mount_points() -> list[Path]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [Path(line.split()[4]) for line in lines]
