from __future__ import annotations

import json
import os
import stat
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.errors import DeadlineError, RefusedError, StartError, TraceError, UsageError
from kubectl_trace.results import session
from kubectl_trace.results.events import Ended, Event, Finished, Notice, Progress, Records
from kubectl_trace.results.record import Record, encode
from kubectl_trace.results.session import Header

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from pathlib import Path

HEADER = Header("0.1.0", "83863f22", "deploy/nginx", "2026-11-23T19:00:00.000000Z")
SUMMARY = Record(9, 3.0, "summary", {"exit": 0, "reason": "stopped", "delivered": 2})

NODES = st.sampled_from(["node-a", "node-b"])
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
RECORDS = st.builds(
    Record,
    seq=st.integers(0, 2**40),
    time=st.floats(0, 4e9),
    type=st.sampled_from(["value", "time", "new"]),
    data=PLAIN,
    container=st.integers(0, 5) | st.lists(st.integers(0, 5), min_size=1, max_size=3),
    print=st.integers(0, 3),
)
ERRORS = st.none() | st.builds(TraceError, st.text()) | st.builds(DeadlineError, st.text())
EVENTS = st.lists(
    st.builds(Records, NODES, st.lists(RECORDS, min_size=1, max_size=4))
    | st.builds(Notice, st.text(), NODES)
    | st.builds(Progress, NODES, st.text())
    | st.builds(Ended, NODES, st.integers(0, 9), ERRORS, st.booleans()),
    max_size=8,
)


def no_note(text: str) -> None:
    raise AssertionError(text)


def save(path: Path, *events: Event) -> None:
    writer = session.create(str(path), HEADER, no_note)
    for event in events:
        writer.add(event)
    writer.close()


def load(path: Path) -> list[Event]:
    return list(session.read(str(path))[1])


def comparable(events: list[Event]) -> list[object]:
    """The events with each record by itself, as on the wire, and errors as class and text."""
    found: list[object] = []
    for event in events:
        if isinstance(event, Records):
            found += [(event.node, encode(record)) for record in event.records]
        elif isinstance(event, Ended):
            found.append((event.node, event.lost, event.started, repr(event.error)))
        elif isinstance(event, Finished):
            found.append(repr(event.error))
        else:
            found.append(event)
    return found


@given(EVENTS, ERRORS)
def test_what_is_read_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], error: TraceError | None
) -> None:
    path = tmp_path_factory.mktemp("session") / "s"
    save(path, *events, Finished(error))
    header, read = session.read(str(path))
    assert header == HEADER
    assert comparable(list(read)) == comparable([*events, Finished(error)])


@given(st.data(), EVENTS)
def test_a_file_cut_anywhere_gives_a_beginning_of_what_was_written_and_says_so(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, events: list[Event]
) -> None:
    path = tmp_path_factory.mktemp("session") / "s"
    save(path, *events)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        found = load(path)
    except UsageError:  # not even the header is there
        return
    *before, finished = found
    assert isinstance(finished, Finished)
    assert "is not whole" in str(finished.error)

    def is_beginning(count: int) -> bool:
        beginning = comparable(before[:count])
        return comparable(events)[: len(beginning)] == beginning

    at = max(filter(is_beginning, range(len(before) + 1)))
    open_nodes = {each.node for each in before[:at] if isinstance(each, Records)}
    assert all(isinstance(each, Ended) and each.node in open_nodes for each in before[at:])


def test_a_node_without_an_end_has_one_with_the_reason(tmp_path: Path) -> None:
    save(
        tmp_path / "s",
        Records("node-a", [Record(0, 1.0, "printf", "x"), SUMMARY]),
        Records("node-b", [Record(0, 1.0, "printf", "y")]),
    )
    a, b, finished = load(tmp_path / "s")[2:]
    assert isinstance(finished, Finished)
    assert "not whole" in str(finished.error)
    assert a == Ended("node-a")
    assert isinstance(b, Ended)
    assert "ends before its trace" in str(b.error)


def test_a_damaged_line_ends_the_session_after_what_is_before_it(tmp_path: Path) -> None:
    record = b'{"node":"n","record":{"seq":0,"time":1.0,"type":"printf","data":"x"}}\n'
    header = b'{"version":"0.1.0","trace":"t","target":"x","created":"c","kubectl-trace-session":1}'
    (tmp_path / "s").write_bytes(zstd.compress(header + b"\n" + record + b"{oops\n" + record))
    first, ended, finished = load(tmp_path / "s")
    assert first == Records("n", [Record(0, 1.0, "printf", "x")])
    assert isinstance(finished, Finished)
    assert "damaged" in str(finished.error)
    assert isinstance(ended, Ended)
    assert ended.error is not None


