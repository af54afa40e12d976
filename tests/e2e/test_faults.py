"""What goes wrong around a trace: what the user sees then, and that nothing is left of it.

Each names the row that it tries of the table in docs/reliability.md, which says how long it may
take until nothing runs any more.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from .cluster import LABEL
from .command import Command, kubectl, start, trace, wait_until
from .conftest import OWN
from .leftovers import folders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .cluster import Cluster, Pod
    from .command import Result
    from .leftovers import Aftermath

pytestmark = pytest.mark.skipif(
    bool(os.environ.get(OWN)), reason="the control plane and the nodes must be the testbed's"
)
reliability = pytest.mark.reliability

NUMBERS = 'interval:ms:20 { printf("%d\\n", @n); @n++; } END { clear(@n); }'
TICKS = "interval:ms:20 { @ticks = count(); }"
ACCEPTED = "uprobe:/usr/sbin/nginx:ngx_event_accept { @requests = count(); }"


class Fault(Protocol):
    def __call__(self, action: str, name: str) -> None: ...


@pytest.fixture
def fault(cluster: Cluster) -> Iterator[Fault]:
    """Does something to a part of the cluster; what was not made good is, after the test."""
    undo = {"stop": "start", "pause": "resume", "cut": "join", "crash": ""}
    open_: list[tuple[str, str]] = []

    def testbed(action: str, name: str) -> None:
        done = Command(sys.executable, "-m", "testbed", action, name).finish()
        assert done.code == 0, done

    def do(action: str, name: str) -> None:
        if undo.get(action):
            open_.append((undo[action], name))
        testbed(action, name)
        if (action, name) in open_:
            open_.remove((action, name))

    yield do
    for action, name in open_:
        testbed(action, name)
    done = kubectl("wait", "--for=condition=ready", "nodes", "--all", "--timeout=90s")
    assert done.code == 0, done


def numbers(result: Result) -> list[int]:
    return [int(line) for line in result.lines]


def wait_for_lines(command: Command, more: int) -> None:
    """Waits until so many more lines have come."""
    had = command.stdout().count("\n")
    wait_until(lambda: command.stdout().count("\n") >= had + more, f"{more} more lines")


def pod_of(cluster: Cluster, trace_id: str) -> dict[str, str]:
    """The name and the namespace of a trace's only pod."""
    (pod,) = cluster.get("pods", "-A", "-l", f"{LABEL}={trace_id}")["items"]
    return {key: pod["metadata"][key] for key in ("name", "namespace")}


def id_of(command: Command) -> str:
    command.wait_for(" created\n")
    return command.stderr().partition("trace ")[2].partition(" created")[0]


def runner_of(trace_id: str) -> int:
    """The PID of a trace's runner, which has the trace's ID in its cgroup's pod: by its files."""
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            command = Path(f"/proc/{entry}/cmdline").read_bytes()
            if b"kubectl_trace.runner" not in command or b"/trace/trace.json" not in command:
                continue
            described = Path(f"/proc/{entry}/root/trace/trace.json").read_text()
        except OSError:
            continue
        if json.loads(described)["id"] == trace_id:
            return int(entry)
    raise AssertionError(f"no runner of {trace_id}")


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def container_of(cluster: Cluster, pod: Pod) -> str:
    """The ID of a pod's first container, while it runs."""
    first = cluster.get("pod", pod.name)["status"]["containerStatuses"][0]
    return str(first["containerID"]) if "running" in first["state"] else ""


@pytest.mark.parametrize(
    "component",
    [
        pytest.param(
            "kube-apiserver", marks=reliability("API server restarted, for less than a minute")
        ),
        pytest.param("{node}-kubelet", marks=reliability("kubelet restarted")),
        pytest.param("{node}-containerd", marks=reliability("containerd restarted")),
    ],
)
def test_a_restart_of_the_clusters_parts_loses_and_repeats_nothing(
    cluster: Cluster, node: str, fault: Fault, component: str
) -> None:
    name = component.format(node=node)
    command = start("run", node, "-a", "-e", NUMBERS).wait_until_attached()
    wait_for_lines(command, 20)
    fault("stop", name)
    fault("start", name)
    wait_for_lines(command, 50)
    result = command.interrupt().finish()
    assert result.code == 0, result.stderr
    assert numbers(result) == list(range(len(result.lines)))
    assert "transport" not in result.stderr.splitlines()[-1]


