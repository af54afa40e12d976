"""`run`: targets, containers, programs, what goes wrong and with which exit code."""

from __future__ import annotations

import functools
import http.server
import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from kubectl_trace.kube import job as jobs

from .command import Command, Result, environment, kubectl, start, trace, wait_until
from .leftovers import folders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .cluster import Cluster, Pod
    from .leftovers import Aftermath

ONCE = 'BEGIN { printf("once\\n"); exit(); }'
FOREVER = 'BEGIN { printf("begin\\n"); @started = 1; } interval:s:1 { @ticks = count(); }'
PID_AND_PARAMETER = 'BEGIN { printf("%s\\n", str($1)); @[$container_pid] = 1; exit(); }'


def pids_of(cluster: Cluster, pod: str, container: str) -> list[int]:
    """The node's PIDs of a container, first started first, told by the cgroups of this machine."""
    statuses = cluster.get("pod", pod)["status"]["containerStatuses"]
    (wanted,) = (s["containerID"].split("//")[1] for s in statuses if s["name"] == container)
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "cgroup").read_text():
                # PIDs start anew at the largest: only the start time tells which was first.
                start_time = int((folder / "stat").read_text().rpartition(")")[2].split()[19])
                found.append((start_time, int(folder.name)))
        except OSError:
            continue
    if not found:
        pytest.skip("the nodes are other machines: their processes are not to be seen here")
    return [pid for _, pid in sorted(found)]


# Programs and their surroundings.


def test_a_program_from_standard_input_runs(cluster: Cluster, node: str) -> None:
    result = trace("run", node, "-a", "-f", "-", stdin=ONCE)
    assert (result.code, result.stdout) == (0, "once\n"), result


def test_a_program_from_a_url_runs(cluster: Cluster, node: str, tmp_path: Path) -> None:
    (tmp_path / "once.bt").write_text(ONCE)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        result = trace("run", node, "-a", "-f", f"{url}/once.bt")
        missing = trace("run", node, "-a", "-f", f"{url}/twice.bt")
        server.shutdown()
    assert (result.code, result.stdout) == (0, "once\n"), result
    assert missing.code == 2, missing
    assert "File not found" in missing.stderr


def test_positional_parameters_and_bpftraces_options_come_after_two_dashes(
    cluster: Cluster, node: str
) -> None:
    program = 'BEGIN { printf("%d %s\\n", $1, str($2)); exit(); }'
    result = trace("run", node, "-a", "-e", program, "--", "-k", "42", "with space; $(id)")
    assert (result.code, result.stdout) == (0, "42 with space; $(id)\n"), result


def test_args_are_positional_parameters(cluster: Cluster, node: str) -> None:
    result = trace("run", node, "-a", "-e", 'BEGIN { printf("%d\\n", $1); exit(); }', "--args", "7")
    assert (result.code, result.stdout) == (0, "7\n"), result


def test_system_needs_unsafe(cluster: Cluster, node: str) -> None:
    program = 'BEGIN { system("echo %d", 42); exit(); }'
    refused = trace("run", node, "-a", "-e", program)
    assert refused.code == 6, refused
    assert "unsafe" in refused.stderr
    allowed = trace("run", node, "-a", "--unsafe", "-e", program)
    assert (allowed.code, allowed.stdout.strip()) == (0, "42"), allowed


def test_the_environment_is_bpftraces(cluster: Cluster, node: str) -> None:
    program = 'BEGIN { printf("%s\\n", str($1)); exit(); }'
    words = ("--env", "BPFTRACE_STRLEN=8")
    result = trace("run", node, "-a", *words, "-e", program, "--", "0123456789")
    assert result.code == 0, result
    assert result.stdout.startswith("0123456"), result
    assert "9" not in result.stdout, "by its old name, too, and with a bpftrace that knows the new"


