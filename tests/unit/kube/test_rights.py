"""One list of rights, and what is held against it: the documents, the roles, errors, targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kubectl_trace.cli.main import VERBS
from kubectl_trace.kube import rights, targets
from kubectl_trace.kube.job import CAPABILITIES

REPOSITORY = Path(__file__).parents[3]
DOCUMENT = (REPOSITORY / "docs" / "rights.md").read_text()
WHERE = {
    "traces": "namespace of the traces",
    "targets": "namespace of the targets",
    "default": "namespace `default`",
    "cluster": "the whole cluster",
}

# The roles of deploy/rbac.
NAMESPACED = tuple(right for right in rights.TRACING if right.where in ("traces", "targets"))
READING = tuple(
    right
    for right in rights.TRACING
    if right.where == "traces"
    and right.verb in ("get", "list", "watch")
    and {"get", "logs"} & {*right.needed_by, *right.helps}
)
CLEANING = tuple(right for right in rights.RIGHTS if "delete" in right.needed_by)


def test_the_documents_table_has_each_right_and_nothing_else() -> None:
    section = DOCUMENT.partition("## Each right")[2].partition("\n## ")[0]
    shown = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert shown == [
        f"| {right} | {WHERE[right.where]} | {right.purpose} | {', '.join(right.needed_by)} "
        f"| {right.lost} |"
        for right in rights.RIGHTS
    ]


def test_the_document_names_the_capabilities() -> None:
    assert f"{', '.join(CAPABILITIES[:-1])} and {CAPABILITIES[-1]}" in " ".join(DOCUMENT.split())


@pytest.mark.parametrize(
    ("file", "granted", "binding"),
    [
        ("tracer-everywhere", rights.TRACING, "ClusterRoleBinding"),
        ("tracer-in-namespaces", NAMESPACED, "RoleBinding"),
        ("reader", READING, "RoleBinding"),
        ("cleaner", CLEANING, "ClusterRoleBinding"),
    ],
)
def test_a_role_grants_its_rights_and_nothing_else(
    file: str, granted: tuple[rights.Right, ...], binding: str
) -> None:
    text = (REPOSITORY / "deploy" / "rbac" / f"{file}.yaml").read_text()
    role, bound = yaml.safe_load_all(text)
    assert role["rules"] == rights.rules(granted)
    assert (bound["kind"], bound["roleRef"]["name"]) == (binding, role["metadata"]["name"])
    assert f"{file}.yaml" in DOCUMENT


def test_a_reader_creates_deletes_and_holds_nothing() -> None:
    assert {right.verb for right in READING} <= {"get", "list", "watch"}
    assert "pods/attach" not in {right.resource for right in READING}


def test_no_tracer_may_change_the_policy_that_limits_tracers() -> None:
    granted = {right.verb for right in rights.TRACING if right.resource == "configmaps"}
    assert granted == {"create"}


def test_each_right_says_what_is_lost_unless_tracing_fails_without_it() -> None:
    for right in rights.RIGHTS:
        assert right.is_needed or right.lost, right
        assert {*right.needed_by, *right.helps} <= VERBS.keys(), right


def asked(*words: str, **choice: Any) -> set[tuple[str, str]]:
    chosen = targets.parse(words, **choice)
    return {(str(right), where) for right, where in rights.for_targets(chosen, "shop", "traces")}


def test_a_target_needs_the_rights_of_its_kind_where_it_is() -> None:
    of_pod = asked("pod/web")
    assert ("get pods", "shop") in of_pod
    assert ("create jobs.batch", "traces") in of_pod
    assert ("list pods", "shop") not in of_pod
    of_deployment = asked("deploy/web")
    assert {("get deployments.apps", "shop"), ("watch pods", "shop")} <= of_deployment
    assert not [right for right, _ in of_deployment if "statefulsets" in right or "nodes" in right]


def test_a_node_needs_no_right_on_pods_but_on_the_runners() -> None:
    of_node = asked("node-a")
    assert ("get nodes", "") in of_node
    assert ("create events", "default") in of_node
    assert "shop" not in {where for _, where in of_node}
    assert ("list nodes", "") in asked(all_nodes=True)


def test_a_selector_of_all_namespaces_needs_its_rights_in_all_of_them() -> None:
    found = asked("pod/web", selector="app=web", all_namespaces=True)
    assert {("list pods", ""), ("get pods", "shop"), ("create events", "")} <= found


def test_rules_are_merged_as_one_would_write_them() -> None:
    both = [right for right in rights.RIGHTS if right.resource == "pods/attach"]
    assert rights.rules(both) == [
        {"apiGroups": [""], "resources": ["pods/attach"], "verbs": ["get", "create"]}
    ]
    text = "\n".join(map(rights.rule_text, rights.rules(rights.RIGHTS)))
    assert yaml.safe_load(text) == rights.rules(rights.RIGHTS)


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        (
            'jobs.batch is forbidden: User "ada" cannot create resource "jobs" in API group '
            '"batch" in the namespace "shop"',
            "a Role in namespace shop: apiGroups: [batch], resources: [jobs], verbs: [create]",
        ),
        (
            'pods "x" is forbidden: User "ada" cannot get resource "pods/log" in API group "" in '
            'the namespace "shop": no such user',
            'a Role in namespace shop: apiGroups: [""], resources: [pods/log], verbs: [get]',
        ),
        (
            'nodes is forbidden: User "ada" cannot list resource "nodes" in API group "" at the '
            "cluster scope",
            'a ClusterRole, bound cluster-wide: apiGroups: [""], resources: [nodes], verbs: [list]',
        ),
    ],
)
def test_an_error_for_a_missing_right_names_the_rule(message: str, rule: str) -> None:
    assert rights.explained(message) == f"{message} (needs in {rule}; docs/rights.md)"


def test_what_is_no_missing_right_stays_as_it_is() -> None:
    for message in ('pods "x" is forbidden: exceeded quota: q', "Unauthorized"):
        assert rights.explained(message) == message
