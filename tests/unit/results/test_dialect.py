from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.results.dialect import Output, parse_line


def parsed(line: str | bytes) -> Output:
    output = parse_line(line if isinstance(line, bytes) else line.encode())
    assert output is not None
    return output


@given(st.binary())
def test_any_bytes_are_a_line(line: bytes) -> None:
    output = parse_line(line)
    assert output is None or msgspec.json.encode(output.data)


@pytest.mark.parametrize("line", [b"", b"\n", b" \r\n"])
def test_a_blank_line_is_nothing(line: bytes) -> None:
    assert parse_line(line) is None


@pytest.mark.parametrize("line", ["hello\n", "hello", "{", '{"a": 1}\n', "5\n", '["type"]', "null"])
def test_a_line_that_is_no_record_is_kept_as_it_came(line: str) -> None:
    assert parsed(line) == Output("raw", line)


def test_a_raw_line_shows_bytes_that_are_no_utf8() -> None:
    assert parsed(b"a\xff\xc3\xa9\n") == Output("raw", "a\\xff\u00e9\n")


@given(st.binary(min_size=1))
def test_a_text_comes_through_the_sign_extension(raw: bytes) -> None:
    escaped = "".join(
        f"\\uffffff{byte:02x}" if byte > 0x7F else json.dumps(chr(byte))[1:-1] for byte in raw
    )
    expected = raw.decode("utf-8", "backslashreplace")
    assert parsed(f'{{"type": "printf", "data": "{escaped}"}}') == Output("printf", expected)


def test_a_real_backslash_before_what_looks_like_an_extended_byte_stays() -> None:
    line = r'{"type": "printf", "data": "\\uffffffc3 \uffffffc3\uffffffa9"}'
    assert parsed(line).data == "\\uffffffc3 \u00e9"


def test_bytes_that_came_unescaped_are_read() -> None:
    assert parsed(b'{"type": "printf", "data": "a\xff\xc3\xa9"}').data == "a\\xff\u00e9"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('{"@t": 11:49:57}', {"@t": "11:49:57"}),
        ('{"@t": {"a": 11:49:57, "b": 08}}', {"@t": {"a": "11:49:57", "b": "08"}}),
        ('{"@t": 22, 11:49}', {"@t": "22, 11:49"}),
        ('{"@x": 0x1f}', {"@x": "0x1f"}),
        ('{"@x": [1,00:0a:ff, -3,true,null]}', {"@x": [1, "00:0a:ff", -3, True, None]}),
        ('{"@x": {"a: 1, b": /a/b c}}', {"@x": {"a: 1, b": "/a/b c"}}),
    ],
)
def test_values_without_quotes_are_texts(data: str, expected: object) -> None:
    assert parsed(f'{{"type": "map", "data": {data}}}\n') == Output("map", expected)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("18446744073709551615", 18446744073709551615),
        ("-9223372036854775807", -9223372036854775807),
        ("9007199254740993", 9007199254740993),
        ("9007199254740992", "9007199254740992"),
        ("18446744073709551617", "18446744073709551617"),
        ("007199254740993", "007199254740993"),
        ("5", "5"),
    ],
)
def test_integers_quoted_for_their_size_are_integers(number: str, expected: object) -> None:
    for kind, data, wanted in (
        ("map", {"@": {"k": number}}, {"@": {"k": expected}}),
        ("map", {"@": [1, number]}, {"@": [1, expected]}),
        ("value", number, expected),
        ("printf", number, number),
    ):
        line = msgspec.json.encode({"type": kind, "data": data})
        assert parsed(line) == Output(kind, wanted)


def test_keys_escaped_twice_are_read_twice() -> None:
    line = r'{"type": "map", "data": {"@": {"\\n  a\\n": 1, "q\\\"\\\\\\u0001": 2}}}'
    assert parsed(line).data == {"@": {"\n  a\n": 1, 'q"\\\x01': 2}}


def test_keys_escaped_once_are_read_once() -> None:
    line = r'{"type": "map", "data": {"@": {"\\n": 1, "real\n": 2}}}'
    assert parsed(line).data == {"@": {"\\n": 1, "real\n": 2}}


