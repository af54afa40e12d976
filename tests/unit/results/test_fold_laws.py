"""What is merged is what one machine would have seen, however its events were shared out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kubectl_trace.results.dialect import Output, parse_line
from kubectl_trace.results.fold import Parts, form
from kubectl_trace.results.merge import Merger
from kubectl_trace.results.order import ordered
from kubectl_trace.results.record import Map, Record, Start, decode, encode
from kubectl_trace.results.text import render
from kubectl_trace.runner.output import to_data

from . import one_machine

if TYPE_CHECKING:
    from kubectl_trace.results.result import Result

KINDS = st.sampled_from(sorted(one_machine.RECORD_TYPES))
KEYS = st.sampled_from(["a", "b", "1,x", "10,x", "\n  main+1\n"])
# A sum's sign isn't in JSON: with signs, no sum here wraps.
SIGNED = st.integers(-100, 100) | st.integers(-(2**55), 2**55)
UNSIGNED = st.integers(0, 100) | st.integers(0, 2**64 - 1)
SHARED = st.sampled_from([SIGNED, UNSIGNED]).flatmap(
    lambda values: st.lists(st.tuples(st.integers(0, 3), KEYS, values), min_size=1, max_size=30)
)
"""Events, each with its node."""


def parts_of(kind: str, shared: list[tuple[int, str, int]], *, keyed: bool) -> dict[int, Any]:
    """What each node prints; `avg` as the runner asks for it."""
    asked = "stats" if kind == "avg" else kind
    return {
        node: one_machine.printed(
            asked, [(key, value) for at, key, value in shared if at == node], keyed=keyed
        )
        for node in sorted({node for node, *_ in shared})
    }


def folded(kind: str, values: list[Any]) -> Any:
    type_ = one_machine.RECORD_TYPES[kind]
    parts = Parts[int](form(type_, values[0]), Map(kind))
    for source, value in enumerate(values):
        parts.add(source, value)
    assert parts.aside() == []
    return parts.merged()


def without_empty(value: Any) -> Any:
    """Histograms without their empty buckets."""
    if isinstance(value, dict):
        return {key: without_empty(item) for key, item in value.items()}
    return [bucket for bucket in value if bucket["count"]]


def tells_its_width(parts: dict[int, Any]) -> bool:
    """Whether some bucket of lhist() has two ends; else the empty ones between can't be known."""
    text = json.dumps(list(parts.values()))
    return '"min"' in text and any(
        '"min"' in bucket and '"max"' in bucket for bucket in text.split("}")
    )


@given(KINDS, SHARED, st.booleans())
def test_parts_of_a_stream_make_the_whole(
    kind: str, shared: list[tuple[int, str, int]], keyed: bool
) -> None:
    parts = parts_of(kind, shared, keyed=keyed)
    expected = one_machine.printed(kind, [(key, value) for _, key, value in shared], keyed=keyed)
    found = exit_map(kind, parts)
    if kind == "lhist" and not tells_its_width(parts):
        expected, found = without_empty(expected), without_empty(found)
    assert found == expected


