"""One command over many pods and nodes: one exact answer, also when a node is away."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from .command import Command, kubectl, start, trace, wait_until
from .conftest import OWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .cluster import Cluster, Pod
    from .command import Result
    from .leftovers import Aftermath

ACCEPTED = "uprobe:/usr/sbin/nginx:ngx_event_accept"
COUNT = f"{ACCEPTED} {{ @requests = count(); }}"

on_the_testbed = pytest.mark.skipif(
    bool(os.environ.get(OWN)), reason="the nodes must be the testbed's"
)


@pytest.fixture
def web(cluster: Cluster) -> list[Pod]:
    """The pods of the tutorial's Deployment, which are on two nodes."""
    pods = cluster.pods("app=nginx")
    assert len({pod.node for pod in pods}) == 2
    return pods


@pytest.fixture
def grown(cluster: Cluster) -> Iterator[Callable[[int], list[Pod]]]:
    """A Deployment of nginx pods that can be made any size; its pods, once all of them run."""
    cluster.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "grown"},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": "grown"}},
                "template": {
                    "metadata": {"labels": {"app": "grown"}},
                    "spec": {
                        "terminationGracePeriodSeconds": 1,
                        "topologySpreadConstraints": [
                            {
                                "maxSkew": 1,
                                "topologyKey": "kubernetes.io/hostname",
                                "whenUnsatisfiable": "DoNotSchedule",
                                "labelSelector": {"matchLabels": {"app": "grown"}},
                            }
                        ],
                        "containers": [
                            {
                                "name": "nginx",
                                "image": "kubectl-trace-testbed/nginx:1",
                                "imagePullPolicy": "IfNotPresent",
                            }
                        ],
                    },
                },
            },
        }
    )

    def scale(replicas: int) -> list[Pod]:
        assert kubectl("scale", "deployment/grown", f"--replicas={replicas}").code == 0
        wait_until(lambda: len(cluster.pods("app=grown")) == replicas, f"{replicas} pods")
        return cluster.pods("app=grown")

    scale(1)
    yield scale
    kubectl("delete", "deployment", "grown", "--wait=true")
    wait_until(lambda: not cluster.pods("app=grown"), "the pods are gone")


def request(cluster: Cluster, pods: Sequence[Pod], times: int) -> None:
    """Requests each pod's page so many times, all pods at once."""
    with ThreadPoolExecutor(len(pods)) as pool:
        list(pool.map(lambda pod: cluster.request(pod, times), pods))


def results(result: Result) -> list[dict[str, Any]]:
    """The results of `-o json`."""
    return [json.loads(line) for line in result.lines]


def test_the_merged_map_of_a_deployment_of_four_pods_on_two_nodes_is_exact(
    cluster: Cluster, web: list[Pod]
) -> None:
    command = start("run", "deploy/nginx", "-a", "-e", COUNT).wait_until_attached()
    request(cluster, web, 2500)
    result = command.interrupt().finish()
    assert (result.code, result.stdout) == (0, "@requests: 10000\n"), result
    assert "lost: none" in result.stderr


def test_one_trace_of_two_nodes_is_the_sum_of_two_single_ones(
    cluster: Cluster, web: list[Pod]
) -> None:
    program = (
        f"{ACCEPTED} {{ @n = count(); @by[comm] = count(); @sum = sum(10); @avg = avg(10); "
        "@stats = stats(10); @min = min(10); @max = max(10); @hist = hist(10); "
        "@lhist = lhist(10, 0, 100, 10); @plus++; }"
    )
    one, other = web[0], next(pod for pod in web if pod.node != web[0].node)
    both = (f"pod/{one.name}", f"pod/{other.name}")
    commands = [
        start("run", *targets, "-a", "-o", "json", "-e", program).wait_for('"ready"')
        for targets in (both, both[:1], both[1:])
    ]
    wait_until(lambda: commands[0].stdout().count('"ready"') == 2, "both nodes are ready")
    cluster.request(one, 30)
    cluster.request(other, 20)
    together, first, second = (maps(command.interrupt().finish()) for command in commands)
    assert (first["@n"], second["@n"], together["@n"]) == (30, 20, 50)
    assert together["@by"] == {"nginx": 50}
    assert together["@sum"] == 500
    assert together["@avg"] == first["@avg"] == 10
    assert together["@stats"] == {"count": 50, "average": 10, "total": 500}
    assert (together["@min"], together["@max"], together["@plus"]) == (10, 10, 50)
    assert together["@hist"] == [{"min": 8, "max": 15, "count": 50}]
    assert together["@lhist"] == [{"min": 10, "max": 19, "count": 50}]


