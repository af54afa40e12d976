"""Log streams and session files that somebody else has written: any types, any sizes, any bytes."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
import tempfile
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubectl_trace.cli.main import main
from kubectl_trace.results.record import decode
from kubectl_trace.trace import PROTOCOL

TYPES = [
    *("start", "scope", "ready", "stopping", "stderr", "program", "summary", "note", "functions"),
    *("printf", "map", "hist", "stats", "tseries", "value", "lost_events", "helper_error"),
    *("runtime_error", "errorf", "warnf", "attached_probes", "time", "cat", "join", "syscall"),
    *("call", "rate_limit", "raw", "cost", "losses", "new"),
]
HOSTILE = "\x1b]0;title\x07\x9b31m\u202e\r\x7f\u2066"
"""A title, a colour by a C1 character, text that reads backwards, a line overwritten."""
KEYS = [
    *("protocol", "version", "node", "kernel", "bpftrace", "containers", "maps"),
    *("prints", "merge", "number", "namespace", "pod", "container", "container_id"),
    *("joined", "left", "reason", "text", "changes", "line", "column", "exit", "message"),
    *("delivered", "lost", "probes", "events", "@", "@a", "min", "max", "count"),
    *("average", "total", "interval_start", "value", "msg", "helper", "retcode"),
    *("filename", "col", "name", "kind", "split", "map", "when", "period", "time", "pid"),
    *("file", "function", "arguments", "results", "duration", "stack", "signature"),
    *("trace", "top", "losses", "cause", "seen", "probe"),
    HOSTILE,
]
NUMBERS = (0, 1, -1, 4, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 1e308, 0.5)
TEXTS = ("", "x", "1,2", HOSTILE, "9" * 40, "count", "avg", "hist", "tseries", "interval", "end")
LEAVES = st.none() | st.booleans() | st.sampled_from([*NUMBERS, *TEXTS, "a\n b\n"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=8,
)
START: dict[str, Any] = {
    "trace": "t",
    "version": "0.1.0",
    "protocol": 0,
    "node": "n",
    "kernel": "6",
    "bpftrace": "0.23",
    "containers": [
        {"number": 1, "namespace": "s", "pod": "p", "container": "c", "container_id": "i"}
    ],
    "merge": True,
    "maps": {"@": {"kind": "count"}, "@a": {"kind": "hist", "split": True}},
    "prints": [{"map": "@"}, {"map": "@a", "when": "interval", "period": 1}],
}


@st.composite
def streams(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Records of two nodes, of which some begin as real ones do."""
    found: list[dict[str, Any]] = []
    for node in ("a", "b"):
        seq = 0
        if draw(st.booleans()):
            found.append(record(node, 0, "start", START | {"protocol": PROTOCOL}))
            seq = 1
        for _ in range(draw(st.integers(0, 5))):
            each = record(node, seq, draw(st.sampled_from(TYPES)), draw(VALUES))
            for field in ("container", "print", "seq", "time"):
                if draw(st.integers(0, 9)) == 0:
                    each["record"][field] = draw(VALUES)
            found.append(each)
            seq += 1
    return found


def record(node: str, seq: int, kind: str, data: Any) -> dict[str, Any]:
    return {"node": node, "record": {"seq": seq, "time": 1.0, "type": kind, "data": data}}


TIMES = (0, 0.5, 1e9, 253402300798.9999999, 253402300799, 1e300, -0.0, -0.5, 2**64 - 1, 10**30)
CALL: dict[str, Any] = {"function": "f", "pid": 1, "tid": 1, "time": 1.0, "duration": 5}
HIST = {"@a": [{"min": 0, "max": 1, "count": 3}]}
SERIES = {"@": [{"interval_start": "12:00", "value": 1}]}

HEAD = {
    "version": "0.1.0",
    "trace": "t",
    "target": "pod/x",
    "created": "2026-11-23T19:00:00Z",
    "kubectl-trace-session": 1,
}


def replayed(lines: list[Any], *words: str) -> int:
    with tempfile.NamedTemporaryFile("w", suffix=".session") as file:
        for line in (HEAD, *lines):
            file.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
        file.flush()
        return main(["replay", file.name, *words])


