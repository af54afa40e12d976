from __future__ import annotations

from kubectl_trace.results.record import Loss
from kubectl_trace.runner.losses import known, note
from kubectl_trace.runner.tally import LostTexts
from kubectl_trace.trace import Container


def containers(*pods: str) -> list[Container]:
    return [Container("n", pod, "main", f"id-{pod}") for pod in pods]


def test_lines_are_told_by_container_and_who_had_none_is_named() -> None:
    text = note(7, containers("quiet", "noisy", "silent"), {0: 3, 2: 900, 1: 2})
    assert text == (
        "7 events were lost in the kernel's buffer, which all containers share: whose they were is "
        "not known. Lines came of noisy/main (900), quiet/main (2); none of silent/main"
    )


def test_of_many_containers_some_are_named() -> None:
    pods = [f"p{number}" for number in range(20)]
    text = note(1, containers(*pods), dict.fromkeys(range(1, 9), 1))
    assert "p4/main (1), 3 more; none of p8/main, p9/main" in text
    assert text.endswith("7 more")


def test_pods_of_one_name_in_two_namespaces_are_told_apart() -> None:
    both = [Container("a", "db-0", "app", "1"), Container("b", "db-0", "app", "2")]
    assert note(5, both, {1: 100}).endswith("Lines came of a/db-0/app (100); none of b/db-0/app")
    assert note(5, both, {2: 100}).endswith("Lines came of b/db-0/app (100); none of a/db-0/app")


def test_a_pod_that_was_made_anew_is_named_once() -> None:
    both = [
        Container("a", "db-0", "app", "1", "uid-1"),
        Container("a", "db-0", "app", "2", "uid-2"),
    ]
    assert note(5, both, {1: 100, 2: 1}).endswith("Lines came of db-0/app (101)")
    assert note(5, both, {2: 1}).endswith("Lines came of db-0/app (1)")


def test_what_was_lost_is_told_by_probe_and_container_the_most_first() -> None:
    texts = [LostTexts("k:f", 2, 5, 9), LostTexts("k:g", 0, 1, 1), LostTexts("", 0, 3, 3)]
    others = {("map full", "k:f", 0): 7, ("output limit", "k:f", 1): 2}
    assert known(texts, others, containers("a", "b")) == (
        Loss("map full", 7, 0, "k:f"),
        Loss("kernel buffer", 5, 9, "k:f", "n", "b", "main"),
        Loss("output limit", 2, 0, "k:f", "n", "a", "main"),
        Loss("kernel buffer", 1, 1, "k:g"),
    )