def test_json_is_one_object_a_line(cluster: Cluster, node: str) -> None:
    result = trace("run", node, "-a", "-o", "json", "-e", ONCE.replace("exit", "@a = 1; exit"))
    records = [json.loads(line) for line in result.lines]
    assert next(record["type"] for record in records) == "start"
    summary, account = records[-2:]
    assert (summary["type"], summary["data"]["exit"]) == ("summary", 0)
    assert (account["type"], account["data"]["exit"]) == ("account", 0)
    assert {record["node"] for record in records[:-1]} == {node}
    by_type = {record["type"]: record["data"] for record in records}
    assert by_type["printf"] == "once\n"
    assert by_type["map"] == {"@a": 1}
    assert by_type["start"]["bpftrace"].startswith("0.")


def test_untrusted_output_is_escaped_on_a_terminal(cluster: Cluster, node: str) -> None:
    program = 'BEGIN { printf("%s\\n", str($1)); exit(); }'
    words = ["run", node, "-a", "-e", program, "--", "\x1b]0;owned\x07"]
    script = f"kubectl-trace {' '.join(map(_quoted, words))}"
    shown = Command("script", "-qec", script, "/dev/null").finish()
    assert shown.code == 0, shown
    assert "\\x1b]0;owned\\x07" in shown.stdout
    assert "\x1b]" not in shown.stdout


def _quoted(word: str) -> str:
    import shlex

    return shlex.quote(word)


# Targets and containers.


def test_container_pid_is_the_first_process_of_the_container(cluster: Cluster) -> None:
    for words, container in (
        (("pod/multi",), "app"),
        (("pod/multi", "sidecar"), "sidecar"),
        (("pod/multi", "-c", "sidecar"), "sidecar"),
        (("po/multi-default",), "sidecar"),
    ):
        result = trace("run", *words, "-a", "-e", PID_AND_PARAMETER, "--", "x")
        assert result.code == 0, result
        pid = int(result.stdout.split("@[")[1].split("]")[0])
        pods = words[0].split("/")[1]
        assert pid == pids_of(cluster, pods, container)[0], (words, result)


SLEEP = {
    "image": "kubectl-trace-testbed/app:1",
    "imagePullPolicy": "IfNotPresent",
    "command": ["sleep", "600"],
}


@pytest.fixture
def sleeper(cluster: Cluster) -> Iterator[str]:
    """A pod whose init container does not end."""
    first, then = {"name": "first", **SLEEP}, {"name": "then", **SLEEP}
    yield from _pod(cluster, {"initContainers": [first], "containers": [then]})


@pytest.fixture
def debugged(cluster: Cluster) -> Iterator[str]:
    """A pod with an ephemeral container."""
    for name in _pod(cluster, {"containers": [{"name": "app", **SLEEP}]}):
        debugger = {"name": "debugger", "terminationMessagePolicy": "File", **SLEEP}
        body = {
            "apiVersion": "v1",
            "kind": "EphemeralContainers",
            "metadata": {"name": name},
            "ephemeralContainers": [debugger],
        }
        path = f"/api/v1/namespaces/default/pods/{name}/ephemeralcontainers"
        added = Command("kubectl", "replace", "--raw", path, "-f", "-", stdin=json.dumps(body))
        if added.finish().code != 0:
            pytest.skip("a cluster of another age: it takes ephemeral containers in another way")
        yield name


def _pod(cluster: Cluster, spec: dict[str, Any]) -> Iterator[str]:
    name = "staged"
    grace = {"terminationGracePeriodSeconds": 0}
    metadata = {"name": name, "namespace": "default"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, **grace}}
    cluster.apply(pod)
    yield name
    kubectl("delete", "pod", name, "--now")


def _runs(cluster: Cluster, pod: str, field: str) -> bool:
    statuses = cluster.get("pod", pod)["status"].get(field) or []
    return any("running" in status["state"] for status in statuses)


def test_an_init_container_that_runs_can_be_traced(cluster: Cluster, sleeper: str) -> None:
    wait_until(lambda: _runs(cluster, sleeper, "initContainerStatuses"), "the init container")
    words = ("-a", "-e", PID_AND_PARAMETER, "--", "x")
    result = trace("run", f"pod/{sleeper}", "-c", "first", *words)
    assert result.code == 0, result
    waiting = trace("run", f"pod/{sleeper}", "-c", "then", *words)
    assert waiting.code == 3, waiting
    assert "PodInitializing" in waiting.stderr


