from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.results.record import encode
from kubectl_trace.runner.output_limit import OutputLimit
from kubectl_trace.trace import Limits

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"])))


@given(TEXTS, st.integers(1, 20))
def test_so_many_records_and_no_more_are_admitted(texts: list[str], most: int) -> None:
    limit = OutputLimit(Limits(records=most))
    admitted = [limit.admits("printf", text) for text in texts]
    assert admitted == [at < most for at in range(len(texts))]
    assert sum(admitted) + limit.dropped == len(texts)
    assert limit.is_reached == (len(texts) >= most)


@given(TEXTS, st.integers(1, 100))
def test_what_is_admitted_is_over_the_size_by_one_record_at_most(
    texts: list[str], most: int
) -> None:
    limit = OutputLimit(Limits(bytes=most))
    admitted = [text for text in texts if limit.admits("printf", text)]
    sizes = [len(text.encode()) for text in admitted]
    assert sum(sizes[:-1]) < most
    assert limit.is_reached == (sum(sizes) >= most)
    assert len(admitted) + limit.dropped == len(texts)


def test_maps_are_always_admitted_and_count_by_their_size_only() -> None:
    limit = OutputLimit(Limits(records=1, bytes=100))
    data = {"@": {"a key": 1}}
    assert all(limit.admits("map", data) for _ in range(100 // len(encode(data)) + 1))
    assert limit.is_reached, "they are long"
    assert limit.admits("hist", {"@h": []})
    assert not limit.admits("printf", "a")


def test_without_limits_everything_is_admitted() -> None:
    limit = OutputLimit(Limits())
    assert all(limit.admits("printf", "x" * 1000) for _ in range(1000))
    assert not limit.is_reached


def test_the_user_is_told_what_to_raise() -> None:
    limit = OutputLimit(Limits(records=2, bytes=10**9))
    for _ in range(5):
        limit.admits("printf", "a")
    assert limit.message().startswith("2 records written, 3 more records dropped: raise --max-rec")
    limit = OutputLimit(Limits(bytes=3))
    limit.admits("printf", "abc")
    assert limit.message().startswith("3 bytes written: raise --max-bytes")
