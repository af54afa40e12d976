"""Every verb as a user with exactly the documented rights, and with each one removed; the audit.

The traces' objects are in a namespace of their own here, so that a right there is not the same
right on the targets. The commands of a kind run at the same time: most of each is waiting.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from kubectl_trace.kube import job as jobs
from kubectl_trace.kube import rights

from .command import Command, Result, kubectl, start, trace, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kubectl_trace.kube.rights import Right

    from .cluster import Cluster, Pod

REPOSITORY = Path(__file__).parents[2]
NAMESPACE = "kubectl-trace-rights"
"""Of the traces' objects; the targets are in `default`."""
AT_ONCE = 5
ONCE = 'BEGIN { printf("once\\n"); exit(); }'
FOREVER = "interval:s:1 { @ = count(); }"
RBAC = "rbac.authorization.k8s.io"
TRACING = [right for right in rights.RIGHTS if {*right.needed_by, *right.helps} - {"completion"}]


@dataclass(frozen=True)
class Case:
    """What is done without a right, and what comes of it."""

    words: tuple[str, ...]
    code: int
    said: str = ""
    """On stderr, or on stdout; empty: the right itself."""


def on_pod(code: int, said: str = "", *words: str) -> Case:
    return Case(("run", "pod/NGINX", "-a", "-e", ONCE, *words), code, said)


def named(kind: str) -> Case:
    return Case(("run", f"{kind}/none", "-e", ONCE), 4)


CASES: dict[tuple[str, str], Case] = {
    ("traces", "create jobs.batch"): on_pod(4),
    ("traces", "create configmaps"): on_pod(4),
    ("traces", "list pods"): on_pod(4),
    ("traces", "watch pods"): on_pod(4),
    # A short one is told whole by what comes before the log can be read.
    ("traces", "get pods/log"): Case(("run", "pod/NGINX", "-a", "-e", FOREVER), 4),
    # A program that ends at once needs nobody to stop it.
    ("traces", "get pods/attach"): Case(("run", "pod/NGINX", "-a", "-e", FOREVER), 4),
    # Asked for by API servers from 1.35 on only.
    ("traces", "create pods/attach"): on_pod(0, "lost: none"),
    # Used when a client is killed: tests/e2e/test_faults.py.
    ("traces", "get pods"): on_pod(0, "lost: none"),
    ("traces", "list configmaps"): Case(("delete", "--orphans"), 4),
    ("traces", "delete configmaps"): Case(("delete", "--orphans"), 4, "can't be deleted"),
    ("traces", "list jobs.batch"): Case(("get",), 4),
    ("traces", "watch jobs.batch"): Case(("get", "-w"), 4),
    # Looked at when a pod and its log are gone at once: tests/unit/kube/test_fleet.py.
    ("traces", "get jobs.batch"): on_pod(0, "lost: none"),
    ("traces", "delete jobs.batch"): Case(("delete", "TRACE"), 4),
    ("traces", "delete pods"): Case(("delete", "--now", "TRACE"), 4, "grace period"),
    ("traces", "list events"): on_pod(
        5, 'cannot list resource "events"', "--serviceaccount", "nobody", "--timeout", "3s"
    ),
    ("traces", "watch events"): on_pod(
        5, '"nobody" not found', "--serviceaccount", "nobody", "--timeout", "3s"
    ),
    ("traces", "get namespaces"): Case(("auth", "can-i", "pod/NGINX"), 0, "not known"),
    ("targets", "get pods"): on_pod(4),
    ("targets", "list pods"): Case(("run", "deploy/nginx", "-a", "-e", ONCE), 4),
    ("targets", "watch pods"): Case(
        ("run", "deploy/nginx", "-a", "-e", ONCE), 0, "pods that come later are not traced"
    ),
    ("targets", "get deployments.apps"): named("deploy"),
    ("targets", "get statefulsets.apps"): named("sts"),
    ("targets", "get daemonsets.apps"): named("ds"),
    ("targets", "get replicasets.apps"): named("rs"),
    ("targets", "get jobs.batch"): named("job"),
    ("targets", "get services"): named("svc"),
    ("targets", "create events"): on_pod(0, "no Event on pod"),
    ("default", "create events"): Case(("run", "NODE", "-a", "-e", ONCE), 0, "no Event on node"),
    ("cluster", "get nodes"): Case(("run", "NODE", "-a", "-e", ONCE), 0, "lost: none"),
    ("cluster", "list nodes"): Case(("run", "--all-nodes", "-e", ONCE), 4),
}
"""What to do without a right, by where it is held and what it is."""