def test_an_ephemeral_container_can_be_traced(cluster: Cluster, debugged: str) -> None:
    wait_until(lambda: _runs(cluster, debugged, "ephemeralContainerStatuses"), "the debugger")
    words = ("-a", "-e", PID_AND_PARAMETER, "--", "x")
    result = trace("run", f"pod/{debugged}", "-c", "debugger", *words)
    assert result.code == 0, result


def test_the_choice_among_several_containers_is_told(cluster: Cluster) -> None:
    result = trace("run", "pod/multi", "-a", "-e", ONCE)
    assert "tracing container app; the pod also has sidecar" in result.stderr


def test_a_process_selector_chooses_among_the_containers_processes(
    cluster: Cluster, nginx: Pod
) -> None:
    pids = pids_of(cluster, nginx.name, "nginx")
    words = ("run", f"pod/{nginx.name}", "-a", "-e", PID_AND_PARAMETER)
    last = trace(*words, "--process-selector", "pid=last", "--", "x")
    assert f"@[{pids[-1]}]: 1" in last.stdout, last
    worker = trace(*words, "--process-selector", "cmdline=worker process,comm=nginx", "--", "x")
    assert f"@[{pids[-1]}]: 1" in worker.stdout, worker
    none = trace(*words, "--process-selector", "comm=apache", "--", "x")
    assert none.code == 3, none
    assert "nginx" in none.stderr


def test_a_target_in_another_namespace_is_traced_from_ours(cluster: Cluster) -> None:
    kubectl("create", "namespace", "tracers")
    try:
        words = ("pod/multi", "-n", "tracers", "--target-namespace", "default")
        result = trace("run", *words, "-a", "-e", ONCE)
        assert (result.code, result.stdout) == (0, "once\n"), result
        found = trace("get", "-n", "tracers", "-o", "name")
        assert found.stdout.strip() == result.trace_id
    finally:
        trace("delete", "--all", "-n", "tracers", "--now")
        kubectl("delete", "namespace", "tracers", "--wait=false")


# What can't be run.


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pod/nginx"], "a program is needed"),
        (["pod/nginx", "-e", ""], "the program is empty"),
        (["pod/nginx", "-e", ONCE, "-f", "x.bt"], "give the program once"),
        (["pod/nginx", "-f", "missing.bt"], "missing.bt: No such file or directory"),
        (["cj/nginx", "-e", ONCE], "unknown type 'cj'"),
        (["pod/multi", "app", "-c", "app", "-e", ONCE], "not both"),
        (["node/a", "-c", "app", "-e", ONCE], "has no containers"),
        (["node/a", "-e", PID_AND_PARAMETER], "$container_pid has no meaning"),
        (["pod/a", "-e", "uprobe:/proc//exe:f {}"], "single quotes"),
        (["pod/a", "-e", ONCE, "--tracer", "bcc"], "unknown tracer"),
        (["pod/a", "-e", ONCE, "--patch", "x.yaml"], "go together"),
        (["pod/a", "-e", ONCE, "--deadline", "soon"], "duration"),
        (["pod/a", "-e", ONCE, "--process-selector", "user=root"], "process selector"),
        (["pod/a", "-e", ONCE, "--", "-ofile"], "has no place here"),
        (["pod/a", "-e", ONCE, "-o", "xml"], "invalid choice: 'xml'"),
        (["pod/ñ", "-e", ONCE], "names no pod"),
        (["pod/a", "-e", ONCE, "-n", "A/b"], "no name of a namespace"),
        (["local", "-e", ONCE, "--process-selector", "comm=x"], "has none"),
        (["local", "-e", ONCE, "--fetch-headers"], "means nothing"),
        (["pod/a", "-e", ONCE, "--no-such-flag"], "--no-such-flag"),
        (["pod/a", "-e", ONCE, "--", "-o", "file"], "has no place here"),
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_is_asked(
    words: list[str], said: str
) -> None:
    result = Command("kubectl-trace", "run", *words, env={"KUBECONFIG": "/dev/null"}).finish()
    assert result.code == 2, result
    assert said in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pod/missing"], 'pods "missing" not found'),
        (["node/missing"], 'nodes "missing" not found'),
        (["missing"], "a pod is named pod/missing"),
        (["deploy/missing"], 'deployments.apps "missing" not found'),
        (["pod/multi", "-c", "wrong"], "it has app, sidecar, prepare"),
        (["pod/multi", "-c", "prepare"], "does not run: Completed"),
    ],
)
def test_an_unknown_target_is_named(cluster: Cluster, words: list[str], said: str) -> None:
    result = trace("run", *words, "-a", "-e", ONCE)
    assert result.code == 3, result
    assert said in result.stderr
    assert not cluster.get("jobs")["items"]


