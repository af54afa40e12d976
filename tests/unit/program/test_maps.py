from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.program import maps, syntax

from .programs import SPACE, programs


def found(text: str) -> dict[str, maps.Map]:
    return maps.find(syntax.parse(text))


def actions(statements: str) -> list[tuple[str, str]]:
    """What is done with each map, in a probe."""
    uses = [use for each in found(f"k:f {{ {statements} }}").values() for use in each.uses]
    return [(use.name, use.action) for use in sorted(uses, key=lambda use: use.span)]


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ("@ = count();", "aggregated"),
        ("@[1, comm] = hist ( 5 )", "aggregated"),
        ("if (1) { @[tid] = lhist(1, 2, 3, 4) } else { }", "aggregated"),
        ("@++", "added"),
        ("@[1]--;", "added"),
        ("++@;", "added"),
        ("if (1) { } --@[1];", "added"),
        ("@ += pid", "added"),
        ("@[1] -= 3;", "added"),
        ("@ = 0", "zeroed"),
        ("@ = 0x0;", "zeroed"),
        ("@ = 1", "assigned"),
        ("@ = 0 + 1", "assigned"),
        ("@ = count", "assigned"),
        ("@ = (count())", "assigned"),
        ("@ = str(arg0);", "assigned"),
        ("@ *= 2", "assigned"),
        ("@ <<= 2", "assigned"),
        ("print(@)", "printed"),
        ("print ( /* ( */ @ , 3, 4)", "printed"),
        ("print(@[1])", "read"),
        ("clear(@)", "cleared"),
        ("zero(@)", "cleared"),
        ("delete(@)", "deleted"),
        ("delete(@[1])", "deleted"),
        ("delete(@, 1)", "deleted"),
        ("$x = @", "read"),
        ("$x = @[1]++", "read"),
        ("if (@ == 0) { }", "read"),
        ("if (@++ > 2) { }", "read"),
        ('printf("%d", @)', "read"),
        ("len(@)", "read"),
        ("for ($kv : @) { }", "read"),
        ("$x == @ ? 1 : 2", "read"),
        ("@ == 1", "read"),
        ("@", "read"),
    ],
)
def test_what_is_done_with_a_map_is_known(statements: str, expected: str) -> None:
    assert actions(statements) == [("@", expected)]


def test_a_map_in_anothers_key_or_value_is_read() -> None:
    assert actions("@a[@b] = sum(@c[@d]); delete(@e[@f])") == [
        ("@a", "aggregated"),
        ("@b", "read"),
        ("@c", "read"),
        ("@d", "read"),
        ("@e", "deleted"),
        ("@f", "read"),
    ]


def test_maps_in_strings_comments_and_attach_points_are_none() -> None:
    assert not found('u:/bin/x@file.c:1 { printf("@a"); /* @b */ $x = 1; // @c\n }')


def test_a_map_in_a_predicate_is_read() -> None:
    assert found("k:f /@a[tid]/ { @a[tid] = 1 }")["@a"].is_read


@pytest.mark.parametrize(
    ("statements", "kind"),
    [
        *((f"@ = {kind}(1)", kind) for kind in ("sum", "min", "max", "avg", "stats", "hist")),
        ("@ = count()", "count"),
        ("@ = lhist(1, 2, 3, 4)", "lhist"),
        ("@ = tseries(1, 1s, 5)", "tseries"),
        ("@++; @ += 2; --@", "sum"),
        ("@ = sum(2); @ = 0", "sum"),
        ("@ = 0; @ -= 2", "sum"),
        ("@ = 0", "value"),
        ("@ = 5; @ = 0", "value"),
        ("@ = 5; @++", ""),
        ("@ = count(); @ = sum(1)", ""),
        ("@ = count(); if (@ > 5) { print(@) }", "count"),
        ("clear(@)", ""),
    ],
)
def test_the_kind_is_what_is_assigned(statements: str, kind: str) -> None:
    assert found(f"k:f {{ {statements} }}")["@"].kind == kind


@pytest.mark.parametrize(
    ("statements", "kind", "function"),
    [
        ('@ = tseries(1, 1s, 5, "sum")', "tseries", "sum"),
        ("@ = tseries(1, 1s, 5)", "tseries", ""),
        ('@ = tseries(1, 1s, 5, "sum"); @ = tseries(1, 1s, 5, "max")', "", ""),
    ],
)
def test_a_tseries_has_a_function(statements: str, kind: str, function: str) -> None:
    each = found(f"k:f {{ {statements} }}")["@"]
    assert (each.kind, each.function) == (kind, function)


def test_what_a_macro_of_the_preprocessor_has_may_be_anything() -> None:
    each = found("#define NEXT @a++\nk:f { @a = count(); NEXT }")["@a"]
    assert (each.kind, each.is_read) == ("", True)


