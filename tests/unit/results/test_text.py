from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.results.dialect import Output
from kubectl_trace.results.text import render

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from(["", "x", "a,b", "\n  f\n"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["min", "max", "count", "value", "a,[1]"]), inner)
    ),
)


@given(st.sampled_from(["printf", "map", "hist", "stats", "tseries", "value", "join"]), PLAIN)
def test_data_of_any_shape_is_shown(kind: str, data: object) -> None:
    for shaped in (data, {"@": data}, {"@": [data]}, {"@": {"k": [data, data]}}):
        assert isinstance(render(Output(kind, shaped)), str)


def test_a_record_without_its_shape_is_shown_as_json() -> None:
    assert render(Output("hist", {"@": [5]})) == '{"type":"hist","data":{"@":[5]}}\n'


def test_join_has_no_newline_in_json() -> None:
    assert render(Output("join", "ls -l")) == "ls -l\n"


@pytest.mark.parametrize("kind", ["printf", "time", "cat", "syscall", "raw"])
def test_texts_are_shown_as_they_are(kind: str) -> None:
    assert render(Output(kind, "a\n\x1b no newline")) == "a\n\x1b no newline"


def test_joined_texts_of_printf_are_shown_one_after_the_other() -> None:
    assert render(Output("printf", ["a\n", "b", "c\n"])) == "a\nbc\n"


@pytest.mark.parametrize(
    "kind", ["attached_probes", "lost_events", "helper_error", "runtime_error", "errorf", "warnf"]
)
def test_what_bpftrace_shows_on_standard_error_is_no_text(kind: str) -> None:
    assert render(Output(kind, {"msg": "m"})) == ""


def test_an_unknown_type_is_shown_as_json() -> None:
    assert render(Output("new", {"a": 1})) == '{"type":"new","data":{"a":1}}\n'


def test_integers_that_come_unsorted_are_sorted_by_value_and_ties_stay() -> None:
    data = {"@": {"c": 3, "a": 1, "y": 2, "x": 2, "n": -1}}
    assert render(Output("map", data)) == "@[n]: -1\n@[a]: 1\n@[y]: 2\n@[x]: 2\n@[c]: 3\n"


def test_integers_sorted_as_if_unsigned_stay() -> None:
    assert render(Output("map", {"@": {"a": 6, "b": -1}})) == "@[a]: 6\n@[b]: -1\n"


def test_texts_stay_in_the_order_they_came_in() -> None:
    assert render(Output("map", {"@": {"1": "z", "2": "a"}})) == "@[1]: z\n@[2]: a\n"


def test_a_null_is_shown() -> None:
    assert render(Output("value", None)) == "null\n"


def test_a_histogram_with_empty_buckets_only_has_no_bars() -> None:
    buckets = [{"min": 0, "max": 0, "count": 0}]
    assert render(Output("hist", {"@": buckets})) == f"@:\n{'[0]':<16}       0 |{'':52}|\n\n"


def test_a_histogram_without_buckets_is_its_name() -> None:
    assert render(Output("hist", {"@": []})) == "@:\n\n"


@pytest.mark.parametrize(
    ("limits", "label"),
    [
        ((512, 1023), "[512, 1K)"),
        ((2**62, 2**63 - 1), "[4E, 8E)"),
        ((2**40, 2**41 - 1), "[1T, 2T)"),
        ((0, 9), "[0, 10)"),
        ((1000, 1999), "[1000, 2000)"),
        ((7, 7), "[7]"),
        ((-20, -11), "[-20, -10)"),
    ],
)
def test_a_lone_bucket_is_labelled_by_its_limits(limits: tuple[int, int], label: str) -> None:
    text = render(Output("hist", {"@": [{"min": limits[0], "max": limits[1], "count": 1}]}))
    assert text.startswith(f"@:\n{label:<16}       1 |{'@' * 52}|\n")


def test_a_time_series_has_its_gaps_and_its_end() -> None:
    # What bpftrace 0.27.1 printed for such a record.
    start = "2026-11-22 23:02:43"
    data = {
        "a": [
            {"interval_start": f"{start}.700000000", "value": -5},
            {"interval_start": f"{start}.900000000", "value": 7},
        ],
        "b": [{"interval_start": f"{start}.900000000", "value": 9}],
        "c": [{"interval_start": f"{start}.800000000", "value": 1}],
    }
    text = render(Output("tseries", {"@k": data}))
    assert text.startswith(
        "@k[a]:\n"
        "             -5                                                  7\n"
        "hh:mm:ss.ms  |___________________________________________________|\n"
        "23:02:43.700 *                     .                             | -5\n"
        "23:02:43.800 |                     .                             | -\n"
        "23:02:43.900 |                     .                             * 7\n"
        "             v___________________________________________________v\n"
        "             -5                                                  7\n"
        "\n"
        "@k[b]:\n"
        "                   8                                                  10\n"
        "hh:mm:ss.ns        |___________________________________________________|\n"
        "23:02:43.900000000 |                         *                         | 9\n"
    )
    assert "23:02:43.900 |                                                   | -\n" in text


def test_a_time_series_without_values_says_so() -> None:
    assert render(Output("tseries", {"@": []})) == "@:\n<no data>\n"
