from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kubectl_trace.binary import types
from kubectl_trace.functions import filters, shapes, shaping, writing
from kubectl_trace.functions.filters import FilterError
from kubectl_trace.functions.shapes import Limits
from kubectl_trace.functions.sources import Memory, Unknown, register
from kubectl_trace.functions.writing import Marks, Options, Parameter, Traced
from kubectl_trace.program import syntax
from kubectl_trace.program.tokens import Span, tokens
from tests.unit.functions.test_shapes import (
    CHAR,
    COLOR,
    DOUBLE,
    GO_TEXT,
    INT,
    TEXT,
    interface,
    slice_of,
    structure,
)
from tests.unit.functions.test_writing import LONG, in_register, traced

if TYPE_CHECKING:
    from kubectl_trace.functions.shapes import Leaf

REQUEST = structure(
    ("id", LONG), ("inner", structure(("n", INT))), ("kind", COLOR), name="struct request"
)
FUNCTION = traced(
    arguments=(
        in_register("n", INT, "di"),
        in_register("big", types.Integer("unsigned long", 8, False), "si"),
        in_register("name", TEXT, "dx"),
        in_register("q", types.Pointer("struct request *", 8, REQUEST), "cx"),
        in_register("s", GO_TEXT, "r8", "r9"),
        in_register("list", slice_of(INT), "r10", "r11", "r12"),
        in_register("color", COLOR, "r13"),
        in_register("c", CHAR, "r14"),
        in_register("err", interface(), "r15", "ax"),
        Parameter("f", shaping.shape(DOUBLE, Memory(register("sp")), Limits())),
        Parameter("gone", shaping.shape(INT, Unknown("optimised out"), Limits())),
    ),
    results=(in_register("", INT, "ax"), in_register("", LONG, "bx")),
)
N, BIG = '(int64)(int32)((reg("di") & 0xffffffff))', '(uint64)(reg("si"))'


def expression(leaf: Leaf) -> str:
    return leaf.expression


def read(text: str, function: Traced = FUNCTION) -> str:
    return filters.parse(text).write(function, expression)


# What is written.


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("n > 1", f"{N} > 1"),
        ("n>1&&big<0x10", f"{N} > 1 && {BIG} < 0x10"),
        ("n == -1", f"{N} == - 1"),
        ("!n || n != 2 && big", f"! {N} || {N} != 2 && {BIG}"),
        ("(n || big) && n", f"( {N} || {BIG} ) && {N}"),
        ("n * 2 + 1 << 3 & 7 | n ^ 1", f"{N} * 2 + 1 << 3 & 7 | {N} ^ 1"),
        ("n / 2 % 3 - 1", f"{N} / 2 % 3 - 1"),
        ("n\n>\t1", f"{N} > 1"),
        ('name == "a b"', 'str(reg("dx"), 65) == "a b"'),
        (r'name == "a\"\\"', r'str(reg("dx"), 65) == "a\"\\"'),
        ("q->id > 5", '(int64)((uint64)*(uint64 *)reg("cx")) > 5'),
        ("q.id > 5", '(int64)((uint64)*(uint64 *)reg("cx")) > 5'),
        ("q.inner.n", '(int64)(int32)((uint64)*(uint32 *)(reg("cx") + 8))'),
        ("q != NULL", '(uint64)(reg("cx")) != 0'),
        ("q != nullptr", '(uint64)(reg("cx")) != 0'),
        ("len(s) > 3", '(uint64)(reg("r9")) > 3'),
        ("len ( list ) > 3", '(uint64)(reg("r11")) > 3'),
        ("color == GREEN", '(int64)(int32)((reg("r13") & 0xffffffff)) == -2'),
        ("q.kind == RED", '(int64)(int32)((uint64)*(uint32 *)(reg("cx") + 12)) == 1'),
        ("c == 97", '(int64)(int8)((reg("r14") & 0xff)) == 97'),
        ("err != nil", '(uint64)(reg("r15")) != 0'),
        ("ret < 0", '(int64)(int32)((reg("ax") & 0xffffffff)) < 0'),
        ("ret1 < ret2", '(int64)(int32)((reg("ax") & 0xffffffff)) < (int64)(reg("bx"))'),
        ("duration > 1000000", "duration > 1000000"),
        ("n == true", f"{N} == 1"),
    ],
)
def test_a_condition_is_what_was_written_with_places_for_names(text: str, written: str) -> None:
    assert read(text) == written


