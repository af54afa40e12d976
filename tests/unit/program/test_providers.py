from __future__ import annotations

import pytest

from kubectl_trace.program.providers import attaches_to_file, expand, fires_in_a_task, is_begin


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("k", {"kprobe"}),
        ("kfunc", {"fentry"}),
        ("U", {"usdt"}),
        ("begin", {"BEGIN"}),
        ("k*", {"kprobe", "kretprobe"}),
        ("[BK]EGIN", set()),
        ("?EGIN", set()),
        ("KPROBE", set()),
    ],
)
def test_aliases_and_wildcards_stand_for_providers(written: str, names: set[str]) -> None:
    assert expand(written) == names


@pytest.mark.parametrize(
    "written", ["kprobe", "U", "p", "h", "*", "$1", "k$1", "X", "", "i?terval"]
)
def test_what_may_fire_in_a_task_is_to_be_limited(written: str) -> None:
    assert fires_in_a_task(written)


@pytest.mark.parametrize("written", ["BEGIN", "END", "i", "interval", "it", "self", "i*"])
def test_what_fires_for_the_trace_itself_is_not(written: str) -> None:
    assert not fires_in_a_task(written)


def test_no_wildcard_means_begin() -> None:
    assert [is_begin(written) for written in ("BEGIN", "begin", "*", "B*", "END")] == [
        *(True, True),
        *(False, False, False),
    ]


def test_uprobes_and_usdt_attach_to_files() -> None:
    assert all(map(attaches_to_file, ("u", "uretprobe", "U", "u*", "*")))
    assert not any(map(attaches_to_file, ("k", "tracepoint", "BEGIN", "X")))