@reliability("etcd slow")
def test_a_slow_etcd_delays_a_trace_and_nothing_else(
    cluster: Cluster, node: str, fault: Fault
) -> None:
    fault("pause", "etcd")
    command = start("run", node, "-a", "-e", NUMBERS)
    time.sleep(3)  # etcd is as slow as this
    assert command.stdout() == ""
    fault("resume", "etcd")
    wait_for_lines(command.wait_until_attached(), 20)
    fault("pause", "etcd")
    wait_for_lines(command, 100)
    fault("resume", "etcd")
    result = command.interrupt().finish()
    assert result.code == 0, result.stderr
    assert numbers(result) == list(range(len(result.lines)))


@reliability(
    "kill -9 of the client and of all that it started",
    "a closed laptop, a lost connection, Ctrl-Z",
    "a node cut off",
)
def test_a_client_that_is_not_heard_of_for_a_minute_is_gone_and_its_answer_stays(
    cluster: Cluster, fault: Fault, aftermath: Aftermath
) -> None:
    """A node that is cut off, a closed laptop, a client killed with all that it has started."""
    cut_off, asleep, killed = commands = [
        start("run", node, "-a", "-e", TICKS).wait_until_attached()
        for node in ("node-b", "node-a", "node-a")
    ]
    ids = [id_of(each) for each in commands]
    programs = [child_of(runner_of(trace_id)) for trace_id in ids]
    sockets = folders()
    with aftermath.in_time():
        for pid in _stopped_with(killed.pid):
            os.kill(pid, signal.SIGKILL)
        killed.finish()
        fault("cut", "node-b")
        silenced = _stopped_with(asleep.pid)  # kubectl, too: nothing speaks any more
        try:
            began = time.monotonic()
            wait_until(lambda: not all(map(runs, programs)), "the first ends")
            assert time.monotonic() - began > 30, "short breaks are survived"
            wait_until(lambda: not any(map(runs, programs)), "all of them end")
            cut_off.wait_for("the node does not answer")
        finally:
            fault("join", "node-b")
            for pid in silenced:
                os.kill(pid, signal.SIGCONT)
        ends = [cut_off.finish(), asleep.finish()]
    assert [result.code for result in ends] == [1, 1]
    for result in (*ends, trace("logs", ids[2])):
        assert "the client was not heard of for 60 s" in result.stderr
        assert "@ticks: " in result.stdout
    # Nobody was left to remove the killed one's socket.
    (left,) = folders() & sockets
    assert f"{left} deleted" in trace("delete", "--orphans").stdout
    assert left not in folders()


def _stopped_with(pid: int) -> list[int]:
    """Stops all that a client has started; the processes that were stopped, with the client."""
    stopped, todo = [], [pid]
    while todo:
        each = todo.pop()
        os.kill(each, signal.SIGSTOP)
        stopped.append(each)
        for task in Path(f"/proc/{each}/task").iterdir():
            todo += [int(child) for child in (task / "children").read_text().split()]
    return stopped


@reliability("killed")
def test_a_killed_runner_takes_its_program_with_it_and_is_told(
    cluster: Cluster, nginx: Pod, aftermath: Aftermath
) -> None:
    command = start("run", f"pod/{nginx.name}", "-a", "-e", ACCEPTED).wait_until_attached()
    runner = runner_of(id_of(command))
    bpftrace = child_of(runner)
    with aftermath.in_time():
        os.kill(runner, signal.SIGKILL)
        result = command.finish()
    assert result.code == 1, result
    assert "ended without a summary" in result.stderr
    # What the kernel keeps of its uprobe does nothing; the next trace on the node removes it.
    assert f"_bcc_{bpftrace} " in Path("/sys/kernel/tracing/uprobe_events").read_text()
    assert trace("run", nginx.node, "-a", "-e", "BEGIN { exit(); }").code == 0


