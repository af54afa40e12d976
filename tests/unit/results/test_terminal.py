from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.results.terminal import escape

HARMFUL = [*"\x00\x07\x08\x0b\x1b\x7f\x9b", *"\u202e\u2066\u200f\u2028\ud800"]


@given(st.text(st.characters()))
def test_no_control_character_survives(text: str) -> None:
    escaped = escape(text).replace("\r\n", "\n")
    assert not [c for c in escaped if unicodedata.category(c) in {"Cc", "Cs"} and c not in "\n\t"]
    assert not set(escaped) & set(HARMFUL)


@given(st.text(st.characters()))
def test_an_escaped_text_is_clean(text: str) -> None:
    escaped = escape(text)
    assert escape(escaped) is escaped


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_a_clean_text_is_the_same_object(text: str) -> None:
    assert escape(text) is text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("title\x07", r"title\x07"),
        ("c1 \x9b31m", r"c1 \x9b31m"),
        ("hidden\rshown", r"hidden\x0dshown"),
        ("windows\r\nline", "windows\r\nline"),
        ("tab\tand\n", "tab\tand\n"),
        ("\u202eexe.txt", r"\u202eexe.txt"),
        ("caf\u00e9 \u20ac \U0001f600", "caf\u00e9 \u20ac \U0001f600"),
    ],
)
def test_what_commands_a_terminal_is_shown(text: str, expected: str) -> None:
    assert escape(text) == expected
