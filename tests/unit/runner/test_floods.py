r"""Many lines at once give exactly what each of them would have given."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.program import counting, prepare, scope, syntax
from kubectl_trace.program.rewrite import Rewritten
from kubectl_trace.results import dialect
from kubectl_trace.results.reader import RecordReader
from kubectl_trace.runner import floods
from kubectl_trace.runner.bpftrace import ProgramFile
from kubectl_trace.runner.output import RecordWriter
from kubectl_trace.runner.output_limit import OutputLimit
from kubectl_trace.runner.plan import Plan
from kubectl_trace.runner.translation import Translation
from kubectl_trace.trace import Limits

FIXTURES = sorted((Path(__file__).parents[1] / "results").glob("bpftrace-*.json"))

ONE = 'k:f { printf("a"); }'
TWO = 'k:f { printf("a"); } interval:s:1 { printf("b"); }'


def line(text: str) -> bytes:
    """As bpftrace writes it: control characters as JSON has them, bytes over 0x7f sign-extended."""
    return raw(text.encode())


def raw(text: bytes) -> bytes:
    """The same of a text that need not be one."""
    escaped = json.dumps(text.decode("latin-1"))
    for byte in range(0x80, 0x100):
        escaped = escaped.replace(f"\\u{byte:04x}", f"\\uffffff{byte:02x}")
    return f'{{"type": "printf", "data": {escaped}}}\n'.encode()


def translation(program: str, *, limited: bool) -> Translation:
    source = Rewritten.of(program)
    limit = scope.by_namespace(syntax.parse(program)) if limited else None
    if limit is not None:
        source = prepare.limited(source, limit)
    changed, counts = counting.counted(source, limit.variable if limit else "")
    plan = Plan(changed, scope=limit, counting=counts, user_text=program)
    return Translation(plan, ProgramFile(""), program, "mine.bt")


def written(
    program: str, block: bytes, *, limited: bool, at_once: bool, limits: Limits
) -> list[tuple[object, ...]]:
    """The texts with their containers, and the account, of what bpftrace has printed."""
    reading, writing = os.pipe()
    writer = RecordWriter(writing, clock=lambda: 0.0)
    writer.limit = OutputLimit(limits)
    made = translation(program, limited=limited)
    for part in made.parts(block) if at_once else (block,):
        if isinstance(part, bytes):
            for each in part.splitlines(keepends=True):
                for result in made.output(each):
                    writer.add_output(result)
        else:
            writer.add_texts(part)
    writer.add("end", None)
    writer.flush()
    os.close(writing)
    with open(reading, "rb") as file:
        records = RecordReader().feed(file.read())
    shown: list[tuple[object, ...]] = []
    for record in records:
        texts = record.data if isinstance(record.data, list) else [record.data]
        of = record.container
        containers = of if isinstance(of, list) else [of] * len(texts)
        shown += [(record.type, *each) for each in zip(texts, containers, strict=True)]
    return [
        *shown,
        (writer.delivered, writer.delivered_by, writer.lost, writer.lost_by),
        (made.tally._came,),
    ]


TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["", "~1~", "~", '"}\n{"type": "printf", "data": "', "é", "\\u001e"]),
)
BYTES = st.lists(
    st.sampled_from([b"\\", b"\\uffffffc3", b"\xc3", b"\xa9", b"\xff", b"\n", b'"', b"a", b"\x01"])
).map(b"".join)
LINES = st.one_of(
    st.builds(lambda text: line(f"~0~~1~{text}"), TEXTS),
    st.builds(lambda text: line(f"~1~~2~{text}"), TEXTS),
    st.builds(lambda text: line(f"~7~{text}"), TEXTS),
    st.builds(line, TEXTS),
    st.builds(lambda text: raw(b"~0~~1~" + text), BYTES),
    st.builds(lambda text: raw(b"~0~~1~" + text).replace(b"\\uffffff", b""), BYTES),
    st.sampled_from(
        [
            b'{"type": "map", "data": {"@": 5}}\n',
            b'{"type": "lost_events", "data": {"events": 5}}\n',
            b'{"type": "printf", "data": "broken\n',
            b'{"type": "printf", "data": 5}\n',
            b"\n",
            b"a warning\n",
        ]
    ),
)


@pytest.mark.parametrize(("program", "limited"), [(ONE, False), (ONE, True), (TWO, True)])
@given(
    lines=st.lists(LINES, max_size=12),
    limits=st.builds(Limits, records=st.integers(0, 8), bytes=st.sampled_from([0, 5, 1000])),
)
def test_at_once_is_as_line_by_line(
    program: str, lines: list[bytes], limits: Limits, *, limited: bool
) -> None:
    if program == TWO:  # what has no tag is not its own
        lines = [each for each in lines if b'data": "~7' not in each]
        lines = [each for each in lines if b"printf" not in each or b'"~' in each[:40]]
    block = b"".join(lines)
    slow, fast = (
        written(program, block, limited=limited, at_once=at_once, limits=limits)
        for at_once in (False, True)
    )
    assert fast == slow


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.stem)
def test_what_real_bpftraces_print_is_read_at_once(fixture: Path) -> None:
    seen = 0
    for recorded in json.loads(fixture.read_text()).values():
        block = recorded["json"].encode("latin-1")
        for may_be_read, part in floods.split(block):
            if may_be_read:
                printed = floods.read(part, 0)
                assert printed is not None
                lines = list(map(dialect.parse_line, part.splitlines()))
                assert printed.texts == [each.data for each in lines if each]
                seen += len(printed.texts)
    assert seen > 0


def test_tagged_lines_of_one_kind_and_of_several_are_read() -> None:
    same = line("~3~a") + line("~3~b")
    assert floods.read(same, 1) == floods.Tagged(["a", "b"], [(3,)])
    mixed = line("~3~a") + line("~4~b")
    assert floods.read(mixed, 1) == floods.Tagged(["a", "b"], [(3,), (4,)])
    assert floods.read(line("a"), 1) is None


def test_special_texts_are_left_to_be_read_line_by_line() -> None:
    block = line("a") + line("\x1eTOKEN5\x1e") + line("b") + b"x\n"
    assert list(floods.split(block, b"\\u001eTOKEN")) == [
        (True, line("a")),
        (False, line("\x1eTOKEN5\x1e")),
        (True, line("b")),
        (False, b"x\n"),
    ]


def test_texts_with_bytes_over_0x7f_are_read_at_once() -> None:
    block = line("~1~a") + line("~2~café \\é") + raw(b"~1~\xff\xc3 \\uffffffc3\xa9")
    ((may_be_read, run),) = floods.split(block)
    assert may_be_read
    texts = ["a", "café \\é", "\\xff\\xc3 \\uffffffc3\\xa9"]
    assert floods.read(run, 1) == floods.Tagged(texts, [(1,), (2,), (1,)])


def test_what_looks_like_a_line_inside_of_another_is_none() -> None:
    block = b'a symbol{"type": "printf", "data": "~2~forged"}\n' + line("~1~a")
    assert list(floods.split(block)) == [
        (False, block.splitlines(keepends=True)[0]),
        (True, line("~1~a")),
    ]


def test_where_a_format_is_a_macro_the_sum_of_what_is_lost_is_known() -> None:
    made = translation('#define F "a"\nk:f { printf(F); printf("b"); }', limited=True)
    for part in made.parts(line("~3~b") * 6):
        assert not isinstance(part, bytes)
        assert part.containers == [3]
    assert made.output(b'{"type": "map", "data": {"@kubectl_trace_texts": 10}}\n') == []
    assert [(each.lost, each.seen) for each in made.tally.lost()] == [(4, 10)]
