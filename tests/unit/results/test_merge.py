from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.errors import UsageError
from kubectl_trace.results.merge import Merger
from kubectl_trace.results.record import (
    Map,
    Member,
    Print,
    Record,
    ScopeChange,
    Start,
    Summary,
    decode,
    encode,
)
from kubectl_trace.results.result import Result
from kubectl_trace.runner.output import to_data

EVERY_SECOND = (Print("@", "interval", 1.0),)
COUNT = Map("count")
POD_A = Member(1, "shop", "web-0", "nginx", "c1")
SIDECAR_A = Member(2, "shop", "web-0", "proxy", "c2")
POD_B = Member(3, "shop", "web-1", "nginx", "c3")


class Trace:
    """A merger that is told of nodes by hand."""

    def __init__(
        self,
        *nodes: str,
        by: str = "",
        prints: tuple[Print, ...] = (),
        facts: Map = COUNT,
        members: tuple[Member, ...] = (),
        merge: bool = True,
    ) -> None:
        self.merger = Merger(by)
        self._start = Start(
            "t",
            "1",
            3,
            "",
            "6.1",
            "0.23",
            containers=members,
            merge=merge,
            maps={"@": facts},
            prints=prints,
        )
        for node in nodes:
            self.begin(node)

    def begin(self, node: str, now: float = 0.0) -> None:
        self.merger.add(node, Record(0, 1.0, "start", to_data(self._start)), now)
        self.merger.add(node, Record(1, 1.0, "ready"), now)

    def prints(
        self,
        node: str,
        data: Any,
        *,
        time: float = 1.0,
        now: float = 0.0,
        number: int = 1,
        kind: str = "map",
        container: Any = 0,
    ) -> list[Result]:
        record = Record(2, time, kind, data, container, number)
        return self.merger.add(node, decode(encode(record)), now)

    def exits(self, node: str, data: Any, **options: Any) -> list[Result]:
        return self.prints(node, data, number=0, **options)

    def finish(self, *nodes: str, lost: tuple[str, ...] = ()) -> list[Result]:
        for node in (*nodes, *lost):
            assert self.merger.ended(node, 99.0, complete=node in nodes) == []
        return self.merger.finish()


def notes(results: list[Result]) -> list[str]:
    return [result.data for result in results if result.type == "note"]


def maps(results: list[Result]) -> list[Result]:
    return [result for result in results if result.type != "note"]


def shown(results: list[Result]) -> list[tuple[str, Any]]:
    """Where each map is from, and what it is."""
    return [
        ("/".join(filter(None, (each.node, each.pod, each.container))), each.data["@"])
        for each in maps(results)
    ]


# What is not a map.


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("value", 5),
        ("time", "12:00"),
        ("join", "ls -l"),
        ("helper_error", {"msg": "m"}),
        ("lost_events", {"events": 5}),
        ("stderr", "x"),
        ("stopping", {"reason": "deadline"}),
        ("summary", to_data(Summary(0, "finished"))),
        ("ready", None),
        ("scope", to_data(ScopeChange(joined=(POD_B,)))),
        ("map", 5),
        ("map", {"@a": 1, "@b": 2}),
        ("map", [1]),
        ("start", "forged"),
        ("scope", {"joined": 5}),
        # A child of the program may print something like a record.
        ("call", 5),
        ("call", "x"),
        ("call", {"function": "f"}),
        ("call", {"time": "x"}),
    ],
)
def test_what_is_no_map_is_shown_at_once_with_its_node(kind: str, data: Any) -> None:
    trace = Trace("a")
    result = trace.merger.add("a", Record(5, 7.0, kind, data), 0.0)
    assert result == [Result(7.0, kind, data, "a")]


def test_a_text_is_shown_with_its_container() -> None:
    trace = Trace("a", members=(POD_A, POD_B))
    result = trace.merger.add("a", Record(5, 7.0, "printf", "hello\n", 3), 0.0)
    assert result == [Result(7.0, "printf", "hello\n", "a", "shop", "web-1", "nginx")]


