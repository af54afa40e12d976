"""docs/json.schema.json is true: of what real bpftraces print, and of what we say ourselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator, ValidationError

from kubectl_trace.cli.printer import as_line
from kubectl_trace.results.account import Account, NodeAccount
from kubectl_trace.results.dialect import parse_line
from kubectl_trace.results.record import (
    Cost,
    Loss,
    Losses,
    Map,
    Member,
    Print,
    ProbeCost,
    ScopeChange,
    Start,
    Summary,
)
from kubectl_trace.results.result import Result

REPOSITORY = Path(__file__).parents[3]
SCHEMA = json.loads((REPOSITORY / "docs" / "json.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)
TYPES = {name.removeprefix("type-") for name in SCHEMA["$defs"] if name.startswith("type-")}
FIXTURES = sorted(Path(__file__).parent.glob("bpftrace-*.json"))

MEMBER = Member(1, "default", "nginx-0", "nginx", "abc")
START = Start(
    trace="83863f22",
    version="0.1.0",
    protocol=3,
    node="node-a",
    kernel="6.18",
    bpftrace="0.23.2",
    container_pid=7,
    containers=(MEMBER,),
    merge=True,
    maps={"@": Map("tseries", split=True, function="sum")},
    prints=(Print("@", "interval", 1.0, 10, 2),),
)
NODE = NodeAccount(0, "stopped", "", 5, {"kernel buffer": 2})


def check(kind: str, data: Any, **where: Any) -> None:
    line = as_line(Result(1.5, kind, data, **where), data)
    VALIDATOR.validate(json.loads(msgspec.json.encode(line)))


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.stem)
def test_every_record_of_real_bpftraces_is_as_the_schema_says(fixture: Path) -> None:
    seen = set()
    for recorded in json.loads(fixture.read_text()).values():
        for line in recorded["json"].encode("latin-1").splitlines(keepends=True):
            if output := parse_line(line):
                check(output.type, output.data, node="node-a")
                seen.add(output.type)
    assert seen <= TYPES
    assert seen >= {"printf", "map", "hist", "stats", "value", "time", "join"}


LOSSES = Losses(
    (Loss("map full", 7, 9, "k:f", "default", "nginx-0", "nginx"), Loss("rate limit", 1)),
)
COST = Cost(2.5, (ProbeCost("k:f", 5, 100.0, 0.1),), 0.1, 0.2, 0.3)

ERRORS = [
    b'{"type": "lost_events", "data": {"events": 5}}',
    b'{"type": "lost_events", "count": 5, "data": {"events": 5}}',
    b'{"type": "helper_error", "helper": "map_update_elem", "retcode": -7, "line": 1, "col": 2}',
    b'{"type": "helper_error", "msg": "Argument list too long", "helper": "map_update_elem", '
    b'"retcode": -7, "filename": "stdin", "line": 1, "col": 2}',
    b'{"type": "runtime_error", "msg": "Divide by 0", "filename": "stdin", "line": 1, "col": 2}',
    b'{"type": "errorf", "msg": "no", "filename": "stdin", "line": 1, "col": 2}',
    b'{"type": "warnf", "msg": "hm", "filename": "stdin", "line": 1, "col": 2}',
]


@pytest.mark.parametrize("line", ERRORS)
def test_errors_of_bpftrace_have_their_fields_in_data(line: bytes) -> None:
    output = parse_line(line)
    assert output is not None
    assert output.type in TYPES
    check(output.type, output.data, node="node-a")


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("start", msgspec.to_builtins(START)),
        ("scope", msgspec.to_builtins(ScopeChange((MEMBER,), (MEMBER,)))),
        ("program", {"text": "BEGIN {}", "changes": [{"line": 1, "column": 2, "reason": "r"}]}),
        ("ready", None),
        ("stopping", {"reason": "deadline"}),
        ("summary", msgspec.to_builtins(Summary(0, "stopped", "", 5, {"map full": 1}))),
        ("cost", msgspec.to_builtins(COST)),
        ("losses", msgspec.to_builtins(LOSSES)),
        ("note", "by node"),
        ("account", Account(0, "stopped", 5, {"transport": 1}, {"node-a": NODE}).as_data()),
    ],
)
def test_what_is_about_the_run_is_as_the_schema_says(kind: str, data: Any) -> None:
    assert kind in TYPES
    check(kind, data, node="node-a")


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        ("start", START),
        ("cost", COST),
        ("losses", LOSSES),
        ("summary", Summary(0, "")),
        ("scope", ScopeChange()),
        ("account", None),
    ],
)
def test_the_schema_has_each_field_and_no_other(kind: str, of: Any) -> None:
    fields = {field.name for field in msgspec.structs.fields(Account if of is None else type(of))}
    assert set(SCHEMA["$defs"][f"type-{kind}"]["properties"]) == fields


def test_a_merged_result_has_no_node_and_may_name_who_is_missing() -> None:
    check("map", {"@": {"k": 1}}, missing=("node-b",))
    check("map", {"@": {"k": 1}}, namespace="default", pod="nginx-0", container="nginx")


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("printf", ["a", "b"]),
        ("map", {"a": 1}),
        ("map", {"@a": 1, "@b": 2}),
        ("hist", {"@": [{"min": 1}]}),
        ("hist", {"@": {"k": [{"count": 1, "other": 1}]}}),
        ("stats", {"@": {"k": {"count": 1}}}),
        ("tseries", {"@": [{"value": 1}]}),
        ("lost_events", {"lost": 1}),
        ("summary", {"exit": 0}),
    ],
)
def test_what_is_not_so_is_found(kind: str, data: Any) -> None:
    with pytest.raises(ValidationError):
        check(kind, data)


def test_each_type_is_in_the_page() -> None:
    page = (REPOSITORY / "docs" / "json.md").read_text()
    assert not [name for name in TYPES if f"`{name}`" not in page]