def test_the_last_limits_of_32_bits_are_put_right() -> None:
    line = (
        '{"type": "hist", "data": {"@": {"a": [{"min": 1073741824, "max": 2147483647, "count": 1},'
        ' {"min": -2147483648, "max": 0, "count": 2}]}}}'
    )
    assert parsed(line).data == {
        "@": {
            "a": [
                {"min": 2**30, "max": 2**31 - 1, "count": 1},
                {"min": 2**31, "max": 2**32 - 1, "count": 2},
            ]
        }
    }


def test_limits_quoted_for_their_size_are_integers() -> None:
    line = (
        '{"type": "hist", "data":'
        ' {"@": [{"min": 4611686018427387904, "max": "9223372036854775807", "count": 1}]}}'
    )
    assert parsed(line).data == {"@": [{"min": 2**62, "max": 2**63 - 1, "count": 1}]}


def test_right_limits_stay() -> None:
    data = {"@": {"a": [{"max": -1, "count": 1}, {"min": 0, "max": 9, "count": 0}, {"min": 10}]}}
    assert parsed(msgspec.json.encode({"type": "hist", "data": data})).data == data


@pytest.mark.parametrize("kind", ["helper_error", "runtime_error", "errorf", "warnf"])
def test_an_error_record_has_its_fields_as_data(kind: str) -> None:
    line = f'{{"type": "{kind}", "msg": "m", "retcode": -7, "line": 1, "col": 2}}'
    assert parsed(line) == Output(kind, {"msg": "m", "retcode": -7, "line": 1, "col": 2})


@pytest.mark.parametrize("count", ["", ' "count": 3,'])
@pytest.mark.parametrize(
    ("kind", "unit"), [("attached_probes", "probes"), ("lost_events", "events")]
)
def test_counts_are_in_data_in_every_version(kind: str, unit: str, count: str) -> None:
    line = f'{{"type": "{kind}",{count} "data": {{"{unit}": 3}}}}'
    assert parsed(line) == Output(kind, {unit: 3})


def test_null_is_a_value() -> None:
    assert parsed('{"type": "value", "data": null}') == Output("value", None)


def test_the_order_of_entries_stays() -> None:
    line = '{"type": "map", "data": {"@": {"b": 2, "a": 1, "c": 3}}}'
    data = parsed(line).data
    assert isinstance(data, dict)
    assert list(data["@"]) == ["b", "a", "c"]


STACK = "\\n        f+0\\n"


@pytest.mark.parametrize(
    ("line", "data", "repeated"),
    [
        (f'{{"type": "map", "data": {{"@": {{"{STACK}": 1, "x": 2}}}}}}', [1, 2], []),
        (
            f'{{"type": "map", "data": {{"@": {{"{STACK}": 1, "x": 2, "{STACK}": 3, '
            f'"{STACK}": 4}}}}}}',
            [1, 2],
            [[3], [4]],
        ),
        ('{"type": "map", "data": {"@": {"a": "\\"b\\": c", "d": "e"}}}', ['"b": c', "e"], []),
        (
            '{"type": "stats", "data": {"@": {"f": {"count": 1, "average": 2, "total": 2}, '
            '"f": {"count": 3, "average": 4, "total": 12}}}}',
            [{"count": 1, "average": 2, "total": 2}],
            [[{"count": 3, "average": 4, "total": 12}]],
        ),
        ('{"type": "stats", "data": {"@": {"f": 1, "f": 2}}}', [1], [[2]]),
        (
            '{"type": "hist", "data": {"@": {"f": [{"min": 1, "max": 1, "count": 1}], '
            '"f": [{"min": 2, "max": 3, "count": 5}]}}}',
            [[{"min": 1, "max": 1, "count": 1}]],
            [[[{"min": 2, "max": 3, "count": 5}]]],
        ),
    ],
)
def test_entries_whose_keys_read_the_same_are_all_there(
    line: str, data: list[object], repeated: list[list[object]]
) -> None:
    output = parse_line(line.encode())
    assert output is not None
    assert list(output.data["@"].values()) == data  # type: ignore[index]
    assert [list(each["@"].values()) for each in output.repeated] == repeated  # type: ignore[attr-defined]
