from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kubectl_trace.binary import types
from kubectl_trace.functions import filters, shapes, shaping, writing
from kubectl_trace.functions.shapes import Leaf, Limits, Registers
from kubectl_trace.functions.sources import Memory, Unknown, Words, register
from kubectl_trace.functions.writing import Marks, Options, Parameter, Traced
from kubectl_trace.program import policy, scope, syntax
from kubectl_trace.program.rewrite import Rewritten
from kubectl_trace.program.tokens import tokens
from tests.unit.functions.test_shapes import GO_TEXT, INT, TEXT, interface, slice_of, structure

MARKS = Marks("0123456789abcdefc")
LONG = types.Integer("int", 8, True)
THREAD = "((uint64)pid << 32) | (uint64)tid"
STRICTEST = policy.Rules(
    scope_required=True,
    unsafe=False,
    kernel_memory=False,
    denied=frozenset(("kstack", "cat", "uaddr")),
    probes=("uprobe", "uretprobe", "usdt"),
)
OWN = [["BEGIN"], ["interval:ms:100"], ["interval:s:1"]]


def in_register(name: str, kind: types.Type, *registers: str) -> Parameter:
    source = Words(tuple(map(register, registers)))
    return Parameter(name, shaping.shape(kind, source, Limits()))


def traced(**fields: Any) -> Traced:
    """`int add(int a, char *name)`, as in C."""
    whole: dict[str, Any] = {
        "name": "add",
        "path": "/proc/1/exe",
        "language": "C",
        "start": 0x1000,
        "entry": 0x1000,
        "returns": (0x1010, 0x1020),
        "uses_uretprobe": False,
        "who": THREAD,
        "frame": 'reg("sp")',
        "frame_after": 'reg("sp") - 8',
        "arguments": (in_register("a", INT, "di"), in_register("name", TEXT, "si")),
        "results": (in_register("", INT, "ax"),),
    }
    return Traced(**{**whole, **fields})


GO = traced(
    name="main.(*T).Add",
    language="Go",
    frame_after='reg("sp")',
    arguments=(in_register("n", LONG, "ax"), in_register("s", GO_TEXT, "bx", "cx")),
    results=(in_register("~r0", LONG, "ax"), in_register("err", interface(), "bx", "cx")),
    may_unwind=True,
)


def written(*functions: Traced, marks: Marks | None = MARKS, **options: Any) -> str:
    if isinstance(text := options.get("condition"), str):
        options["condition"] = filters.parse(text)
    found = writing.write(functions or (traced(),), Options(**options), marks)
    return found.text + writing.own_probes(marks)


def checked(text: str) -> syntax.Program:
    """The program, which must be one, one that a scope can limit and every policy allows."""
    program = syntax.parse(text)
    assert policy.check(program, STRICTEST) == []
    limits = scope.by_namespace(program)
    limited = Rewritten.of(text).edit(scope.limit(program, limits)).text
    again = syntax.parse(limited)
    for probe in again.probes:
        if scope.in_tasks(probe):
            assert probe.predicate is not None
            assert limits.map in again.of(probe.predicate)
    limits = scope.by_namespace(program, scope.CGROUP2)
    again = syntax.parse(Rewritten.of(text).edit(scope.limit(program, limits)).text)
    for probe in again.probes:
        if scope.in_tasks(probe):
            assert probe.predicate is None
            assert again.of(probe.block).startswith(f"{{ {limits.container(probe)} if (")
    return program


def points(program: syntax.Program) -> list[list[str]]:
    return [
        [":".join(part.text for part in point.parts) for point in probe.attach_points]
        for probe in program.probes
    ]


def block(text: str, number: int) -> str:
    program = checked(text)
    return program.of(program.probes[number].block)


# All options together.

EVERY = st.fixed_dictionaries(
    {
        "show": st.sampled_from(["calls", "latency", "count", "returns"]),
        "arguments": st.booleans(),
        "returns": st.booleans(),
        "stack": st.booleans(),
        "most": st.sampled_from([0, 5]),
        "max_rate": st.sampled_from([0, 1000]),
        "condition": st.sampled_from([None, "1 < 2", "duration > 1000", "ret < 0"]),
    }
)


@given(EVERY, st.sampled_from([None, MARKS]), st.lists(st.sampled_from([0, 1, 2]), min_size=1))
@settings(max_examples=50)
def test_every_program_is_one_that_can_be_limited_to_its_target(
    options: dict[str, Any], marks: Marks | None, chosen: list[int]
) -> None:
    functions = [(traced(), GO, traced(returns=(), uses_uretprobe=True))[each] for each in chosen]
    program = checked(written(*functions, marks=marks, **options))
    entries = [each for probe in points(program) for each in probe]
    assert entries.count("uprobe:/proc/1/exe:0x1000") == len(functions)
    assert ("interval:s:1" in entries) == (marks is not None)