def test_a_user_without_rights_is_told_which_one_is_missing(cluster: Cluster, node: str) -> None:
    for words in (["pod/multi"], [node]):
        result = trace("run", *words, "-a", "-e", ONCE, "--as", "nobody")
        assert result.code == 4, result
        assert 'User "nobody" cannot' in result.stderr


@pytest.fixture
def creator(cluster: Cluster) -> Iterator[str]:
    """A user who may create traces, but not attach to them."""
    rules = [
        {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "delete", "list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["delete"]},
    ]
    metadata = {"name": "creator", "namespace": "default"}
    rbac = "rbac.authorization.k8s.io"
    role: dict[str, Any] = {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata}
    cluster.apply({**role, "rules": rules})
    cluster.apply(
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "creator"},
            "subjects": [{"apiGroup": rbac, "kind": "User", "name": "creator"}],
        }
    )
    yield "creator"
    kubectl("delete", "role,rolebinding", "creator")


def test_a_user_who_may_not_attach_is_told_the_rule_that_is_missing(
    cluster: Cluster, creator: str
) -> None:
    result = trace("run", "pod/multi", "-a", "-e", FOREVER, "--as", creator)
    assert result.code == 4, result
    assert "pods/attach" in result.stderr
    cluster.wait_until_gone(result.trace_id)


def test_a_program_with_a_syntax_error_is_refused_with_bpftraces_words(
    cluster: Cluster, node: str, tmp_path: Path
) -> None:
    file = tmp_path / "wrong.bt"
    file.write_text("BEGIN\n{\n  printf(+);\n}\n")
    result = trace("run", node, "-a", "-f", str(file))
    assert result.code == 6, result
    assert "wrong.bt:3:3-11: ERROR: syntax error, unexpected +" in result.stderr
    assert result.stdout == ""


def test_a_probe_that_does_not_exist_is_refused(cluster: Cluster, nginx: Pod) -> None:
    program = "uprobe:/proc/$container_pid/exe:ngx_event_acept { exit(); }"
    result = trace("run", f"pod/{nginx.name}", "-a", "-e", program)
    assert result.code == 6, result
    assert "has no function ngx_event_acept; did you mean ngx_event_accept" in result.stderr


def test_an_image_that_can_not_be_pulled_is_told_at_once(cluster: Cluster, node: str) -> None:
    result = trace("run", node, "-a", "-e", ONCE, "--imagename", "localhost:1/missing:1")
    assert result.code == 5, result
    assert "ErrImagePull" in result.stderr
    assert "localhost:1/missing:1" in result.stderr
    cluster.wait_until_gone(result.trace_id)


def test_an_image_that_may_not_be_pulled_is_told_at_once(cluster: Cluster, node: str) -> None:
    words = ("--imagename", "missing:1", "--image-pull-policy", "Never")
    result = trace("run", node, "-a", "-e", ONCE, *words)
    assert result.code == 5, result
    assert "ErrImageNeverPull" in result.stderr


