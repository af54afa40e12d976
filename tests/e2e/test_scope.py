"""A trace shows its target and nothing else, exactly, also while containers restart."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from .command import kubectl, start, trace, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .cluster import Cluster, Pod

ACCEPTED = "uprobe:/usr/sbin/nginx:ngx_event_accept { @requests = count(); }"
# 1,000 writes to standard output, and a few to standard error.
WRITES = "dd if=/dev/zero of=/dev/null bs=1 count=1000"
COUNT_WRITES = (
    'tracepoint:syscalls:sys_enter_write /comm == "dd" && args->fd == 1/ { @writes = count(); }'
)

reliability = pytest.mark.reliability(
    "the target's pod restarted, deleted, moved, its namespace deleted"
)


@pytest.fixture(scope="module")
def pair(cluster: Cluster) -> Iterator[tuple[Pod, Pod]]:
    """Two pods of one image on one node."""
    names = ("scope-target", "scope-other")
    with pods(cluster, *names) as (target, other):
        yield target, other


@contextlib.contextmanager
def pods(cluster: Cluster, *names: str) -> Iterator[list[Pod]]:
    """Pods of nginx on one node, as long as they are needed."""
    node = cluster.pods("app=nginx")[0].node
    for name in names:
        done = cluster.apply(_pod(name, node))
        assert done.code == 0, done
    done = kubectl("wait", "--for=condition=ready", *(f"pod/{name}" for name in names))
    assert done.code == 0, done
    by_name = {pod.name: pod for pod in cluster.pods("app=scope")}
    yield [by_name[name] for name in names]
    kubectl("delete", "pod", *names, "--now", "--wait=false")


def _pod(name: str, node: str) -> dict[str, Any]:
    container = {
        "name": "nginx",
        "image": "kubectl-trace-testbed/nginx:1",
        "imagePullPolicy": "IfNotPresent",
        # `unshare` needs it.
        "securityContext": {"privileged": True},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "scope"}},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 1, "containers": [container]},
    }


def execute(pod: Pod, script: str) -> None:
    done = kubectl("exec", pod.name, "--", "sh", "-c", script)
    assert done.code == 0, done


def map_value(stdout: str, name: str) -> int:
    """The value of a map without keys, as text shows it; 0 if it is not there."""
    found = re.search(rf"^@{name}: (\d+)$", stdout, re.MULTILINE)
    return int(found[1]) if found else 0


def test_a_uprobe_counts_the_targets_thousand_requests_and_none_of_its_neighbours(
    cluster: Cluster, pair: tuple[Pod, Pod]
) -> None:
    target, other = pair
    command = start("run", f"pod/{target.name}", "-a", "-e", ACCEPTED).wait_until_attached()
    cluster.request(target, times=1000)
    cluster.request(other, times=1000)
    result = command.interrupt().finish()
    assert result.code == 0, result
    assert result.stdout == "@requests: 1000\n"


def test_without_a_scope_the_neighbours_events_come_too(
    cluster: Cluster, pair: tuple[Pod, Pod]
) -> None:
    target, other = pair
    words = ("run", f"pod/{target.name}", "-a", "--no-scope", "-e", ACCEPTED)
    command = start(*words).wait_until_attached()
    cluster.request(target, times=10)
    cluster.request(other, times=10)
    result = command.interrupt().finish()
    assert result.stdout == "@requests: 20\n"


@reliability
def test_a_restarted_container_is_seen_from_its_first_moment_and_its_neighbour_never(
    cluster: Cluster, pair: tuple[Pod, Pod]
) -> None:
    _, other = pair
    program = ACCEPTED + 'tracepoint:sched:sched_process_exec { printf("%s\\n", comm); }'
    with pods(cluster, "scope-restarted") as (target,):
        command = start("run", f"pod/{target.name}", "-a", "-e", program).wait_until_attached()
        cluster.request(target, times=100)
        kubectl("exec", target.name, "--", "sh", "-c", "kill -QUIT 1")
        command.wait_for(f"container nginx of pod {target.name} leaves the scope")
        cluster.request(other, times=100)
        command.wait_for(f"container nginx of pod {target.name} joins the scope")
        command.wait_for("nginx\n")
        done = kubectl("wait", "--for=condition=ready", f"pod/{target.name}", "--timeout=60s")
        assert done.code == 0, done
        cluster.request(target, times=100)
        cluster.request(other, times=100)
        result = command.interrupt().finish()
    assert map_value(result.stdout, "requests") == 200, result


@reliability
def test_a_target_whose_namespace_is_deleted_leaves_the_scope_and_the_trace_goes_on(
    cluster: Cluster, nginx: Pod
) -> None:
    name = "scope-doomed"
    assert kubectl("create", "namespace", name).code == 0
    wait_until(
        lambda: kubectl("get", "serviceaccount", "default", "-n", name).code == 0,
        "the namespace's service account",
    )
    manifest = _pod(name, nginx.node)
    manifest["metadata"]["namespace"] = name
    assert cluster.apply(manifest).code == 0
    done = kubectl("wait", "--for=condition=ready", f"pod/{name}", "-n", name)
    assert done.code == 0, done
    (target,) = cluster.pods("app=scope", name)
    words = (f"pod/{name}", "--target-namespace", name, "-a", "-e", ACCEPTED)
    command = start("run", *words).wait_until_attached()
    cluster.request(target, times=10)
    assert kubectl("delete", "namespace", name, "--wait=false").code == 0
    command.wait_for(f"container nginx of pod {name} leaves the scope")
    assert command.runs, "the trace is of another namespace"
    result = command.interrupt().finish()
    assert (result.code, result.stdout) == (0, "@requests: 10\n"), result


def test_a_tracepoint_counts_one_container_of_a_pod(cluster: Cluster) -> None:
    command = start("run", "pod/multi", "-c", "sidecar", "-a", "-e", COUNT_WRITES)
    command.wait_until_attached()
    for container in ("app", "sidecar", "app"):
        done = kubectl("exec", "multi", "-c", container, "--", *WRITES.split())
        assert done.code == 0, done
    result = command.interrupt().finish()
    assert map_value(result.stdout, "writes") == 1000, result


def test_profile_samples_only_the_target(pair: tuple[Pod, Pod]) -> None:
    target, other = pair
    program = "profile:hz:99 { @[comm] = count(); }"
    command = start("run", f"pod/{target.name}", "-a", "-e", program).wait_until_attached()
    execute(other, "timeout 1 yes > /dev/null; true")
    execute(target, "timeout 1 md5sum /dev/zero; true")
    result = command.interrupt().finish()
    assert "@[md5sum]" in result.stdout, result
    assert "@[yes]" not in result.stdout, result


def test_usdt_probes_fire_for_the_target_only(cluster: Cluster) -> None:
    program = "usdt:/bin/ticker:ticker:tick { @ticks = count(); @last = max(arg0); }"
    command = start("run", "pod/multi", "-c", "sidecar", "-a", "-e", program)
    command.wait_until_attached()
    for container, times in (("app", "500"), ("sidecar", "100"), ("app", "500")):
        done = kubectl("exec", "multi", "-c", container, "--", "ticker", times)
        assert done.code == 0, done
    result = command.interrupt().finish()
    assert result.stdout == "@last: 100\n@ticks: 100\n", result


def test_a_process_with_a_mount_namespace_of_its_own_stays_in_scope(pair: tuple[Pod, Pod]) -> None:
    target, _ = pair
    command = start("run", f"pod/{target.name}", "-a", "-e", COUNT_WRITES).wait_until_attached()
    for pod in pair:
        execute(pod, f"unshare --mount {WRITES}")
    result = command.interrupt().finish()
    assert map_value(result.stdout, "writes") == 1000, result


def test_without_kernel_types_tasks_are_told_by_thread_and_the_user_hears_it(
    cluster: Cluster, pair: tuple[Pod, Pod]
) -> None:
    target, other = pair
    words = ("run", f"pod/{target.name}", "-a", "--env", "BPFTRACE_BTF=/dev/null", "-e", ACCEPTED)
    command = start(*words).wait_until_attached()
    cluster.request(target, times=100)
    cluster.request(other, times=100)
    result = command.interrupt().finish()
    assert result.stdout == "@requests: 100\n", result
    assert "no BTF" in result.stderr


def test_a_program_with_kernel_types_of_its_own_is_still_limited(
    cluster: Cluster, pair: tuple[Pod, Pod]
) -> None:
    target, other = pair
    program = f"struct task_struct {{ int mine; }}\n{ACCEPTED}"
    command = start("run", f"pod/{target.name}", "-a", "-e", program).wait_until_attached()
    cluster.request(target, times=50)
    cluster.request(other, times=50)
    result = command.interrupt().finish()
    assert result.stdout == "@requests: 50\n", result
    assert "told by thread ID" in result.stderr
    assert "ERROR" not in result.stderr, "of the first try nothing is said"
    assert "curtask" not in result.stderr, "what the user did not write is no matter of theirs"


def test_json_says_which_container_a_printf_is_of_and_shows_no_hidden_map(
    cluster: Cluster, pair: tuple[Pod, Pod]
) -> None:
    target, _ = pair
    program = (
        'BEGIN { printf("begin\\n"); } '
        'uprobe:/usr/sbin/nginx:ngx_event_accept { printf("%s\\n", probe); @[probe] = count(); }'
    )
    command = start("run", f"pod/{target.name}", "-a", "-o", "json", "-e", program)
    wait_until(lambda: '"ready"' in command.stdout(), "ready")
    cluster.request(target)
    wait_until(lambda: "ngx_event_accept" in command.stdout(), "the request")
    result = command.interrupt().finish()
    records = [json.loads(line) for line in result.lines]
    begin, accept = (record for record in records if record["type"] == "printf")
    assert "pod" not in begin
    assert (accept["namespace"], accept["pod"], accept["container"]) == (
        "default",
        target.name,
        "nginx",
    )
    point = "uprobe:/usr/sbin/nginx:ngx_event_accept"
    assert accept["data"] == f"{point}\n", "the attach point as the user wrote it"
    (maps,) = (record["data"] for record in records if record["type"] == "map")
    assert maps == {"@": {point: 1}}
    assert "_scope" not in result.stdout + result.stderr
    assert [r["data"]["probes"] for r in records if r["type"] == "attached_probes"] == [2]


def test_bpftraces_errors_are_about_the_users_text(nginx: Pod) -> None:
    program = (
        "uprobe:/usr/sbin/nginx:ngx_event_accept,\n"
        "uprobe:/usr/sbin/nginx:ngx_unix_recv /pid/ { @a = count(); @b = nosuch(1); }"
    )
    result = trace("run", f"pod/{nginx.name}", "-a", "-e", program)
    assert result.code == 6, result
    line = program.splitlines()[1]
    column = line.index("nosuch")
    place = f"stdin:2:{column + 1}-{column + 7}"
    marker = " " * column + "~" * len("nosuch")
    assert f"{place}: ERROR: Unknown function: nosuch\n{line}\n{marker}\n" in result.stderr


def test_a_file_that_the_container_has_not_is_named(nginx: Pod) -> None:
    result = trace(
        "run", f"pod/{nginx.name}", "-a", "-e", "uprobe:/usr/bin/nosuch:f { @ = count() }"
    )
    assert result.code == 3, result
    assert "no file /usr/bin/nosuch in the container" in result.stderr


def test_sched_switch_is_limited_by_the_task_that_leaves_or_by_the_next(
    pair: tuple[Pod, Pod],
) -> None:
    target, _ = pair
    program = "tracepoint:sched:sched_switch { @[args->%s_comm] = count(); }"
    loop = "sleep 0.3; for i in $(seq 40); do sleep 0.05; done"
    for which, flags in (("prev", ()), ("next", ("--scope-next",))):
        words = ("run", f"pod/{target.name}", "-a", *flags, "-e", program % which)
        command = start(*words).wait_until_attached()
        execute(target, loop)
        result = command.interrupt().finish()
        assert ("leaves the CPU" in result.stderr) == (which == "prev"), result
        assert "@[sleep]" in result.stdout, result
        assert "@[kubelet]" not in result.stdout
        assert "@[swapper" not in result.stdout


def test_explain_shows_the_program_as_it_would_run_and_leaves_nothing(
    cluster: Cluster, nginx: Pod
) -> None:
    result = trace("run", f"pod/{nginx.name}", "--explain", "-e", ACCEPTED)
    assert result.code == 0, result
    assert re.search(r"^uprobe:/proc/\d+/root/usr/sbin/nginx:ngx_event_accept", result.stdout, re.M)
    assert "curtask->nsproxy->mnt_ns->ns.inum" in result.stdout
    assert "// 1:1: /usr/sbin/nginx is the container's own file" in result.stdout
    cluster.wait_until_gone(result.trace_id)


def test_a_program_that_is_none_is_refused_before_anything_is_scheduled(nginx: Pod) -> None:
    result = trace("run", f"pod/{nginx.name}", "-e", 'BEGIN {\n  printf("hi"\n}')
    assert result.code == 2, result
    assert "stdin:3:1: } closes nothing: ( is open since line 2" in result.stderr
    assert "\n}\n^\n" in result.stderr
    assert "created" not in result.stderr
