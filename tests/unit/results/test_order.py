from __future__ import annotations

from typing import Any

import pytest

from kubectl_trace.results.order import ordered, printed
from kubectl_trace.results.record import Map, Print


def bucket(count: int) -> list[dict[str, int]]:
    return [{"min": 2, "max": 3, "count": count}]


def stats(average: int) -> dict[str, int]:
    return {"count": 2, "average": average, "total": average * 2 + 1}


@pytest.mark.parametrize(
    ("kind", "facts", "value", "keys"),
    [
        ("map", Map("count"), {"a": 3, "b": 1, "c": 2}, "bca"),
        ("map", Map("sum"), {"a": 3, "b": -1, "c": 2}, "bca"),
        ("map", Map("min"), {"a": -3, "b": 5, "c": 0}, "cba"),
        ("map", Map("max"), {"a": -3, "b": 5, "c": 0}, "cba"),
        ("map", Map("count"), {"c": 1, "b": 1, "a": 1}, "abc"),
        ("map", Map("value"), {"c": "x", "b": "y", "a": "z"}, "abc"),
        ("hist", Map("hist"), {"a": bucket(3), "b": bucket(1)}, "ba"),
        ("stats", Map("stats"), {"a": stats(3), "b": stats(-1)}, "ba"),
        ("stats", Map("avg"), {"a": 3, "b": -1}, "ba"),
        ("tseries", Map("tseries"), {"b": [], "a": []}, "ab"),
    ],
)
def test_entries_are_in_bpftraces_order(kind: str, facts: Map, value: Any, keys: str) -> None:
    assert "".join(ordered(kind, facts, value)) == keys


def test_keys_are_ordered_part_by_part_and_integers_by_value() -> None:
    # As bpftrace 0.27.1 prints such a map.
    value = {"2,b": [1, 2], "10,a": [0, 5], "2,a": [0, 5], "-2,a": [0, 5]}
    assert list(ordered("map", Map("value"), value)) == ["-2,a", "2,a", "2,b", "10,a"]


def test_keys_with_different_numbers_of_commas_are_texts() -> None:
    value = {"b,c": "", "10": "", "9": ""}
    assert list(ordered("map", Map("value"), value)) == ["10", "9", "b,c"]


def test_a_key_of_very_many_digits_is_a_text() -> None:
    value = {"9" * 5000: 1, "1": 1}
    assert list(ordered("map", Map("count"), value)) == ["1", "9" * 5000]


@pytest.mark.parametrize("value", [5, "x", [1, 2], stats(3)])
def test_a_map_without_keys_has_no_order(value: Any) -> None:
    assert ordered("stats", Map(), value) == value


# What bpftrace 0.27.1 prints for `print(@, top, div)`.
@pytest.mark.parametrize(
    ("kind", "facts", "top", "div", "value", "expected"),
    [
        ("map", Map("sum"), 0, 2, {"b": -7, "a": 7}, {"b": -3, "a": 3}),
        ("map", Map("min"), 0, 2, {"c": 0, "b": 5, "a": -5}, {"c": 0, "b": 2, "a": -2}),
        ("map", Map("count"), 2, 0, {"c": 1, "b": 5, "a": 6}, {"b": 5, "a": 6}),
        ("map", Map("value"), 2, 0, {"a": "z", "m": "0", "z": "b"}, {"m": "0", "z": "b"}),
        ("map", Map("value"), 0, 2, {"k": [1, "x", [5]]}, {"k": [0, "x", [2]]}),
        ("map", Map("value"), 0, 2, {"k": {".a": 5, ".b": True}}, {"k": {".a": 2, ".b": True}}),
        ("map", Map("value"), 0, 2, 7, 3),
        ("stats", Map("avg"), 2, 3, {"y": -10, "x": -1, "z": 30}, {"x": 0, "z": 10}),
        (
            "stats",
            Map("stats"),
            1,
            3,
            {"x": stats(-2), "z": stats(30)},
            {"z": {"count": 2, "average": 10, "total": 61}},
        ),
        ("stats", Map("stats"), 1, 3, stats(30), {"count": 2, "average": 10, "total": 61}),
        ("hist", Map("hist"), 0, 2, {"b": bucket(1), "a": bucket(5)}, None),
        ("hist", Map("lhist"), 0, 2, {"b": bucket(1)}, {"b": bucket(1)}),
        ("hist", Map(), 0, 2, [{"min": 0, "max": 9, "count": 4}], None),
        ("tseries", Map("tseries"), 1, 2, {"a": [], "b": []}, {"a": [], "b": []}),
    ],
)
def test_top_and_div_are_as_bpftraces(
    kind: str, facts: Map, top: int, div: int, value: Any, expected: Any
) -> None:
    if kind == "hist" and expected is None:
        halves = {"b": bucket(0), "a": bucket(2)}
        expected = halves if facts.kind else value
    found = printed(kind, facts, Print("@", top=top, div=div), value)
    assert found == expected
    if isinstance(found, dict):
        assert list(found) == list(expected)


def test_top_of_integers_that_come_unsorted_is_of_the_greatest() -> None:
    # 0.27 does not sort integers that are one byte wide.
    value = {"2": 5, "1": -5, "3": 0}
    assert printed("map", Map("value"), Print("@", top=2), value) == {"3": 0, "2": 5}


def test_top_keeps_the_order_in_which_a_map_without_sign_came() -> None:
    value = {"a": 5, "b": -1}
    assert printed("map", Map("max"), Print("@", top=1), value) == {"b": -1}


@pytest.mark.parametrize("forged", [5, {"k": "x"}, {"k": [{"x": 1}]}])
def test_what_only_looks_like_a_histogram_stays(forged: Any) -> None:
    assert printed("hist", Map("hist"), Print("@", top=1, div=2), forged) == forged
