"""Each kind of map, as each bpftrace writes it, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_trace.results.dialect import parse_line
from kubectl_trace.results.fold import Parts, form
from kubectl_trace.results.record import Map

ALL = ("0.17", "0.23", "0.27")
STACK = "\n        main+1\n        start+2\n"

# Versions, what the program makes of the map, what two nodes print, and both together.
EXAMPLES: list[tuple[tuple[str, ...], Map, str, str, Any]] = [
    (
        ALL,
        Map("count"),
        '{"type": "map", "data": {"@": {"a": 1, "b": 20}}}',
        '{"type": "map", "data": {"@": {"c": 3, "a": 4}}}',
        {"a": 5, "b": 20, "c": 3},
    ),
    (
        ALL,
        Map("count"),
        '{"type": "map", "data": {"@": 5}}',
        '{"type": "map", "data": {"@": 7}}',
        12,
    ),
    (
        ALL,
        Map("sum"),
        '{"type": "map", "data": {"@": {"1,x": -5}}}',
        '{"type": "map", "data": {"@": {"1,x": 3}}}',
        {"1,x": -2},
    ),
    (
        ("0.17", "0.23"),
        Map("sum"),
        '{"type": "map", "data": {"@": 18446744073709551615}}',
        '{"type": "map", "data": {"@": 2}}',
        1,
    ),
    (
        ("0.27",),
        Map("sum"),
        '{"type": "map", "data": {"@": "18446744073709551615"}}',
        '{"type": "map", "data": {"@": 2}}',
        1,
    ),
    (
        ("0.27",),
        Map("sum"),
        '{"type": "map", "data": {"@": "-9223372036854775807"}}',
        '{"type": "map", "data": {"@": -2}}',
        2**63 - 1,
    ),
    (
        ALL,
        Map("min"),
        '{"type": "map", "data": {"@": {"a": 4, "b": -6}}}',
        '{"type": "map", "data": {"@": {"a": 5, "b": -7}}}',
        {"a": 4, "b": -7},
    ),
    (
        ALL,
        Map("max"),
        '{"type": "map", "data": {"@": {"a": 4, "b": -6}}}',
        '{"type": "map", "data": {"@": {"a": 5, "b": -7}}}',
        {"a": 5, "b": -6},
    ),
    (
        ALL,
        Map("stats"),
        '{"type": "stats", "data": {"@": {"count": 2, "average": 5, "total": 11}}}',
        '{"type": "stats", "data": {"@": {"count": 1, "average": -30, "total": -30}}}',
        {"count": 3, "average": -6, "total": -19},
    ),
    (
        ALL,
        Map("stats"),
        '{"type": "stats", "data": {"@": {"k": {"count": 2, "average": 5, "total": 11}}}}',
        '{"type": "stats", "data": {"@": {"j": {"count": 1, "average": 3, "total": 3}}}}',
        {
            "k": {"count": 2, "average": 5, "total": 11},
            "j": {"count": 1, "average": 3, "total": 3},
        },
    ),
    (
        ALL,
        Map("avg"),
        '{"type": "stats", "data": {"@": {"k": {"count": 3, "average": -1, "total": -5}}}}',
        '{"type": "stats", "data": {"@": {"k": {"count": 1, "average": -3, "total": -3}}}}',
        {"k": -2},
    ),
    (
        ALL,
        Map("avg"),
        '{"type": "stats", "data": {"@": {"count": 3, "average": 2, "total": 8}}}',
        '{"type": "stats", "data": {"@": {"count": 1, "average": 3, "total": 3}}}',
        2,
    ),
    (
        ("0.27",),
        Map("avg"),
        '{"type": "stats", "data": {"@": {"count": 1, "average": 1, "total": 1}}}',
        '{"type": "stats", "data": {"@": {"count": 1, "average": 1, '
        '"total": "18446744073709551613"}}}',
        (2**64 - 2) // 2,
    ),
    (
        ALL,
        Map("avg"),
        '{"type": "stats", "data": {"@": {"k": 4, "j": 1}}}',
        '{"type": "stats", "data": {"@": {"k": 4, "i": 2}}}',
        {"k": 4, "j": 1, "i": 2},
    ),
    (
        ("0.17", "0.23"),
        Map("hist"),
        '{"type": "hist", "data": {"@": [{"max": -1, "count": 1}, '
        '{"min": 0, "max": 0, "count": 2}]}}',
        '{"type": "hist", "data": {"@": [{"min": 4, "max": 7, "count": 1}, '
        '{"min": 8, "max": 15, "count": 1}]}}',
        [
            {"max": -1, "count": 1},
            {"min": 0, "max": 0, "count": 2},
            {"min": 1, "max": 1, "count": 0},
            {"min": 2, "max": 3, "count": 0},
            {"min": 4, "max": 7, "count": 1},
            {"min": 8, "max": 15, "count": 1},
        ],
    ),
    (
        ("0.17",),
        Map("hist"),
        '{"type": "hist", "data": {"@": [{"min": -2147483648, "max": 0, "count": 1}]}}',
        '{"type": "hist", "data": {"@": [{"min": 536870912, "max": 1073741823, "count": 1}]}}',
        [
            {"min": 2**29, "max": 2**30 - 1, "count": 1},
            {"min": 2**30, "max": 2**31 - 1, "count": 0},
            {"min": 2**31, "max": 2**32 - 1, "count": 1},
        ],
    ),
    (
        ("0.27",),
        Map("hist"),
        '{"type": "hist", "data": {"@": {"a": [{"min": 4, "max": 4, "count": 1},'
        '{"min": 5, "max": 5, "count": 1}], "b": [{"min": 2, "max": 2, "count": 1}]}}}',
        '{"type": "hist", "data": {"@": {"a": [{"min": 10, "max": 11, "count": 1}]}}}',
        {
            "a": [
                {"min": 4, "max": 4, "count": 1},
                {"min": 5, "max": 5, "count": 1},
                {"min": 6, "max": 6, "count": 0},
                {"min": 7, "max": 7, "count": 0},
                {"min": 8, "max": 9, "count": 0},
                {"min": 10, "max": 11, "count": 1},
            ],
            "b": [{"min": 2, "max": 2, "count": 1}],
        },
    ),
    (
        ALL,
        Map("hist"),
        '{"type": "hist", "data": {"@": {"a": []}}}',
        '{"type": "hist", "data": {"@": {"a": [{"min": 2, "max": 3, "count": 1}], "b": []}}}',
        {"a": [{"min": 2, "max": 3, "count": 1}], "b": []},
    ),
    (
        ALL,
        Map("lhist"),
        '{"type": "hist", "data": {"@": [{"max": -1, "count": 1}]}}',
        '{"type": "hist", "data": {"@": [{"min": 20, "max": 29, "count": 1}, '
        '{"min": 30, "max": 39, "count": 0}, {"min": 40, "count": 6}]}}',
        [
            {"max": -1, "count": 1},
            {"min": 0, "max": 9, "count": 0},
            {"min": 10, "max": 19, "count": 0},
            {"min": 20, "max": 29, "count": 1},
            {"min": 30, "max": 39, "count": 0},
            {"min": 40, "count": 6},
        ],
    ),
    (
        ALL,
        Map(),  # The buckets tell that it is lhist()'s.
        '{"type": "hist", "data": {"@": {"k": [{"min": 0, "max": 9, "count": 1}]}}}',
        '{"type": "hist", "data": {"@": {"k": [{"min": 20, "max": 29, "count": 1}]}}}',
        {
            "k": [
                {"min": 0, "max": 9, "count": 1},
                {"min": 10, "max": 19, "count": 0},
                {"min": 20, "max": 29, "count": 1},
            ]
        },
    ),
    (
        ALL,
        Map("value"),
        '{"type": "map", "data": {"@": {"a": "x", "b": [1,"y"]}}}',
        '{"type": "map", "data": {"@": {"b": [1,"y"], "c": "z"}}}',
        {"a": "x", "b": [1, "y"], "c": "z"},
    ),
    (
        ("0.17", "0.27"),
        Map("count"),
        '{"type": "map", "data": {"@": {"\\n        main+1\\n        start+2\\n,x": 1}}}',
        '{"type": "map", "data": {"@": {"\\n        main+1\\n        start+2\\n,x": 2}}}',
        {f"{STACK},x": 3},
    ),
    (
        ("0.23",),
        Map("count"),
        '{"type": "map", "data": {"@": {"\\\\n        main+1\\\\n        start+2\\\\n,x": 1}}}',
        '{"type": "map", "data": {"@": {"\\\\n        main+1\\\\n        start+2\\\\n,x": 2}}}',
        {f"{STACK},x": 3},
    ),
    *(
        (
            ("0.27",),
            Map("tseries", function=function),
            '{"type": "tseries", "data": {"@": {"k": ['
            '{"interval_start":"2026-11-22 23:02:43.700000000","value":3},'
            '{"interval_start":"2026-11-22 23:02:43.800000000","value":-4}]}}}',
            '{"type": "tseries", "data": {"@": {"k": ['
            '{"interval_start":"2026-11-22 23:02:43.600000000","value":1},'
            '{"interval_start":"2026-11-22 23:02:43.700000000","value":5}]}}}',
            {
                "k": [
                    {"interval_start": "2026-11-22 23:02:43.600000000", "value": 1},
                    {"interval_start": "2026-11-22 23:02:43.700000000", "value": both},
                    {"interval_start": "2026-11-22 23:02:43.800000000", "value": -4},
                ]
            },
        )
        for function, both in (("sum", 8), ("min", 3), ("max", 5))
    ),
]


def parts(facts: Map, *lines: str) -> Parts[str]:
    found: Parts[str] | None = None
    for node, line in zip("abc", lines, strict=False):
        output = parse_line(line.encode())
        assert output
        assert isinstance(output.data, dict)
        value = output.data["@"]
        found = found or Parts(form(output.type, value), facts)
        found.add(node, value)
    assert found
    return found


@pytest.mark.parametrize(
    ("facts", "one", "other", "both"),
    [
        pytest.param(*example, id=f"{version}-{example[0].kind or 'unknown'}-{number}")
        for number, (versions, *example) in enumerate(EXAMPLES)
        for version in versions
    ],
)
def test_two_nodes_maps_are_one(facts: Map, one: str, other: str, both: Any) -> None:
    for lines in ((one, other), (other, one)):
        merged = parts(facts, *lines)
        assert merged.merged() == both
        assert merged.aside() == []


ONE_POINT = '{"type": "tseries", "data": {"@": [{"interval_start":"2026","value":%d}]}}'


@pytest.mark.parametrize(
    ("facts", "line", "reason"),
    [
        (Map("value"), '{"type": "map", "data": {"@": {"k": %d}}}', "different values"),
        (Map(), '{"type": "map", "data": {"@": %d}}', "different values"),
        (Map("avg"), '{"type": "stats", "data": {"@": {"k": %d}}}', "the count behind it"),
        (Map("tseries", function="avg"), ONE_POINT, "an interval of it has different values"),
        (Map("tseries"), ONE_POINT, "an interval of it has different values"),
    ],
)
def test_what_cannot_be_one_is_given_by_node_with_the_reason(
    facts: Map, line: str, reason: str
) -> None:
    found = parts(facts, line % 1, line % 2, line % 1)
    assert found.merged() is None
    aside = found.aside()
    assert sorted(node for node, _, _ in aside) == ["a", "b", "c"]
    assert all(reason in text for _, _, text in aside)


def test_a_part_that_is_not_of_its_kind_stays_alone() -> None:
    found = parts(
        Map("sum"),
        '{"type": "map", "data": {"@": 4}}',
        '{"type": "map", "data": {"@": "forged"}}',
        '{"type": "map", "data": {"@": 5}}',
    )
    assert found.merged() == 9
    assert found.aside() == [("b", "forged", "it has values that are no numbers")]


@pytest.mark.parametrize("forged", ["5", '["x"]', '[{"min": 1, "count": 2, "x": 3}]'])
def test_a_part_that_is_no_histogram_stays_alone(forged: str) -> None:
    line = '{"type": "hist", "data": {"@": [{"min": 2, "max": 3, "count": 1}]}}'
    found = parts(Map("hist"), line, f'{{"type": "hist", "data": {{"@": {forged}}}}}', line)
    assert found.merged() == [{"min": 2, "max": 3, "count": 2}]
    assert [(node, reason) for node, _, reason in found.aside()] == [
        ("b", "it has values that are no histograms")
    ]


def test_histograms_with_different_buckets_are_not_added() -> None:
    found = parts(
        Map("lhist"),
        '{"type": "hist", "data": {"@": [{"min": 0, "max": 9, "count": 1}]}}',
        '{"type": "hist", "data": {"@": [{"min": 0, "max": 4, "count": 1}]}}',
    )
    assert found.merged() == [{"min": 0, "max": 9, "count": 1}]
    assert found.aside() == [
        (
            "b",
            [{"min": 0, "max": 4, "count": 1}],
            "its histograms have different buckets",
        )
    ]


def test_open_ends_alone_do_not_tell_what_is_between() -> None:
    found = parts(
        Map("lhist"),
        '{"type": "hist", "data": {"@": [{"max": -1, "count": 1}]}}',
        '{"type": "hist", "data": {"@": [{"min": 100, "count": 2}]}}',
    )
    assert found.merged() == [{"max": -1, "count": 1}, {"min": 100, "count": 2}]


def test_buckets_that_no_bpftrace_has_are_not_filled() -> None:
    found = parts(
        Map("lhist"),
        '{"type": "hist", "data": {"@": [{"min": 0, "max": 0, "count": 1}]}}',
        '{"type": "hist", "data": {"@": [{"min": 1000000000, "max": 1000000000, "count": 2}]}}',
    )
    merged = found.merged()
    assert len(merged) == 2


def test_keys_that_are_named_like_statistics_are_keys() -> None:
    line = '{"type": "map", "data": {"@": {"count": 1, "average": 2, "total": 3}}}'
    assert parts(Map("count"), line, line).merged() == {"count": 2, "average": 4, "total": 6}