@reliability("bpftrace killed")
def test_a_killed_bpftrace_is_told(cluster: Cluster, node: str, aftermath: Aftermath) -> None:
    command = start("run", node, "-a", "-e", NUMBERS).wait_until_attached()
    with aftermath.in_time():
        os.kill(child_of(runner_of(id_of(command))), signal.SIGKILL)
        result = command.finish()
    assert result.code == 1, result
    assert "bpftrace ended with SIGKILL" in result.stderr


@reliability("evicted, drained, deleted by others")
def test_an_evicted_runner_gives_its_maps_and_says_that_it_was_told_to_end(
    cluster: Cluster, node: str, aftermath: Aftermath
) -> None:
    command = start("run", node, "-a", "-e", TICKS).wait_until_attached()
    pod = pod_of(cluster, id_of(command))
    eviction = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": pod}
    path = f"/api/v1/namespaces/{pod['namespace']}/pods/{pod['name']}/eviction"
    with aftermath.in_time():
        done = Command("kubectl", "create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
        assert done.finish().code == 0
        result = command.finish()
    assert result.code == 1, result
    assert "the runner was told to end (its pod was deleted or evicted)" in result.stderr
    assert "@ticks: " in result.stdout


@reliability("the traces' namespace deleted")
def test_a_namespace_that_is_deleted_takes_its_traces_with_it(
    cluster: Cluster, node: str, aftermath: Aftermath
) -> None:
    kubectl("create", "namespace", "doomed")
    wait_until(
        lambda: kubectl("get", "serviceaccount", "default", "-n", "doomed").code == 0,
        "the namespace's service account",
    )
    command = start("run", node, "-n", "doomed", "-a", "-e", TICKS).wait_until_attached()
    with aftermath.in_time():
        deleted = Command("kubectl", "delete", "namespace", "doomed")
        result = command.finish()
    assert result.code == 1, result
    assert "@ticks: " in result.stdout
    assert deleted.finish().code == 0


@reliability("its disk full")
def test_a_full_disk_loses_lines_and_they_are_counted(cluster: Cluster) -> None:
    place = ("-m", "testbed", "enter", "node-b")
    logs = "/var/log/pods"
    mounted = Command(
        *(sys.executable, *place, "mount", "-t", "tmpfs", "-o", "size=64k", "none", logs)
    ).finish()
    assert mounted.code == 0, mounted
    try:
        program = 'interval:ms:1 { printf("%0100d\\n", @n); @n++; if (@n >= 3000) { exit(); } }'
        result = trace("run", "node-b", "-a", "-o", "json", "-e", program)
    finally:
        Command(sys.executable, *place, "umount", "--lazy", logs).finish()
    account = json.loads(result.lines[-1])["data"]
    assert account["lost"]["transport"] > 0, result
    # 3,000 lines, and the map at the end.
    assert account["delivered"] + account["lost"]["transport"] == 3001
    assert "the node could not write its log to the end" in result.stderr


@reliability("its clock steps")
def test_a_clock_that_steps_changes_no_deadline_and_loses_nothing(tmp_path: Path) -> None:
    """The wall clock of client, runner and bpftrace; the kernel's own can't be set here."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    env = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    words = ("run", "local", "--deadline", "15s", "-o", "json", "-e", NUMBERS)
    command = Command("kubectl-trace", *words, env=env).wait_for('"ready"')
    began = time.monotonic()
    for step in ("+2h", "-1d", "+0"):
        wait_for_lines(command, 20)
        clock.write_text(step)
    wait_for_lines(command, 20)
    result = command.finish()
    assert 10 < time.monotonic() - began < 30
    assert result.code == 0, result
    records = [json.loads(line) for line in result.lines]
    printed = [record for record in records if record["type"] == "printf"]
    assert [int(record["data"]) for record in printed] == list(range(len(printed)))
    days = {record["time"][:10] for record in printed}
    assert len(days) > 1, "the clock has stepped"


@reliability("two users on one pod")
def test_two_users_who_trace_one_pod_do_not_meet(cluster: Cluster, nginx: Pod) -> None:
    first, second = (
        start("run", f"pod/{nginx.name}", "-a", "-e", ACCEPTED).wait_until_attached()
        for _ in range(2)
    )
    cluster.request(nginx, 10)
    assert "@requests: 10" in first.interrupt().finish().stdout
    cluster.request(nginx, 5)
    assert "@requests: 15" in second.interrupt().finish().stdout


@reliability("20 traces at once")
def test_twenty_traces_at_once_on_a_node_all_answer(cluster: Cluster, nginx: Pod) -> None:
    def create(_: int) -> str:
        return trace("run", f"pod/{nginx.name}", "-e", ACCEPTED).trace_id

    def is_attached(trace_id: str) -> bool:
        return '"type":"ready"' in kubectl("logs", "-l", f"{LABEL}={trace_id}", "--tail=-1").stdout

    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(create, range(20)))
        for trace_id in ids:
            wait_until(lambda: is_attached(trace_id), f"{trace_id} is attached")  # noqa: B023
        cluster.request(nginx, 7)
        assert trace("stop", *ids).code == 0
        answers = list(pool.map(lambda trace_id: trace("logs", trace_id).stdout, ids))
    assert answers == ["@requests: 7\n"] * 20


@reliability("Ctrl-C at any moment")
@pytest.mark.parametrize("moments", [[0.1, 0.3, 0.5, 0.7], [0.9, 1.2, 1.5, 2.0]])
def test_ctrl_c_at_any_moment_ends_everything(
    cluster: Cluster, node: str, aftermath: Aftermath, moments: list[float]
) -> None:
    """Before the connection, before and after the objects, while it waits, attaches and runs."""

    def run(moment: float) -> Result:
        command = start("run", node, "-a", "-e", TICKS)
        time.sleep(moment)
        began = time.monotonic()
        result = command.interrupt().finish()
        assert time.monotonic() - began < aftermath.seconds, result
        return result

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(run, moments))
    aftermath.ends()
    for result in results:
        assert result.code in (0, 5, 130), result
        assert "Traceback" not in result.stderr
        if result.code == 5:
            assert "given up before the trace started" in result.stderr
        elif result.code == 0 and "before its probes were attached" not in result.stderr:
            assert "@ticks: " in result.stdout
        if "created" in result.stderr and result.code != 0:
            cluster.wait_until_gone(result.trace_id)


@reliability("a node that crashes")
def test_a_node_that_crashes_takes_its_runners_with_it_and_the_client_is_told(
    cluster: Cluster, fault: Fault, aftermath: Aftermath
) -> None:
    """The last one: all containers of the node begin anew."""
    command = start("run", "node-b", "-a", "-e", TICKS).wait_until_attached()
    runner = runner_of(id_of(command))
    pids = [runner, child_of(runner)]
    pod = next(pod for pod in cluster.pods("app=nginx") if pod.node == "node-b")
    before = container_of(cluster, pod)
    fault("crash", "node-b")
    wait_until(lambda: not any(map(runs, pids)), "nothing runs", aftermath.seconds)
    fault("start", "node-b-containerd")
    fault("start", "node-b-kubelet")
    result = command.finish()
    assert result.code == 1, result
    # bpftrace may be the first to go, and the runner still say so.
    assert re.search("ended without a summary|ended with SIGKILL", result.stderr), result
    # The states from before the crash are there until the kubelet looks.
    wait_until(lambda: container_of(cluster, pod) not in ("", before), "nginx runs anew")
    cluster.wait_until_ready()
    (nginx,) = (each for each in cluster.pods("app=nginx") if each.name == pod.name)
    again = start("run", f"pod/{nginx.name}", "-a", "-e", ACCEPTED).wait_until_attached()
    cluster.request(nginx, 3)
    assert again.interrupt().finish().stdout == "@requests: 3\n"