def key(right: Right) -> tuple[str, str]:
    return right.where, str(right)


def test_there_is_a_case_for_each_right() -> None:
    assert CASES.keys() == {key(right) for right in TRACING}


@dataclass(frozen=True)
class Outcome:
    """What came of a command without a right."""

    result: Result
    left: list[str]
    """What the trace has left in the cluster."""


def user_without(right: Right) -> str:
    return f"without-{TRACING.index(right)}"


def role(
    name: str, namespace: str, granted: Sequence[Right], users: Sequence[str]
) -> Iterator[Any]:
    """A role and its binding; the empty namespace: of the whole cluster."""
    prefix = "" if namespace else "Cluster"
    metadata = {"name": name, "labels": {"kubectl-trace-rights": "yes"}}
    metadata |= {"namespace": namespace} if namespace else {}
    api = {"apiVersion": f"{RBAC}/v1", "metadata": metadata}
    yield {**api, "kind": f"{prefix}Role", "rules": rights.rules(granted)}
    yield {
        **api,
        "kind": f"{prefix}RoleBinding",
        "roleRef": {"apiGroup": RBAC, "kind": f"{prefix}Role", "name": name},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user} for user in users],
    }


def roles() -> Iterator[Any]:
    """For each right a user who has all others."""
    users = [*map(user_without, TRACING), "with-all"]
    for where, namespace in (
        (("traces",), NAMESPACE),
        (("targets", "default"), "default"),
        (("cluster",), ""),
    ):
        here = [right for right in TRACING if right.where in where]
        name = f"rights-{where[0]}"
        reduced = [user_without(right) for right in here]
        yield from role(name, namespace, here, [user for user in users if user not in reduced])
        for right in here:
            gone = [str(right)]
            if right.verb == "list" and right.resource == "events":
                gone.append("watch events")  # the watch tells the same
            others = [each for each in here if str(each) not in gone]
            user = user_without(right)
            yield from role(f"{name}-{user}", namespace, others, [user])


@pytest.fixture(scope="module")
def users(cluster: Cluster) -> Iterator[None]:
    """The users, and the namespace of their traces."""
    remove_users("--wait=true")  # of a run that was killed
    kubectl("create", "namespace", NAMESPACE)
    listed = {"apiVersion": "v1", "kind": "List", "items": list(roles())}
    created = Command("kubectl", "create", "-f", "-", stdin=json.dumps(listed)).finish()
    assert created.code == 0, created
    may = ("auth", "can-i", "get", "pods", "-n", "default", "--as", "with-all")
    wait_until(lambda: kubectl(*may).code == 0, "the roles have effect")
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "orphan", "namespace": NAMESPACE, "labels": {jobs.LABEL_ID: "1"}},
        }
    )
    account = ("get", "serviceaccount", "default", "-n", NAMESPACE)
    wait_until(lambda: kubectl(*account).code == 0, "the namespace has its service account")
    yield
    remove_users("--wait=false")


def remove_users(wait: str) -> None:
    for kinds in ("roles,rolebindings", "clusterroles,clusterrolebindings"):
        kubectl("delete", kinds, "-A", "-l", "kubectl-trace-rights", wait)
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", wait)


@pytest.fixture(scope="module")
def outcomes(cluster: Cluster, users: None) -> Mapping[tuple[str, str], Outcome]:
    """What comes of each case."""
    pod = cluster.pods("app=nginx")[0]

    def outcome(right: Right) -> Outcome:
        case, user = CASES[key(right)], user_without(right)
        names = {"pod/NGINX": f"pod/{pod.name}", "NODE": pod.node}
        if "TRACE" in case.words:
            created = trace("run", pod.node, "-e", FOREVER, "-n", NAMESPACE)
            names["TRACE"] = created.trace_id
        words = [names.get(word, word) for word in case.words]
        words += ["--as", user, "-n", NAMESPACE]
        words += ["--target-namespace", "default"] if words[0] in ("run", "auth") else []
        result = trace(*words)
        return Outcome(result, left_by(user) if result.code else [])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(map(key, TRACING), pool.map(outcome, TRACING), strict=True))


def left_by(user: str) -> list[str]:
    """What a user's traces have in the cluster after a while in which it should go."""
    found: list[str] = []

    def is_gone() -> bool:
        got = json.loads(
            kubectl("get", "jobs,pods,configmaps", "-n", NAMESPACE, "-o", "json").stdout
        )
        found[:] = [
            f"{item['kind']}/{item['metadata']['name']}"
            for item in got["items"]
            if item["metadata"].get("annotations", {}).get(jobs.ANNOTATION_OWNER) == user
        ]
        return not found

    try:
        wait_until(is_gone, "all is gone", 30)
    except AssertionError:
        return found
    return []


