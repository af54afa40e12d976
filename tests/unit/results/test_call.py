from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kubectl_trace.results import call as calls
from kubectl_trace.results.call import LEFT, RETURNED, RUNNING, TAIL, Call, Value

ONE, TWO = Value("a", "int", 1, "1"), Value("s", "string", "x", '"x"')


def line(**fields: object) -> str:
    whole = {"function": "add", "pid": 1, "tid": 2, "time": 1.0, "arguments": (ONE, TWO), **fields}
    return calls.line(msgspec.convert(msgspec.to_builtins(whole), Call))


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, 'add(a=1, s="x")'),
        ({"arguments": ()}, "add()"),
        ({"ended": RETURNED, "duration": 1200}, 'add(a=1, s="x") <1.2 µs>'),
        ({"ended": RETURNED, "results": (Value("", "int", 3, "3"),)}, 'add(a=1, s="x") = 3'),
        (
            {
                "ended": RETURNED,
                "results": (Value("n", "int", 3, "3"), Value("~r1", "e", 0, "nil")),
            },
            'add(a=1, s="x") = (n=3, nil)',
        ),
        ({"ended": LEFT}, 'add(a=1, s="x") panicked or never returned'),
        ({"ended": RUNNING}, 'add(a=1, s="x") has not returned'),
        ({"ended": TAIL, "duration": 5}, 'add(a=1, s="x") goes on in another function <5 ns>'),
        ({"arguments": (Value("", "raw", 1, "rax=0x1"),)}, "add(rax=0x1)"),
        ({"arguments": (), "place": "shop.py:7"}, "add (shop.py:7)"),
        ({"arguments": (), "stack": ("main+1", "_start")}, "add()\n        main+1\n        _start"),
    ],
)
def test_a_call_is_shown_as_a_person_writes_it(fields: dict[str, object], shown: str) -> None:
    assert line(**fields) == shown


def test_a_result_is_only_shown_of_a_call_that_returned() -> None:
    assert "= 3" not in line(ended=TAIL, results=(Value("", "int", 3, "3"),))


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [
        (1, "1 ns"),
        (999, "999 ns"),
        (1000, "1 µs"),
        (1234, "1.23 µs"),
        (999_999, "1000 µs"),
        (1_000_000, "1 ms"),
        (45_600_000, "45.6 ms"),
        (1_500_000_000, "1.5 s"),
        (3_600_000_000_000, "3600 s"),
    ],
)
def test_a_duration_has_three_digits_and_its_unit(nanoseconds: int, shown: str) -> None:
    assert calls.duration(nanoseconds) == shown


@given(st.integers(1, 10**18))
@example(999_500)
@example(999_999_999)
def test_a_duration_is_the_number_that_it_says(nanoseconds: int) -> None:
    number, unit = calls.duration(nanoseconds).split()
    size = {"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9}[unit]
    assert float(number) * size == pytest.approx(nanoseconds, rel=0.006)
    assert "e" not in number


def test_a_call_survives_the_wire() -> None:
    call = Call("f", 1, 2, 3.5, RETURNED, 7, (ONE,), (TWO,), stack=("main+1",))
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(call)), Call) == call
    assert "results" not in msgspec.to_builtins(Call("f", 1, 2, 3.5))
