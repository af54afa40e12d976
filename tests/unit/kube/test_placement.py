from __future__ import annotations

import pytest

from kubectl_trace.errors import NotFoundError
from kubectl_trace.kube import placement
from kubectl_trace.kube.placement import Choice

from .pods import a_pod

DEFAULT = Choice()


@pytest.mark.parametrize("runtime", ["containerd", "docker", "cri-o", "rkt"])
def test_a_container_id_has_no_runtime_in_it(runtime: str) -> None:
    (container,) = placement.containers(a_pod("web", runtime=runtime), DEFAULT)
    assert container.container_id == "id-p-web"


def test_the_only_container_is_the_default() -> None:
    assert placement.default_container(a_pod("web")) == "web"
    assert placement.note_on_default(a_pod("web")) == ""


def test_the_annotated_container_is_the_default() -> None:
    pod = a_pod("a", "b", annotations={placement.DEFAULT_CONTAINER: "b"})
    assert placement.default_container(pod) == "b"
    assert placement.note_on_default(pod) == ""


def test_else_the_first_container_with_a_note_that_names_the_others() -> None:
    pod = a_pod("a", "b", "c")
    assert placement.default_container(pod) == "a"
    assert "b, c" in placement.note_on_default(pod)


def test_an_annotation_that_names_no_container_means_nothing() -> None:
    pod = a_pod("a", annotations={placement.DEFAULT_CONTAINER: "gone"})
    assert placement.default_container(pod) == "a"


def test_init_sidecar_and_ephemeral_containers_are_found() -> None:
    pod = a_pod("app")
    pod["spec"]["initContainers"] = [{"name": "mesh"}]
    pod["spec"]["ephemeralContainers"] = [{"name": "debugger"}]
    pod["status"]["initContainerStatuses"] = [
        {"name": "mesh", "containerID": "containerd://i", "state": {"running": {}}}
    ]
    pod["status"]["ephemeralContainerStatuses"] = [
        {"name": "debugger", "containerID": "containerd://e", "state": {"running": {}}}
    ]
    assert placement.containers(pod, Choice("mesh"))[0].container_id == "i"
    assert placement.containers(pod, Choice("debugger"))[0].container_id == "e"
    every = placement.containers(pod, Choice(every=True))
    assert [each.container for each in every] == ["app", "mesh", "debugger"]


def test_a_wrong_container_is_refused_with_what_there_is() -> None:
    with pytest.raises(NotFoundError, match="it has web"):
        placement.containers(a_pod("web"), Choice("wbe"))


def test_a_container_that_does_not_run_is_refused_with_the_reason() -> None:
    pod = a_pod("web")
    pod["status"]["containerStatuses"][0]["state"] = {
        "waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m"}
    }
    with pytest.raises(NotFoundError, match="CrashLoopBackOff: back-off 5m"):
        placement.containers(pod, Choice("web"))


def test_a_pod_that_is_not_scheduled_is_refused_with_its_phase() -> None:
    pod = a_pod("web")
    pod["status"] = {"phase": "Pending"}
    with pytest.raises(NotFoundError, match="the pod is Pending"):
        placement.containers(pod, DEFAULT)


def test_pods_are_placed_by_node_whatever_their_number_there() -> None:
    pods = [a_pod("web", name=f"web-{i}", node=f"node-{i % 2}") for i in range(5)]
    placed = placement.by_node(pods, DEFAULT, running=True)
    assert {node: len(each.containers) for node, each in placed.items()} == {
        "node-0": 3,
        "node-1": 2,
    }


def test_pods_without_a_node_or_that_have_ended_or_lack_the_container_do_not_count() -> None:
    waiting, done, other = a_pod("web"), a_pod("web"), a_pod("db")
    del waiting["spec"]["nodeName"]
    done["status"]["phase"] = "Succeeded"
    assert placement.by_node([waiting, done, other], Choice("web"), running=False) == {}


def test_runners_are_never_traced_as_pods_of_a_selector() -> None:
    pod = a_pod("kubectl-trace")
    pod["metadata"]["labels"] = {"iovisor.org/kubectl-trace-id": "x"}
    assert placement.by_node([pod], DEFAULT, running=False) == {}


def test_a_container_that_will_run_belongs_to_the_target_without_an_id() -> None:
    pod = a_pod("web")
    pod["status"]["containerStatuses"][0]["state"] = {"terminated": {"exitCode": 1}}
    assert placement.by_node([pod], DEFAULT, running=True) == {}
    (container,) = placement.by_node([pod], DEFAULT, running=False)["node-a"].containers
    assert (container.container, container.container_id) == ("web", "")


def test_a_static_pod_is_known_by_the_kubelets_own_name_for_it() -> None:
    pod = a_pod("etcd", annotations={"kubernetes.io/config.hash": "h"})
    assert placement.containers(pod, DEFAULT)[0].pod_uid == "h"