def test_a_name_of_the_functions_own_comes_before_a_word_of_ours() -> None:
    own = traced(arguments=(in_register("duration", INT, "di"), in_register("len", INT, "di")))
    assert read("duration > 1", own) == f"{N} > 1"
    assert read("len > 1", own) == f"{N} > 1"
    assert not filters.parse("duration > 1").needs_return(own)


def test_a_parameter_named_as_an_enumerator_is_the_parameter() -> None:
    own = traced(arguments=(in_register("RED", INT, "di"), in_register("c", COLOR, "si")))
    assert read("RED > 1", own) == f"{N} > 1"


def test_registers_can_be_named_where_nothing_else_is_known() -> None:
    leaves = (shapes.Leaf('reg("di")'), shapes.Leaf('reg("si")'))
    raw = traced(arguments=(Parameter("", shapes.Registers("r", ("rdi", "rsi"), leaves)),))
    assert read("rsi > 1", raw) == '(uint64)(reg("si")) > 1'


def test_gos_unnamed_results_have_their_names() -> None:
    go = traced(results=(in_register("~r0", LONG, "ax"),))
    assert read("~r0 > 1", go) == '(int64)(reg("ax")) > 1'
    assert filters.parse("~r0 > 1").needs_return(go)


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("n > 1", False),
        ("ret", True),
        ("ret2 == 0", True),
        ("n > 1 && duration > 5", True),
        ("color == RED", False),
        ("q.id", False),
        ('name == "ret"', False),
    ],
)
def test_what_needs_the_return_is_known(text: str, needs: bool) -> None:
    assert filters.parse(text).needs_return(FUNCTION) == needs


def test_arguments_that_a_condition_needs_are_told() -> None:
    found = filters.parse("q.id > 1 && ret < n").leaves(FUNCTION)
    assert [leaf.expression for leaf in found] == [
        '(uint64)*(uint64 *)reg("cx")',
        '(reg("di") & 0xffffffff)',
    ]


# What is refused.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("n >", "missing at its end"),
        ("> n", "'>' is out of place"),
        ("n n", "'n' is out of place"),
        ("n 5", "'5' is out of place"),
        ("(n", "a ( without its )"),
        ("n)", "a ) without its ("),
        ("()", "')' is out of place"),
        ("n = 1", "can't read '= 1'"),
        ("nothere > 1", "add has no nothere; there are n, big, name"),
        ("q.nothere", "no member nothere; there are id, inner, kind"),
        ("n.x", "no member x; there are none"),
        ("q.inner", "no single value"),
        ("f > 1", "floating-point"),
        ("gone > 1", "can't be read: optimised out"),
        ("len(n) > 1", "slices and strings"),
        ("len(nothere)", "has no nothere"),
        ("len(1)", "takes one name"),
        ("len()", "takes one name"),
        ("list > 1", "len(list)"),
        ("ret3", "has no ret3"),
        ("ret0", "has no ret0"),
        ('"abc', "can't read"),
        ("n ? 1 : 2", "can't read"),
        ("n++", "out of place"),
        ("++n", "out of place"),
        ("*n", "out of place"),
        ("&n", "out of place"),
        ("name(1)", "out of place"),
    ],
)
def test_a_condition_that_can_not_be_is_refused_with_a_reason(text: str, message: str) -> None:
    with pytest.raises(FilterError, match=re.escape(message)) as error:
        read(text)
    assert str(error.value).startswith("--filter: ")