@given(EVERY)
@settings(max_examples=30)
def test_a_printf_has_a_value_for_each_of_its_places(options: dict[str, Any]) -> None:
    for marks in (MARKS, None):
        text = written(traced(), GO, marks=marks, **options)
        for form, values in re.findall(r'printf\("((?:[^"\\]|\\.)*)", (.*?)\);', text):
            given_values = tokens_at_top(values)
            assert len(re.findall(r"(?<!%)%(?:%%)*[a-z]", form.replace("%%", ""))) == len(
                given_values
            )


def tokens_at_top(values: str) -> list[str]:
    depth, found = 0, [""]
    for each in values:
        depth += {"(": 1, ")": -1}.get(each, 0)
        if each == "," and not depth:
            found.append("")
        else:
            found[-1] += each
    return found


# Where probes are.


def test_a_call_has_probes_at_its_entry_and_its_returns() -> None:
    assert points(checked(written())) == [
        ["uprobe:/proc/1/exe:0x1000"],
        ["uprobe:/proc/1/exe:0x1010", "uprobe:/proc/1/exe:0x1020"],
        *OWN,
    ]


def test_a_uretprobe_is_there_only_where_it_was_said_to_be() -> None:
    text = written(traced(returns=(), uses_uretprobe=True))
    assert points(checked(text))[1] == ["uretprobe:/proc/1/exe:0x1000"]
    # After the return, the stack pointer is another.
    assert 'reg("sp") - 8' in block(text, 1)
    assert 'reg("sp") - 8' not in block(text, 0)
    assert "uretprobe" not in written(GO)


def test_without_returns_there_is_one_probe_and_the_call_is_printed_at_once() -> None:
    for text in (written(returns=False), written(traced(returns=()))):
        assert points(checked(text)) == [["uprobe:/proc/1/exe:0x1000"], *OWN]
        assert f"0,{writing.ENTERED}," in text


def test_a_tail_jump_ends_a_call_without_a_result() -> None:
    text = written(traced(tail_jumps=(0x1030,)))
    assert points(checked(text))[2] == ["uprobe:/proc/1/exe:0x1030"]
    assert f"0,{writing.TAIL}," in block(text, 2)
    assert 'reg("ax")' not in block(text, 2)
    assert "delete(" in block(text, 2)


def test_a_call_without_a_return_is_found_by_the_next_that_has_its_place() -> None:
    assert f"0,{writing.LEFT}," in block(written(GO), 0)
    assert f"0,{writing.LEFT}," in block(written(traced()), 0)


def test_where_not_all_ends_are_known_nothing_is_said_to_have_none() -> None:
    assert f"0,{writing.LEFT}," not in written(traced(ends_known=False))


def test_where_returns_are_not_known_what_needs_them_is_refused() -> None:
    every: list[dict[str, Any]] = [
        {"show": "latency"},
        {"show": "returns"},
        {"condition": "duration > 1"},
    ]
    for options in every:
        with pytest.raises(filters.FilterError, match="where add returns is not known"):
            written(traced(returns=()), **options)


def test_a_function_without_a_result_has_none_to_count() -> None:
    with pytest.raises(filters.FilterError, match="no result"):
        written(traced(results=()), show="returns")


# What is kept.


def test_functions_that_keep_alike_share_a_map_and_are_told_apart_in_its_key() -> None:
    found = writing.write([traced(), GO, traced(name="other")], Options(), MARKS)
    first, second, third = found.layouts
    assert first.map == third.map != second.map
    assert f"{third.map}[(uint64)2," in found.text
    assert f"{first.map}[(uint64)0," in found.text


def test_the_call_is_kept_by_thread_or_goroutine_and_frame() -> None:
    text = written(traced(who='reg("r14")', frame='reg("r13")'))
    assert '[(uint64)0, (uint64)(reg("r14")), (uint64)(reg("r13"))]' in text


def test_arguments_are_kept_when_the_call_begins_and_results_are_read_when_it_ends() -> None:
    entry, end = block(written(), 0), block(written(), 1)
    assert '(uint64)((reg("di") & 0xffffffff))' in entry
    assert 'str(reg("si"), 65)' in entry
    assert 'reg("ax")' not in entry
    assert 'reg("di")' not in end
    assert '(uint64)((reg("ax") & 0xffffffff))' in end
    assert "$call.1" in end


def test_without_arguments_none_are_read() -> None:
    text = written(arguments=False)
    assert 'reg("di")' not in text
    assert "str(" not in text