def shown(outcome: Outcome) -> str:
    return outcome.result.stdout + outcome.result.stderr


def test_without_a_right_that_it_needs_a_verb_ends_and_names_the_right_and_its_rule(
    outcomes: Mapping[tuple[str, str], Outcome],
) -> None:
    for right in TRACING:
        case, outcome = CASES[key(right)], outcomes[key(right)]
        assert outcome.result.code == case.code, (key(right), outcome)
        if case.code == 4:
            resource = (
                f'cannot {right.verb} resource "{right.resource}" in API group "{right.group}"'
            )
            rule = f"resources: [{right.resource}], verbs: [{right.verb}]"
            assert resource in shown(outcome), (key(right), outcome)
            assert rule in shown(outcome), (key(right), outcome)


def test_without_an_optional_right_it_is_said_what_is_lost(
    outcomes: Mapping[tuple[str, str], Outcome],
) -> None:
    for right in TRACING:
        assert CASES[key(right)].said in shown(outcomes[key(right)]), (key(right), outcomes)


def test_a_trace_that_a_missing_right_ends_leaves_nothing(
    outcomes: Mapping[tuple[str, str], Outcome],
) -> None:
    assert not {right: outcome.left for right, outcome in outcomes.items() if outcome.left}


def test_can_i_says_what_is_missing_and_its_rules_grant_it(
    cluster: Cluster, users: None, nginx: Pod
) -> None:
    asked = ("auth", "can-i", f"pod/{nginx.name}", "-n", NAMESPACE, "--target-namespace", "default")
    before = trace(*asked, "--as", "newcomer")
    assert before.code == 4, before
    missing = [block for block in before.stdout.split("\n\n") if block.startswith("# missing")]
    for block in missing:
        namespace = "default" if "namespace default" in block else NAMESPACE
        for each in role("rights-newcomer", namespace, (), ["newcomer"]):
            rules = yaml.safe_load(block)["rules"] if each["kind"] == "Role" else None
            cluster.apply({**each, "rules": rules} if rules else each)
    assert len(missing) == 2, before
    wait_until(lambda: trace(*asked, "--as", "newcomer").code == 0, "the rules grant it", 20)
    answer = json.loads(trace(*asked, "--as", "newcomer", "-o", "json").stdout)
    assert answer["allowed"] is True
    assert {each["needed"] for each in answer["missing"]} == {False}
    once = trace("run", *asked[2:], "-a", "-e", ONCE, "--as", "newcomer")
    assert (once.code, once.lines) == (0, ["once"]), once


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("pod/none",), 3, 'pods "none" not found'),
        (("no-node",), 3, 'nodes "no-node" not found'),
        (("-l", "app=none"), 3, "there are no pods"),
        (("deploy/nginx", "-n", "no-namespace", "--target-namespace", "default"), 4, "not found"),
        (("--all-nodes",), 0, "admits the runner: yes"),
        (("svc/nginx",), 0, "get services"),
    ],
)
def test_can_i_tells_what_is_not_there(
    cluster: Cluster, words: tuple[str, ...], code: int, said: str
) -> None:
    result = trace("auth", "can-i", *words)
    assert result.code == code, result
    assert said in result.stdout + result.stderr


@pytest.fixture(scope="module")
def documented_roles(cluster: Cluster) -> Iterator[None]:
    """The roles and bindings of deploy/rbac, as they are."""
    folder = str(REPOSITORY / "deploy" / "rbac")
    kubectl("apply", "-f", folder)
    may = ("auth", "can-i", "list", "nodes", *member_of("kubectl-trace-everywhere"))
    wait_until(lambda: kubectl(*may).code == 0, "the roles have effect")
    yield
    kubectl("delete", "-f", folder, "--wait=false")


def member_of(group: str) -> tuple[str, ...]:
    return "--as", "ada", "--as-group", group