@pytest.mark.parametrize(
    "text",
    [
        "1 } BEGIN { exit();",
        "1 } BEGIN {",
        'system("id")',
        'n && system("id")',
        '1 / { system("id"); } //',
        "1 // x",
        "1 /* x */",
        "n /**/ > 1",
        "$1",
        "$call.1",
        "@entered1",
        "n; exit()",
        "n, 1",
        "args->x",
        "curtask->pid",
        "pid",
        "(uint64)n",
        "*(uint64 *)1",
        "n\\\n",
        "#define n 1",
        'reg("di")',
        "reg",
        "str(n)",
        "n`",
        "\uff4e > 1",  # a fullwidth n
        "n\u2028> 1",
        "n\0",
        "'n'",
        '"a" "b"',
        '"a\nb" == name',
        r'"\x41" == name',
        '"a\0b" == name',
        '"\x1b[31m" == name',
        r'"a\" == name',
    ],
)
def test_no_other_code_gets_in(text: str) -> None:
    with pytest.raises(FilterError):
        read(text)


WORDS = st.sampled_from(
    [
        *(
            "n",
            "big",
            "name",
            "q.id",
            "q->inner.n",
            "len(s)",
            "len(list)",
            "len",
            "ret",
            "duration",
        ),
        *("RED", "nil", "true", "1", "0x1f", '"a b"', r'"\""', '"/* }"', '"//"', "f", "gone"),
        *("(", ")", "&&", "||", "!", "==", "!=", "<", ">", "+", "-", "*", "/", "%", "&", "|", "^"),
        *("<<", ">>", ";", "{", "}", "$x", "@a", "//", "/*", "\n", "reg", "system", ",", "'", "\\"),
    ]
)
TEXTS = (
    st.text(max_size=20)
    | st.lists(WORDS, max_size=12).map(" ".join)
    | st.lists(WORDS, max_size=12).map("".join)
)
OURS = {"uint64", "int64", "uint32", "int32", "int8", "reg", "str", "nsecs"}


def check(error: FilterError) -> None:
    assert str(error).startswith("--filter: ")


@given(TEXTS)
@example('name == "\r"')
@example("len(1 + 2) > n")
@settings(max_examples=150)
def test_any_text_is_refused_or_one_expression_of_values(text: str) -> None:
    try:
        condition = filters.parse(text)
        program = writing.write([FUNCTION], Options(condition=condition), Marks("m")).text
    except FilterError as error:
        check(error)
        return
    parsed = syntax.parse(program)
    assert len(parsed.probes) == 2
    assert parsed.probes[0].predicate is None
    before = "$call.0 != 0" if condition.needs_return(FUNCTION) else "$left.0 != 0"
    begin = program.index("if (", program.index(before) + 1)
    span = Span(begin + 3, program.index(") {\n", begin) + 1)
    every = list(tokens(program, span))
    assert {each.text for each in every if each.kind == "word"} <= OURS
    assert all(each.text == "$call" for each in every if each.kind == "variable")
    assert not [each for each in every if each.kind in ("map", "comment")]
    assert not {each.text for each in every} & {";", "{", "}", "[", "]", "?"}


def test_a_length_is_of_one_name_only() -> None:
    own = traced(arguments=(in_register("len", INT, "di"),))
    with pytest.raises(FilterError):
        read("len(1 + 2) > 1", own)


def test_a_number_that_no_register_holds_is_refused() -> None:
    assert read(f"big < {2**64 - 1}") == f"{BIG} < {2**64 - 1}"
    with pytest.raises(FilterError):
        read(f"big < {2**64}")


def test_a_number_that_bpftrace_would_read_otherwise_is_refused() -> None:
    # It takes 010 for eight, and 08 for nothing.
    with pytest.raises(FilterError):
        read("n == 08")
