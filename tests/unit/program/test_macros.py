from __future__ import annotations

import pytest

from kubectl_trace.program import macros


def test_values_are_what_the_lines_define_without_comments() -> None:
    assert macros.values(
        [
            "#define A 1 /* { */ + 2 // c",
            "#  define F(x) (x)",
            '#/**/define S "/* \\" */" // c',
            "#define E",
            "#include <x.h>",
            "#undef A",
            "#define C /* goes on",
        ]
    ) == {"A": " 1   + 2  ", "F": "(x) (x)", "S": ' "/* \\" */"  ', "E": "", "C": "  "}


@pytest.mark.parametrize("value", ["{", "}", '"', '"a" "', "/ /", "/ *", "1 /", '"\\""{'])
def test_a_value_with_a_beginning_or_an_end_in_it_changes_the_structure(value: str) -> None:
    assert macros.changing_structure({"X": value, "Y": "1"}) == {"X"}


@pytest.mark.parametrize("value", ["", "1 / 2", '"{ /* \\" } "', "(a, b)", "x;", '"/" "*"'])
def test_other_values_do_not(value: str) -> None:
    assert macros.changing_structure({"X": value}) == set()


def test_a_name_in_a_path_or_in_quotes_is_none_of_a_macro() -> None:
    point = 'mine=u:/bin/x:"y" z:a.b c'
    assert [word for word, _ in macros.bare_words(point)] == ["mine", "u", "z", "c"]
    assert all(point[offset:].startswith(word) for word, offset in macros.bare_words(point))