def maps(result: Result) -> dict[str, Any]:
    """The maps of a trace that has ended, by name."""
    assert result.code == 0, result
    kinds = {"map", "hist", "stats"}
    return {
        name: value
        for each in results(result)
        if each["type"] in kinds
        for name, value in each["data"].items()
    }


def test_a_merged_result_has_no_node_and_a_line_that_was_printed_has_its_pod(
    cluster: Cluster, web: list[Pod]
) -> None:
    program = f'{ACCEPTED} {{ printf("accepted\\n"); @requests = count(); }}'
    command = start("run", "-l", "app=nginx", "-a", "-o", "json", "-e", program)
    wait_until(lambda: command.stdout().count('"ready"') == 2, "both nodes are ready")
    request(cluster, web, 3)
    found = results(command.interrupt().finish())
    (merged,) = [each for each in found if each["type"] == "map"]
    assert merged["data"] == {"@requests": 12}
    assert "node" not in merged
    printed = [each for each in found if each["type"] == "printf"]
    assert sorted(each["pod"] for each in printed) == sorted(pod.name for pod in web * 3)
    assert {(each["node"], each["pod"]) for each in printed} == {(p.node, p.name) for p in web}
    account = found[-1]
    assert account["type"] == "account"
    assert set(account["data"]["nodes"]) == {pod.node for pod in web}


def test_maps_are_split_by_pod_and_exact(cluster: Cluster, web: list[Pod]) -> None:
    program = f"{ACCEPTED} {{ @[comm] = count(); @n = count(); @h = hist(1); }}"
    command = start("run", "svc/nginx", "-a", "--by", "pod", "-o", "json", "-e", program)
    wait_until(lambda: command.stdout().count('"ready"') == 2, "both nodes are ready")
    for times, pod in enumerate(web, 1):
        cluster.request(pod, times * 10)
    found = results(command.interrupt().finish())
    for times, pod in enumerate(web, 1):
        mine = [each["data"] for each in found if each.get("pod") == pod.name]
        assert {"@n": times * 10} in mine
        assert {"@": {"nginx": times * 10}} in mine
        assert {"@h": [{"min": 1, "max": 1, "count": times * 10}]} in mine


def test_maps_that_are_printed_on_an_interval_are_merged_and_none_is_lost(
    cluster: Cluster, web: list[Pod]
) -> None:
    # What happens between bpftrace's print and its clear is in neither: no request is near one.
    program = f"{ACCEPTED} {{ @[comm] = count(); }} interval:s:4 {{ print(@); clear(@); }}"
    command = start("run", "deploy/nginx", "-a", "-o", "json", "-e", program)

    def rounds() -> list[dict[str, Any]]:
        whole, _, _ = command.stdout().rpartition("\n")
        found = map(json.loads, whole.splitlines())
        return [each for each in found if each["type"] == "map"]

    wait_until(lambda: len(rounds()) == 1, "a first round, of both nodes")
    request(cluster, web, 25)
    wait_until(lambda: len(rounds()) == 2, "a second round")
    request(cluster, web, 25)
    result = command.interrupt().finish()
    found = [each for each in results(result) if each["type"] == "map"]
    assert sum(each["data"]["@"].get("nginx", 0) for each in found) == 200, result
    assert not any("missing" in each for each in found), result


def test_the_greatest_entries_are_those_of_all_nodes_together(
    cluster: Cluster, web: list[Pod]
) -> None:
    program = f"{ACCEPTED} {{ @[pid] = count(); }} END {{ print(@, 2); clear(@); }}"
    command = start("run", "deploy/nginx", "-a", "-e", program).wait_until_attached()
    for times, pod in enumerate(web, 1):
        cluster.request(pod, times * 10)
    result = command.interrupt().finish()
    assert [line.partition("]: ")[2] for line in result.lines] == ["30", "40"], result


@pytest.mark.reliability("the target's pod restarted, deleted, moved, its namespace deleted")
def test_pods_that_come_later_join_and_pods_that_go_leave(
    cluster: Cluster, grown: Callable[[int], list[Pod]]
) -> None:
    (first,) = cluster.pods("app=grown")
    command = start("run", "deploy/grown", "-a", "-e", COUNT).wait_until_attached()
    cluster.request(first, 10)
    pods = grown(4)  # one more on the node that has a runner, two on the other
    wait_until(lambda: command.stderr().count("attached ") == 2, "a second runner")
    joined = [pod for pod in pods if pod.node == first.node and pod.name != first.name]
    assert joined
    for pod in joined:
        command.wait_for(f"container nginx of pod {pod.name} joins the scope")
    request(cluster, pods, 10)
    # The Deployment takes back the youngest first.
    (left,) = grown(1)
    gone = next(pod for pod in pods if pod.name != left.name)
    command.wait_for(f"container nginx of pod {gone.name} leaves the scope")
    cluster.request(left, 10)
    result = command.interrupt().finish()
    later = [pod for pod in pods if pod.node != first.node]
    assert later
    assert f"{later[0].node} joins: starting a runner there" in result.stderr
    assert result.stdout == "@requests: 60\n", result


