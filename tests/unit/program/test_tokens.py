from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.program.tokens import (
    Group,
    Lines,
    ProgramError,
    Span,
    Token,
    end_of_predicate,
    matching,
    skip_layout,
    tokens,
    tree,
)

from .programs import TEXTS

ENCODABLE = st.text(st.characters(codec="utf-8"))


@given(TEXTS)
def test_joined_tokens_are_the_text(text: str) -> None:
    found = list(tokens(text, Span(0, len(text))))
    assert "".join(token.text for token in found) == text
    assert all(token.text and text.startswith(token.text, token.start) for token in found)


@given(TEXTS)
def test_a_tree_has_every_element_of_a_text_whose_brackets_match(text: str) -> None:
    try:
        end = matching("(" + text + ")", 0)
    except ProgramError:
        return
    text = ("(" + text + ")")[:end]

    def flat(nodes: tuple[Token | Group, ...]) -> str:
        return "".join(
            node.text
            if isinstance(node, Token)
            else node.bracket + flat(node.children) + {"(": ")", "[": "]", "{": "}"}[node.bracket]
            for node in nodes
        )

    assert flat(tree(text, Span(0, end))) == text


def test_tokens_have_their_kinds() -> None:
    text = '@a[$x, 0x1f] = "s" + $# / args->b; // c'
    kinds = [
        (token.kind, token.text)
        for token in tokens(text, Span(0, len(text)))
        if token.kind != "space"
    ]
    assert kinds == [
        ("map", "@a"),
        ("open", "["),
        ("variable", "$x"),
        ("other", ","),
        ("number", "0x1f"),
        ("close", "]"),
        ("other", "="),
        ("string", '"s"'),
        ("other", "+"),
        ("variable", "$#"),
        ("other", "/"),
        ("word", "args"),
        ("other", "-"),
        ("other", ">"),
        ("word", "b"),
        ("other", ";"),
        ("comment", "// c"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "{ }",
        "{ { ( [ { } ] ) } }",
        '{ "}" "\\"}" }',
        "{ // }\n}",
        "{ /* } */ }",
        "{ a / b /* } */ / c }",
        "{\n#! }\n}",
        "{ # }",
        "{" + "(" * 5000 + ")" * 5000 + "}",
    ],
)
def test_a_bracket_ends_at_its_own(text: str) -> None:
    assert matching(text + " }", 0) == len(text)


@pytest.mark.parametrize(
    ("text", "message", "offset"),
    [
        ("{ ( }", "} closes nothing: ( is open since column 3", 4),
        ("{\n(\n]", "] closes nothing: ( is open since line 2", 4),
        ("{ (", "this ( is not closed", 2),
        ('{ "a\n" }', 'this string has no end: " is missing on its line', 2),
        ("{ /* }", "this comment has no end: */ is missing", 2),
    ],
)
def test_a_bracket_without_its_other_is_refused(text: str, message: str, offset: int) -> None:
    with pytest.raises(ProgramError) as error:
        matching(text, 0)
    assert (error.value.message, error.value.offset) == (message, offset)


@pytest.mark.parametrize(
    "predicate",
    [
        "/1/",
        "/ pid / 2 /",
        '/ str(arg0) == "/ {" /',
        "/ (a / {1}) /",
        "/ 1 // / {\n /",
        "/ 1 /* / { */ /",
        "/ if (a / 2) { 1 } else { 0 } /",
        "/ { $a = 1 / 1; $a } /",
    ],
)
@pytest.mark.parametrize("after", ["{}", " {}", "\n// c\n{}", " /* c */ {}"])
def test_a_predicate_ends_at_the_slash_before_the_block(predicate: str, after: str) -> None:
    assert end_of_predicate(predicate + after, 0) == len(predicate) - 1


@pytest.mark.parametrize("text", ["/ 1", "/ 1 {}", "/ 1) / {}", "/ 1 / x {}"])
def test_a_predicate_without_end_is_refused(text: str) -> None:
    with pytest.raises(ProgramError, match="this predicate has no end") as error:
        end_of_predicate(text, 0)
    assert error.value.offset == 0


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("", 0),
        ("x", 0),
        (" \t\r\n\f\v", 6),
        ("// c", 4),
        ("/**/x", 4),
        ("/*/ */x", 6),
        ("/x", 0),
        ("#x", 0),
        ("#! x\ny", 5),
        (" #! x", 1),
        ("\N{NO-BREAK SPACE}", 0),
    ],
)
def test_layout_is_white_space_and_comments(text: str, end: int) -> None:
    assert skip_layout(text, 0) == end


@given(ENCODABLE, st.data())
def test_position_and_offset_are_inverses(text: str, data: st.DataObject) -> None:
    text = text.replace("\r", "")
    lines = Lines(text)
    offset = data.draw(st.integers(0, len(text)))
    line, column = lines.position(offset)
    assert lines.offset(line, column) == offset
    assert text[:offset].count("\n") == line - 1


def test_columns_count_bytes() -> None:
    assert Lines("é\nxéy").position(4) == (2, 4)
    assert Lines("é\nxéy").offset(2, 4) == 4


def test_a_place_beyond_the_text_is_its_end() -> None:
    lines = Lines("a\nb")
    assert (lines.offset(9, 1), lines.offset(1, 9), lines.line(9)) == (3, 1, "")


def test_a_line_has_no_line_end() -> None:
    assert [Lines("a\r\nb\n").line(line) for line in (1, 2, 3)] == ["a", "b", ""]


def test_marks_stand_below_their_characters() -> None:
    assert Lines("\té = xé;").pointed(1, 7, 3, "^") == ("\té = xé;", "\t    ^^")
