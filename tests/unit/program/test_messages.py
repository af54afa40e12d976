"""What bpftrace 0.17.0, 0.23.2 and 0.27.1 really said about programs as they run (recorded)."""

from __future__ import annotations

import pytest

from kubectl_trace.program import prepare, scope, syntax
from kubectl_trace.program.messages import Messages, Position
from kubectl_trace.program.rewrite import Edit, Rewritten

PATH = "/tmp/run.bt"


def limited(text: str) -> Rewritten:
    source = prepare.placed(text, {"/bin/x": ["/proc/1/root/bin/x"]}, [])
    # Recorded with these conditions, so that columns are what they were.
    limit = scope.by_namespace(syntax.parse(source.text))
    return prepare.limited(source, limit)


def messages(text: str) -> Messages:
    names = {"/proc/1/root/bin/x": "/bin/x"}
    return Messages(limited(text), text, PATH, "mine.bt", names)


def shown(text: str, said: str) -> str:
    reader = messages(text)
    return "\n".join(line for each in said.split("\n") for line in reader.feed(each))


def run_line(text: str, number: int) -> str:
    return limited(text).text.split("\n")[number - 1].replace("\t", "    ")


TABS = 'BEGIN {\n\t@x = "é"; @ = foo(1);\n}\n'
IN_BLOCK = 'kprobe:do_nanosleep { printf("é%d %d\\n", pid) }\n'
SEVERAL_LINES = "kprobe:do_nanosleep\n/ pid == 1 &&\n  barx /\n{ @ = 1; }\n"
SYNTAX = 'kprobe:do_nanosleep { printf("é%d\\n", 1) @ }\n'


@pytest.mark.parametrize(
    ("said", "columns", "marker"),
    [
        ("2:17-20: ERROR: Unknown function: foo", "17-20", "~~~"),  # 0.17, 0.23
        ("2:17-23: ERROR: Unknown function: 'foo'", "17-23", "~~~~~~"),  # 0.27
    ],
)
def test_tabs_and_multibyte_characters_stand_above_the_marker(
    said: str, columns: str, marker: str
) -> None:
    source = '    @x = "é"; @ = foo(1);'
    given = f"{PATH}:{said}\n{source}\n                   {marker}"
    assert shown(TABS, given) == (
        f"mine.bt:2:{columns}: {said.partition(' ')[2]}\n"
        f'\t@x = "é"; @ = foo(1);\n\t              {marker}'
    )


def test_a_place_behind_what_was_put_in_is_the_users() -> None:
    # 0.17 and 0.23
    text = "kprobe:do_nanosleep /pid == 1/ { @[foox] = 1; }\n"
    line = run_line(text, 1)
    column = line.index("@[foox") + 1
    said = f"{PATH}:1:{column}-{column + 6}: ERROR: Unknown identifier: 'foox'\n{line}\n{'~' * 6}"
    assert shown(text, said) == (
        "mine.bt:1:34-40: ERROR: Unknown identifier: 'foox'\n"
        "kprobe:do_nanosleep /pid == 1/ { @[foox] = 1; }\n"
        "                                 ~~~~~~"
    )


def test_a_range_over_hidden_text_is_the_users_part_of_it() -> None:
    # 0.17 and 0.23: the call as it runs has a tag and one argument more.
    line = run_line(IN_BLOCK, 1)
    start, end = line.index("printf") + 1, line.index(" }", line.index("printf")) + 2
    what = "ERROR: printf: Not enough arguments for format string (2 supplied, 3 expected)"
    assert shown(IN_BLOCK, f"{PATH}:1:{start}-{end}: {what}\n{line}\n   ~~~~") == (
        f"mine.bt:1:23-47: {what}\n{IN_BLOCK.rstrip()}\n                      {'~' * 23}"
    )


@pytest.mark.parametrize(
    "what",
    [
        "ERROR: syntax error, unexpected map, expecting }",  # 0.17
        "ERROR: syntax error, unexpected map, expecting ; or }",  # 0.23
        "ERROR: syntax: expected ';'",  # 0.27
    ],
)
def test_syntax_errors_of_all_versions(what: str) -> None:
    line = run_line(SYNTAX, 1)
    column = len(line[: line.rindex("@")].encode()) + 1
    given = f"{PATH}:1:{column}-{column + 1}: {what}\n{line}\n{' ' * (column - 1)}~"
    assert shown(SYNTAX, given) == (f"mine.bt:1:43-44: {what}\n{SYNTAX.rstrip()}\n{' ' * 41}~")


