from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from kubectl_trace.cli.live_screen import SORTS, MapView, View, screen
from kubectl_trace.results.result import Result

if TYPE_CHECKING:
    from collections.abc import Iterable


def drawn(view: View, width: int = 80, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=False, width=width)
    with console.capture() as captured:
        console.print(screen(view, width, height), end="", soft_wrap=True)
    return captured.get().removesuffix("\n").split("\n")


def map_view(value: Any, kind: str = "map", *, name: str = "@", **more: Any) -> MapView:
    return MapView(name, more.pop("place", ""), Result(1.0, kind, {name: value}), **more)


def view(*values: Any, **more: Any) -> View:
    return View(maps=tuple(map_view(value) for value in values), **more)


def rows(lines: Iterable[str]) -> list[list[str]]:
    return [line.split() for line in lines]


NUMBERS = st.integers(-(2**63), 2**64 - 1)
TEXTS = st.text(max_size=30)
BUCKETS = st.lists(st.fixed_dictionaries({"min": NUMBERS, "max": NUMBERS, "count": NUMBERS}))
STATS = st.fixed_dictionaries({"count": NUMBERS, "average": NUMBERS, "total": NUMBERS})
ANY = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS | BUCKETS | STATS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=9),
    max_leaves=12,
)
VIEWS = st.builds(
    View,
    maps=st.lists(
        st.builds(
            map_view,
            ANY,
            st.sampled_from(["map", "hist", "stats", "tseries"]),
            place=TEXTS,
            before=ANY,
            seconds=st.floats(0, 9),
            limited=st.booleans(),
        ),
        max_size=6,
    ).map(tuple),
    lines=st.lists(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)), max_size=30).map(
        tuple
    ),
    running=st.integers(0, 9),
    nodes=st.integers(0, 9),
    rate=st.floats(0, 1e7),
    lost=st.integers(0, 2**40),
    age=st.floats(0, 1e6),
    status=TEXTS,
    sort=st.sampled_from(SORTS),
    keys=st.booleans(),
)


@settings(deadline=None, max_examples=30)
@given(VIEWS, st.integers(1, 120), st.integers(1, 60))
def test_anything_fits_into_any_terminal(view: View, width: int, height: int) -> None:
    lines = drawn(view, width, height)
    assert len(lines) == height
    assert max(map(cell_len, lines)) <= width


@settings(deadline=None, max_examples=30)
@given(VIEWS)
def test_nothing_that_commands_a_terminal_is_drawn(view: View) -> None:
    assert not any(ord(each) < 0x20 or ord(each) == 0x7F for line in drawn(view) for each in line)


def test_markup_in_keys_is_text() -> None:
    assert "[red]x[/]" in drawn(view({"[red]x[/]": 1}))[1]


def test_rows_are_sorted_by_value_greatest_first() -> None:
    assert rows(drawn(view({"a": 5, "b": -1, "c": 70}))[1:4]) == [
        ["c", "70"],
        ["a", "5"],
        ["b", "-1"],
    ]


def test_rows_are_sorted_by_key_numbers_as_numbers() -> None:
    found = rows(drawn(view({"10": 1, "9": 1, "x": 1}, sort="key"))[1:4])
    assert [row[0] for row in found] == ["9", "10", "x"]


def test_each_row_has_its_rate_and_can_be_sorted_by_it() -> None:
    entry = map_view({"a": 300, "b": 50, "new": 4}, before={"a": 299, "b": 10}, seconds=2.0)
    found = rows(drawn(View(maps=(entry,), sort="rate"))[1:4])
    assert found == [["b", "50", "20.0/s"], ["new", "4", "2.0/s"], ["a", "300", "0.5/s"]]


def test_an_entry_that_may_have_been_there_before_has_no_rate() -> None:
    entry = map_view({"a": 2, "new": 4}, before={"a": 1}, seconds=1.0, limited=True)
    assert rows(drawn(View(maps=(entry,)))[1:3]) == [["new", "4"], ["a", "2", "1.0/s"]]


def test_a_map_without_keys_is_one_line() -> None:
    entry = map_view(7, name="@n", before=5, seconds=1.0)
    assert drawn(View(maps=(entry,)))[0] == "@n: 7  2.0/s"


def test_what_does_not_fit_of_a_map_is_its_least_entries() -> None:
    lines = drawn(view({f"k{i}": i for i in range(100)}), height=8)
    assert lines[0] == "@  100 keys"
    assert [row[0] for row in rows(lines[1:5])] == ["k99", "k98", "k97", "k96"]


def test_maps_that_do_not_fit_at_all_are_counted() -> None:
    lines = drawn(view(*({"a": 1, "b": 2} for _ in range(9))), height=12)
    assert any(line.endswith("more maps below") for line in lines)


def test_small_maps_leave_their_lines_to_great_ones() -> None:
    lines = drawn(view({"a": 1}, {f"k{i}": i for i in range(30)}), height=30)
    assert sum(line.startswith("k") for line in lines) == 23


def test_a_histogram_is_drawn_as_bpftrace_draws_it() -> None:
    entry = map_view([{"min": 2, "max": 3, "count": 5}], "hist", name="@h")
    assert drawn(View(maps=(entry,)))[2] == f"[2, 4)                 5 |{'@' * 52}|"


def test_of_many_histograms_the_busiest_are_drawn() -> None:
    values = {f"k{i}": [{"min": 2, "max": 3, "count": i}] for i in range(50)}
    lines = drawn(View(maps=(map_view(values, "hist"),)), height=14)
    assert [line for line in lines if line.startswith("@[")] == ["@[k49]:", "@[k48]:", "@[k47]:"]


def test_stats_have_their_three_columns() -> None:
    entry = map_view({"a": {"count": 2, "average": 5, "total": 10}}, "stats")
    assert rows(drawn(View(maps=(entry,)))[1:3]) == [
        ["count", "average", "total"],
        ["a", "2", "5", "10"],
    ]


def test_a_stack_in_a_key_is_one_line_leaf_first() -> None:
    assert drawn(view({"dd,\n    read+1\n    main+2\n": 7}))[1].startswith("dd, read+1 < main+2 ")


def test_missing_nodes_are_named() -> None:
    result = Result(1.0, "map", {"@": {"a": 1}}, missing=("node-c",))
    assert drawn(View(maps=(MapView("@", "", result),)))[0] == "@  1 key  without node-c"


@pytest.mark.parametrize(
    ("given_view", "said"),
    [
        (View(running=2, nodes=3), "2 of 3 nodes running"),
        (View(rate=12345.6), "12,346 records/s"),
        (View(lost=4), "4 events lost"),
        (View(), "none lost"),
        (View(age=3675), "1:01:15"),
        (View(status="paused"), "paused"),
        (View(sort="rate"), "s sort: rate"),
        (View(keys=False), "Ctrl-C stops"),
    ],
)
def test_the_footer_says_how_the_trace_is(given_view: View, said: str) -> None:
    assert said in "\n".join(drawn(given_view)[-2:])


def test_printed_lines_are_below_the_maps_and_above_the_footer() -> None:
    lines = drawn(view({"a": 1}, lines=tuple(f"line {i}" for i in range(50))), height=24)
    assert lines[0] == "@  1 key"
    assert lines[-9:-2] == [f"line {i}" for i in range(43, 50)]
    assert len([line for line in lines if line.startswith("line")]) == 7


def test_printed_lines_have_the_whole_screen_where_there_are_no_maps() -> None:
    lines = drawn(View(lines=tuple(f"line {i}" for i in range(50))), height=24)
    assert lines[:22] == [f"line {i}" for i in range(28, 50)]
