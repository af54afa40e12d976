from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.results.dialect import parse_line
from kubectl_trace.results.result import Result
from kubectl_trace.results.rows import COLUMNS, RowsPrinter, rows

FIXTURES = sorted(Path(__file__).parent.glob("bpftrace-*.json"))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["min", "max", "count", "value", "@", "events"]), inner)
    ),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(*results: Result, out: io.StringIO | None = None) -> str:
    out = out or io.StringIO()
    printer = RowsPrinter(out)
    for result in results:
        printer.show(result)
    printer.close(None)
    return out.getvalue()


def table(*results: Result) -> list[dict[str, str]]:
    """The rows as another CSV reader sees them."""
    return list(csv.DictReader(io.StringIO(written(*results), newline="")))


def cells(data: Any, kind: str = "map") -> list[tuple[str, ...]]:
    names = COLUMNS[6:]
    return [tuple(row[name] for name in names) for row in table(Result(0.0, kind, data))]


def test_a_table_without_rows_has_its_header() -> None:
    assert written() == ("time,node,namespace,pod,container,type,map,key,field,min,max,value\n")


def test_a_row_says_when_and_where() -> None:
    result = Result(1.5, "printf", "x", "node-a", "default", "nginx-0", "nginx")
    assert written(result).splitlines()[1] == (
        "1970-01-01T00:00:01.500000Z,node-a,default,nginx-0,nginx,printf,,,,,,x"
    )


def test_a_merged_result_has_no_node() -> None:
    assert table(Result(0.0, "map", {"@": 1}))[0]["node"] == ""


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_out_as_it_went_in(text: str) -> None:
    assert [row["value"] for row in table(Result(0.0, "printf", text))] == [text]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_joined_texts_are_a_row_each(texts: list[str]) -> None:
    assert [row["value"] for row in table(Result(0.0, "printf", texts))] == texts


def test_a_map_is_a_row_a_key() -> None:
    assert cells({"@a": {"x,1": 5, "y": "text"}}) == [
        ("@a", "x,1", "", "", "", "5"),
        ("@a", "y", "", "", "", "text"),
    ]


def test_a_map_without_keys_is_a_row() -> None:
    assert cells({"@a": -5}) == [("@a", "", "", "", "", "-5")]


def test_stats_are_three_rows_a_key() -> None:
    assert cells({"@s": {"k": {"count": 2, "average": 5, "total": 11}}}, "stats") == [
        ("@s", "k", "count", "", "", "2"),
        ("@s", "k", "average", "", "", "5"),
        ("@s", "k", "total", "", "", "11"),
    ]


def test_stats_without_keys_are_three_rows() -> None:
    found = cells({"@s": {"count": 2, "average": 5, "total": 11}}, "stats")
    assert [row[1:3] for row in found] == [("", "count"), ("", "average"), ("", "total")]


def test_an_average_is_a_row_of_that_field() -> None:
    assert cells({"@s": {"k": 5}}, "stats") == [("@s", "k", "average", "", "", "5")]


def test_a_histogram_is_a_row_a_bucket_and_open_limits_are_empty() -> None:
    buckets = [{"max": -1, "count": 1}, {"min": 0, "max": 9, "count": 2}, {"min": 10, "count": 3}]
    assert cells({"@h": {"k": buckets}}, "hist") == [
        ("@h", "k", "", "", "-1", "1"),
        ("@h", "k", "", "0", "9", "2"),
        ("@h", "k", "", "10", "", "3"),
    ]


def test_a_time_series_is_a_row_an_interval() -> None:
    points = [{"interval_start": "1970-01-01T00:00:00.000000000Z", "value": 5}]
    assert cells({"@t": points}, "tseries") == [
        ("@t", "", "1970-01-01T00:00:00.000000000Z", "", "", "5")
    ]


def test_lost_events_are_a_row() -> None:
    assert cells({"events": 7}, "lost_events") == [("", "", "", "", "", "7")]


def test_a_call_is_a_row_an_argument_a_result_and_its_duration() -> None:
    call = {
        "function": "main.Add",
        "pid": 1,
        "tid": 2,
        "time": 3.5,
        "ended": "returned",
        "duration": 1500,
        "arguments": [
            {"name": "n", "type": "int", "value": 5, "text": "5"},
            {"name": "p", "type": "*T", "value": {"x": 1}, "text": "&{x=1}"},
        ],
        "results": [{"name": "", "type": "error", "value": None, "text": "nil"}],
    }
    assert cells(call, "call") == [
        ("main.Add", "n", "argument", "", "", "5"),
        ("main.Add", "p", "argument", "", "", '{"x":1}'),
        ("main.Add", "", "result", "", "", "null"),
        ("main.Add", "", "duration", "", "", "1500"),
    ]


def test_a_call_that_has_not_ended_has_no_duration() -> None:
    assert cells({"function": "f", "pid": 1, "tid": 2, "time": 3.5}, "call") == [
        ("f", "", "duration", "", "", "0")
    ]


@pytest.mark.parametrize(
    "data", [5, "x", None, [], {}, {"function": "f", "arguments": 5}, {"arguments": [{}]}]
)
def test_what_is_no_call_though_it_says_so_is_json(data: object) -> None:
    ((*_, value),) = cells(data, "call")
    assert json.loads(value) == data


@pytest.mark.parametrize("kind", ["start", "ready", "scope", "summary", "stderr", "note"])
def test_what_is_about_the_run_is_no_row(kind: str) -> None:
    assert rows(Result(0.0, kind, {"a": 1})) == []


@pytest.mark.parametrize(
    ("value", "shown"), [([1, "x"], '[1,"x"]'), (True, "true"), (None, "null")]
)
def test_what_is_no_text_or_number_is_json(value: object, shown: str) -> None:
    assert cells(value, "value") == [("", "", "", "", "", shown)]


@given(st.sampled_from(["map", "hist", "stats", "tseries", "lost_events", "value", "x"]), PLAIN)
def test_data_of_any_shape_is_taken(kind: str, data: object) -> None:
    for shaped in (data, {"@": data}, {"@": {"k": data}}):
        assert len(table(Result(0.0, kind, shaped))) == len(rows(Result(0.0, kind, shaped)))


def test_control_characters_are_escaped_on_a_terminal_only() -> None:
    result = Result(0.0, "printf", "a\x1b[31m\r")
    assert written(result).endswith('"a\x1b[31m\r"\n')
    assert written(result, out=Terminal()).endswith('"a\\x1b[31m\\x0d"\n')


def test_what_a_spreadsheet_would_take_for_a_formula_is_left_alone() -> None:
    assert table(Result(0.0, "printf", "=1+1"))[0]["value"] == "=1+1"


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.stem)
def test_every_map_of_real_bpftraces_has_all_its_keys(fixture: Path) -> None:
    found = 0
    for recorded in json.loads(fixture.read_text()).values():
        for line in recorded["json"].encode("latin-1").splitlines():
            output = parse_line(line)
            if output is None or output.type not in ("map", "hist", "stats", "tseries"):
                continue
            assert isinstance(output.data, dict)
            ((name, value),) = output.data.items()
            read = table(Result(0.0, output.type, output.data))
            assert {row["map"] for row in read} <= {name}
            is_struct = output.type == "stats" and isinstance(value, dict) and "average" in value
            if isinstance(value, dict) and not is_struct:
                assert [*dict.fromkeys(row["key"] for row in read)] == list(value)
            found += 1
    assert found > 50
