from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kubectl_trace.functions import reading, writing
from kubectl_trace.functions.reading import Context
from kubectl_trace.functions.writing import ENTERED, LEFT, RETURNED, TAIL, Options, Traced
from kubectl_trace.results import call as calls
from tests.unit.functions.test_writing import GO, MARKS, traced

TYPE = 0x5000


def context(*functions: Traced, **options: Any) -> Context:
    layouts = writing.write(functions or (traced(), GO), Options(**options), MARKS).layouts
    return Context(
        layouts, MARKS, 1000.0, lambda number, pid, address: "string" if address == TYPE else ""
    )


def printed(number: int, how: int, *values: int, texts: tuple[str, ...] = ()) -> str:
    """A text as the program prints it."""
    numbers = "".join(f",{value & (1 << 64) - 1:x}" for value in values)
    return f"{MARKS.begin}{number},{how},12,13,2500000000,1500{numbers}" + "".join(
        f"{MARKS.part}{text}" for text in texts
    )


def test_a_call_that_returned_has_arguments_and_results() -> None:
    found = reading.call(printed(0, RETURNED, -5, 0x10, 7, texts=("hello",)), context())
    assert found == calls.Call(
        function="add",
        pid=12,
        tid=13,
        time=1002.5,
        ended=calls.RETURNED,
        duration=1500,
        arguments=(
            calls.Value("a", "int", -5, "-5"),
            calls.Value("name", "char *", "hello", '"hello"'),
        ),
        results=(calls.Value("", "int", 7, "7"),),
    )
    assert calls.line(found) == 'add(a=-5, name="hello") = 7 <1.5 µs>'


@pytest.mark.parametrize(("how", "ended"), [(ENTERED, ""), (LEFT, calls.LEFT), (TAIL, calls.TAIL)])
def test_a_call_without_a_return_has_no_results(how: int, ended: str) -> None:
    found = reading.call(printed(0, how, 1, 0), context())
    assert found is not None
    assert (found.ended, found.results) == (ended, ())


def test_go_says_nil_and_knows_types_by_their_addresses() -> None:
    # n, s (pointer, length), result, error (five numbers).
    values = (3, 0x10, 2, 9, TYPE, TYPE, 0x20, 0x30, 4)
    found = reading.call(printed(1, RETURNED, *values, texts=("ab", "oops")), context())
    assert found is not None
    assert calls.line(found) == 'main.(*T).Add(n=3, s="ab") = (9, err=string("oops")) <1.5 µs>'
    found = reading.call(printed(1, RETURNED, 3, 0, 0, 9, 0, 0, 0, 0, 0), context())
    assert found is not None
    assert found.results[1].text == "nil"


def test_a_stack_comes_last_innermost_first() -> None:
    text = printed(0, ENTERED, 1, 2, texts=("name", "\n        add+0\n        main+5\n"))
    found = reading.call(text, context(returns=False, stack=True))
    assert found is not None
    assert found.stack == ("add+0", "main+5")
    assert found.arguments[1].value == "name"


# What a traced program may put in.


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\x1d\x1f,\n0")))
def test_a_text_with_separators_in_it_is_one_text(text: str) -> None:
    found = reading.call(printed(0, RETURNED, 1, 0x10, 7, texts=(text,)), context())
    assert found is not None
    assert found.arguments[1].value == text
    assert found.results[0].value == 7


@given(
    st.text(st.characters() | st.sampled_from("\x1d\x1f,0"))
    | st.text("\x1d\x1f0123456789abcdef,").map(lambda text: f"\x1d{text}")
)
def test_what_a_program_prints_is_no_call(text: str) -> None:
    assert reading.call(text, context()) is None
    assert reading.call(f"\x1d0123456789abcdef,0,0{text}", context()) is None


NUMBERS = (
    st.integers(-3, 3)
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 10**4000, 2**64, 2**63])
)
HEADS = st.lists(
    NUMBERS.map(str) | st.sampled_from(["", "x", "-", "1_0", "٣", "0x5", "ffffffffffffffff"]),
    max_size=14,
)