def test_a_call_is_shown_with_its_container_at_the_time_when_it_began() -> None:
    trace = Trace("a", members=(POD_A, POD_B))
    call = {"function": "f", "pid": 1, "tid": 2, "time": 3.5}
    assert trace.merger.add("a", Record(5, 7.0, "call", call, 3), 0.0) == [
        Result(3.5, "call", call, "a", "shop", "web-1", "nginx")
    ]


@pytest.mark.parametrize(("container", "pods"), [(1, ["web-0"] * 2), ([1, 3], ["web-0", "web-1"])])
def test_joined_calls_are_a_result_each(container: int | list[int], pods: list[str]) -> None:
    trace = Trace("a", members=(POD_A, POD_B))
    joined = [{"function": "f", "pid": 1, "tid": 2, "time": time} for time in (3.5, 2.5)]
    found = trace.merger.add("a", Record(5, 7.0, "call", joined, container), 0.0)
    assert [(each.time, each.data, each.pod) for each in found] == [
        (call["time"], call, pod) for call, pod in zip(joined, pods, strict=True)
    ]


def test_joined_texts_come_in_runs_of_one_container() -> None:
    trace = Trace("a", members=(POD_A, POD_B))
    record = Record(5, 7.0, "printf", ["1", "2", "3", "4", "5"], [1, 1, 3, 0, 0])
    assert [(each.pod, each.data) for each in trace.merger.add("a", record, 0.0)] == [
        ("web-0", ["1", "2"]),
        ("web-1", "3"),
        ("", ["4", "5"]),
    ]
    record = Record(6, 7.0, "printf", ["1", "2"], 3)
    (result,) = trace.merger.add("a", record, 0.0)
    assert (result.pod, result.data) == ("web-1", ["1", "2"])


def test_containers_that_join_later_are_known() -> None:
    trace = Trace("a", members=(POD_A,))
    trace.merger.add("a", Record(5, 7.0, "scope", to_data(ScopeChange(joined=(POD_B,)))), 0.0)
    (result,) = trace.merger.add("a", Record(6, 7.0, "printf", "x", 3), 0.0)
    assert result.pod == "web-1"


# Traces that are not merged.


def test_a_map_of_a_trace_that_is_not_merged_is_shown_at_once_with_its_container() -> None:
    trace = Trace("a", merge=False, members=(POD_A,))
    assert trace.exits("a", {"@": {"k": 5}}) == [
        Result(1.0, "map", {"@": {"k": 5}}, "a", "shop", "web-0", "nginx")
    ]
    trace = Trace("a", merge=False, members=(POD_A, POD_B))
    assert trace.exits("a", {"@": {"k": 5}}) == [Result(1.0, "map", {"@": {"k": 5}}, "a")]


def test_its_histograms_are_as_json_has_them() -> None:
    data = {"@": [{"min": 2, "max": 3, "count": 4}, {"min": 4, "count": 0}]}
    (result,) = Trace("a", merge=False).exits("a", data, kind="hist")
    assert result.data == data


def test_a_map_before_the_start_record_is_shown() -> None:
    (result,) = Merger().add("a", Record(5, 7.0, "map", {"@": 5}), 0.0)
    assert result == Result(7.0, "map", {"@": 5}, "a")


# Intervals.


def test_an_intervals_maps_are_one_as_soon_as_every_node_has_printed() -> None:
    trace = Trace("a", "b", prints=EVERY_SECOND)
    assert trace.prints("a", {"@": {"x": 1, "y": 9}}, time=10.0) == []
    assert trace.merger.wait(0.5) == 1.5
    assert trace.prints("b", {"@": {"x": 2}}, time=10.3) == [
        Result(10.3, "map", {"@": {"x": 3, "y": 9}})
    ]
    assert trace.merger.wait(0.5) is None