def test_a_predicate_of_several_lines() -> None:
    # 0.17 and 0.23
    given = f"{PATH}:3:3-7: ERROR: Unknown identifier: 'barx'\n  barx )) != 0)/\n  ~~~~"
    assert shown(SEVERAL_LINES, given) == (
        "mine.bt:3:3-7: ERROR: Unknown identifier: 'barx'\n  barx /\n  ~~~~"
    )


@pytest.mark.parametrize(
    "what",
    [
        # 0.17
        "ERROR: printf: %d specifier expects a value of type integer (string supplied)",
        "ERROR: printf: %d specifier expects a value of type int (string supplied)",  # 0.23
    ],
)
def test_a_construct_of_several_lines(what: str) -> None:
    text = 'kprobe:a,\nkprobe:b {\n\tprintf("%d\\n",\n\t\t"x");\n}\n'
    assert shown(text, f"{PATH}:3-4: {what}\nnext") == f"mine.bt:3-4: {what}\nnext"


def test_the_users_names_stand_for_the_paths_that_run() -> None:
    # 0.27
    text = "uprobe:/bin/x:f { }"
    line = run_line(text, 1)
    what = "ERROR: No matches for uprobe /proc/1/root/bin/x:f."
    assert shown(text, f"{PATH}:1:1-28: {what}\n{line}\n{'~' * 27}") == (
        f"mine.bt:1:1-16: ERROR: No matches for uprobe /bin/x:f.\n{text}\n{'~' * 15}"
    )


def test_an_excerpt_without_marks_is_taken_off_too() -> None:
    # 0.17, where a place is beyond its line: a macro of the preprocessor.
    text = "#define P 1\nBEGIN { @b = P; }"
    line = run_line(text, 2)
    reader = messages(text)
    assert len(reader.feed(f"{PATH}:2:218-233: WARNING: x")) == 3
    assert [reader.feed(each) for each in (line, " " * 217, "next")] == [[], [], ["next"]]


def test_what_is_no_message_about_the_program_stays() -> None:
    reader = messages(IN_BLOCK)
    for line in ("", "~~~", "Attaching 1 probe...", IN_BLOCK.rstrip(), f"x{PATH}x"):
        assert reader.feed(line) == [line.replace(PATH, "mine.bt")]


def test_errors_in_what_was_put_in_are_known() -> None:
    reader = messages(IN_BLOCK)
    line = run_line(IN_BLOCK, 1)
    column = line.index("curtask") + 1
    reader.feed(f"{PATH}:1:1-20: WARNING: mine")
    assert reader.about_hidden == []
    reader.feed(f"{PATH}:1:{column}-{column + 7}: ERROR: hidden")
    reader.feed(f"{PATH}:2-3: ERROR: hidden probe")
    assert reader.about_hidden == ["ERROR: hidden", "ERROR: hidden probe"]


def test_places_that_helpers_name_are_the_users() -> None:
    reader = messages(SEVERAL_LINES)
    assert reader.position(4, 3) == Position(4, 3)


def test_a_line_that_ended_with_two_characters_is_one_line() -> None:
    text = "BEGIN {\r\n\t@ = foo(1);\r\n}\r\n"
    source = prepare.placed(text, {}, [])
    reader = Messages(source, text, PATH, "mine.bt", {})
    given = [f"{PATH}:2:7-10: ERROR: Unknown function: foo", "    @ = foo(1);", "        ~~~"]
    assert [line for each in given for line in reader.feed(each)] == [
        "mine.bt:2:6-9: ERROR: Unknown function: foo".replace("6-9", "7-10"),
        "\t@ = foo(1);",
        "\t     ~~~",
    ]


def test_any_place_is_answered() -> None:
    source = Rewritten.of("a\nb").edit([Edit.insert(0, "x")])
    reader = Messages(source, "a\nb", PATH, "mine.bt", {})
    for place in ("0:0-0", "1:9-2", "9:1-5", "1:1", "0-0", "5-9"):
        assert reader.feed(f"{PATH}:{place}: ERROR: x")
