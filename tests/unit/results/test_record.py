from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kubectl_trace.results.dialect import parse_line
from kubectl_trace.results.record import Bucket, Record, decode, encode

HISTOGRAMS = [
    output.data
    for path in sorted(Path(__file__).parent.glob("bpftrace-*.json"))
    for pair in json.loads(path.read_text()).values()
    for line in pair["json"].encode("latin-1").splitlines()
    if (output := parse_line(line)) and output.type == "hist"
]


@pytest.mark.parametrize("data", HISTOGRAMS)
@pytest.mark.parametrize("split", [False, True])
def test_histograms_are_read_as_buckets_and_written_as_they_came(data: Any, split: bool) -> None:
    record = Record(5, 1.5, "hist", [data, data] if split else data, [1, 2] if split else 0)
    line = encode(record)
    read = decode(line)
    assert encode(read) == line
    (value,) = (read.data[1] if split else read.data).values()
    buckets = value if isinstance(value, list) else next(iter(value.values()))
    assert all(isinstance(bucket, Bucket) for bucket in buckets)
    assert msgspec.to_builtins(read.data) == record.data


@pytest.mark.parametrize(
    "data", [{"@": 5}, {"@": [{"min": 1, "x": 2}]}, {"@": [{"min": "a", "count": 1}]}]
)
def test_what_only_looks_like_a_histogram_is_read_as_it_is(data: Any) -> None:
    record = Record(5, 1.5, "hist", data)
    assert decode(encode(record)) == record


def test_a_text_that_looks_like_a_histograms_record_is_a_text() -> None:
    record = Record(5, 1.5, "printf", '"type":"hist"')
    assert decode(encode(record)) == record
    # The quotes of a text are escaped, but those of a key are not.
    record = Record(5, 1.5, "map", {"type": "hist"})
    assert decode(encode(record)) == record