def test_a_node_that_is_expected_is_waited_for_before_anything_came_from_it() -> None:
    """One log is read after the other."""
    trace = Trace(prints=EVERY_SECOND)
    trace.merger.expect("a", 0.0)
    trace.merger.expect("b", 0.0)
    trace.begin("a")
    assert trace.prints("a", {"@": 1}, time=10.0) == []
    assert trace.prints("a", {"@": 2}, time=11.0) == []
    assert trace.merger.ended("a", 0.0, complete=True) == []
    trace.begin("b")
    assert shown(trace.prints("b", {"@": 10}, time=10.2)) == [("", 11)]
    assert shown(trace.prints("b", {"@": 10}, time=11.2)) == [("", 12)]


def test_a_late_node_is_named_and_its_part_is_shown_by_itself() -> None:
    trace = Trace("a", "b", prints=EVERY_SECOND)
    trace.prints("a", {"@": {"x": 1}}, time=10.0)
    trace.prints("b", {"@": {"x": 1}}, time=10.0)
    assert trace.prints("a", {"@": {"x": 2}}, time=11.0, now=1.0) == []
    assert trace.merger.tick(2.9) == []
    (result,) = trace.merger.tick(3.0)
    assert (result.data, result.node, result.missing) == ({"@": {"x": 2}}, "", ("b",))
    late = trace.prints("b", {"@": {"x": 5}}, time=11.0, now=3.1)
    assert notes(late) == ["@ of b came too late to be merged; shown by itself"]
    assert shown(late) == [("b", {"x": 5})]
    trace.prints("b", {"@": {"x": 6}}, time=12.0, now=3.2)
    assert shown(trace.prints("a", {"@": {"x": 3}}, time=12.0, now=3.2)) == [("", {"x": 9})]


def test_a_node_that_begins_later_joins_and_is_not_missing_before() -> None:
    trace = Trace("a", prints=EVERY_SECOND)
    assert shown(trace.prints("a", {"@": 1}, time=10.0)) == [("", 1)]
    trace.begin("b", now=1.0)
    assert trace.prints("a", {"@": 2}, time=11.0, now=1.0) == []
    (early,) = trace.prints("b", {"@": 5}, time=12.2, now=2.2)
    assert (early.data, early.missing) == ({"@": 2}, ())
    assert shown(trace.prints("a", {"@": 3}, time=12.0, now=2.3)) == [("", 8)]


def test_a_lost_node_is_not_waited_for_and_is_named_from_then_on() -> None:
    trace = Trace("a", "b", prints=EVERY_SECOND)
    trace.prints("a", {"@": 1}, time=10.0)
    (first,) = trace.prints("b", {"@": 1}, time=10.0)
    assert first.missing == ()
    assert trace.prints("a", {"@": 2}, time=11.0) == []
    (second,) = trace.merger.ended("b", 1.5, complete=False)
    assert (second.data, second.missing) == ({"@": 2}, ("b",))
    (third,) = trace.prints("a", {"@": 3}, time=12.0)
    assert third.missing == ("b",)


@pytest.mark.parametrize(("complete", "missing"), [(False, ("b",)), (True, ())])
def test_a_node_that_ended_before_its_first_print_is_missing_only_if_it_was_lost(
    complete: bool, missing: tuple[str, ...]
) -> None:
    trace = Trace("a", "b", prints=EVERY_SECOND)
    trace.merger.ended("b", 0.0, complete=complete)
    (result,) = trace.prints("a", {"@": 1})
    assert result.missing == missing


def test_rounds_that_waited_together_are_given_in_the_order_they_began() -> None:
    trace = Trace("a", "b", prints=(Print("@", "interval", 1.0), Print("@", "interval", 1.0)))
    for number, value, now in ((2, "first", 0.0), (1, "second", 0.1), (2, "third", 0.2)):
        trace.prints("a", {"@": value}, number=number, time=now * 10, now=now)
    assert [value for _, value in shown(trace.merger.tick(5.0))] == ["first", "second", "third"]


