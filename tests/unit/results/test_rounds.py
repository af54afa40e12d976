from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.results.rounds import Rounds

RUNNING = {"a": 0.0, "b": 0.0}


def rounds(period: float = 1.0, *, once: bool = False) -> Rounds[list[str]]:
    return Rounds(period, list, once=once)


def index_of(found: Rounds[list[str]], node: str, time: float, now: float = 0.0) -> int | None:
    given = found.part(node, time, now)
    return None if given is None else given.index


def test_a_nodes_prints_are_numbered_by_the_time_since_its_first() -> None:
    found = rounds()
    assert [index_of(found, "a", time) for time in (10.0, 11.3, 11.9, 15.0)] == [0, 1, 2, 5]


def test_two_prints_are_never_of_one_round() -> None:
    found = rounds()
    assert [index_of(found, "a", time) for time in (10.6, 11.0, 12.0, 13.0)] == [0, 1, 2, 3]


def test_nodes_are_placed_by_the_times_of_their_first_prints() -> None:
    found = rounds()
    assert [index_of(found, "a", time) for time in (10.0, 11.0, 12.0)] == [0, 1, 2]
    assert [index_of(found, "b", time) for time in (10.4, 11.4)] == [0, 1]
    assert index_of(found, "c", 14.2) == 4
    assert index_of(found, "d", 9.9) == 0


def test_a_node_may_have_begun_before_the_first_that_was_heard_of() -> None:
    found = rounds()
    assert index_of(found, "a", 10.0) == 0
    assert index_of(found, "b", 8.0) == -2


def test_without_a_period_prints_are_joined_in_their_order() -> None:
    for period in (0.0, 0.001):
        found = rounds(period)
        assert [index_of(found, "a", 10.0) for _ in range(3)] == [0, 1, 2]
        assert [index_of(found, "b", time) for time in (10.0, 90.0)] == [0, 1]


def test_without_a_period_a_node_that_joins_later_begins_with_what_is_not_given_yet() -> None:
    found = rounds(0.0)
    for time in range(5):
        found.part("a", time, 0.0)
    found.complete({"a": 0.0}, 0.0)
    assert index_of(found, "b", 9.0) == 5


def test_without_a_period_a_node_that_was_late_once_is_not_late_for_ever() -> None:
    found = rounds(0.0)
    found.part("a", 0.0, 0.0)
    found.part("b", 0.0, 0.0)
    for _ in range(3):
        found.part("a", 0.0, 0.0)
    assert [each.index for each in found.rest()] == [0, 1, 2, 3]
    assert found.part("b", 0.0, 0.0) is None
    assert index_of(found, "b", 0.0) == index_of(found, "a", 0.0) == 4


def test_a_round_is_complete_when_every_running_node_has_its_part() -> None:
    found = rounds()
    found.part("a", 10.0, 0.0)
    assert found.complete(RUNNING, 0.5) == []
    found.part("b", 10.1, 0.6)
    (given,) = found.complete(RUNNING, 0.6)
    assert (given.index, given.nodes, given.time, given.since) == (0, {"a", "b"}, 10.1, 0.0)
    assert found.complete(RUNNING, 0.6) == []


def test_a_node_that_is_not_running_is_not_waited_for() -> None:
    found = rounds()
    found.part("a", 10.0, 0.0)
    assert [each.index for each in found.complete({"a": 0.0}, 0.0)] == [0]


def test_a_round_that_a_node_has_left_out_is_complete_when_it_prints_the_next() -> None:
    found = rounds()
    for time in (10.0, 11.0, 12.0):
        found.part("a", time, 0.0)
    found.part("b", 10.0, 0.0)
    assert [each.index for each in found.complete(RUNNING, 0.0)] == [0]
    found.part("b", 12.0, 0.0)
    assert [(each.index, each.nodes) for each in found.complete(RUNNING, 0.0)] == [
        (1, {"a"}),
        (2, {"a", "b"}),
    ]


def test_a_node_that_never_prints_is_waited_for_only_at_first() -> None:
    found = rounds()
    found.part("a", 10.0, 1.0)
    assert found.complete(RUNNING, 1.9) == []
    assert [each.index for each in found.complete(RUNNING, 2.0)] == [0]


def test_a_round_waits_two_seconds_or_two_periods() -> None:
    for period, patience in ((0.5, 2.0), (5.0, 10.0), (0.0, 2.0)):
        found = rounds(period)
        assert found.due() is None
        found.part("a", 10.0, 100.0)
        found.part("b", 10.0, 101.0)
        assert found.due() == 100.0 + patience
        assert found.late(99.9 + patience) == []
        assert [each.index for each in found.late(100.0 + patience)] == [0]
        assert found.due() is None


def test_a_part_of_a_round_that_was_given_is_late() -> None:
    found = rounds()
    found.part("a", 10.0, 0.0)
    found.late(2.0)
    assert found.part("b", 10.0, 2.1) is None
    assert index_of(found, "b", 11.0, 2.2) == 1


def test_a_clock_that_leaps_does_no_harm_to_the_others() -> None:
    found = rounds()
    for node in RUNNING:
        found.part(node, 10.0, 0.0)
    assert len(found.complete(RUNNING, 0.0)) == 1
    found.part("a", 3610.0, 1.0)
    assert [each.index for each in found.late(3.0)] == [3600]
    assert index_of(found, "b", 11.0, 3.1) == 1


def test_what_was_given_long_ago_is_forgotten() -> None:
    found = rounds()
    for time in range(3000):
        found.part("a", time, 0.0)
    assert len(found.rest()) == 3000
    assert index_of(found, "b", 5.0) == 5


def test_where_a_node_comes_once_first_prints_belong_together() -> None:
    found = rounds(0.0, once=True)
    assert index_of(found, "a", 10.0) == 0
    found.rest()
    assert found.part("b", 900.0, 0.0) is None


@given(st.data(), st.floats(0.1, 60), st.lists(st.floats(0, 0.2), min_size=2, max_size=4))
def test_phases_and_jitter_of_less_than_half_a_period_do_no_harm(
    data: Any, period: float, phases: list[float]
) -> None:
    """Also if a node's records come much later than another's."""
    found = rounds(period)
    streams = [
        [
            (node, (1000 + tick + phase + data.draw(st.floats(0, 0.1))) * period, tick)
            for tick in range(5)
        ]
        for node, phase in enumerate(phases)
    ]
    while any(streams):
        stream = data.draw(st.sampled_from([stream for stream in streams if stream]))
        node, time, tick = stream.pop(0)
        assert index_of(found, str(node), time) == tick
