from __future__ import annotations

from typing import Any

import pytest

from kubectl_trace.errors import UsageError
from kubectl_trace.kube import targets
from kubectl_trace.kube.targets import Target, Targets


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("worker-1", Target("node", "worker-1")),
        ("node/worker-1", Target("node", "worker-1")),
        ("pod/web-0", Target("pod", "web-0")),
        ("po/web-0", Target("pod", "web-0")),
        ("pods/web-0", Target("pod", "web-0")),
        ("deploy/web", Target("deployment", "web")),
        ("deployment/web", Target("deployment", "web")),
        ("sts/db", Target("statefulset", "db")),
        ("ds/agent", Target("daemonset", "agent")),
        ("rs/web-1", Target("replicaset", "web-1")),
        ("job/import", Target("job", "import")),
        ("svc/web", Target("service", "web")),
        ("local", Target("local", "")),
        ("local/42", Target("local", "42")),
    ],
)
def test_reads_a_target(text: str, target: Target) -> None:
    assert targets.parse([text]) == Targets((target,))


@pytest.mark.parametrize(
    "text",
    ["", "pod/", "cj/x", "pod/a/b", "local/nginx", "/x", "..", "pod/a?b=c", "pod/ñ", "Node"],
)
def test_refuses_what_is_no_target(text: str) -> None:
    with pytest.raises(UsageError):
        targets.parse([text])


def test_several_targets_are_one_trace_and_each_counts_once() -> None:
    parsed = targets.parse(["pod/a", "deploy/b", "po/a"])
    assert parsed.each == (Target("pod", "a"), Target("deployment", "b"))
    assert not parsed.is_single


@pytest.mark.parametrize(
    ("words", "options", "target"),
    [
        ([], {"selector": "app=web"}, Target("pod", selector="app=web")),
        (["pods"], {"selector": "app=web"}, Target("pod", selector="app=web")),
        (["nodes"], {"selector": "disk=ssd"}, Target("node", selector="disk=ssd")),
        ([], {"all_nodes": True}, Target("node")),
        (["nodes"], {"all_nodes": True}, Target("node")),
        (["pods"], {"all_namespaces": True}, Target("pod")),
    ],
)
def test_selectors_stand_for_all_that_they_find(
    words: list[str], options: dict[str, Any], target: Target
) -> None:
    parsed = targets.parse(words, **options)
    assert parsed.each == (target,)
    assert not parsed.is_single


def test_the_word_after_a_pod_or_workload_is_its_container() -> None:
    assert targets.parse(["pod/a", "app"]).container == "app"
    assert targets.parse(["deploy/a", "app"]).container == "app"
    assert targets.parse(["pod/a"], container="app").container == "app"
    assert targets.parse(["node-a", "node-b"]).each == (
        Target("node", "node-a"),
        Target("node", "node-b"),
    )


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        ([], {}, "what is to be traced"),
        (["pod/a", "node/b"], {}, "nodes and pods do not go together"),
        (["local", "pod/a"], {}, "local is this machine alone"),
        (["node/a"], {"container": "x"}, "has no containers"),
        (["node/a"], {"all_containers": True}, "has no containers"),
        (["pod/a"], {"container": "x", "all_containers": True}, "not both"),
        (["pod/a", "app"], {"container": "x"}, "not both"),
        (["pod/a"], {"all_namespaces": True}, "-A goes with -l"),
        (["nodes"], {}, "--all-nodes"),
        (["pods"], {}, "-l SELECTOR"),
        ([], {"selector": " "}, "label selector"),
        (["deploy"], {}, "deployment/NAME"),
    ],
)
def test_what_means_nothing_is_refused_with_what_would(
    words: list[str], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        targets.parse(words, **options)


@pytest.mark.parametrize(
    ("words", "has_scope"),
    [
        (["node/a"], False),
        (["local"], False),
        (["local/1"], True),
        (["pod/a"], True),
        (["svc/a"], True),
    ],
)
def test_containers_and_processes_have_a_scope(words: list[str], has_scope: bool) -> None:
    assert targets.parse(words).has_scope is has_scope