def test_several_maps_and_several_prints_of_one_do_not_mix() -> None:
    prints = (Print("@", "interval", 1.0), Print("@", "interval", 1.0, top=1), Print("@b"))
    trace = Trace("a", "b", prints=prints)
    for number in (1, 2):
        assert trace.prints("a", {"@": {"x": 1, "y": 3}}, number=number) == []
    assert shown(trace.prints("b", {"@": {"x": 1}}, number=1)) == [("", {"x": 2, "y": 3})]
    assert shown(trace.prints("b", {"@": {"x": 9}}, number=2)) == [("", {"x": 10})]


def test_the_rounds_that_still_wait_are_given_by_time() -> None:
    trace = Trace("a", "b", prints=(Print("@", "interval", 1.0), Print("@", "interval", 1.0)))
    for time, number in ((1.0, 1), (1.1, 2), (2.0, 1), (2.1, 2)):
        trace.prints("a", {"@": time}, number=number, time=time)
    assert [value for _, value in shown(trace.merger.finish())] == [1.0, 1.1, 2.0, 2.1]


def test_one_print_may_be_of_several_maps() -> None:
    trace = Trace("a", "b", prints=EVERY_SECOND)
    for name in ("@b", "@"):
        assert trace.prints("a", {name: 1}) == []
    for name in ("@b", "@"):
        (result,) = trace.prints("b", {name: 1})
        assert list(result.data) == [name]


def test_a_cleared_map_is_an_empty_one() -> None:
    trace = Trace("a", "b", prints=EVERY_SECOND)
    trace.prints("a", {"@": {}})
    assert shown(trace.prints("b", {"@": {"k": 1}})) == [("", {"k": 1})]
    trace.prints("a", {"@": {}}, time=2.0)
    assert shown(trace.prints("b", {"@": {}}, time=2.0)) == [("", {})]


def test_a_print_of_nothing_is_a_part_without_anything_in_it() -> None:
    trace = Trace("a", "b", prints=EVERY_SECOND)
    trace.prints("a", {"@": 5})
    (result,) = trace.prints("b", {})
    assert (result.data, result.missing) == ({"@": 5}, ())
    trace.prints("a", {}, time=2.0)
    assert trace.prints("b", {}, time=2.0) == []


# BEGIN, END and exit.


def test_exit_maps_are_one_when_all_nodes_have_ended() -> None:
    trace = Trace("a", "b")
    assert trace.exits("a", {"@": {"x": 1}}) == []
    assert trace.exits("b", {"@": {"x": 4}}, time=3.0) == []
    assert trace.merger.wait(0.0) is None
    assert trace.merger.tick(500.0) == []
    assert trace.finish("a", "b") == [Result(3.0, "map", {"@": {"x": 5}})]


def test_exit_maps_are_in_the_order_of_the_nodes() -> None:
    trace = Trace("a", "b")
    for node, names in (("b", "@z @x @y"), ("a", "@x @z")):
        for name in names.split():
            trace.exits(node, {name: 1})
    found = [next(iter(result.data)) for result in maps(trace.finish("a", "b"))]
    assert found == ["@x", "@z", "@y"]


def test_a_map_that_a_node_does_not_have_is_not_missed() -> None:
    trace = Trace("a", "b")
    trace.exits("a", {"@": 1})
    (result,) = trace.finish("a", "b")
    assert (result.data, result.missing) == ({"@": 1}, ())


def test_a_lost_node_is_named_in_the_exit_maps() -> None:
    trace = Trace("a", "b", "c", prints=EVERY_SECOND)
    trace.exits("a", {"@": 1})
    trace.exits("c", {"@": 1})
    (result,) = trace.finish("a", lost=("b", "c"))
    assert (result.data, result.missing) == ({"@": 2}, ("b",))


def test_a_node_that_never_began_is_named_too() -> None:
    trace = Trace("a")
    trace.exits("a", {"@": 1})
    (result,) = trace.finish("a", lost=("z",))
    assert result.missing == ("z",)


