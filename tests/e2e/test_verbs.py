"""attach, logs, get, stop, delete, version, completion: as a user sees them."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest
import yaml

from kubectl_trace._version import __version__

from .cluster import LABEL
from .command import Command, kubectl, start, trace, wait_until

if TYPE_CHECKING:
    from .cluster import Cluster

FOREVER = 'BEGIN { printf("begin\\n"); @started = 1; } interval:s:1 { printf("tick\\n"); }'
ONCE = 'BEGIN { printf("once\\n"); exit(); }'
MISSING = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def running(cluster: Cluster, node: str) -> str:
    """The ID of a trace that runs in the background."""
    created = trace("run", node, "-e", FOREVER)
    assert created.code == 0, created
    assert created.stdout == f"trace {created.trace_id} created\n", "the ID is a result here"
    cluster.wait_for_phase(created.trace_id, "Running")
    wait_until(lambda: "tick" in trace("logs", created.trace_id).stdout, "the first tick")
    return created.trace_id


def test_attach_shows_all_from_the_first_line_and_ctrl_c_stops_the_trace(
    cluster: Cluster, running: str
) -> None:
    command = start("attach", running).wait_for("tick")
    result = command.interrupt().finish()
    assert result.code == 0, result
    assert result.stdout.startswith("begin\ntick\n")
    assert result.stdout.rstrip().endswith("@started: 1")
    assert cluster.objects(running), "the objects stay"


def test_attach_accepts_a_name_and_returns_when_the_trace_ends(cluster: Cluster, node: str) -> None:
    created = trace("run", node, "-e", ONCE)
    result = trace("attach", f"kubectl-trace-{created.trace_id}")
    assert (result.code, result.stdout) == (0, "once\n"), result


def test_attach_gives_a_failed_traces_exit_code(cluster: Cluster, node: str) -> None:
    created = trace("run", node, "-e", "BEGIN { nonsense }")
    result = trace("attach", created.trace_id)
    assert result.code == 6, result
    assert "nonsense" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_a_detached_trace_outlives_a_killed_attach(
    cluster: Cluster, running: str, number: signal.Signals
) -> None:
    command = start("attach", running).wait_for("tick")
    command.signal(number)
    command.finish()
    ticks = trace("logs", running).stdout.count("tick")
    wait_until(lambda: trace("logs", running).stdout.count("tick") > ticks + 1, "it ticks on")


def test_logs_prints_what_there_is_and_follows_if_asked(cluster: Cluster, running: str) -> None:
    assert trace("logs", running).stdout.startswith("begin\ntick\n")
    followed = start("logs", "-f", running)
    wait_until(lambda: followed.stdout().count("tick") >= 3, "it follows")
    assert trace("stop", running).code == 0
    result = followed.finish()
    assert result.code == 0, result
    assert result.stdout.rstrip().endswith("@started: 1")


def test_ctrl_c_ends_the_reading_of_logs_and_not_the_trace(cluster: Cluster, running: str) -> None:
    followed = start("logs", "-f", running).wait_for("tick").interrupt().finish()
    assert followed.code == 0, followed
    assert "Traceback" not in followed.stderr
    shown = json.loads(trace("get", running, "-o", "json").stdout)
    assert shown["status"]["phase"] == "Running"


def test_logs_with_timestamps_has_a_time_before_each_line(cluster: Cluster, running: str) -> None:
    for line in trace("logs", "--timestamps", running).lines:
        time, _, text = line.partition(" ")
        assert time.endswith("Z")
        assert "T" in time
        assert text in ("begin", "tick")


def test_logs_of_a_refused_program_say_what_bpftrace_said(cluster: Cluster, node: str) -> None:
    created = trace("run", node, "-e", "BEGIN { nonsense }")
    cluster.wait_for_phase(created.trace_id, "Failed")
    result = trace("logs", created.trace_id)
    assert "nonsense" in result.stderr, result
    assert "bpftrace refused the program" in result.stderr


def test_logs_of_a_trace_that_waits_say_for_what(cluster: Cluster, node: str) -> None:
    created = trace("run", node, "-e", ONCE, "--imagename", "localhost:1/missing:1")
    wait_until(lambda: "Pull" in trace("logs", created.trace_id).stderr, "the reason")


def test_get_shows_phase_node_target_tracer_owner_and_age(
    cluster: Cluster, running: str, node: str
) -> None:
    head, row = trace("get").lines
    columns = ["NAMESPACE", "NODE", "NAME", "TARGET", "TRACER", "STATUS", "OWNER", "AGE"]
    assert head.split() == columns
    shown = dict(zip(columns, row.split(), strict=True))
    assert shown["NAMESPACE"] == "default"
    assert shown["NODE"] == node
    assert shown["NAME"] == f"kubectl-trace-{running}"
    assert shown["TARGET"] == f"node/{node}"
    assert shown["TRACER"] == "bpftrace"
    assert shown["STATUS"] == "Running"
    assert shown["OWNER"]
    assert shown["AGE"].endswith("s")


def test_get_has_formats_for_programs(cluster: Cluster, running: str) -> None:
    assert trace("get", "-o", "name").stdout == f"{running}\n"
    from_json = json.loads(trace("get", "-o", "json").stdout)["items"][0]
    from_yaml = yaml.safe_load(trace("get", running, "-o", "yaml").stdout)
    assert from_json == from_yaml
    assert from_json["id"] == running
    assert from_json["status"]["phase"] == "Running"
    assert "POD" in trace("get", "-o", "wide").lines[0]


def test_get_says_why_a_trace_does_not_run(cluster: Cluster, node: str) -> None:
    created = trace("run", node, "-e", ONCE, "--imagename", "localhost:1/missing:1")
    wait_until(lambda: "ImagePullBackOff" in trace("get", created.trace_id).stdout, "the reason")


def test_get_several_and_a_missing_one(cluster: Cluster, running: str) -> None:
    result = trace("get", running, MISSING, "-o", "name")
    assert result.code == 3, result
    assert result.stdout == f"{running}\n"
    assert MISSING in result.stderr


def test_get_without_traces_says_so(cluster: Cluster) -> None:
    result = trace("get")
    assert (result.code, result.stdout) == (0, "")
    assert result.stderr == "No resources found in default namespace.\n"


def test_get_watch_prints_a_line_for_each_change(cluster: Cluster, node: str) -> None:
    watching = start("get", "-w", "-A").wait_for("NAMESPACE")
    command = start("run", node, "-a", "-e", FOREVER)
    watching.wait_for("Running")  # a kubelet that is busy may say so late
    ended = command.interrupt().finish()
    watching.wait_for("Completed")
    trace("delete", ended.trace_id)
    watching.wait_for("Terminating")
    result = watching.interrupt().finish()
    assert "Traceback" not in result.stderr


def test_stop_collects_the_maps_and_keeps_the_objects(cluster: Cluster, running: str) -> None:
    result = trace("stop", running)
    assert (result.code, result.stdout) == (0, f"trace {running} stopped\n"), result
    assert trace("logs", running).stdout.rstrip().endswith("@started: 1")
    assert "Completed" in trace("get", running).stdout
    again = trace("stop", running)
    assert again.code == 0
    assert "has ended already" in again.stdout


def test_stop_of_an_attached_trace_shows_its_maps_to_its_owner(cluster: Cluster, node: str) -> None:
    attached = start("run", node, "-a", "-e", FOREVER).wait_until_attached()
    (name,) = trace("get", "-o", "name").lines
    assert trace("stop", name).code == 0
    result = attached.finish()
    assert result.code == 0, result
    assert "@started: 1" in result.stdout


def test_delete_removes_everything_of_a_trace(cluster: Cluster, running: str) -> None:
    assert len(cluster.objects(running)) == 3, "a Job, a pod and a ConfigMap"
    result = trace("delete", running)
    assert (result.code, result.stdout) == (0, f"trace {running} deleted\n"), result
    cluster.wait_until_gone(running)


def test_delete_of_one_trace_leaves_another_on_the_node_alone(
    cluster: Cluster, running: str, node: str
) -> None:
    other = trace("run", node, "-e", FOREVER).trace_id
    cluster.wait_for_phase(other, "Running")
    trace("delete", other)
    cluster.wait_until_gone(other)
    assert "Running" in trace("get", running).stdout


def test_delete_all_of_all_namespaces(cluster: Cluster, node: str) -> None:
    kubectl("create", "namespace", "elsewhere")
    try:
        here = trace("run", node, "-e", FOREVER).trace_id
        there = trace("run", node, "-e", FOREVER, "-n", "elsewhere").trace_id
        only_here = trace("get", "-o", "name").lines
        assert only_here == [here]
        result = trace("delete", "--all", "-A", "--now")
        assert result.code == 0, result
        assert sorted(result.lines) == sorted(f"trace {name} deleted" for name in (here, there))
        cluster.wait_until_gone(here)
        cluster.wait_until_gone(there)
    finally:
        kubectl("delete", "namespace", "elsewhere", "--wait=false")


def test_delete_goes_on_after_a_missing_trace(cluster: Cluster, running: str) -> None:
    result = trace("delete", MISSING, running)
    assert result.code == 3, result
    assert result.stdout == f"trace {running} deleted\n"


def test_objects_that_nobody_will_take_away_are_found_and_removed(cluster: Cluster) -> None:
    labels = {"iovisor.org/kubectl-trace": "kubectl-trace-x", LABEL: "x"}
    metadata = {"name": "kubectl-trace-x", "namespace": "default", "labels": labels}
    container = {"name": "app", "image": "kubectl-trace-testbed/app:1", "command": ["sleep", "60"]}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    for kind, content in (("ConfigMap", {}), ("Pod", {"spec": spec})):
        applied = cluster.apply({"apiVersion": "v1", "kind": kind, "metadata": metadata, **content})
        assert applied.code == 0, applied
    result = trace("delete", "--orphans", "-A")
    assert result.code == 0, result
    for kind in ("configmap", "pod"):
        said = f"{kind}/kubectl-trace-x in namespace default: its Job is gone; deleted"
        assert said in result.stdout
    cluster.wait_until_gone("x")


@pytest.mark.parametrize(
    "words", [["delete"], ["delete", "x", "--all"], ["delete", "-A", "x"], ["stop"], ["unknown"]]
)
def test_verbs_refuse_what_means_nothing(words: list[str]) -> None:
    result = trace(*words)
    assert result.code == 2, result
    assert result.stdout == ""


def test_a_mistyped_verb_is_guessed() -> None:
    result = trace("atach", MISSING)
    assert result.code == 2, result
    assert "did you mean attach?" in result.stderr


@pytest.mark.parametrize("verb", ["attach", "logs", "stop", "delete", "get"])
def test_a_missing_trace_is_named(cluster: Cluster, verb: str) -> None:
    result = trace(verb, MISSING)
    assert (result.code, result.stdout) == (3, ""), result
    assert MISSING in result.stderr


def test_version_says_client_image_and_server(cluster: Cluster, runner_image: str) -> None:
    versions = json.loads(trace("version", "-o", "json").stdout)
    assert versions["client"] == f"v{__version__}"
    assert versions["image"] == runner_image
    assert versions["server"].startswith("v1.")
    assert trace("--version").stdout.startswith("client: ")


def test_completion_knows_pods_containers_nodes_and_traces(
    cluster: Cluster, running: str, node: str
) -> None:
    def candidates(*words: str) -> list[str]:
        lines = Command("kubectl_complete-trace", *words).finish().lines
        assert lines[-1].startswith(":")
        return [line.partition("\t")[0] for line in lines[:-1]]

    assert candidates("de") == ["delete"]
    assert "pod/multi" in candidates("run", "pod/mu")
    assert candidates("run", f"node/{node}"[:-1])
    assert candidates("run", "deploy/ng") == ["deploy/nginx"]
    assert set(candidates("run", "pod/multi", "")) >= {"app", "sidecar"}
    assert candidates("run", "pod/multi", "-c", "side") == ["sidecar"]
    assert candidates("auth", "") == ["can-i"]
    assert candidates("auth", "can-i", "deploy/ng") == ["deploy/nginx"]
    assert candidates("auth", "can-i", "pod/multi", "-c", "side") == ["sidecar"]
    assert candidates("logs", "") == [running]
    assert "--deadline" in candidates("run", "--dead")
    assert candidates("get", "-o", "w") == ["wide"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str) -> None:
    result = trace("completion", shell)
    assert result.code == 0
    assert "kubectl_complete-trace" in result.stdout


def test_bash_completes_with_the_script(cluster: Cluster) -> None:
    script = (
        "source <(kubectl-trace completion bash); COMP_WORDS=(kubectl-trace run pod/mul); "
        'COMP_CWORD=2; _kubectl_trace; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    result = Command("bash", "-c", script).finish()
    assert result.lines == ["pod/multi", "pod/multi-default"], result
