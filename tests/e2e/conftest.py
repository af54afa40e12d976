"""The cluster of the end-to-end tests: the testbed's, or the user's own.

By default `testbed/kubeconfig`, which `make cluster-up` writes. KUBECTL_TRACE_E2E_KUBECONFIG=FILE
runs the same tests on any cluster that has the images (testbed/README.md), kind's for instance.
The user's KUBECONFIG alone is never touched.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.image import IMAGE

from . import command, fault_table
from .cluster import Cluster, Pod
from .leftovers import Aftermath, folders

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
OWN = "KUBECTL_TRACE_E2E_KUBECONFIG"
REQUIRED = "KUBECTL_TRACE_REQUIRE_E2E"
DELETED = 30.0
"""Seconds after which the objects of deleted traces are gone: an API server may just have begun."""


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    kubeconfig = Path(os.environ.get(OWN) or REPOSITORY / "testbed" / "kubeconfig")
    if not kubeconfig.exists():
        missing = f"no cluster: {kubeconfig} is missing; make cluster-up"
        if os.environ.get(REQUIRED):
            pytest.fail(missing)
        pytest.skip(missing)
    before = os.environ.get("KUBECONFIG")
    os.environ["KUBECONFIG"] = str(kubeconfig)
    if os.environ.get(OWN):
        command.kubectl("apply", "-f", str(REPOSITORY / "testbed" / "workloads"))
    found = Cluster()
    found.wait_until_ready()
    command.trace("delete", "--all", "-A", "--now")
    yield found
    if before is None:
        del os.environ["KUBECONFIG"]
    else:
        os.environ["KUBECONFIG"] = before


@pytest.fixture(scope="session", autouse=True)
def _tracefs() -> Iterator[None]:
    """What distributions mount at the first look is mounted, for the target `local`."""
    absent = os.geteuid() == 0 and not Path("/sys/kernel/tracing/events").is_dir()
    if absent:
        subprocess.run(["mount", "-t", "tracefs", "none", "/sys/kernel/tracing"], check=True)
    yield
    if absent:
        subprocess.run(["umount", "/sys/kernel/tracing"], check=True)


@pytest.fixture
def nginx(cluster: Cluster) -> Pod:
    """An nginx pod of the tutorial's Deployment."""
    return cluster.pods("app=nginx")[0]


@pytest.fixture
def node(nginx: Pod) -> str:
    """The name of a node."""
    return nginx.node


@pytest.fixture
def runner_image() -> str:
    return IMAGE


@pytest.fixture(autouse=True)
def _leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test there is no trace in the cluster and no folder of ours in /tmp."""
    before = folders()
    yield
    if "cluster" in request.fixturenames:
        command.trace("delete", "--all", "-A", "--now")
    command.wait_until(lambda: folders() <= before, "no folder is left in /tmp", 20)


@pytest.fixture(autouse=True)
def _as_its_row_says(request: pytest.FixtureRequest, _leaves_nothing: None) -> None:
    """Tests that name a row of docs/reliability.md leave nothing for longer than it says."""
    if request.node.get_closest_marker("reliability"):
        request.getfixturevalue("aftermath")


@pytest.fixture
def aftermath(request: pytest.FixtureRequest) -> Iterator[Aftermath]:
    """Nothing of the test goes on running by itself; after `delete`, nothing is left at all."""
    table = fault_table.rows(fault_table.PAGE.read_text())
    faults = [each for mark in request.node.iter_markers("reliability") for each in mark.args]
    in_cluster = "cluster" in request.fixturenames
    if in_cluster:
        request.getfixturevalue("cluster")
    left = Aftermath(fault_table.allowed(faults, table), objects=in_cluster)
    yield left
    left.ends()
    if in_cluster:
        command.trace("delete", "--all", "-A", "--now")
        left.is_deleted(DELETED)
