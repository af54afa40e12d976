from __future__ import annotations

from typing import Any

import pytest

from kubectl_trace.results.dialect import parse_line
from kubectl_trace.runner.repeats import joined


def record(kind: str, *values: str) -> bytes:
    """A record of a map whose entries all have the key f, but for a last one."""
    entries = ", ".join(f'"f": {value}' for value in values)
    return f'{{"type": "{kind}", "data": {{"@": {{{entries}, "g": {values[0]}}}}}}}'.encode()


@pytest.mark.parametrize(
    ("line", "made_by", "folded"),
    [
        (record("map", "1", "2", "4"), "count", 7),
        (record("map", "3", "-5"), "sum", -2),
        (record("map", "3", "5"), "min", 3),
        (record("map", "3", "5"), "max", 5),
        (
            record(
                "stats",
                '{"count": 1, "average": 2, "total": 2}',
                '{"count": 3, "average": 4, "total": 12}',
            ),
            "avg",
            {"count": 4, "average": 3, "total": 14},
        ),
        (
            record(
                "hist",
                '[{"min": 1, "max": 1, "count": 1}]',
                '[{"min": 1, "max": 1, "count": 2}, {"min": 2, "max": 3, "count": 5}]',
            ),
            "hist",
            [{"min": 1, "max": 1, "count": 3}, {"min": 2, "max": 3, "count": 5}],
        ),
    ],
)
def test_entries_of_one_key_are_folded_by_what_the_map_is(
    line: bytes, made_by: str, folded: Any
) -> None:
    output = parse_line(line)
    assert output is not None
    alone = output.data["@"]["g"]  # type: ignore[index]
    result = joined(output, {"@": made_by})
    assert result.data == {"@": {"f": folded, "g": alone}}
    assert not result.repeated


@pytest.mark.parametrize("made_by", ["value", ""])
def test_entries_that_can_not_be_one_stay_apart(made_by: str) -> None:
    output = parse_line(record("map", "1", "2", "4"))
    assert output is not None
    assert joined(output, {"@": made_by}).data == {"@": {"f": 1, "f (2)": 2, "f (3)": 4, "g": 1}}