def test_of_one_call_no_more_is_kept_than_fits() -> None:
    kind = structure(*((f"m{number}", INT) for number in range(12)))
    many = tuple(
        Parameter(f"p{number}", shaping.shape(kind, Memory(register("di")), Limits()))
        for number in range(10)
    )
    (layout,) = writing.write([traced(arguments=many)], Options(), MARKS).layouts
    kept = [each for each in layout.arguments if not isinstance(each.shape, shapes.Missing)]
    assert len(kept) == 4
    assert [each.name for each in layout.arguments] == [each.name for each in many]
    assert layout.arguments[-1].shape == shapes.Missing(kind.name, "too much for one call")


def test_a_value_that_can_not_be_read_is_not_read() -> None:
    missing = Parameter("x", shaping.shape(INT, Unknown("why"), Limits()))
    (layout,) = writing.write([traced(arguments=(missing,))], Options(), MARKS).layouts
    assert layout.stored == ()


# Maps instead of calls, limits.


@pytest.mark.parametrize(
    ("show", "statement"),
    [
        ("latency", '@latency_ns["add"] = hist((nsecs - $call.0));'),
        ("count", '@calls["add"] = count();'),
        ("returns", '@returns["add", (int64)(int32)((reg("ax") & 0xffffffff))] = count();'),
    ],
)
def test_a_map_is_shown_instead_of_calls(show: str, statement: str) -> None:
    text = written(show=show)
    assert statement in text
    assert f"{MARKS.begin_in_source}0," not in text
    checked(text)


def test_a_count_needs_no_return() -> None:
    assert len(checked(written(show="count")).probes) == 1 + len(OWN)


def test_results_are_counted_by_what_can_be_a_key() -> None:
    for result, of, key in (
        (in_register("", TEXT, "ax"), "@returns_text", 'str(reg("ax"), 65)'),
        (in_register("err", interface(), "ax", "bx"), "@returns", '(int64)(reg("ax") != 0)'),
        (
            Parameter("", Registers("r", ("rax",), (Leaf('reg("ax")'),))),
            "@returns_unsigned",
            '(uint64)(reg("ax"))',
        ),
    ):
        text = written(traced(results=(result,)), show="returns")
        assert f'{of}["add", {key}] = count();' in text
        checked(text)


def test_the_program_ends_after_so_many_calls() -> None:
    for returns in (True, False):
        text = written(most=7, returns=returns)
        assert "if (@shown >= 7) { exit(); }" in text


def test_calls_beyond_a_rate_are_counted_and_passed_over() -> None:
    entry = block(written(max_rate=50), 0)
    assert "if (@this_second > 50) { @skipped[0] = count(); } else {" in entry
    assert entry.rindex("@entered1[") > entry.index("} else {")


def test_a_call_that_is_passed_over_leaves_no_other_ones_arguments_in_its_place() -> None:
    for options in ({"max_rate": 50}, {"condition": "a > 1"}):
        entry = block(written(traced(ends_known=False), **options), 0)
        assert entry.index("delete(@entered1[") < entry.rindex("@entered1[")


def test_the_rate_counts_what_is_passed_over_and_is_not_in_a_program_for_people() -> None:
    entry = block(written(max_rate=50), 0)
    assert entry.index(f"{writing.RATE} += 1") < entry.index("@this_second")
    assert writing.RATE not in written(marks=None)


def test_stacks_are_kept_from_the_entry() -> None:
    assert "ustack" in block(written(stack=True), 0)
    assert "ustack" not in block(written(stack=True), 1)
    assert "$call.1" in block(written(stack=True), 1)
    assert "ustack" in written(stack=True, returns=False)


# Conditions.


def test_a_condition_on_arguments_is_checked_at_the_entry() -> None:
    entry = block(written(condition="a > 1"), 0)
    assert 'if ((int64)(int32)((reg("di") & 0xffffffff)) > 1) {' in entry
    # A call that is passed over counts for the rate.
    assert entry.index(writing.RATE) < entry.index("if (")


def test_a_condition_on_results_is_checked_at_the_return() -> None:
    program = checked(written(condition="ret < 0 && a > 1"))
    assert program.probes[0].predicate is None
    end = program.of(program.probes[1].block)
    assert (
        'if ((int64)(int32)((reg("ax") & 0xffffffff)) < 0 && (int64)(int32)($call.1) > 1) {' in end
    )


def test_what_a_condition_needs_of_the_arguments_is_kept_though_it_is_not_shown() -> None:
    text = written(condition="ret < a", arguments=False)
    assert '(uint64)((reg("di") & 0xffffffff))' in block(text, 0)
    assert "< (int64)(int32)($call.1)" in block(text, 1)


def test_a_result_in_the_register_of_an_argument_is_not_taken_for_it() -> None:
    # Go's first argument and first result are in one register, arm64's, too.
    end = block(written(GO, condition="ret < 0 && n > 1"), 1)
    assert 'if ((int64)(reg("ax")) < 0 && (int64)($call.1) > 1) {' in end


