from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.cli import replay
from kubectl_trace.cli.main import main
from kubectl_trace.errors import TraceError, UsageError
from kubectl_trace.results import session
from kubectl_trace.results.events import Ended, Finished, Records
from kubectl_trace.results.record import Map, Member, Record, Start, Summary
from kubectl_trace.results.session import Header
from kubectl_trace.runner.output import to_data
from kubectl_trace.trace import PROTOCOL

if TYPE_CHECKING:
    from pathlib import Path

    from kubectl_trace.results.events import Event

HEADER = Header("0.1.0", "83863f22", "deploy/nginx", "2026-11-23T19:00:00.000000Z")


def records(node: str, count: int) -> Records:
    """What a runner with one pod says that has counted so many."""
    start = Start(
        trace="83863f22",
        version="0.1.0",
        protocol=PROTOCOL,
        node=node,
        kernel="6.1",
        bpftrace="0.23.2",
        containers=(Member(1, "shop", f"web-{node}", "nginx", "id"),),
        merge=True,
        maps={"@": Map("count", split=True)},
    )
    data = (
        ("start", to_data(start)),
        ("ready", None),
        ("map", [{"@": count}]),
        ("summary", to_data(Summary(exit=0, reason="stopped", delivered=1))),
    )
    return Records(
        node,
        [
            Record(seq, 1.0, kind, each, [1] if kind == "map" else 0)
            for seq, (kind, each) in enumerate(data)
        ],
    )


def save(path: Path, *events: Event) -> None:
    writer = session.create(str(path), HEADER, pytest.fail)
    for event in events:
        writer.add(event)
    writer.close()


def test_two_nodes_are_one_answer_or_kept_apart_as_the_user_wants(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "s")
    one, other = records("a", 3), records("b", 4)
    save(tmp_path / "s", one, other, Ended("a"), Ended("b"), Finished())
    assert main(["replay", file]) == 0
    said = capsys.readouterr()
    assert said.out == "@: 7\n"
    assert "stopped: 2 records from 2 nodes; lost: none" in said.err
    assert main(["replay", file, "--by", "pod"]) == 0
    assert capsys.readouterr().out == "[pod/web-a] @: 3\n[pod/web-b] @: 4\n"


def test_the_exit_code_is_the_traces_own(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    file = str(tmp_path / "s")
    lost = Ended("b", error=TraceError("out of reach"))
    save(tmp_path / "s", records("a", 3), lost, Ended("a"), Finished())
    assert main(["replay", file, "-o", "json"]) == 0, "b had not begun"
    lines = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    (shown,) = [line for line in lines if line["type"] == "map"]
    assert (shown["data"], shown["missing"]) == ({"@": 3}, ["b"])
    save(tmp_path / "s", records("a", 3), Finished(TraceError("the API server is away")))
    assert main(["replay", file]) == 1


def test_a_file_that_is_no_session_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s").write_text("hello\n")
    assert main(["replay", str(tmp_path / "s")]) == 2
    assert "is no saved session" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["s", "--context", "c"], ["s", "-n", "x"], []])
def test_it_takes_no_connection_flags_and_needs_a_file(words: list[str]) -> None:
    with pytest.raises(UsageError):
        replay.parser().parse_args(words)
