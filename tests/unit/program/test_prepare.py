from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given

from kubectl_trace.program import prepare, scope, syntax
from kubectl_trace.program.tokens import ProgramError

from .programs import programs
from .test_rewrite import assert_origins_hold
from .test_syntax import PROBE

if TYPE_CHECKING:
    from kubectl_trace.program.rewrite import Rewritten


def limited(text: str, *, by_task: bool = False) -> Rewritten:
    source = prepare.placed(text, {}, [1])
    program = syntax.parse(source.text)
    limit = scope.by_task(program) if by_task else scope.by_namespace(program, "cgroup")
    return prepare.limited(source, limit)


def visible(rewritten: Rewritten) -> str:
    return "".join(
        character
        for offset, character in enumerate(rewritten.text)
        if not rewritten.is_hidden(offset)
    )


@given(programs())
def test_whatever_is_rewritten_is_a_program_of_which_each_character_has_its_origin(
    text: str,
) -> None:
    for rewritten in (prepare.placed(text, {"/bin/x": ["/a b"]}, [1]), limited(text)):
        syntax.parse(rewritten.text)
        assert_origins_hold(text, rewritten)


@given(programs())
def test_every_probe_that_fires_in_a_task_is_limited(text: str) -> None:
    rewritten = limited(text, by_task=True)
    program = syntax.parse(rewritten.text)
    name = scope.by_task(syntax.parse(text)).map
    for probe in program.probes:
        hidden_probe = rewritten.is_hidden(probe.span.start)
        if scope.in_tasks(probe) and not hidden_probe:
            assert probe.predicate
            assert program.of(probe.predicate).startswith(f"/{name}[(uint64)tid]")


@example("END , BEGIN /pid / { } ")
@given(programs())
def test_without_what_is_hidden_the_limited_program_is_the_users(text: str) -> None:
    source = prepare.placed(text, {}, [1])
    parted = source.edit(scope.split(syntax.parse(source.text)))
    program = syntax.parse(parted.text)
    expected = [
        character
        for offset, character in enumerate(parted.text)
        if not parted.is_hidden(offset) and offset not in _slashes(program)
    ]
    assert visible(limited(text)) == "".join(expected)


def _slashes(program: syntax.Program) -> set[int]:
    """Those of predicates that become an `if`: of what is limited, and of the first BEGIN."""
    found: set[int] = set()
    has_begun = False
    for probe in program.probes:
        begins = any(point.provider in ("BEGIN", "begin") for point in probe.attach_points)
        if probe.predicate and (scope.in_tasks(probe) or (begins and not has_begun)):
            found |= {probe.predicate.start, probe.predicate.end - 1}
        has_begun = has_begun or begins
    return found


@pytest.mark.parametrize(
    "text", ['k:f { printf("x"); }', 'k:f /pid/ { @[pid] = count(); printf("x") }']
)
def test_which_container_a_task_is_of_is_asked_once_a_probe(text: str) -> None:
    assert limited(text).text.count("@_scope[(uint64)cgroup]") == 1


def test_line_ends_of_two_characters_become_one() -> None:
    source = prepare.placed("BEGIN {\r\n}\r\n", {}, [])
    assert source.text == "BEGIN {\n}\n"
    assert [source.origin(offset) for offset in (7, 8)] == [7, 9]


def test_what_cannot_be_limited_is_refused_with_its_place_in_the_users_text() -> None:
    text = '\r\n\r\nimport "x.bt";\r\nBEGIN, k:f {}'
    with pytest.raises(ProgramError, match="may have probes") as error:
        limited(text)
    assert text[error.value.offset :].startswith("import")


@pytest.mark.parametrize(
    "text",
    [
        PROBE * 1000,
        "BEGIN, k:f, " * 1000 + "{}",
        "k:f /$container_pid/ {}\r\n" * 1000,
        'u:"/bin/$container_pid":f {}' * 1000,
        'k:f { printf("x") }' * 1000,
        "".join(f"k:f {{ @_scope{number} }}" for number in range(1000)),
    ],
)
def test_rewriting_takes_linear_time(text: str) -> None:
    begin = time.process_time()
    limited(text)
    assert time.process_time() - begin < 10