def test_a_duration_is_from_the_entry_on() -> None:
    assert "if ((nsecs - $call.0) > 1000) {" in block(written(condition="duration > 1000"), 1)


def test_calls_that_a_condition_on_results_has_not_seen_are_not_shown() -> None:
    # Neither at a jump into another function nor where the call was left.
    text = written(traced(tail_jumps=(0x1030,), may_unwind=True), condition="ret < 0")
    assert f"0,{writing.TAIL}," not in text
    assert f"0,{writing.LEFT}," not in text


# Names.

NASTY = st.text(
    st.sampled_from("\"\\%{}()/*#;'`$@ \n\r\t\x1b\x7fé😀\u2028ab")
    | st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    min_size=1,
    max_size=20,
)


@given(NASTY, NASTY, st.sampled_from(["calls", "latency", "count", "returns"]), st.booleans())
@example("a\nb", "c\nd", "count", False)
@example("a\nb", "c\nd", "calls", True)
@settings(max_examples=40)
def test_no_name_can_change_the_program(
    name: str, argument: str, show: str, for_people: bool
) -> None:
    def program(function: str, parameter: str) -> tuple[syntax.Program, list[str]]:
        function_traced = traced(name=function, arguments=(in_register(parameter, INT, "di"),))
        text = written(function_traced, show=show, marks=None if for_people else MARKS)
        found = checked(text)
        every = [
            '"…"' if each.kind == "string" else each.text
            for probe in found.probes
            for each in tokens(text, probe.block)
            if each.kind not in ("space", "comment")
        ]
        return found, every

    changed, its = program(name, argument)
    plain, others = program("f", "a")
    assert its == others
    assert points(changed) == points(plain)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ('operator""_s', r"operator\"\"_s"),
        ("a%db", "a%%db"),
        ("a\\b", r"a\\b"),
        ("grüße", "grüße"),
    ],
)
def test_names_in_formats_are_escaped(name: str, form: str) -> None:
    assert f'printf("%d/%d {form}(' in written(traced(name=name), marks=None)


def test_a_key_is_the_name_itself() -> None:
    assert '@calls["a%b"]' in written(traced(name="a%b"), show="count")


@pytest.mark.parametrize("show", ["latency", "count", "returns"])
def test_long_names_are_keys_that_every_bpftrace_takes(show: str) -> None:
    # 0.17: "String is too long (over 64 bytes)".
    names = [f"std::vector<{'x' * 80}>::{last}" for last in ("push_back", "pop_back")]
    text = written(*(traced(name=name) for name in names), show=show)
    program = checked(text)
    keys = [
        each.text[1:-1]
        for probe in program.probes
        for each in tokens(text, probe.block)
        if each.kind == "string" and each.text.startswith('"std::')
    ]
    assert all(len(key.encode()) < 64 for key in keys)
    assert len(set(keys)) == 2


# For people, and for us.


def test_a_program_for_people_prints_names_and_has_no_marks() -> None:
    text = written(marks=None)
    assert "\\x1d" not in text
    assert 'printf("%d/%d add(a=%llx, name=%llx:%s) = %llx <%lld ns>\\n"' in text
    checked(text)


def test_the_marks_are_in_the_program_as_bpftrace_writes_them() -> None:
    text = written()
    assert rf"\x1d{MARKS.token}" in text
    assert MARKS.begin.startswith("\x1d")
    assert MARKS.begin_in_source.encode().decode("unicode_escape") == MARKS.begin
    assert MARKS.part_in_source.encode().decode("unicode_escape") == MARKS.part


def test_what_is_stored_is_told_in_its_order() -> None:
    (layout,) = writing.write([traced()], Options(stack=True), MARKS).layouts
    assert [leaf.expression for leaf in layout.stored] == [
        "ustack",
        '(reg("di") & 0xffffffff)',
        'reg("si")',
        'str(reg("si"), 65)',
    ]
    assert layout.stack


def test_one_place_is_kept_once() -> None:
    twice = (in_register("a", LONG, "di"), in_register("b", LONG, "di"))
    (layout,) = writing.write([traced(arguments=twice)], Options(), MARKS).layouts
    assert len(layout.stored) == 1


def test_a_function_counts_all_its_probes() -> None:
    assert traced(tail_jumps=(1,)).probes == 4
    assert traced(returns=(), uses_uretprobe=True).probes == 2
    assert not traced(returns=()).returns_seen


def test_slices_are_kept_with_their_elements() -> None:
    values = in_register("v", slice_of(INT), "ax", "bx", "cx")
    (layout,) = writing.write([traced(arguments=(values,))], Options(), MARKS).layouts
    assert len(layout.stored) == 5