def all_of(group: str, *commands: tuple[str, ...]) -> list[Result]:
    """These commands at the same time, as a member of a group."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda words: trace(*words, *member_of(group)), commands))


def test_the_roles_let_a_tracer_trace(cluster: Cluster, nginx: Pod, documented_roles: None) -> None:
    in_namespace = all_of(
        "kubectl-trace-tracers",
        *(("run", target, "-a", "-e", ONCE) for target in (f"pod/{nginx.name}", "deploy/nginx")),
        ("run", "svc/nginx", "-a", "-e", ONCE),
        ("functions", f"pod/{nginx.name}", "ngx_event_accept"),
    )
    everywhere = all_of(
        "kubectl-trace-everywhere",
        *(("run", *words, "-a", "-e", ONCE) for words in (("--all-nodes",), (nginx.node,))),
        ("run", "-l", "app=nginx", "-A", "-a", "-e", ONCE),
    )
    for result in (*in_namespace, *everywhere):
        assert result.code == 0, result
        assert "forbidden" not in result.stderr, "watches and Events are a part of the rights, too"
    as_ada = member_of("kubectl-trace-tracers")
    for words in (("run", "--all-nodes", "-e", ONCE), ("get", "-A"), ("get", "-n", "kube-system")):
        assert trace(*words, *as_ada).code == 4, words
    created = trace("run", f"pod/{nginx.name}", "-e", FOREVER, *as_ada)
    cluster.wait_for_phase(created.trace_id, "Running")
    assert " ada " in trace("get", created.trace_id, *as_ada).stdout, "the owner"
    follows = start("attach", created.trace_id, *as_ada).wait_until_attached()
    assert trace("stop", created.trace_id, *as_ada).code == 0
    assert follows.finish().code == 0
    assert trace("logs", created.trace_id, *as_ada).code == 0
    assert trace("delete", "--all", "--now", *as_ada).code == 0


def test_a_reader_reads_and_a_cleaner_deletes_and_neither_does_anything_else(
    cluster: Cluster, nginx: Pod, documented_roles: None
) -> None:
    created = trace("run", nginx.node, "-e", FOREVER).trace_id
    cluster.wait_for_phase(created, "Running")
    get, logs, follow, *others = all_of(
        "kubectl-trace-readers",
        ("get", created),
        ("logs", created),
        ("get", "-o", "json"),
        ("run", f"pod/{nginx.name}", "-e", ONCE),
        ("stop", created),
        ("delete", created),
    )
    assert [each.code for each in (get, logs, follow)] == [0, 0, 0], (get, logs, follow)
    for result in others:
        assert result.code == 4, result
        assert "verbs: [" in result.stderr, result
    assert "Running" in trace("get", created).stdout
    clearing = all_of(
        "kubectl-trace-cleaners", ("delete", "--orphans", "-A"), ("delete", "--now", created)
    )
    assert [each.code for each in clearing] == [0, 0], clearing


def test_a_trace_says_who_what_where_and_why_on_its_objects_and_on_its_targets(
    cluster: Cluster, nginx: Pod
) -> None:
    reason = "incident\x1b[2J 42"
    secret = "s3cret"
    words = (
        "-e",
        'BEGIN { printf("%s\\n", str($1)); exit(); }',
        "--reason",
        reason,
        "--as-group",
        "system:masters",
    )
    result = trace("run", "deploy/nginx", "-a", *words, "--as", "ada", "--", secret)
    assert result.code == 0, result
    created = result.trace_id
    found = cluster.get("jobs,pods,configmaps", "-l", f"{jobs.LABEL_ID}={created}")["items"]
    assert {item["kind"] for item in found} == {"Job", "Pod", "ConfigMap"}
    for item in found:
        annotations = item["metadata"]["annotations"]
        assert annotations[jobs.ANNOTATION_REASON] == "incident\\x1b[2J 42"
        assert annotations[jobs.ANNOTATION_OWNER] == "ada"
        assert annotations[jobs.ANNOTATION_TARGET] == "deployment/nginx"
        assert "printf" in annotations[jobs.ANNOTATION_PROGRAM]
        assert secret not in json.dumps(item["metadata"])
    assert "incident\\x1b[2J 42" in trace("get", created, "-o", "wide").stdout
    assert json.loads(trace("get", created, "-o", "json").stdout)["reason"] == "incident\\x1b[2J 42"
    events = [
        event
        for event in cluster.get("events", "--field-selector", "reason=Traced")["items"]
        if created in event["message"]
    ]
    traced = {event["involvedObject"]["uid"] for event in events}
    assert traced == {pod.uid for pod in cluster.pods("app=nginx")}
    for event in events:
        assert "traced by ada; reason: incident\\x1b[2J 42" in event["message"]
        assert secret not in json.dumps(event)
    node = trace("run", nginx.node, "-e", FOREVER, "--reason", "load")
    described = kubectl("describe", "node", nginx.node).stdout
    assert node.trace_id in described
    assert "reason: load" in described