@given(HEADS, st.lists(st.text(max_size=5), max_size=5), st.booleans())
@example(["0", "1", "1", "1", "1" + "0" * 400, "0"], [], False)
@example(["0", "1", "1", "1", "0", "0", "-1", "-1", "-1"], ["x"], True)
@settings(max_examples=100)
def test_no_text_with_our_marks_is_too_much(head: list[str], texts: list[str], stack: bool) -> None:
    text = MARKS.begin + ",".join(head) + "".join(MARKS.part + each for each in texts)
    found = reading.call(text, context(stack=stack))
    if found is not None:
        calls.line(found)


@given(st.text())
def test_no_text_behind_our_mark_is_too_much(text: str) -> None:
    reading.call(MARKS.begin + text, context())


def test_numbers_of_a_function_that_is_not_there_are_no_call() -> None:
    for number in (2, -1, -2, 10**9):
        assert reading.call(printed(number, RETURNED), context()) is None
    assert reading.call(printed(0, 9), context()) is None


# Calls that had not returned.


def unfinished(entries: object, **options: Any) -> list[calls.Call]:
    found = context(**options)
    return reading.unfinished(found.layouts[0].map, entries, found)


def test_a_call_that_has_not_returned_has_its_arguments() -> None:
    key = f"0,{12 << 32 | 13},140000"
    (found,) = unfinished({key: [2500000000, 0xFFFFFFFB, 0x10, "hello"]})
    assert found.ended == calls.RUNNING
    assert (found.pid, found.tid, found.time, found.duration) == (12, 13, 1002.5, 0)
    assert calls.line(found) == 'add(a=-5, name="hello") has not returned'


def test_keys_may_have_blanks_and_numbers_may_be_texts() -> None:
    (found,) = unfinished(
        {f"0, {12 << 32 | 13}, 1": ["2500000000", "-5", "18446744073709551615", ""]}
    )
    assert (found.pid, found.time, found.arguments[0].value) == (12, 1002.5, -5)


def test_of_a_goroutine_no_thread_is_told() -> None:
    found = context(GO)
    (call,) = reading.unfinished(
        found.layouts[0].map, {"0,824633720832,1": [1, 5, 0, 0, ""]}, found
    )
    assert call.arguments[0].value == 5
    high = context(GO)
    (call,) = reading.unfinished(
        high.layouts[0].map, {f"0,{0xC0_0000_0000_0000},1": [1, 5, 0, 0, ""]}, high
    )
    assert (call.pid, call.tid) == (0, 0)


def test_a_stack_is_kept_first() -> None:
    (found,) = unfinished({"0,1,1": [5, "add+0\nmain+3\n", 1, 2, "x"]}, stack=True)
    assert found.stack == ("add+0", "main+3")
    assert found.arguments[1].value == "x"


def test_calls_of_a_map_are_those_of_its_functions() -> None:
    found = context()
    first, second = (layout.map for layout in found.layouts)
    entries = {"0,1,1": [5, 1, 0, ""], "1,1,1": [5, 1, 0, 0, ""], "7,1,1": [5, 1], "x": [1]}
    assert [each.function for each in reading.unfinished(first, entries, found)] == ["add", "add"]
    assert [each.function for each in reading.unfinished(second, entries, found)] == [GO.name]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=4) | st.sampled_from(["0,1,1", "1,1,1", "0", "0,99999999999999,2"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(JSON | st.dictionaries(st.sampled_from(["0,1,1", "1,1,1"]), JSON), st.booleans())
@example({"0,1,1": []}, False)
@example({"0,1,1": [None]}, True)
@settings(max_examples=80)
def test_no_map_is_too_much(entries: object, stack: bool) -> None:
    found = context(stack=stack)
    for name in ("@entered1", "@entered2", "@x", ""):
        for each in reading.unfinished(name, entries, found):
            calls.line(each)
            msgspec.to_builtins(each)
