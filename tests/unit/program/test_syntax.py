from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings

from kubectl_trace.program import syntax
from kubectl_trace.program.syntax import Probe
from kubectl_trace.program.tokens import Lines, ProgramError, Span, skip_layout

from .programs import TEXTS, programs


def assert_well_formed(program: syntax.Program) -> None:
    text = program.text
    places = [0, *(place for item in program.items for place in item.span), len(text)]
    assert places == sorted(places)
    for end, start in zip(places[::2], places[1::2], strict=True):
        assert skip_layout(text, end) == start
    for item in program.items:
        if isinstance(item, Probe):
            assert text[item.block.start] == "{"
            assert item.block.end == item.span.end
            points = [point.span for point in item.attach_points]
            assert points[0].start == item.span.start
            assert all(first.end <= second.start for first, second in pairwise(points))
            assert all(part.span.end <= p.span.end for p in item.attach_points for part in p.parts)
            if item.predicate:
                predicate = program.of(item.predicate)
                assert len(predicate) > 1
                assert predicate[0] == predicate[-1] == "/"


@given(TEXTS)
@settings(max_examples=300)
def test_any_text_is_a_program_or_is_refused_with_a_place_in_it(text: str) -> None:
    try:
        program = syntax.parse(text)
    except ProgramError as error:
        refused = error
    else:
        assert_well_formed(program)
        return
    assert 0 <= refused.offset <= len(text)
    assert refused.message in syntax.explain(refused, text, "x")


@given(programs())
def test_programs_are_read(text: str) -> None:
    assert_well_formed(syntax.parse(text))


@given(programs(), programs())
def test_one_program_after_the_other_has_the_probes_of_both(first: str, second: str) -> None:
    second = second.removeprefix("#!/usr/bin/env bpftrace\n")
    second = second.removeprefix("#!/usr/bin/env bpftrace\n")
    both = syntax.parse(first + "\n" + second)
    assert len(both.probes) == len(syntax.parse(first).probes) + len(syntax.parse(second).probes)


def parts(text: str) -> list[list[str]]:
    program = syntax.parse(text)
    return [
        [part.text for part in point.parts] for p in program.probes for point in p.attach_points
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k:f{}", [["k", "f"]]),
        ("i:s:1 {}", [["i", "s", "1"]]),
        ("k*:vfs_read {}", [["k*", "vfs_read"]]),
        ("kprobe:f+0x10 {}", [["kprobe", "f+0x10"]]),
        ("uprobe:/bin/x:0x1234 {}", [["uprobe", "/bin/x", "0x1234"]]),
        ("watchpoint:0x1:8:rw {}", [["watchpoint", "0x1", "8", "rw"]]),
        ("usdt:libc:memory* {}", [["usdt", "libc", "memory*"]]),
        ('u:"/a b":"main.f" {}', [["u", "/a b", "main.f"]]),
        ('u:"a:b\\"c\\\\d":f {}', [["u", 'a:b"c\\d', "f"]]),
        ('u:/bin/x:"f {" {}', [["u", "/bin/x", "f {"]]),
        ("kprobe:$1 {}", [["kprobe", "$1"]]),
        ("u:/bin/x@f.c:12 {}", [["u", "/bin/x", "@", "f.c", "12"]]),
        ('u:"/bin/x@y":f {}', [["u", "/bin/x@y", "f"]]),
        ("u:/a//b/*/c:f {}", [["u", "/a//b/*/c", "f"]]),
        ("k:f/* {*/ {} }", [["k", "f/*"]]),
        ("uprobe:/bin/x:f/pid==1/{}", [["uprobe", "/bin/x", "f/pid==1/"]]),
        ("i : s: 1 {}", [["i", "s", "1"]]),
        ("k:a, // c {\nk:b /* , */ , k:c,{}", [["k", "a"], ["k", "b"], ["k", "c"]]),
        ("k:a,,k:b {}", [["k", "a"], ["k", "b"]]),
        ("BEGIN/1/{}", [["BEGIN"]]),
        ("BEGIN{}END{}k:f{}", [["BEGIN"], ["END"], ["k", "f"]]),
        ("k:é{}", [["k", "é"]]),
        ("config:f {}", [["config", "f"]]),
    ],
)
def test_attach_points_are_split_as_bpftrace_splits_them(
    text: str, expected: list[list[str]]
) -> None:
    assert parts(text) == expected


@pytest.mark.parametrize("provider", ["uretprobe", "mine=uretprobe"])
def test_a_named_attach_point_has_its_provider(provider: str) -> None:
    (probe,) = syntax.parse(provider + ":/bin/x:f {}").probes
    assert probe.attach_points[0].provider == "uretprobe"