def test_no_more_nodes_than_allowed_are_traced_unasked(cluster: Cluster) -> None:
    refused = trace("run", "--all-nodes", "--max-nodes", "1", "-a", "-e", "BEGIN { exit(); }")
    assert refused.code == 2
    assert "on 2 nodes, more than --max-nodes 1" in refused.stderr
    assert not cluster.get("jobs", "-A")["items"]
    program = 'BEGIN { printf("here\\n"); exit(); }'
    allowed = trace("run", "--all-nodes", "--max-nodes", "1", "--yes", "-a", "-e", program)
    assert allowed.code == 0, allowed
    assert sorted(allowed.lines) == ["[node/node-a] here", "[node/node-b] here"]


def test_a_node_that_can_not_begin_is_named_and_the_others_go_on(
    cluster: Cluster, web: list[Pod]
) -> None:
    (other,) = cluster.pods("app=multi")  # it has no nginx
    mine = next(pod for pod in web if pod.node != other.node)
    targets = (f"pod/{mine.name}", f"pod/{other.name}")
    command = start("run", *targets, "-a", "-e", COUNT).wait_until_attached()
    cluster.request(mine, 5)
    result = command.interrupt().finish()
    assert (result.code, result.stdout) == (0, "@requests: 5\n"), result
    assert f"error: {other.node}: not started: " in result.stderr
    assert "/usr/sbin/nginx" in result.stderr
    strict = trace("run", *targets, "-a", "--strict", "--deadline", "1s", "-e", COUNT)
    assert strict.code == 8, strict
    required = trace("run", *targets, "-a", "--require-all", "-e", COUNT)
    assert required.code == 3, required
    assert other.node in required.stderr
    cluster.wait_until_gone(required.trace_id)


@on_the_testbed
def test_a_node_whose_kubelet_is_stopped_is_named_and_the_rest_is_whole(
    cluster: Cluster, web: list[Pod], kubelet_stops: Callable[[str], None]
) -> None:
    away = next(pod.node for pod in web if pod.node != cluster.pods("app=multi")[0].node)
    here = [pod for pod in web if pod.node != away]
    command = start("run", "deploy/nginx", "-a", "-e", COUNT).wait_until_attached()
    request(cluster, here, 50)
    kubelet_stops(away)
    command.wait_for(f"{away}: ")
    request(cluster, here, 50)
    result = command.interrupt().finish()
    assert result.stdout == f"@requests: {100 * len(here)}\n", result
    assert f"error: {away}: lost: " in result.stderr
    assert result.code == 1


@pytest.fixture
def kubelet_stops(cluster: Cluster) -> Iterator[Callable[[str], None]]:
    """Ends a node's kubelet; it is started anew after the test."""
    stopped: list[str] = []

    def kubelet(action: str, name: str) -> None:
        done = Command(sys.executable, "-m", "testbed", action, f"{name}-kubelet").finish()
        assert done.code == 0, done

    def stop(name: str) -> None:
        stopped.append(name)
        kubelet("stop", name)

    yield stop
    for name in stopped:
        kubelet("start", name)
        done = kubectl("wait", "--for=condition=ready", f"node/{name}", "--timeout=90s")
        assert done.code == 0, done


def test_whatever_is_lost_is_accounted_for_by_node_and_cause(
    cluster: Cluster, web: list[Pod]
) -> None:
    program = f"{ACCEPTED} {{ @[nsecs] = 1; }} END {{ clear(@); }}"
    command = start(
        *("run", "deploy/nginx", "-a", "--strict", "--env", "BPFTRACE_MAX_MAP_KEYS=16"),
        *("-o", "json", "-e", program),
    )
    wait_until(lambda: command.stdout().count('"ready"') == 2, "both nodes are ready")
    request(cluster, web, 50)
    result = command.interrupt().finish()
    assert result.code == 8, result
    account = results(result)[-1]["data"]
    # Each node saw 100 events, and has room for 16 keys.
    assert account["lost"] == {"map full": 2 * (100 - 16)}
    assert {node["lost"]["map full"] for node in account["nodes"].values()} == {84}
    assert "node-a lost: 84 by map full" in result.stderr