def test_what_end_prints_comes_before_the_exit_maps() -> None:
    trace = Trace("a", "b", prints=(Print("@", "end", top=1),))
    for node in "ab":
        assert trace.prints(node, {"@": {"x": 1, "y": 2}}) == []
        assert trace.exits(node, {"@": {"x": 1, "y": 2}}) == []
    assert shown(trace.finish("a", "b")) == [("", {"y": 4}), ("", {"x": 2, "y": 4})]


def test_what_begin_prints_waits_for_nodes_that_begin_a_little_later() -> None:
    trace = Trace("a", prints=(Print("@", "begin"),))
    assert trace.prints("a", {"@": 1}, now=0.0) == []
    assert trace.merger.wait(0.0) == 2.0
    trace.begin("b", now=1.0)
    assert trace.prints("b", {"@": 1}, time=9.0, now=1.5) == []
    assert shown(trace.merger.tick(2.0)) == [("", 2)]
    trace.begin("c", now=7.0)
    late = trace.prints("c", {"@": 1}, now=8.0)
    assert shown(late) == [("c", 1)]
    assert notes(late)


def test_what_begin_prints_does_not_wait_when_all_have_ended() -> None:
    trace = Trace("a", "b", prints=(Print("@", "begin"),))
    for node in "ab":
        trace.prints(node, {"@": 1})
    assert trace.merger.ended("a", 0.1, complete=True) == []
    assert shown(trace.merger.ended("b", 0.1, complete=True)) == [("", 2)]


def test_finishing_gives_the_rounds_that_still_wait() -> None:
    trace = Trace("a", "b", prints=(Print("@", "end"), Print("@", "interval", 1.0)))
    trace.prints("a", {"@": 7}, number=1, time=1.0)
    trace.prints("a", {"@": 5}, number=2, time=2.0)
    assert shown(trace.merger.finish()) == [("", 5), ("", 7)]
    assert trace.merger.finish() == []


# What can't be merged.


def test_values_that_differ_are_shown_by_node_and_the_user_is_told_once() -> None:
    trace = Trace("a", "b", facts=Map("value"), prints=EVERY_SECOND)
    for time, told in ((1.0, 1), (2.0, 0)):
        trace.prints("b", {"@": {"k": "x"}}, time=time)
        found = trace.prints("a", {"@": {"k": "y"}}, time=time)
        assert shown(found) == [("a", {"k": "y"}), ("b", {"k": "x"})]
        assert len(notes(found)) == told


def test_an_event_has_no_common_time() -> None:
    trace = Trace("a", "b", prints=(Print("@", top=1, div=2),))
    first = trace.prints("a", {"@": {"x": 2, "y": 4}})
    assert shown(first) == [("a", {"y": 2})]
    assert len(notes(first)) == 1
    second = trace.prints("b", {"@": {"x": 2, "y": 4}})
    assert shown(second) == [("b", {"y": 2})]
    assert notes(second) == []


def test_top_and_div_are_of_what_is_merged() -> None:
    trace = Trace("a", "b", prints=(Print("@", "interval", 1.0, top=1, div=2),))
    trace.prints("a", {"@": {"x": 3, "y": 5}})
    assert shown(trace.prints("b", {"@": {"x": 4}})) == [("", {"x": 3})]


def test_top_and_div_are_of_what_is_shown_by_node_too() -> None:
    trace = Trace("a", "b", facts=Map("value"), prints=(Print("@", "end", top=1, div=2),))
    trace.prints("a", {"@": {"x": 3, "y": 5}})
    trace.prints("b", {"@": {"x": 4, "y": 9}})
    assert shown(trace.finish("a", "b")) == [("a", {"y": 2}), ("b", {"y": 4})]


