from __future__ import annotations

import itertools

from hypothesis import given
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
    reader.feed(encode(Record(1, 0.0, "summary", {})) + b"\n")
    assert reader.ended


def test_a_line_that_is_no_record_is_kept_as_a_message() -> None:
    (record,) = RecordReader().feed(b"Traceback (most recent call last):\n\n")
    assert (record.type, record.data) == ("stderr", "Traceback (most recent call last):")