def test_one_trace_on_two_nodes_is_listed_read_and_stopped_as_one(
    cluster: Cluster, web: list[Pod]
) -> None:
    program = f'BEGIN {{ printf("begun\\n"); }} {COUNT}'
    created = trace("run", "deploy/nginx", "-e", program)
    trace_id = created.trace_id
    wait_until(lambda: trace("logs", trace_id).stdout.count("begun") == 2, "both have begun")
    listed = json.loads(trace("get", trace_id, "-o", "json").stdout)
    assert [part["node"] for part in listed["nodes"]] == ["node-a", "node-b"]
    assert listed["status"]["phase"] == "Running"
    table = trace("get", "--no-headers").lines
    assert len(table) == 1
    assert "node-a,node-b" in table[0]
    request(cluster, web, 5)
    assert trace("stop", trace_id).stdout == f"trace {trace_id} stopped\n"
    read = trace("logs", trace_id)
    assert "@requests: 20" in read.stdout, read
    assert trace("attach", trace_id, "-o", "json").code == 0
    assert trace("delete", trace_id).code == 0
    cluster.wait_until_gone(trace_id)


@pytest.mark.reliability("kill -9")
def test_the_runners_of_a_client_that_is_killed_end_on_all_nodes(
    cluster: Cluster, web: list[Pod], aftermath: Aftermath
) -> None:
    command = start("run", "deploy/nginx", "-a", "-e", COUNT).wait_until_attached()
    with aftermath.in_time():
        command.signal(signal.SIGKILL)
        trace_id = command.finish().trace_id

    def ended() -> bool:
        found = json.loads(trace("get", trace_id, "-o", "json").stdout)
        return {part["status"]["phase"] for part in found["nodes"]} == {"Completed"}

    wait_until(ended, "both runners end")


def test_before_the_start_ctrl_c_takes_everything_back(cluster: Cluster) -> None:
    words = ("--imagename", "localhost:1/missing:1")
    command = start("run", "deploy/nginx", "-a", *words, "-e", COUNT)
    command.wait_for(" created").interrupt()
    result = command.finish()
    assert result.code == 130, result
    cluster.wait_until_gone(result.trace_id)


def test_a_session_is_replayed_in_any_view_without_a_cluster(
    cluster: Cluster, web: list[Pod], tmp_path: Any
) -> None:
    file = tmp_path / "session"
    program = f'{ACCEPTED} {{ printf("accepted\\n"); @requests = count(); }}'
    command = start("run", "deploy/nginx", "-a", "--save", str(file), "-e", program)
    command.wait_until_attached()
    for times, pod in enumerate(web, 1):
        cluster.request(pod, times)
    live = command.interrupt().finish()
    assert "@requests: 10\n" in live.stdout

    def replay(*words: str) -> Result:
        words = ("kubectl-trace", "replay", str(file), *words)
        return Command(*words, env={"KUBECONFIG": "/dev/null"}).finish()

    again = replay()
    assert sorted(again.lines) == sorted(live.lines)
    assert again.code == 0
    by_pod = results(replay("--by", "pod", "-o", "json"))
    counts = {each["pod"]: each["data"] for each in by_pod if each["type"] == "map"}
    assert counts == {pod.name: {"@requests": times} for times, pod in enumerate(web, 1)}
    rows = list(csv.DictReader(io.StringIO(replay("-o", "csv").stdout)))
    assert [row["value"] for row in rows if row["map"]] == ["10"]
    assert sum(row["value"] == "accepted\n" for row in rows) == 10
    assert "delivered: 12\n" in replay("-o", "yaml").stdout, "10 lines, a map from each node"


def test_stacks_come_folded_for_flame_graphs(cluster: Cluster, web: list[Pod]) -> None:
    command = start(
        *("run", "deploy/nginx", "-a", "-o", "folded", "-e"),
        f"{ACCEPTED} {{ @[ustack] = count(); }}",
    ).wait_until_attached()
    request(cluster, web, 5)
    result = command.interrupt().finish()
    counts = [line.rpartition(" ") for line in result.lines]
    assert sum(int(count) for _, _, count in counts) == 20, result
    assert all("ngx_event_accept" in stack.split(";")[-1] for stack, _, _ in counts), result


def test_new_pods_are_refused_beyond_the_nodes_that_were_allowed(
    cluster: Cluster, grown: Callable[[int], list[Pod]]
) -> None:
    command = start("run", "deploy/grown", "-a", "--max-nodes", "1", "-e", COUNT)
    command.wait_until_attached()
    grown(2)
    command.wait_for("are not traced: more than --max-nodes 1")
    assert command.interrupt().finish().code == 0
