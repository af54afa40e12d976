from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.program import syntax, tags
from kubectl_trace.program.rewrite import Rewritten
from kubectl_trace.program.scope import Scope


def tagged(text: str) -> str:
    scope = Scope("@s", "$c", ("ns",))
    return Rewritten.of(text).edit(tags.tag(syntax.parse(text), scope)).text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('k:f { printf("x"); }', r'k:f { $c = @s[ns]; printf("~%lu~x", $c); }'),
        (
            'k:f{printf /* " */ ( "%d", pid)}',
            r'k:f{ $c = @s[ns];printf /* " */ ( "~%lu~%d", $c, pid)}',
        ),
        ('i:s:1 { printf("x") }', r'i:s:1 { printf("~0~x") }'),
        ('macro m() { printf("x") } k:f {}', r'macro m() { printf("~0~x") } k:f {}'),
        (
            'k:f { if (1) { if (2) { printf("a") } } printf("b") }',
            r'k:f { $c = @s[ns]; if (1) { if (2) { printf("~%lu~a", $c) } } '
            r'printf("~%lu~b", $c) }',
        ),
        ('k:f { print("x"); $printf = str("printf"); // printf("x")\n}',) * 2,
        ('k:f /printf("x")/ { system("printf(1)") }',) * 2,
        ("k:f { printf() }",) * 2,
    ],
)
def test_printfs_are_tagged(text: str, expected: str) -> None:
    assert tagged(text) == expected


def test_where_foreign_tasks_are_known_the_container_is_asked_for_before() -> None:
    scope = Scope("@s", "$c", ("cg", "ns"), has_foreign=True)
    text = 'k:f { printf("x"); }'
    edited = Rewritten.of(text).edit(tags.tag(syntax.parse(text), scope)).text
    assert edited == r'k:f { printf("~%lu~x", $c); }'


@given(st.integers(0, 10**6 - 1), st.text())
def test_a_tag_comes_off_again(number: int, text: str) -> None:
    assert tags.untag(f"~{number}~{text}") == (number, text)


@pytest.mark.parametrize(
    "text",
    ["", "x", "~", "~1", "~x~y", "~~", "x~1~", f"~{'1' * 5000}~"],
)
def test_a_text_without_a_tag_stays(text: str) -> None:
    assert tags.untag(text) == (0, text)


@given(st.text())
def test_any_text_can_be_untagged(text: str) -> None:
    number, rest = tags.untag("~" + text)
    assert number >= 0
    assert ("~" + text).endswith(rest)


def test_brackets_may_be_nested_deeply() -> None:
    depth = 5000
    text = "i:s:1 {" + "(" * depth + 'printf("x")' + ")" * depth + "}"
    assert r'printf("~0~x")' in tagged(text)
