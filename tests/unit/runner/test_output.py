from __future__ import annotations

import errno
import json
import os
import tempfile
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.results.dialect import Output
from kubectl_trace.results.reader import RecordReader
from kubectl_trace.runner.output import Given, RecordWriter, Texts

if TYPE_CHECKING:
    from kubectl_trace.results.record import Record


LONG = "caf\u00e9 " + "x" * 190 + "\n"


def written(*given: Given) -> tuple[list[Record], RecordWriter]:
    reading, writing = os.pipe()
    writer = RecordWriter(writing)
    for each in given:
        writer.add_output(each)
    writer.flush()
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        return RecordReader().feed(file.read()), writer


def test_a_map_says_its_print_and_its_containers() -> None:
    parts = [{"@a": 1}, {"@a": 2}]
    (record,), writer = written(Given(Output("map", parts), [1, 3], 2))
    assert (record.data, record.container, record.print) == (parts, [1, 3], 2)
    assert writer.delivered == 1


def test_texts_are_joined_but_not_over_a_map() -> None:
    records, writer = written(
        Given(Output("printf", "a"), 1),
        Given(Output("printf", "b"), 2),
        Given(Output("map", {"@a": 1}), print=1),
        Given(Output("printf", "c"), 1),
    )
    assert [(record.type, record.data, record.container) for record in records] == [
        ("printf", ["a", "b"], [1, 2]),
        ("map", {"@a": 1}, 0),
        ("printf", "c", 1),
    ]
    assert writer.delivered == 4


def test_calls_are_joined_but_not_with_texts() -> None:
    first, second = {"function": "f", "time": 1.0}, {"function": "g", "time": 2.0}
    records, writer = written(
        Given(Output("call", first), 1),
        Given(Output("call", second), 1),
        Given(Output("printf", "a"), 1),
        Given(Output("call", first), 1),
        Given(Output("call", second), 2),
        Given(Output("map", {"@a": 1})),
        Given(Output("call", first), 3),
    )
    assert [(record.type, record.data, record.container) for record in records] == [
        ("call", [first, second], 1),
        ("printf", "a", 1),
        ("call", [first, second], [1, 2]),
        ("map", {"@a": 1}, 0),
        ("call", first, 3),
    ]
    assert writer.delivered == 6 + 1


def test_calls_that_were_passed_over_are_lost_and_not_delivered() -> None:
    records, writer = written(
        Given(Output("rate_limit", {"events": 5})), Given(Output("rate_limit", {"events": 2}))
    )
    assert writer.lost == {"rate limit": 7}
    assert writer.delivered == 0
    assert len(records) == 2


def test_a_print_of_nothing_is_told_but_not_counted() -> None:
    records, writer = written(Given(Output("map", {}), print=1), Given(Output("map", []), [], 2))
    assert [(record.data, record.container, record.print) for record in records] == [
        ({}, 0, 1),
        ([], [], 2),
    ]
    assert writer.delivered == 0


# As 0.17, 0.23 and 0.27 say it.
@pytest.mark.parametrize(
    "text",
    [
        {},
        {"msg": "Map full; can't update element. Try increasing max_map_keys config"},
        {"msg": "Argument list too long", "filename": "stdin"},
    ],
)
def test_an_update_that_a_full_map_refuses_is_a_lost_event(text: dict[str, str]) -> None:
    error = {"helper": "map_update_elem", "retcode": -errno.E2BIG, "line": 1, "col": 2, **text}
    given = Given(Output("helper_error", error))
    _, writer = written(given, given)
    assert writer.lost == {"map full": 2}
    assert writer.delivered == 0


@pytest.mark.parametrize(
    ("helper", "code"), [("map_update_elem", -errno.EINVAL), ("get_stackid", -errno.E2BIG)]
)
def test_other_errors_of_helpers_are_no_lost_events(helper: str, code: int) -> None:
    _, writer = written(Given(Output("helper_error", {"helper": helper, "retcode": code})))
    assert writer.lost == {}


@pytest.mark.parametrize("text", ["", "a text of 40 characters, as usual, here\n", "é" * 3000])
def test_texts_of_a_flood_come_in_records_that_no_runtime_cuts(text: str) -> None:
    with tempfile.TemporaryFile() as file:
        writer = RecordWriter(file.fileno())
        for _ in range(10):
            writer.add_texts(Texts([text] * 1000, [3], ["k:f"]))
            writer.flush()
        file.seek(0)
        lines = file.read().splitlines(keepends=True)
    records = RecordReader().feed(b"".join(lines))
    assert [each for record in records for each in record.data] == [text] * 10_000
    assert max(map(len, lines)) <= 16 << 10
    assert len(lines) <= 10 + sum(map(len, lines)) / 10_000


@pytest.mark.parametrize(
    "texts",
    [["a\n"] * 300 + ["x" * 190] * 300, ["\x1b" * 40] * 1000, ["a"] * 999 + ["\x01" * 15_000]],
    ids=["short and long", "escapes", "one long"],
)
def test_texts_that_are_not_alike_come_in_such_records_too(texts: list[str]) -> None:
    with tempfile.TemporaryFile() as file:
        writer = RecordWriter(file.fileno())
        writer.add_texts(Texts(texts, list(range(len(texts))), [""]))
        writer.flush()
        file.seek(0)
        lines = file.read().splitlines(keepends=True)
    assert all(isinstance(json.loads(each)["data"], str) for each in lines if len(each) > 16 << 10)
    records = RecordReader().feed(b"".join(lines))
    shown = [each for record in records for each in _pairs(record)]
    assert shown == list(zip(texts, range(len(texts)), strict=True))


def _pairs(record: Record) -> list[tuple[object, object]]:
    if isinstance(record.container, int):
        texts = record.data if isinstance(record.data, list) else [record.data]
        return [(text, record.container) for text in texts]
    return list(zip(record.data, record.container, strict=True))


@pytest.mark.parametrize(
    "output",
    [Output("printf", LONG), Output("printf", ""), Output("call", {"function": "f" * 300})],
)
def test_what_comes_one_by_one_is_joined_up_to_what_no_runtime_cuts(output: Output) -> None:
    with tempfile.TemporaryFile() as file:
        writer = RecordWriter(file.fileno())
        for number in range(10_000):
            writer.add_output(Given(output, number % 3))
        writer.flush()
        file.seek(0)
        lines = file.read().splitlines(keepends=True)
    assert max(map(len, lines)) <= 16 << 10
    assert len(lines) <= 1 + sum(map(len, lines)) / 12_000
    records = RecordReader().feed(b"".join(lines))
    assert [each for record in records for each in record.data] == [output.data] * 10_000
    assert writer.delivered == 10_000


def test_a_flood_goes_on_in_the_record_that_was_begun() -> None:
    reading, writing = os.pipe()
    writer = RecordWriter(writing)
    for _ in range(100):
        writer.add_texts(Texts(["a", "b"], [1], [""]))
        writer.add_output(Given(Output("printf", "c"), 1))
    writer.flush()
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        (record,) = RecordReader().feed(file.read())
    assert record.data == ["a", "b", "c"] * 100