@pytest.mark.parametrize(
    ("predicate", "block"),
    [
        ("/pid/", "{}"),
        ("/ pid / 2 == 1 /", '{ "}" }'),
        ("/ a &&\n  b /", "{ // }\n }"),
        ('/ comm == "/ {" /', "{ { } }"),
        ("/1 // /\n/", "{/*}*/}"),
        ("/ (1/{1}) /", "{}"),
    ],
)
@pytest.mark.parametrize("space", ["", " ", "\r\n", " /* / */ "])
def test_predicates_and_blocks_are_found(predicate: str, block: str, space: str) -> None:
    text = f"k:a, k:b {predicate}{space}{block}"
    (probe,) = syntax.parse(text).probes
    assert probe.predicate
    assert text[slice(*probe.predicate)] == predicate
    assert text[slice(*probe.block)] == block


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("#!/usr/bin/bpftrace\n#include <x>\n", ["directive"]),
        ("struct a { int x[2]; /* c */ };", ["definition"]),
        ("struct a { int x; }\n", ["definition"]),
        ("struct __attribute__((packed)) a\n{ int x; }", ["definition"]),
        ("struct a { } __attribute__((packed)) __attribute__((aligned(8)));", ["definition"]),
        ("union u { } enum e { A };", ["definition", "definition"]),
        ("config = { a = 1; }config /* */ = {}", ["config", "config"]),
        ('import "a/b";', ["import"]),
        ("let @a = hash(5); let /* c */ @ = lruhash( 5 )", ["map", "map"]),
        ("macro m(a, @b) { a }", ["macro"]),
        ("fn f($a : uint8) : struct x * { return 1 }", ["function"]),
        ("#\tdefine X 10 / 2\n", ["directive"]),
    ],
)
def test_what_is_no_probe_has_its_kind(text: str, kinds: list[str]) -> None:
    items = syntax.parse(text + "BEGIN{}").items
    assert [item.kind for item in items if not isinstance(item, Probe)] == kinds
    assert len(items) == len(kinds) + 1


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "the program has no probe"),
        ("#include <x>\n", 1, 13, "the program has no probe"),
        ("kprobe:f", 1, 9, "a { is missing"),
        ("kprobe:f /1/ x", 1, 10, "this predicate has no end"),
        ("BEGIN {}\nkprobe:f /pid == 1 {}", 2, 10, "this predicate has no end"),
        ("BEGIN {\n", 1, 7, "this { is not closed"),
        ("BEGIN {} }", 1, 10, "an attach point is missing"),
        ("{}", 1, 1, "an attach point is missing"),
        ("BEGIN { ) }", 1, 9, ") closes nothing"),
        ('BEGIN { "é', 1, 9, "this string has no end"),
        ("é: {} /* x", 1, 8, "this comment has no end"),
        ('u:"a {}', 1, 3, "this string has no end"),
        ("kprobe/*x*/:f {}", 1, 7, "a comment inside an attach point"),
        ("macro m() x", 1, 11, "a { is missing: the macro's block"),
        ("fn f() x", 1, 8, "a { is missing: the function's block"),
        ("config = {", 1, 10, "this { is not closed"),
        ("BEGIN {\0}", 1, 8, "a NUL character"),
    ],
)
def test_what_is_no_program_is_refused_with_its_place(
    text: str, line: int, column: int, message: str
) -> None:
    with pytest.raises(ProgramError) as error:
        syntax.parse(text)
    head, _shown, marks = syntax.explain(error.value, text, "p.bt").split("\n")
    assert head.startswith(f"p.bt:{line}:{column}: {message}")
    assert marks.endswith("^")


def test_an_error_is_shown_below_its_line_with_tabs_and_multibyte_characters() -> None:
    text = 'BEGIN {}\nk:f {\n\t@é = "x;\n}'
    with pytest.raises(ProgramError) as error:
        syntax.parse(text)
    assert syntax.explain(error.value, text, "p.bt") == (
        'p.bt:3:8: this string has no end: " is missing on its line\n\t@é = "x;\n\t     ^'
    )


def test_several_characters_are_marked_on_their_first_line_only() -> None:
    assert syntax.pointed("m", "ab\ncd", Span(1, 5), "x") == "x:1:2: m\nab\n ^"


# What follows is what bpftrace's versions read differently, so that a probe could escape the scope.