@pytest.mark.parametrize(
    ("body", "kind", "is_read"),
    [
        ("print(@x, 3); clear(@x)", "count", False),
        ("@x = 5", "", True),
        ("$v = @x", "", True),
        ("1", "", True),
    ],
)
def test_a_macro_does_with_a_map_what_it_does_with_its_parameter(
    body: str, kind: str, is_read: bool
) -> None:
    each = found(f"macro m($n, @x) {{ {body} }} k:f {{ @a = count(); m(1, @a); }}")["@a"]
    assert (each.kind, each.is_read) == (kind, is_read)


def printed(text: str, *parameters: str) -> list[tuple[object, ...]]:
    return [
        (*shown, each.top, each.div, each.is_known)
        for each in maps.prints(syntax.parse(text), parameters)
        for shown in each.shown
    ]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("print(@)", (0, 0, True)),
        ("print(@, 5)", (5, 0, True)),
        ("print(@, 5, 1000)", (5, 1000, True)),
        ("print(@, 0x10, 1_000)", (16, 1000, True)),
        ("print(@, 010, 1e3)", (8, 1000, True)),
        ("print(@, $1, $2)", (7, 9, True)),
        ("print(@, $3)", (0, 0, True)),
        ("print(@, TOP)", (3, 0, True)),
        ("print(@, $4)", (0, 0, False)),
        ("print(@, $x)", (0, 0, False)),
        ("print(@, 1 + 1)", (0, 0, False)),
        ("print(@, 5, $x)", (0, 0, False)),
    ],
)
def test_what_a_print_is_asked_for_is_known(call: str, expected: tuple[object, ...]) -> None:
    text = f"#define TOP 3\nEND {{ {call}; }}"
    assert printed(text, "7", "9", "", "x") == [("@", "end", 0, *expected)]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ("interval:s:5", ("interval", 5)),
        ("i:ms:100", ("interval", 0.1)),
        ("interval:us:2000", ("interval", 0.002)),
        ("interval:hz:4", ("interval", 0.25)),
        ("interval:s:$1", ("interval", 2)),
        ("interval:250ms", ("interval", 0.25)),
        ("interval:2m", ("interval", 120)),
        ("interval:s:$3", ("interval", 0)),
        ("interval:s:1, interval:s:1", ("interval", 1)),
        ("interval:s:1, interval:s:2", ("interval", 0)),
        ("BEGIN", ("begin", 0)),
        ("begin", ("begin", 0)),
        ("END", ("end", 0)),
        ("END, interval:s:1", ("", 0)),
        ("k:f", ("", 0)),
        ("profile:hz:99", ("", 0)),
        ("i*:s:1", ("", 0)),
    ],
)
def test_when_a_print_happens_is_known(points: str, expected: tuple[str, float]) -> None:
    (print_,) = printed(points + " { print(@) }", "2")
    assert print_[1] == expected[0]
    assert print_[2] == pytest.approx(expected[1])


def test_a_print_in_a_macro_is_of_the_maps_that_it_is_given() -> None:
    text = "macro m(@x) { print(@x, 3) } END { m(@a); m(@b) } i:s:1 { m(@a) }"
    assert printed(text) == [
        ("@a", "end", 0, 3, 0, True),
        ("@b", "end", 0, 3, 0, True),
        ("@a", "interval", 1, 3, 0, True),
    ]


_DONE = st.sampled_from(
    [
        ("aggregated", "{0}{1}={1}count{1}(){1};"),
        ("aggregated", "{0}[pid,{1}1]{1}={1}stats(1);"),
        ("added", "{0}{1}++{1};"),
        ("added", "++{1}{0};"),
        ("added", "{0}[1]{1}+={1}1;"),
        ("assigned", "{0}{1}={1}5;"),
        ("printed", "print{1}({1}{0}{1});"),
        ("read", "$x{1}={1}{0}[1];"),
        ("read", "if{1}({0}{1}>{1}1){1}{{ }}"),
        ("cleared", "clear{1}({1}{0});"),
        ("deleted", "delete({0}[1]{1});"),
    ]
)


@given(st.lists(st.tuples(_DONE, st.sampled_from(["@", "@a", "@b"]), SPACE), max_size=8))
def test_the_uses_in_a_program_are_those_that_were_put_there(
    parts: list[tuple[tuple[str, str], str, str]],
) -> None:
    statements = "".join(form.format(name, space) for (_, form), name, space in parts)
    assert actions(statements) == [(name, action) for (action, _), name, _ in parts]


@given(programs())
def test_each_use_is_a_name_in_the_text(text: str) -> None:
    program = syntax.parse(text)
    for name, each in maps.find(program).items():
        for use in each.uses:
            assert program.of(use.span) == name == use.name


def test_brackets_may_be_nested_deeply() -> None:
    depth = 5000
    assert actions("(" * depth + "@" + ")" * depth) == [("@", "read")]
