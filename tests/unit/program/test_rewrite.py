from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.program.rewrite import Edit, Rewritten
from kubectl_trace.program.tokens import Span


@st.composite
def edits(draw: st.DrawFn, length: int) -> list[Edit]:
    """Edits at places that do not overlap; each copies parts of the text and adds some."""
    offsets = sorted(draw(st.lists(st.integers(0, length), max_size=6)))
    spans = [Span(*pair) for pair in zip(offsets[::2], offsets[1::2], strict=False)]
    pairs = st.tuples(st.integers(0, length), st.integers(0, length))
    copied = pairs.map(lambda pair: Span(min(pair), max(pair)))
    pieces = st.lists(st.text("+-") | copied, max_size=3).map(tuple)
    return [Edit(span, draw(pieces), draw(st.sampled_from(["", "why"]))) for span in spans]


def assert_origins_hold(user: str, rewritten: Rewritten) -> None:
    for offset, character in enumerate(rewritten.text):
        origin = rewritten.origin(offset)
        assert 0 <= origin <= len(user)
        if not rewritten.is_hidden(offset):
            assert user[origin] == character


@given(st.text())
def test_without_edits_nothing_changes(text: str) -> None:
    for rewritten in (Rewritten.of(text), Rewritten.of(text).edit([]).edit([])):
        assert rewritten.text == text
        assert [rewritten.origin(offset) for offset in range(len(text) + 1)] == [
            *range(len(text) + 1)
        ]
        assert not any(rewritten.is_hidden(offset) for offset in range(len(text)))


@given(st.text(), st.data())
def test_every_visible_character_is_the_users_through_all_rewrites(
    text: str, data: st.DataObject
) -> None:
    rewritten = Rewritten.of(text)
    for _ in range(3):
        changes = data.draw(edits(len(rewritten.text)))
        rewritten = rewritten.edit(changes)
        assert_origins_hold(text, rewritten)


@given(st.text(), st.data())
def test_what_insertions_add_is_hidden(text: str, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, len(text))))
    rewritten = Rewritten.of(text).edit(Edit.insert(place, "++") for place in places)
    visible = "".join(
        character
        for offset, character in enumerate(rewritten.text)
        if not rewritten.is_hidden(offset)
    )
    assert visible == text
    assert len(rewritten.text) == len(text) + 2 * len(places)


def test_edits_at_one_place_apply_in_their_order() -> None:
    rewritten = Rewritten.of("ab").edit([Edit.insert(1, "1"), Edit.insert(1, "2")])
    assert rewritten.text == "a12b"
    assert [rewritten.origin(offset) for offset in range(5)] == [0, 1, 1, 1, 2]


def test_a_part_can_be_moved_and_doubled() -> None:
    rewritten = Rewritten.of("abc").edit([Edit(Span(0, 3), (Span(2, 3), "-", Span(0, 3)), "")])
    assert rewritten.text == "c-abc"
    assert [rewritten.origin(offset) for offset in range(5)] == [2, 0, 0, 1, 2]


def test_reasons_are_kept_with_their_place_in_the_users_text() -> None:
    first = Rewritten.of("abc").edit([Edit.insert(0, "++", "first")])
    second = first.edit([Edit(Span(4, 5), ("x",), "second"), Edit.insert(5, "y")])
    assert [(change.offset, change.reason) for change in second.changes] == [
        (0, "first"),
        (2, "second"),
    ]


def test_edits_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        Rewritten.of("abc").edit([Edit(Span(0, 2), (), ""), Edit(Span(1, 3), (), "")])