def test_a_pod_that_does_not_fit_on_its_node_is_told(
    cluster: Cluster, node: str, tmp_path: Path
) -> None:
    patch = tmp_path / "patch.yaml"
    container = {
        "name": "kubectl-trace",
        "resources": {"requests": {"cpu": "500"}, "limits": {"cpu": "500"}},
    }
    patch.write_text(yaml.safe_dump({"spec": {"template": {"spec": {"containers": [container]}}}}))
    words = ("--patch", str(patch), "--patch-type", "strategic", "--timeout", "3s")
    result = trace("run", node, "-a", "-e", ONCE, *words)
    assert result.code == 5, result
    assert "Insufficient cpu" in result.stderr
    cluster.wait_until_gone(result.trace_id)


def test_a_quota_is_told(cluster: Cluster, node: str) -> None:
    kubectl("create", "namespace", "narrow")
    kubectl("create", "quota", "none", "--hard=pods=0", "-n", "narrow")
    try:
        result = trace("run", node, "-a", "-e", ONCE, "-n", "narrow")
        assert result.code == 5, result
        assert "exceeded quota" in result.stderr
    finally:
        kubectl("delete", "namespace", "narrow", "--wait=false")


@pytest.mark.parametrize(("group", "resource"), [("batch", "jobs"), ("", "pods")])
def test_an_admission_webhook_that_refuses_is_told(
    cluster: Cluster, node: str, group: str, resource: str
) -> None:
    namespace = f"guarded-{resource}"
    kubectl("create", "namespace", namespace)
    kubectl("label", "namespace", namespace, "guarded=yes")
    rule = {"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"]}
    webhook = {
        "name": "nobody.answers.example",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "namespaceSelector": {"matchLabels": {"guarded": "yes"}},
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [{**rule, "resources": [resource]}],
    }
    kind = "ValidatingWebhookConfiguration"
    manifest = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind}
    cluster.apply({**manifest, "metadata": {"name": "guard"}, "webhooks": [webhook]})
    try:
        result = trace("run", node, "-a", "-e", ONCE, "-n", namespace)
        assert result.code == 5, result
        assert "failed calling webhook" in result.stderr
    finally:
        kubectl("delete", kind, "guard")
        kubectl("delete", "namespace", namespace, "--wait=false")


def test_a_missing_service_account_is_told(cluster: Cluster, node: str) -> None:
    result = trace("run", node, "-a", "-e", ONCE, "--serviceaccount", "missing")
    assert result.code == 5, result
    assert "serviceaccount" in result.stderr


def test_a_runner_of_another_version_is_told(cluster: Cluster, node: str, tmp_path: Path) -> None:
    # The runner reads what a client of another protocol would have written.
    shown = trace("run", node, "-e", ONCE, "--dry-run=client", "-o", "json")
    job, config_map = json.loads(shown.stdout)["items"]
    description = json.loads(config_map["data"]["trace.json"])
    description |= {"protocol": 999, "client_version": "9.9.9"}
    config_map["data"]["trace.json"] = json.dumps(description)
    cluster.apply(job)
    config_map = jobs.owned(config_map, cluster.get("job", job["metadata"]["name"]))
    cluster.apply(config_map)
    result = trace("attach", job["metadata"]["name"])
    assert result.code == 5, result
    assert "version mismatch: the client is 9.9.9" in result.stderr


def test_an_api_server_that_is_away_is_an_error(tmp_path: Path) -> None:
    result = trace("get", "--server", "http://127.0.0.1:1")
    assert result.code == 1, result
    assert "127.0.0.1:1" in result.stderr


def test_a_wrong_context_is_told_in_kubectls_words(cluster: Cluster) -> None:
    result = trace("get", "--context", "nowhere")
    assert result.code == 1, result
    assert 'context "nowhere" does not exist' in result.stderr


def test_without_kubectl_the_need_for_it_is_told(tmp_path: Path) -> None:
    result = Command(
        f"{environment()['PATH'].split(':')[0]}/kubectl-trace", "get", env={"PATH": "/"}
    )
    finished = result.finish()
    assert finished.code == 1
    assert "kubectl is not on PATH" in finished.stderr


# The objects.


