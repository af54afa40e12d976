from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubectl_trace.results.reader import RecordReader
from kubectl_trace.results.record import Record, encode


def wire(*numbers: int) -> bytes:
    return b"".join(encode(Record(n, 0.0, "printf", str(n))) + b"\n" for n in numbers)


@given(st.integers(0, 30), st.lists(st.integers(0, 500)))
def test_how_the_stream_is_cut_does_not_matter(count: int, cuts: list[int]) -> None:
    data = wire(*range(count))
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    reader = RecordReader()
    records = [
        record
        for begin, end in itertools.pairwise(places)
        for record in reader.feed(data[begin:end])
    ]
    assert [record.seq for record in records] == list(range(count))
    assert reader.lost == 0


def test_what_has_come_already_does_not_come_twice() -> None:
    reader = RecordReader()
    reader.feed(wire(0, 1, 2) + b'{"seq":3,"ti')
    reader.restart()
    assert [record.seq for record in reader.feed(wire(0, 1, 2, 3, 4))] == [3, 4]
    assert reader.lost == 0


def test_a_gap_is_counted() -> None:
    reader = RecordReader()
    reader.feed(wire(0, 1) + wire(5))
    assert reader.lost == 3


def test_the_summary_ends_the_stream() -> None:
    reader = RecordReader()
    reader.feed(wire(0))
    assert not reader.ended
    reader.feed(encode(Record(1, 0.0, "summary", {"exit": 0, "reason": "finished"})) + b"\n")
    assert reader.ended


def test_a_line_that_is_no_record_is_kept_as_a_message() -> None:
    (record,) = RecordReader().feed(b"Traceback (most recent call last):\n\n")
    assert (record.type, record.data) == ("stderr", "Traceback (most recent call last):")


def test_a_line_that_never_ends_takes_no_more_than_so_much_and_is_told_once() -> None:
    reader = RecordReader(longest=1 << 20)
    told = [record for _ in range(64) for record in reader.feed(b"x" * (1 << 16))]
    assert [(each.type, each.data) for each in told] == [
        ("stderr", "a line of more than 1 MiB is passed over")
    ]
    assert len(reader._rest) == 0
    (record,) = reader.feed(b'xx\n{"seq":0,"time":1,"type":"printf","data":"after"}\n')
    assert record.data == "after"


@pytest.mark.parametrize(
    "line",
    [
        b'{"seq":0,"time":1,"type":"start","data":null}',
        b'{"seq":0,"time":1,"type":"start","data":{"protocol":4}}',
        b'{"seq":0,"time":1,"type":"start","data":{"type":"hist","@":[{"count":1}]}}',
        b'{"seq":0,"time":1,"type":"summary","data":{"exit":"0"}}',
        b'{"seq":0,"time":1,"type":"printf","data":{"a":1}}',
        b'{"seq":0,"time":1,"type":"printf","data":["a",1]}',
        b'{"seq":0,"time":1,"type":"map","data":5}',
        b'{"seq":0,"time":1,"type":"stderr","data":[]}',
        b'{"seq":1e400,"time":1,"type":"printf","data":""}',
        b'{"seq":0,"time":"now","type":"printf","data":""}',
        b"[" * 100_000,
        b'{"seq":0,"time":1,"type":"value","data":' + b'{"a":' * 100_000,
        b"\xff\xfe",
        b'{"seq":0,"time":1,"type":"printf","data":"\xff"}',
    ],
)
def test_a_line_whose_data_is_not_as_its_type_says_is_no_record(line: bytes) -> None:
    (record,) = RecordReader().feed(line + b"\n")
    assert (record.seq, record.type) == (-1, "stderr")
    assert len(record.data) <= 64 << 10


@settings(deadline=None)
@given(st.lists(st.binary(max_size=30) | st.just(b"\n"), max_size=20))
def test_any_bytes_are_read(pieces: list[bytes]) -> None:
    reader = RecordReader(longest=64)
    for piece in pieces:
        reader.feed(piece)
        assert len(reader._rest) <= 64 + 30
