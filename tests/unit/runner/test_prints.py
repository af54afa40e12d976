"""Which print a map is of. What real bpftraces print is in the end-to-end tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.program import merging, syntax
from kubectl_trace.results.dialect import Output
from kubectl_trace.runner.prints import Prints

if TYPE_CHECKING:
    from kubectl_trace.runner.output import Given

PROGRAM = """
k:f { @a = count(); @k[pid] = count(); @m = min(pid); @v = avg(pid); @h[pid] = hist(pid); }
k:g { @late = 1; print(@k); }
i:s:1 { print(@a); print(@k, 5); print(@m); print(@v); print(@h); }
END { print(@k); clear(@h); }
"""
EVENT, COUNT, TOP, LEAST, AVERAGE, HISTOGRAM, LAST = range(1, 8)


class Stream:
    """What has been given so far, of what bpftrace printed."""

    def __init__(self, program: str = PROGRAM, *, split: bool = False) -> None:
        plan = merging.plan(syntax.parse(program), token="tp", limited=split, split=split)
        self._prints = Prints(plan)
        self.given: list[tuple[object, object, int]] = []

    def map(self, name: str, value: object, kind: str = "map") -> Stream:
        return self._take(self._prints.take(name, Output(kind, {name: value})))

    def marker(self, number: int) -> Stream:
        return self._take(self._prints.marked(number))

    def lost(self) -> Stream:
        return self._take(self._prints.lost())

    def end(self) -> list[tuple[object, object, int]]:
        self._take(self._prints.rest())
        return self.given

    def _take(self, given: list[Given]) -> Stream:
        self.given += [(each.output.data, each.container, each.print) for each in given]
        return self


def test_a_map_is_given_when_its_marker_comes() -> None:
    stream = Stream().map("@a", 1)
    assert stream.given == []
    assert stream.marker(COUNT).given == [({"@a": 1}, 0, COUNT)]
    assert stream.end() == [({"@a": 1}, 0, COUNT)]


def test_maps_without_markers_are_those_of_the_exit_in_their_order() -> None:
    stream = Stream().map("@k", {"1": 2}).marker(LAST)
    given = stream.map("@v", 3).map("@a", 1).map("@k", {"1": 2}).end()
    assert given == [
        ({"@k": {"1": 2}}, 0, LAST),
        ({"@v": 3}, 0, 0),
        ({"@a": 1}, 0, 0),
        ({"@k": {"1": 2}}, 0, 0),
    ]


def test_other_cpus_prints_may_come_between() -> None:
    stream = Stream().map("@a", 1).map("@k", {"1": 2}).marker(EVENT).marker(COUNT)
    assert stream.end() == [({"@k": {"1": 2}}, 0, EVENT), ({"@a": 1}, 0, COUNT)]


@pytest.mark.parametrize(
    ("number", "data"),
    [
        (TOP, {"@k": {}}),
        (HISTOGRAM, {"@h": {}}),
        (COUNT, {"@a": 0}),
        (AVERAGE, {"@v": {"count": 0, "average": 0, "total": 0}}),
    ],
)
def test_a_marker_without_a_map_is_of_an_empty_one(number: int, data: object) -> None:
    assert Stream().marker(number).end() == [(data, 0, number)]


def test_the_least_of_nothing_is_no_value_but_a_print() -> None:
    assert Stream().marker(LEAST).end() == [({}, 0, LEAST)]


@pytest.mark.parametrize("number", [COUNT, TOP, LEAST])
def test_an_empty_map_kept_by_container_is_of_none(number: int) -> None:
    assert Stream(split=True).marker(number).end() == [([], [], number)]


def test_an_empty_map_that_bpftrace_prints_all_the_same_is_an_empty_one() -> None:
    stream = Stream(split=True).map("@v", {}, "stats").marker(AVERAGE).map("@v", {}, "stats")
    assert stream.end() == [([], [], AVERAGE)]
    assert Stream().map("@k", {}).end() == [({"@k": {}}, 0, 0)]


def test_a_map_without_keys_loses_the_one_that_it_runs_with() -> None:
    stream = Stream().map("@m", {"0": 7}).marker(LEAST).map("@m", {"0": 3})
    assert stream.end() == [({"@m": 7}, 0, LEAST), ({"@m": 3}, 0, 0)]


def test_a_marker_that_is_lost_does_not_shift_the_others() -> None:
    stream = Stream().map("@a", 1).marker(COUNT).map("@a", 2).map("@a", 3).marker(COUNT)
    assert stream.end() == [({"@a": n}, 0, COUNT) for n in (1, 2, 3)]


def test_the_same_print_on_two_cpus_at_once_is_two_prints() -> None:
    stream = Stream().map("@k", {"1": 1}).map("@k", {"1": 2}).marker(EVENT).marker(EVENT)
    assert stream.end() == [({"@k": {"1": 1}}, 0, EVENT), ({"@k": {"1": 2}}, 0, EVENT)]


def test_a_map_whose_print_may_be_lost_is_not_said_to_be_empty() -> None:
    stream = Stream().lost().marker(TOP)
    assert stream.given == []
    assert stream.marker(TOP).end() == [({"@k": {}}, 0, TOP)]


def test_a_map_that_is_cleared_at_the_end_is_not_taken_for_one_of_the_exit() -> None:
    assert Stream().map("@h", {"1": []}, "hist").end() == [({"@h": {"1": []}}, 0, HISTOGRAM)]


def test_a_macros_marker_is_that_of_the_map_it_is_given() -> None:
    program = "macro m(@x) { print(@x) } k:f { @a[1] = count(); @b[1] = count(); m(@a); m(@b); }"
    stream = Stream(program).map("@b", {"1": 1}).marker(1).map("@a", {"1": 1}).marker(1)
    assert stream.end() == [({"@b": {"1": 1}}, 0, 2), ({"@a": {"1": 1}}, 0, 1)]


def test_what_bpftrace_prints_of_unknown_markers_is_nothing() -> None:
    assert Stream().marker(99).end() == []


def test_a_map_kept_by_container_comes_apart() -> None:
    stream = Stream(split=True)
    stream.map("@k", {"2,7": 1, "1,8": 2, "2,9": 3}).marker(TOP)
    stream.map("@a", {"3": 5, "1": 6}).marker(COUNT)
    assert stream.end() == [
        ([{"@k": {"8": 2}}, {"@k": {"7": 1, "9": 3}}], [1, 2], TOP),
        ([{"@a": 6}, {"@a": 5}], [1, 3], COUNT),
    ]


@pytest.mark.parametrize("value", [{"x,1": 1}, {"1": 1}, {"1,1": 1, "-1,1": 2}, 5])
def test_a_map_that_can_not_be_taken_apart_is_given_whole(value: object) -> None:
    assert Stream(split=True).map("@k", value).end() == [({"@k": value}, 0, 0)]


@given(
    st.dictionaries(
        st.integers(0, 99), st.dictionaries(st.text(), st.integers(), min_size=1), min_size=1
    )
)
def test_each_containers_part_is_what_it_was(parts: dict[int, dict[str, int]]) -> None:
    whole = {
        f"{number},{key}": value for number, part in parts.items() for key, value in part.items()
    }
    ((data, containers, _),) = Stream(split=True).map("@k", whole).end()
    assert isinstance(data, list)
    assert isinstance(containers, list)
    found = dict(zip(containers, (part["@k"] for part in data), strict=True))
    assert found == parts


@given(
    st.lists(
        st.tuples(st.sampled_from([COUNT, TOP, HISTOGRAM, LAST]), st.integers(1, 9)), max_size=20
    ),
    st.data(),
)
def test_every_print_is_given_once_however_cpus_interleave(
    prints: list[tuple[int, int]], data: st.DataObject
) -> None:
    names = {COUNT: "@a", TOP: "@k", HISTOGRAM: "@h", LAST: "@k"}
    stream = Stream()
    pending: list[int] = []
    for number, value in prints:
        while pending and (
            names[number] in map(names.__getitem__, pending) or data.draw(st.booleans())
        ):
            stream.marker(pending.pop(data.draw(st.integers(0, len(pending) - 1))))
        stream.map(names[number], {"1": value})
        pending.append(number)
    for number in pending:
        stream.marker(number)
    expected = [({names[number]: {"1": value}}, 0, number) for number, value in prints]
    assert sorted(stream.end(), key=str) == sorted(expected, key=str)