def test_a_dry_run_creates_nothing_and_prints_what_it_would(cluster: Cluster, node: str) -> None:
    result = trace("run", node, "-e", ONCE, "--dry-run=client", "-o", "yaml")
    assert result.code == 0, result
    job, config_map = yaml.safe_load_all(result.stdout)
    assert (job["kind"], config_map["kind"]) == ("Job", "ConfigMap")
    assert not cluster.get("jobs")["items"]
    checked = Command("kubectl", "apply", "--dry-run=server", "-f", "-", stdin=json.dumps(job))
    assert checked.finish().code == 0


@pytest.mark.parametrize(
    ("patch_type", "patch"),
    [
        ("json", [{"op": "add", "path": "/metadata/labels/team", "value": "core"}]),
        ("merge", {"metadata": {"labels": {"team": "core"}}}),
        ("strategic", {"metadata": {"labels": {"team": "core"}}}),
    ],
)
def test_a_patch_changes_the_job(
    cluster: Cluster, node: str, tmp_path: Path, patch_type: str, patch: object
) -> None:
    file = tmp_path / "patch.yaml"
    file.write_text(yaml.safe_dump(patch))
    words = ("--patch", str(file), "--patch-type", patch_type)
    result = trace("run", node, "-e", ONCE, "--dry-run=client", *words)
    assert result.code == 0, result
    job = next(yaml.safe_load_all(result.stdout))
    assert job["metadata"]["labels"]["team"] == "core"


def test_a_patch_that_does_not_apply_is_refused(
    cluster: Cluster, node: str, tmp_path: Path
) -> None:
    file = tmp_path / "patch.json"
    file.write_text('[{"op": "remove", "path": "/no/such"}]')
    words = ("--patch", str(file), "--patch-type", "json")
    result = trace("run", node, "-a", "-e", ONCE, *words)
    assert result.code == 2, result
    assert "the patch does not apply" in result.stderr


def test_a_finished_trace_can_be_read_until_its_time_to_live_is_over(
    cluster: Cluster, node: str
) -> None:
    result = trace("run", node, "-a", "-e", ONCE, "--ttl", "5s")
    assert trace("logs", result.trace_id).stdout == "once\n"
    cluster.wait_until_gone(result.trace_id)


# The end.


def test_begin_is_seen_although_it_ran_before_anybody_listened(cluster: Cluster, node: str) -> None:
    assert trace("run", node, "-a", "-e", ONCE).stdout == "once\n"


def interrupted(node: str) -> Result:
    return start("run", node, "-a", "-e", FOREVER).wait_until_attached().interrupt().finish()


def at_its_deadline(node: str) -> Result:
    return trace("run", node, "-a", "-e", FOREVER, "--deadline", "2s")


@pytest.mark.parametrize("end", [interrupted, at_its_deadline])
def test_no_map_is_lost_in_8_runs(cluster: Cluster, node: str, end: Any) -> None:
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(end, [node] * 8):
            assert result.code == 0, result
            assert "@started: 1" in result.stdout, result
            assert result.stderr.rstrip().endswith("lost: none"), result


def test_a_second_ctrl_c_gives_up_the_maps(cluster: Cluster, node: str) -> None:
    program = "tracepoint:syscalls:sys_enter_s* { @[probe] = count(); }"
    command = start("run", node, "-a", "-e", program).wait_until_attached()
    command.interrupt().wait_for("stopping")
    result = command.interrupt().finish()
    assert result.code == 130, result
    assert "maps given up" in result.stderr


def test_ctrl_c_before_the_start_leaves_nothing(cluster: Cluster, node: str) -> None:
    words = ("--imagename", "localhost:1/missing:1")
    command = start("run", node, "-a", "-e", ONCE, *words).wait_for("created")
    result = command.interrupt().finish()
    assert result.code == 130, result
    cluster.wait_until_gone(result.trace_id)