def test_an_unpacked_session_is_a_session_too(tmp_path: Path) -> None:
    save(tmp_path / "s", Notice("hello"), Finished())
    (tmp_path / "s").write_bytes(zstd.decompress((tmp_path / "s").read_bytes()))
    assert load(tmp_path / "s") == [Notice("hello"), Finished()]


def test_inside_is_a_json_object_a_line_header_first(tmp_path: Path) -> None:
    save(
        tmp_path / "s",
        Records("node-a", [Record(0, 1.0, "map", {"@": 1})]),
        Ended("node-a", 2, StartError("no")),
        Finished(),
    )
    lines = zstd.decompress((tmp_path / "s").read_bytes()).splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "kubectl-trace-session": 1,
            "version": "0.1.0",
            "trace": "83863f22",
            "target": "deploy/nginx",
            "created": "2026-11-23T19:00:00.000000Z",
        },
        {"node": "node-a", "record": {"seq": 0, "time": 1.0, "type": "map", "data": {"@": 1}}},
        {"node": "node-a", "ended": {"error": "no", "code": 5, "lost": 2}},
        {"finished": {}},
    ]


def test_errors_keep_their_exit_codes(tmp_path: Path) -> None:
    save(tmp_path / "s", Ended("a", error=RefusedError("r")), Finished(StartError("s")))
    ended, finished = load(tmp_path / "s")
    assert isinstance(ended, Ended)
    assert isinstance(finished, Finished)
    assert isinstance(ended.error, RefusedError)
    assert isinstance(finished.error, StartError)


def test_what_was_added_can_be_read_while_the_writer_is_still_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_FRAME", 1000)
    writer = session.create(str(tmp_path / "s"), HEADER, no_note)
    for i in range(100):
        writer.add(Records("n", [Record(i, 1.0, "printf", "x" * 100)]))
    read = [each for each in load(tmp_path / "s") if isinstance(each, Records)]
    assert sum(len(each.records) for each in read) > 90
    writer.close()


def test_a_quiet_session_is_readable_within_moments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_PERIOD", 0.01)
    writer = session.create(str(tmp_path / "s"), HEADER, no_note)
    writer.add(Notice("here"))
    give_up = time.monotonic() + 10
    while Notice("here") not in load(tmp_path / "s"):
        assert time.monotonic() < give_up
    writer.close()


def test_the_file_is_its_users_alone_also_if_it_was_there(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("old")
    path.chmod(0o644)
    save(path, Finished())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load(path) == [Finished()]


@pytest.mark.parametrize("path", ["/no/such/folder/s", "/", "a\0b", ""])
def test_a_file_that_cannot_be_made_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="can't be saved"):
        session.create(path, HEADER, no_note)


def test_a_terminal_is_no_place_for_a_session() -> None:
    main, terminal = os.openpty()
    with pytest.raises(UsageError, match="is a terminal"):
        session.create(os.ttyname(terminal), HEADER, no_note)
    os.close(main)
    os.close(terminal)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"{}", b'{"a":1}\n', zstd.compress(b"hello\n"), b"\x28\xb5\x2f\xfdjunk"]
)
def test_a_file_that_is_no_session_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(UsageError, match="is no saved session"):
        session.read(str(tmp_path / "s"))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read: No such file"):
        session.read(str(tmp_path / "s"))


def test_a_session_of_a_later_format_names_the_version_that_reads_it(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b'{"kubectl-trace-session":2,"version":"9.1"}\n')
    with pytest.raises(UsageError, match=r"9\.1"):
        session.read(str(tmp_path / "s"))


def test_a_full_disk_is_said_once_and_harms_nothing_else() -> None:
    notes: list[str] = []
    writer = session.create("/dev/full", HEADER, notes.append)
    for _ in range(3):
        writer.add(Notice("x"))
    writer.close()
    assert len(notes) == 1
    assert "No space left" in notes[0]
    assert not writer.whole


def test_a_small_file_that_unpacks_to_very_much_is_not_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_LONGEST_LINE", 4 << 20)
    path = tmp_path / "bomb.session"
    save(path, Finished())
    packed = zstd.compress(b"x" * (64 << 20))
    assert len(packed) < 64 << 10
    whole = path.read_bytes()
    path.write_bytes(packed)
    with pytest.raises(UsageError, match="no saved session"):
        session.read(str(path))
    path.write_bytes(zstd.compress(zstd.decompress(whole).split(b"\n")[0] + b"\n") + packed)
    _, events = session.read(str(path))
    (last,) = events
    assert isinstance(last, Finished)
    assert "longer than 4 MiB" in str(last.error)


def test_what_a_link_leads_to_is_not_overwritten(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "link").symlink_to(precious)
    with pytest.raises(UsageError, match="symbolic link"):
        session.create(str(tmp_path / "link"), HEADER, no_note)
    assert precious.read_text() == "kept"