@pytest.mark.parametrize(
    ("text", "line"),
    [("BEGIN {\n#! {\n}", 2), ("BEGIN { }\n#!a=kprobe:f { }", 2), ("\n#!x\nk:f {}", 2)],
)
def test_a_line_that_begins_with_shebang_is_the_first_or_none(text: str, line: int) -> None:
    with pytest.raises(ProgramError, match="can only be the first") as error:
        syntax.parse(text)
    assert Lines(text).position(error.value.offset) == (line, 1)
    assert parts("#! a=kprobe:g {\nkprobe:f { @ = 1 }") == [["kprobe", "f"]]


@pytest.mark.parametrize(
    "text",
    [
        'iter:task:/tmp/p\\" {} kprobe:f {} iter:task:/tmp/q\\" {}',
        "iter:task:/tmp/p\\{ {}",
        "iter:task\\, kprobe:f {}",
        "iter:task\\\\ {}",
        "uretprobe:libc:mall\\/pid / { }",
    ],
)
def test_an_escape_that_would_end_an_attach_point_is_refused(text: str) -> None:
    with pytest.raises(ProgramError, match=r"a \\ in an attach point"):
        syntax.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#\nBEGIN {}", "this directive is empty"),
        ("#\r\nBEGIN {}", "this directive is empty"),
        ("#define X \\\n 1\nBEGIN {}", "takes its first line only"),
    ],
)
def test_directives_that_could_take_another_line_are_refused(text: str, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        syntax.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "#define BEGIN kprobe:f\nBEGIN {}",
        "# /**/ define interval /* c */ profile\ninterval:hz:99 {}",
        "#define X y\nkprobe: X {}",
    ],
)
def test_a_macro_in_an_attach_point_is_refused(text: str) -> None:
    with pytest.raises(ProgramError, match="is a macro, and can't be in an attach point"):
        syntax.parse(text)


@pytest.mark.parametrize(
    "value",
    ["1; } kprobe:f { @=1", "{", '" ', "1 / * 2", "1 /", '"\\"" "', "Y } ", '"/*" } "*/"'],
)
@pytest.mark.parametrize("use", ["BEGIN { X }", "k:f /X == 1/ {}", "#define Z X\nk:f {}"])
def test_a_macro_that_changes_the_programs_structure_is_refused_where_it_is_used(
    value: str, use: str
) -> None:
    with pytest.raises(ProgramError, match="the macro X has braces"):
        syntax.parse(f"#define X {value}\n{use}")


@pytest.mark.parametrize(
    "text",
    [
        "#define AF_INET 2 /* { */\nBEGIN { AF_INET }",
        '#define FORMAT "{ %d\\n"\nBEGIN { printf(FORMAT, 1) }',
        "#define HALF(x) (x / 2)\nk:f /HALF == 1/ {}",
        "#define BODY { int x; }\nstruct a { struct BODY y; }\nBEGIN {}",
        "#define vfs_read x\nkprobe:vfs_read, u:/bin/vfs_read:f {}",
    ],
)
def test_other_macros_are_taken(text: str) -> None:
    syntax.parse(text)


PROBE = (
    'kprobe:vfs_read /pid == 1/ { @a[comm, "x{"] = count(); '
    'printf("%d // %s\\n", (pid / 3), str(arg0)); if (pid > 3) { @b++ } /* c */ }\n'
)


def seconds(text: str, times: int) -> float:
    """The time that a text takes, read or refused; the shortest of several times."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        try:
            syntax.parse(text)
        except ProgramError as error:
            syntax.explain(error, text, "x")
        taken.append(time.process_time() - start)
    return min(taken)


def test_a_megabyte_is_read_in_seconds() -> None:
    """A fifth of one on a quiet machine; where time grew by squares, hours."""
    text = PROBE * 8000
    assert len(text) > 1_000_000
    assert seconds(text, 1) < 5


@pytest.mark.parametrize(
    "piece",
    [
        *("{", "(", "[{", "{}", "/", "//", "/*", '"', '\\"', '"a\\', "#", "#\n#", "\n#!", "\\"),
        *("k:f", "k:f,", ":", ",", "@", "$", "k:f {} ", "k:f /x/ {", "/ {", "a / ", "( / {", " \n"),
        *("struct ", "struct (", "struct a {}", "config = ", "let @a = ", "macro ", "fn f(", "if "),
        *("k:f { x /", '"" ', "k:a /* */ ", "k : ", "#define X Y {\n", "#define A B\nA:x {}\n"),
    ],
)
@pytest.mark.parametrize("around", [("", ""), ("k:f {", "}"), ("k:f /", "/ {}"), ("BEGIN {} ", "")])
def test_reading_takes_linear_time(piece: str, around: tuple[str, str]) -> None:
    before, after = around
    short = seconds(before + piece * 100 + after, 3)
    long = seconds(before + piece * 1600 + after, 3)
    assert long < 16 * 6 * max(short, 0.0003)