@pytest.mark.reliability("Ctrl-C with hundreds of probes")
def test_a_wide_program_stops_with_its_maps_although_detaching_takes_long(
    cluster: Cluster, node: str, aftermath: Aftermath
) -> None:
    program = "tracepoint:syscalls:sys_enter_* { @[probe] = count(); }"
    command = start("run", node, "-a", "-e", program).wait_until_attached()
    with aftermath.in_time():
        result = command.interrupt().finish()
    assert result.code == 0, result
    assert "@[tracepoint:syscalls:sys_enter_read]: " in result.stdout
    assert "attached 3" in result.stderr, "hundreds of probes"
    assert "takes the kernel a while" in result.stderr


def test_a_trace_that_is_cut_short_without_its_maps_says_so(cluster: Cluster, node: str) -> None:
    program = "tracepoint:syscalls:sys_enter_s* { @[probe] = count(); }"
    words = ("--deadline", "4s", "--deadline-grace-period", "1s")
    result = trace("run", node, "-a", "-e", program, *words)
    assert result.code == 7, result
    assert "maps lost" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
@pytest.mark.reliability("kill -9")
def test_a_client_that_is_killed_takes_its_trace_with_it(
    cluster: Cluster, node: str, aftermath: Aftermath, number: signal.Signals
) -> None:
    command = start("run", node, "-a", "-e", FOREVER).wait_until_attached()
    with aftermath.in_time():
        command.signal(number)
        result = command.finish()
    cluster.wait_for_phase(result.trace_id, "Succeeded")
    read = trace("logs", result.trace_id)
    assert "@started: 1" in read.stdout
    assert "stopped: " in read.stderr, "told to, and not after a minute of silence"


def test_a_killed_client_leaves_no_proxy_and_no_socket(cluster: Cluster, node: str) -> None:
    before = folders()
    command = start("run", node, "-a", "-e", FOREVER).wait_until_attached()
    assert folders() - before, "the socket's folder"
    command.signal(signal.SIGKILL)
    command.finish()
    wait_until(lambda: not folders() - before, "no folder is left", 20)


@pytest.mark.reliability("a terminal or a pipe that stops reading")
def test_piped_into_head_it_stops_the_trace(
    cluster: Cluster, node: str, aftermath: Aftermath
) -> None:
    program = 'interval:ms:100 { printf("tick\\n"); }'
    script = f"kubectl-trace run {node} -a -e '{program}' | head -n 2"
    piped = Command("bash", "-o", "pipefail", "-c", script).finish()
    aftermath.ends()
    assert (piped.code, piped.stdout) == (0, "tick\ntick\n"), piped
    assert "Traceback" not in piped.stderr
    cluster.wait_for_phase(piped.trace_id, "Succeeded")


@pytest.mark.reliability("a terminal or a pipe that stops reading")
def test_a_reader_that_goes_away_in_silence_stops_the_trace(
    cluster: Cluster, node: str, aftermath: Aftermath
) -> None:
    program = 'BEGIN { printf("begin\\n"); } interval:s:3600 { printf("never\\n"); }'
    script = f"kubectl-trace run {node} -a -e '{program}' | head -n 1"
    piped = Command("bash", "-c", script).finish()
    aftermath.ends()
    assert piped.stdout == "begin\n"
    cluster.wait_for_phase(piped.trace_id, "Succeeded")


def test_no_terminal_is_needed(cluster: Cluster, node: str) -> None:
    command = Command("setsid", "--wait", "kubectl-trace", "run", node, "-a", "-e", ONCE)
    assert command.finish().stdout == "once\n"


@pytest.mark.reliability("its log rotated under load")
def test_a_rotated_log_is_followed_without_loss(cluster: Cluster, node: str) -> None:
    # Some 15 MB: the testbed's kubelets rotate at 10.
    program = (
        'BEGIN { printf("begin\\n"); } '
        "interval:ms:1 { @i = @i + 1; "
        'printf("%06d %1000s\\n", @i, "x"); '
        "if (@i == 15000) { clear(@i); exit(); } }"
    )
    result = trace("run", node, "-a", "-e", program)
    assert result.code == 0, result.stderr
    numbers = [int(line.split()[0]) for line in result.lines if line[:1].isdigit()]
    assert numbers == list(range(1, 15001))
    assert "lost: none" in result.stderr