class Terminal(io.TextIOWrapper):
    """What would go to a terminal."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="backslashreplace")

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        self.flush()
        content = self.buffer
        assert isinstance(content, io.BytesIO)
        return content.getvalue().decode()


@pytest.mark.parametrize("output", ["text", "json", "csv", "yaml", "folded"])
def test_whatever_a_log_says_the_client_ends_and_the_terminal_is_not_commanded(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @settings(max_examples=60, deadline=None)
    @given(streams(), st.sampled_from(["", "pod", "node"]))
    def check(lines: list[dict[str, Any]], by: str) -> None:
        stdout, stderr = Terminal(), Terminal()
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(sys, "stderr", stderr)
        words = ["-o", output, *(["--by", by] if by else []), "--timestamps"]
        assert replayed(lines, *words) in range(9)
        # `replay` draws no progress, so that no control character is its own.
        shown = re.sub(r"\r\n", "\n", stdout.text() + stderr.text())
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)

    check()


# Of each type what its data is like; whose it is, and when, is anything.
DATA: dict[str, st.SearchStrategy[Any]] = {
    "printf": st.just("x\n") | st.lists(st.sampled_from(["a\n", HOSTILE]), max_size=3),
    "call": st.builds(
        lambda time: CALL | {"time": time}, st.sampled_from((*NUMBERS, *TIMES, None, "1", True))
    )
    | st.lists(st.sampled_from([CALL, CALL | {"time": 1e300}, {}, "x", None]), max_size=3),
    "map": st.just({"@": 1}) | st.lists(st.sampled_from([{"@": 1}, {"@": {"k": 2}}, {}])),
    "stats": st.just({"@": {"count": 1, "average": 2, "total": 3}}) | st.lists(st.just({"@": 1})),
    "hist": st.sampled_from([HIST, [HIST], [HIST, HIST], [{}]]),
    "tseries": st.sampled_from([SERIES, [SERIES], [SERIES, SERIES]]),
    "lost_events": st.builds(lambda events: {"events": events}, st.integers(-1, 2**64)),
    "time": st.sampled_from(["12:00", 1, None]),
    "new": st.sampled_from([None, [1], "x"]),
}


@st.composite
def plausible(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Records that the reader takes, with containers and times of anybody's choice."""
    found: list[dict[str, Any]] = []
    for seq in range(draw(st.integers(0, 8))):
        if draw(st.integers(0, 5)) == 0:
            data: Any = START | {"protocol": PROTOCOL, "merge": draw(st.booleans())}
            each = record("a", seq, "start", data)
        else:
            kind = draw(st.sampled_from(sorted(DATA)))
            each = record(draw(st.sampled_from("ab")), seq, kind, draw(DATA[kind]))
            each["record"]["container"] = draw(
                st.integers(-1, 3) | st.lists(st.integers(-1, 3), max_size=3)
            )
            each["record"]["print"] = draw(st.sampled_from([0, 1, 2, 3, -1, 2**63]))
        each["record"]["time"] = draw(st.sampled_from((1.0, *TIMES)))
        with contextlib.suppress(msgspec.MsgspecError):
            decode(json.dumps(each["record"]).encode())
            found.append(each)
    return found


@pytest.mark.parametrize("output", ["text", "json", "csv", "yaml", "folded"])
def test_what_the_reader_takes_can_be_shown(output: str) -> None:
    @settings(max_examples=60, deadline=None)
    @given(plausible(), st.sampled_from(["", "pod", "node"]))
    def check(lines: list[dict[str, Any]], by: str) -> None:
        words = ["-o", output, *(["--by", by] if by else []), "--timestamps"]
        assert replayed(lines, *words) in range(9)

    check()


@pytest.mark.parametrize("kind", ["call", "printf", "map", "hist"])
@pytest.mark.parametrize("container", [[], [1], [1, 2, 3]])
def test_results_of_another_number_of_containers_are_refused(
    kind: str, container: list[int]
) -> None:
    data = {"printf": "a\n", "call": CALL, "map": {"@": 1}, "hist": HIST}[kind]
    for each in ([data, data], data):
        found = record("a", 0, kind, each)
        found["record"]["container"] = container
        with pytest.raises(msgspec.ValidationError):
            decode(msgspec.json.encode(found["record"]))
        assert replayed([found], "-o", "json") in range(9)


@pytest.mark.parametrize("time", [1e300, 253402300799.9999999, -1, -1e300, 2**64 - 1])
def test_a_time_that_is_none_is_refused(time: float) -> None:
    found = record("a", 0, "printf", "a\n")
    found["record"]["time"] = time
    with pytest.raises(msgspec.ValidationError):
        decode(msgspec.json.encode(found["record"]))
    call = record("a", 0, "call", CALL | {"time": time})
    assert replayed([found, call], "-o", "json", "--timestamps") in range(9)
    assert replayed([call], "-o", "json") in range(9)
    assert replayed([call], "-o", "text") in range(9)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=40) | st.text(max_size=20).map(str.encode), max_size=6))
def test_no_file_makes_replay_fail_otherwise_than_by_saying_so(pieces: list[bytes]) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"\n".join(pieces))
        file.flush()
        assert main(["replay", file.name]) == 2
