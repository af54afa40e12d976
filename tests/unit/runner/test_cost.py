"""Which BPF program is which attach point; the names are those of real bpftraces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.runner.cost import Budget, Count, Loaded, Point, by_point, shares, told

KPROBE, TRACEPOINT, PERF_EVENT, RAW_TRACEPOINT = 2, 5, 7, 17

POINTS = [
    Point(text, text)
    for text in (
        "BEGIN",
        "tracepoint:syscalls:sys_enter_getpid",
        "tracepoint:raw_syscalls:sys_enter",
        "uprobe:/bin/bash:readline",
        "uprobe:/bin/bash:main",
        "uprobe:/bin/bash:read*",
        "interval:s:1",
        "profile:hz:99",
        "END",
    )
]
NEW = (
    ("BEGIN_1", RAW_TRACEPOINT),
    ("tracepoint_sysc", TRACEPOINT),
    ("tracepoint_raw_", TRACEPOINT),
    ("uprobe__bin_bas", KPROBE),
    ("uprobe__bin_bas", KPROBE),
    ("uprobe__bin_bas", KPROBE),
    ("interval_s_1_6", PERF_EVENT),
    ("profile_hz_99_7", PERF_EVENT),
    ("END_8", RAW_TRACEPOINT),
)
OLD = (
    ("sys_enter_getpi", TRACEPOINT),
    ("sys_enter", TRACEPOINT),
    ("1", PERF_EVENT),
    ("99", PERF_EVENT),
    ("readonly_builti", KPROBE),
    ("read_octal", KPROBE),
    ("main", KPROBE),
)


def loaded(*named: tuple[str, int]) -> list[Loaded]:
    return [Loaded(number, name, kind) for number, (name, kind) in enumerate(named, 100)]


def whose(programs: list[Loaded], points: list[Point]) -> list[str]:
    found = by_point(programs, points)
    return [found[each.id] for each in programs]


def test_names_of_0_23_are_told_by_their_order() -> None:
    assert whose(loaded(*NEW), POINTS) == [point.shown for point in POINTS]


def test_a_wildcard_that_is_many_programs_takes_those_between_the_others() -> None:
    points = [
        Point(text, text)
        for text in ("tracepoint:syscalls:a", "tracepoint:syscalls:b*", "tracepoint:syscalls:c")
    ]
    programs = loaded(*[("tracepoint_sysc", TRACEPOINT)] * 6)
    assert whose(programs, points) == [
        "tracepoint:syscalls:a",
        *["tracepoint:syscalls:b*"] * 4,
        "tracepoint:syscalls:c",
    ]


def test_names_of_0_17_are_told_by_their_ends() -> None:
    assert whose(loaded(*OLD), POINTS) == [
        "tracepoint:syscalls:sys_enter_getpid",
        "tracepoint:raw_syscalls:sys_enter",
        "interval:s:1",
        "profile:hz:99",
        "uprobe:/bin/bash:read*",
        "uprobe:/bin/bash:read*",
        "uprobe:/bin/bash:main",
    ]


def test_what_can_not_be_told_names_all_that_it_may_be() -> None:
    (name,) = whose(loaded(("readline", KPROBE)), POINTS)
    assert name == "uprobe:/bin/bash:readline or uprobe:/bin/bash:read*"
    points = [Point(f"uprobe:/x:{name}*", f"uprobe:/x:{name}*") for name in "abcd"]
    names = whose(loaded(*[("uprobe__x_a", KPROBE)] * 2), points[:2])
    assert names == ["uprobe:/x:a*"] * 2
    names = whose(
        loaded(*[("uprobe__proc_se", KPROBE)] * 5),
        [Point(f"uprobe:/proc/self/fd/{at}:f*", f"uprobe:/{at}:f*") for at in range(4)],
    )
    assert set(names) == {"one of 4: uprobe:/0:f*, ..."}


def test_an_address_is_a_decimal_number_in_0_17() -> None:
    points = [Point("uprobe:/x:0x1159", "uprobe:/x:0x1159"), Point("uprobe:/x:f", "uprobe:/x:f")]
    assert whose(loaded(("4441", KPROBE)), points) == ["uprobe:/x:0x1159"]


def test_a_program_of_another_kind_keeps_its_own_name() -> None:
    assert whose(loaded(("main", TRACEPOINT)), POINTS) == ["main"]


def test_points_are_shown_as_the_user_wrote_them() -> None:
    point = Point("uprobe:/proc/self/fd/9:f", "uprobe:/usr/sbin/nginx:f")
    assert whose(loaded(("uprobe__proc_se", KPROBE)), [point]) == [point.shown]


def test_shares_are_of_one_cpu_and_the_costliest_comes_first() -> None:
    names = {1: "a", 2: "b", 3: "b"}
    before = {1: Count(10, 1000)}
    now = {1: Count(20, 1_001_000), 2: Count(1, 10_000_000), 3: Count(3, 30_000_000)}
    found = shares(before, now, names, seconds=2.0)
    assert [(each.probe, each.count.hits) for each in found] == [("b", 4), ("a", 10)]
    assert found[0].percent == pytest.approx(2.0)
    assert found[0].average_ns == pytest.approx(1e7)
    assert told(found) == "b 2.0 % (4 hits, 10000000 ns each), a 0.1 % (10 hits, 100000 ns each)"


def test_a_probe_that_was_never_hit_costs_nothing() -> None:
    (share,) = shares({}, {1: Count()}, {1: "a"}, seconds=0.0)
    assert (share.percent, share.average_ns) == (0.0, 0.0)
    assert told([share]) == ""


def test_a_trace_is_warned_once_and_stopped_when_it_stays_above_its_budget() -> None:
    budget = Budget(20)
    assert [budget.take(21) for _ in range(7)] == ["", "warn", "", "", "stop", "", ""]


@given(st.lists(st.floats(0, 40)))
def test_only_readings_in_a_row_stop_a_trace(percents: list[float]) -> None:
    budget = Budget(20)
    row = 0
    for percent in percents:
        row = row + 1 if percent > 20 else 0
        verdict = budget.take(percent)
        assert (verdict == "stop") == (row == Budget.STOPPED_AFTER)
        assert (verdict == "warn") == (row == Budget.WARNED_AFTER)
