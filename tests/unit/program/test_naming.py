from __future__ import annotations

import pytest

from kubectl_trace.program import naming, prepare, scope, syntax
from kubectl_trace.program.rewrite import Rewritten


def test_probes_are_called_as_the_user_wrote_them_and_hidden_ones_as_they_run() -> None:
    text = "k:f,\n  k:g /pid/ { @ = 1; }\r\ninterval:s:1 { print(@); }\r\nEND { }"
    source = prepare.placed(text, {}, [])
    program = prepare.limited(source, scope.by_task(syntax.parse(source.text)))
    assert naming.probes(program, text) == [
        "tracepoint:sched:sched_process_free",
        "tracepoint:sched:sched_process_fork",
        "k:f, k:g",
        "interval:s:1",
        "END",
        "BEGIN",
    ]


@pytest.mark.parametrize("cgroup", ["", scope.CGROUP2])
def test_what_is_put_around_a_probe_changes_no_name(cgroup: str) -> None:
    text = "k:f /pid/ { }\r\nk:g { @ = 1; }BEGIN /pid/ { } k:h { { } }"
    source = prepare.placed(text, {}, [])
    limit = scope.by_namespace(syntax.parse(source.text), cgroup)
    program = prepare.limited(source, limit)
    assert naming.probes(program, text) == ["k:f", "k:g", "BEGIN", "k:h"]


@pytest.mark.parametrize("cgroup", ["", scope.CGROUP2])
def test_the_two_halves_of_a_probe_are_one_to_the_user(cgroup: str) -> None:
    text = "kprobe:f, interval:s:1 { @ = 1; }"
    program = prepare.limited(Rewritten.of(text), scope.by_namespace(syntax.parse(text), cgroup))
    assert naming.probes(program, text)[:2] == ["kprobe:f, interval:s:1"] * 2


def test_a_program_of_ours_names_its_own() -> None:
    text = "uprobe:a:1 { } uprobe:a:2 { } END { }"
    program = Rewritten.of(text)
    assert naming.probes(program, text, ["f", "f (return)"]) == ["f", "f (return)", "END"]


def test_long_lists_are_cut() -> None:
    text = f"{', '.join(f'kprobe:f{number}' for number in range(100))} {{ }}"
    (name,) = naming.probes(Rewritten.of(text), text)
    assert len(name) == 120
    assert name.endswith("…")
