"""Several containers in one runner's scope, joining and leaving while it runs.

The client's fan-out comes later: here the runner itself runs on this machine, as it does for the
target `local`, with containers of the cluster. The testbed's nodes share this machine's kernel.
"""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.kube.placement import Choice, containers
from kubectl_trace.results.events import Ended, Records
from kubectl_trace.runner.local import LocalRunner
from kubectl_trace.trace import PROTOCOL, Container, Scope, Stop, Trace

from .command import wait_until
from .conftest import OWN

if TYPE_CHECKING:
    from kubectl_trace.results.events import Event
    from kubectl_trace.results.record import Record

    from .cluster import Cluster, Pod

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="bpftrace needs root"),
    pytest.mark.skipif(
        bool(os.environ.get(OWN)), reason="the nodes must share this machine's kernel"
    ),
]

ACCEPTED = 'uprobe:/usr/sbin/nginx:ngx_event_accept { printf("accepted\\n"); @requests = count(); }'


class Runner:
    """A runner on this machine, and its records."""

    def __init__(self, program: str, containers: list[Container]) -> None:
        self._runner = LocalRunner(
            Trace(
                id=str(uuid.uuid4()),
                program=program,
                containers=tuple(containers),
                attached=True,
                protocol=PROTOCOL,
            )
        )
        self.records: list[Record] = []
        self._ended = False
        self._runner.start(self._take)

    def _take(self, event: Event) -> None:
        if isinstance(event, Records):
            self.records += event.records
        self._ended = self._ended or isinstance(event, Ended)

    def of(self, kind: str) -> list[Record]:
        return [record for record in self.records if record.type == kind]

    def wait_for(self, kind: str, count: int = 1) -> None:
        wait_until(
            lambda: len(self.of(kind)) >= count or self._ended,
            f"{count} {kind} in {self.records}",
        )

    def set_scope(self, *containers: Container) -> None:
        self._runner.send(Scope(containers))

    def printed_by(self) -> list[int]:
        """The numbers of the containers that lines were printed of."""
        numbers: list[int] = []
        for record in self.of("printf"):
            texts = [record.data] if isinstance(record.data, str) else record.data
            each = record.container
            numbers += [each] * len(texts) if isinstance(each, int) else each
        return numbers

    def finish(self) -> dict[str, int]:
        """The maps, in the end."""
        self._runner.send(Stop())
        wait_until(lambda: self._ended, "the runner has ended")
        self._runner.close()
        return {name: value for record in self.of("map") for name, value in record.data.items()}


@pytest.fixture(scope="module")
def nginx_pods(cluster: Cluster) -> dict[str, list[Pod]]:
    """The nginx pods by node."""
    pods = cluster.pods("app=nginx")
    return {node: [pod for pod in pods if pod.node == node] for node in {p.node for p in pods}}


def container(cluster: Cluster, pod: Pod) -> Container:
    return containers(cluster.get("pod", pod.name), Choice())[0]


def test_containers_of_one_image_share_one_probe_and_each_event_is_counted_once(
    cluster: Cluster, nginx_pods: dict[str, list[Pod]]
) -> None:
    first, second = next(iter(nginx_pods.values()))[:2]
    runner = Runner(ACCEPTED, [container(cluster, pod) for pod in (first, second)])
    runner.wait_for("ready")
    assert runner.of("attached_probes")[0].data == {"probes": 1}
    cluster.request(first, times=20)
    cluster.request(second, times=30)
    assert runner.finish() == {"@requests": 50}
    assert sorted(runner.printed_by()) == [1] * 20 + [2] * 30


def test_different_files_of_one_name_are_attached_each(
    cluster: Cluster, nginx_pods: dict[str, list[Pod]]
) -> None:
    here, there = (pods[0] for pods in nginx_pods.values())
    runner = Runner(ACCEPTED, [container(cluster, pod) for pod in (here, there)])
    runner.wait_for("ready")
    assert runner.of("attached_probes")[0].data == {"probes": 2}
    cluster.request(here, times=20)
    cluster.request(there, times=30)
    assert runner.finish() == {"@requests": 50}
    assert sorted(runner.printed_by()) == [1] * 20 + [2] * 30


def test_a_container_joins_and_leaves_the_scope_of_a_running_trace(
    cluster: Cluster, nginx_pods: dict[str, list[Pod]]
) -> None:
    first, second = next(iter(nginx_pods.values()))[:2]
    one, two = container(cluster, first), container(cluster, second)
    runner = Runner(ACCEPTED, [one])
    runner.wait_for("ready")
    cluster.request(second, times=5)
    runner.set_scope(one, two)
    runner.wait_for("scope")
    assert [each["pod"] for each in runner.of("scope")[0].data["joined"]] == [second.name]
    cluster.request(second, times=7)
    runner.set_scope(two)
    runner.wait_for("scope", 2)
    assert [each["pod"] for each in runner.of("scope")[1].data["left"]] == [first.name]
    cluster.request(first, times=11)
    cluster.request(second, times=13)
    runner.set_scope(one, two)
    runner.wait_for("scope", 3)
    cluster.request(first, times=17)
    assert runner.finish() == {"@requests": 7 + 13 + 17}
    assert runner.printed_by() == [2] * 20 + [1] * 17


def test_a_container_that_joins_with_another_file_is_named(
    cluster: Cluster, nginx_pods: dict[str, list[Pod]]
) -> None:
    here, there = (pods[0] for pods in nginx_pods.values())
    one, two = container(cluster, here), container(cluster, there)
    runner = Runner(ACCEPTED, [one])
    runner.wait_for("ready")
    runner.set_scope(one, two)
    runner.wait_for("scope")
    runner.finish()
    assert any(
        f"/usr/sbin/nginx of container nginx of pod {there.name} is another file" in record.data
        for record in runner.of("stderr")
    )


def test_container_pid_is_each_containers_process_in_a_file_and_refused_in_code(
    cluster: Cluster, nginx_pods: dict[str, list[Pod]]
) -> None:
    first, second = next(iter(nginx_pods.values()))[:2]
    containers = [container(cluster, pod) for pod in (first, second)]
    program = "uprobe:/proc/$container_pid/exe:ngx_event_accept { @requests = count(); }"
    runner = Runner(program, containers)
    runner.wait_for("ready")
    cluster.request(first, times=3)
    cluster.request(second, times=4)
    assert runner.finish() == {"@requests": 7}
    refused = Runner("kprobe:f /pid == $container_pid/ { @ = count(); }", containers)
    refused.finish()
    summary = refused.of("summary")[0].data
    assert summary["exit"] == 6
    assert "program.bt:1:18: $container_pid stands for 2 processes here" in summary["message"]