def test_avg_is_shown_as_avg_also_alone_and_by_node() -> None:
    stats = {"@": {"k": {"count": 2, "average": 3, "total": 7}}}
    for nodes in ("a", "ab"):
        trace = Trace(*nodes, facts=Map("avg"))
        for node in nodes:
            trace.exits(node, stats, kind="stats")
        (result,) = trace.finish(*nodes)
        assert (result.type, result.data) == ("stats", {"@": {"k": 3}})
    (result,) = Trace("a", by="node", facts=Map("avg")).exits("a", stats, kind="stats")
    assert result.data == {"@": {"k": 3}}


def test_a_part_of_another_type_is_not_merged() -> None:
    trace = Trace("a", "b", "c")
    trace.exits("a", {"@": {"k": 1}})
    trace.exits("b", {"@": {"k": []}}, kind="hist")
    trace.exits("c", {"@": {"k": 1}})
    found = trace.finish("a", "b", "c")
    assert [(each.type, each.data, each.missing) for each in found] == [
        ("hist", {"@": {"k": []}}, ("a", "c")),
        ("map", {"@": {"k": 2}}, ("b",)),
    ]


# By node, pod and container.


def test_by_node_nothing_waits() -> None:
    trace = Trace("a", "b", by="node", prints=EVERY_SECOND, members=(POD_A,))
    assert shown(trace.prints("a", {"@": {"x": 1}})) == [("a", {"x": 1})]
    assert shown(trace.exits("b", {"@": {"x": 1}})) == [("b", {"x": 1})]
    assert trace.finish("a", "b") == []


def test_by_node_what_is_kept_by_container_is_one() -> None:
    trace = Trace("a", by="node", members=(POD_A, POD_B))
    assert shown(trace.exits("a", [{"@": {"x": 1}}, {"@": {"x": 5}}], container=[1, 3])) == [
        ("a", {"x": 6})
    ]


SPLIT = [{"@": {"x": 1}}, {"@": {"x": 2, "y": 1}}, {"@": {"x": 4}}]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("", [("", {"y": 1, "x": 7})]),
        ("pod", [("a/web-0", {"y": 1, "x": 3}), ("a/web-1", {"x": 4})]),
        (
            "container",
            [
                ("a/web-0/nginx", {"x": 1}),
                ("a/web-0/proxy", {"x": 2, "y": 1}),
                ("a/web-1/nginx", {"x": 4}),
            ],
        ),
    ],
)
def test_what_is_kept_by_container_is_merged_within_what_is_asked_for(
    by: str, expected: list[tuple[str, Any]]
) -> None:
    trace = Trace("a", by=by, facts=Map("count", split=True), members=(POD_A, SIDECAR_A, POD_B))
    assert trace.exits("a", SPLIT, container=[1, 2, 3]) == []
    assert shown(trace.finish("a")) == expected


def test_histograms_by_container_are_as_json_has_them() -> None:
    buckets = [{"min": 2, "max": 3, "count": 1}]
    trace = Trace("a", by="pod", facts=Map("hist", split=True), members=(POD_A, SIDECAR_A, POD_B))
    histograms = [{"@": {"k": buckets}}] * 3
    trace.exits("a", histograms, container=[1, 2, 3], kind="hist")
    assert shown(trace.finish("a")) == [
        ("a/web-0", {"k": [{"min": 2, "max": 3, "count": 2}]}),
        ("a/web-1", {"k": buckets}),
    ]


def test_a_pod_that_was_on_two_nodes_is_one() -> None:
    trace = Trace("a", "b", by="pod", members=(POD_A,))
    trace.exits("a", [{"@": 1}], container=[1])
    trace.exits("b", [{"@": 2}], container=[1])
    (result,) = trace.finish("a", "b")
    assert (result.node, result.namespace, result.pod) == ("", "shop", "web-0")
    assert result.data == {"@": 3}


def test_a_lost_node_is_only_missing_from_its_own_pods() -> None:
    trace = Trace("a", by="pod", members=(POD_A,))
    trace.exits("a", [{"@": 1}], container=[1])
    (result,) = trace.finish("a", lost=("b",))
    assert result.missing == ()
    trace = Trace("a", "b", by="pod", members=(POD_A,))
    trace.exits("a", [{"@": 1}], container=[1])
    (result,) = trace.finish("a", lost=("b",))
    assert result.missing == ("b",)


