from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.runner.repeated import Repeated

FULL = {"helper": "map_update_elem", "retcode": -7, "line": 1, "col": 2}


@given(st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 1000)), min_size=1))
def test_lost_events_are_told_once_a_second_and_none_is_forgotten(
    gaps: list[tuple[float, int]],
) -> None:
    repeated, now, told = Repeated(), 0.0, []
    moments = []
    for wait, events in gaps:
        now += wait
        if (one := repeated.take("lost_events", {"events": events}, now)) is not None:
            told.append(one)
            moments.append(now)
    told += [data for _, data in repeated.rest()]
    assert sum(one["events"] for one in told) == sum(events for _, events in gaps)
    assert all(after - before > 0.999 for before, after in pairwise(moments))


@given(st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 3)), min_size=1))
def test_errors_are_counted_by_their_place(errors: list[tuple[float, int]]) -> None:
    repeated, now = Repeated(), 0.0
    counts: dict[int, int] = {}

    def count(data: dict[str, Any]) -> None:
        counts[data["line"]] = counts.get(data["line"], 0) + data.get("events", 1)

    for wait, line in errors:
        now += wait
        if (one := repeated.take("helper_error", {**FULL, "line": line}, now)) is not None:
            count(one)
    for kind, data in repeated.rest():
        assert kind == "helper_error"
        count(data)
    lines = [line for _, line in errors]
    assert counts == {line: lines.count(line) for line in set(lines)}
    assert repeated.rest() == [], "it is told once"
