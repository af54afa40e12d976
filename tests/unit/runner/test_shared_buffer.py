from __future__ import annotations

from kubectl_trace.runner.shared_buffer import note
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