@given(KINDS, SHARED, st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_the_parts_does_not_matter(
    kind: str, shared: list[tuple[int, str, int]], random: Any, keyed: bool
) -> None:
    values = list(parts_of(kind, shared, keyed=keyed).values())
    shuffled = random.sample(values, len(values))
    in_order, not_in_order = folded(kind, values), folded(kind, shuffled)
    type_, facts = one_machine.RECORD_TYPES[kind], Map(kind)
    assert list_of(ordered(type_, facts, in_order)) == list_of(ordered(type_, facts, not_in_order))


@given(KINDS.filter(lambda kind: kind != "avg"), SHARED, st.booleans())
def test_parts_may_be_merged_among_themselves_first(
    kind: str, shared: list[tuple[int, str, int]], keyed: bool
) -> None:
    values = list(parts_of(kind, shared, keyed=keyed).values())
    assume(len(values) >= 3)
    left = folded(kind, [folded(kind, values[:2]), *values[2:]])
    right = folded(kind, [values[0], folded(kind, values[1:])])
    assert left == right == folded(kind, values)


@given(st.lists(st.dictionaries(KEYS, st.integers(0, 1), min_size=1), min_size=2, max_size=4))
def test_assigned_values_are_one_map_exactly_where_no_key_has_two(
    values: list[dict[str, int]],
) -> None:
    parts = Parts[int]("map", Map("value"))
    for source, value in enumerate(values):
        parts.add(source, value)
    union: dict[str, set[int]] = {}
    for value in values:
        for key, number in value.items():
            union.setdefault(key, set()).add(number)
    if all(len(numbers) == 1 for numbers in union.values()):
        assert parts.merged() == {key: numbers.pop() for key, numbers in union.items()}
        assert parts.aside() == []
    else:
        assert parts.merged() is None
        assert sorted(source for source, _, _ in parts.aside()) == list(range(len(values)))


@given(KINDS, SHARED, st.randoms(use_true_random=False))
def test_the_order_in_which_nodes_arrive_does_not_matter(
    kind: str, shared: list[tuple[int, str, int]], random: Any
) -> None:
    parts = parts_of(kind, shared, keyed=True)
    items = list(parts.items())
    assert list_of(exit_map(kind, parts)) == list_of(
        exit_map(kind, dict(random.sample(items, len(items))))
    )


def list_of(value: Any) -> Any:
    """The value with the order of its entries."""
    return list(value.items()) if isinstance(value, dict) else value


def exit_map(kind: str, parts: dict[int, Any]) -> Any:
    """The map of the nodes' parts, by way of the wire."""
    merger = Merger()
    for node, value in parts.items():
        begin(merger, f"node-{node}", Map(kind))
        record = Record(2, 1.0, one_machine.RECORD_TYPES[kind], {"@": value})
        assert merger.add(f"node-{node}", decode(encode(record)), 1.0) == []
    (result,) = finish(merger, *(f"node-{node}" for node in parts))
    return result.data["@"]


def begin(merger: Merger, node: str, facts: Map) -> None:
    start = Start("t", "", 0, node, "", "", merge=True, maps={"@": facts})
    merger.add(node, Record(0, 0.0, "start", to_data(start)), 0.0)
    merger.add(node, Record(1, 0.0, "ready"), 0.0)


def finish(merger: Merger, *nodes: str) -> list[Result]:
    for node in nodes:
        merger.ended(node, 2.0, complete=True)
    return merger.finish()


RECORDED = [
    (path.stem, name, line)
    for path in sorted(Path(__file__).parent.glob("bpftrace-*.json"))
    for name, pair in json.loads(path.read_text()).items()
    for line in pair["json"].encode("latin-1").splitlines()
    if (output := parse_line(line)) and output.type in {"map", "hist", "stats", "tseries"}
]


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: "-".join(recorded[:2]))
@pytest.mark.parametrize("others", [(), ("empty",)])
def test_the_map_of_one_node_is_that_map(
    recorded: tuple[str, str, bytes], others: tuple[str, ...]
) -> None:
    output = parse_line(recorded[2])
    assert output
    assert isinstance(output.data, dict)
    (name,) = output.data
    merger = Merger()
    for node in ("one", *others):
        start = Start("t", "", 0, node, "", "", merge=True, maps={name: Map(kind_of(recorded[1]))})
        merger.add(node, Record(0, 0.0, "start", to_data(start)), 0.0)
    merger.add("one", decode(encode(Record(1, 1.0, output.type, output.data))), 1.0)
    for other in others:
        merger.add(other, Record(1, 1.0, output.type, {name: {}}), 1.0)
    (result,) = finish(merger, "one", *others)
    assert (result.type, result.data) == (output.type, output.data)
    assert render(Output(result.type, result.data)) == render(output)


def kind_of(name: str) -> str:
    """The kind of the map in a recorded program, by the program's name."""
    first = name.partition("-")[0]
    return first if first in one_machine.RECORD_TYPES else ""