def test_a_map_that_is_not_kept_by_container_is_shown_by_node_once_told() -> None:
    trace = Trace("a", by="pod", prints=EVERY_SECOND, members=(POD_A, POD_B))
    found = trace.prints("a", {"@": {"x": 1}})
    assert shown(found) == [("a", {"x": 1})]
    assert "can't be told by pod" in notes(found)[0]
    assert notes(trace.prints("a", {"@": {"x": 1}}, time=2.0)) == []


def test_a_map_that_is_not_kept_by_container_is_the_only_pods() -> None:
    trace = Trace("a", by="pod", members=(POD_A, SIDECAR_A))
    trace.exits("a", {"@": {"x": 1}})
    assert shown(trace.finish("a")) == [("a/web-0", {"x": 1})]


def test_a_part_of_an_unknown_container_is_not_lost() -> None:
    trace = Trace("a", by="pod", members=(POD_A, POD_B))
    trace.exits("a", [{"@": 1}, {"@": 2}], container=[0, 3])
    assert shown(trace.finish("a")) == [("a/web-1", 2), ("a", 1)]


def test_an_event_by_pod_needs_no_common_time() -> None:
    trace = Trace("a", by="pod", prints=(Print("@"),), members=(POD_A, POD_B))
    found = trace.prints("a", [{"@": 1}, {"@": 2}], container=[1, 3])
    assert shown(found) == [("a/web-0", 1), ("a/web-1", 2)]
    assert notes(found) == []


def test_an_empty_map_by_container_is_nothing() -> None:
    trace = Trace("a", "b", by="pod", prints=EVERY_SECOND, members=(POD_A,))
    trace.prints("a", [], container=[])
    assert shown(trace.prints("b", [{"@": 1}], container=[1])) == [("b/web-0", 1)]


def test_values_that_differ_within_a_pod_are_shown_by_container() -> None:
    trace = Trace("a", by="pod", facts=Map("value"), members=(POD_A, SIDECAR_A))
    trace.exits("a", [{"@": "x"}, {"@": "y"}], container=[1, 2])
    assert shown(trace.finish("a")) == [("a/web-0/nginx", "x"), ("a/web-0/proxy", "y")]


@pytest.mark.parametrize("by", ["pod", "container"])
def test_nodes_have_no_pods_to_be_kept_apart(by: str) -> None:
    with pytest.raises(UsageError, match=f"--by {by}"):
        Trace("a", by=by)


@given(
    st.data(),
    st.lists(
        st.lists(
            st.dictionaries(st.sampled_from("xyz"), st.integers(0, 9)), min_size=3, max_size=3
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_the_order_in_which_records_arrive_does_not_matter(
    data: Any, values: list[list[dict[str, int]]]
) -> None:
    """Every node prints each second, and at its exit what it printed last."""

    def given_in_the_end(choose: Any) -> list[Result]:
        trace = Trace(*(f"n{node}" for node in range(len(values))), prints=EVERY_SECOND)
        left = {f"n{node}": list(enumerate(each)) for node, each in enumerate(values)}
        results: list[Result] = []
        while left:
            node = choose(sorted(left))
            if left[node]:
                tick, value = left[node].pop(0)
                results += trace.prints(node, {"@": value}, time=10 + tick + int(node[1:]) / 7)
            else:
                del left[node]
                results += trace.exits(node, {"@": values[int(node[1:])][-1]})
                results += trace.merger.ended(node, 0.0, complete=True)
        return results + trace.merger.finish()

    in_turn = given_in_the_end(lambda nodes: nodes[0])
    anyhow = given_in_the_end(lambda nodes: data.draw(st.sampled_from(nodes)))
    assert list(map(msgspec.json.encode, in_turn)) == list(map(msgspec.json.encode, anyhow))
    assert len(in_turn) == 4
