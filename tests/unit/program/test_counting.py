from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.program import prepare, scope, syntax
from kubectl_trace.program.counting import MAP, UNKNOWN, Counting, counted, is_at
from kubectl_trace.program.rewrite import Rewritten

COUNT = f"{MAP} = count(); "


def text(program: str) -> str:
    return counted(Rewritten.of(program))[0].text


def limited(program: str) -> tuple[str, Counting]:
    source = Rewritten.of(program)
    limit = scope.by_namespace(syntax.parse(program))
    result, counting = counted(prepare.limited(source, limit), limit.variable)
    assert counting is not None
    return result.text, counting


def test_each_printf_is_counted_where_it_is_reached() -> None:
    program = (
        'k:f { if (pid > 1) { printf("a"); } else { printf ("b") } @ = 1; /* ; */ printf("c"); } '
        "k:g { @ = 2; }"
    )
    assert text(program) == program.replace("printf", f"{COUNT}printf")


def test_of_several_probes_that_print_each_counts_its_own_and_tags_its_texts() -> None:
    program = 'k:f { printf("a %d", pid); } k:g { @ = 1; } END { printf("b"); }'
    assert text(program) == (
        f'k:f {{ {MAP}[0] = count(); printf("~0~a %d", pid); }} k:g {{ @ = 1; }} '
        f'END {{ {MAP}[2] = count(); printf("~2~b"); }}'
    )


def test_in_a_scope_texts_are_counted_by_container_where_there_is_one() -> None:
    one, counting = limited('k:f { printf("a"); }')
    assert f'{MAP}[(uint64)0 + $_container] = count(); printf("~%lu~a", $_container)' in one
    assert counting.read({"2": 7, "0": 1}) == Counter({(0, 2): 7, (0, 0): 1})
    several, counting = limited('k:f { printf("a"); } interval:s:1 { printf("b"); }')
    assert f'{MAP}[0, (uint64)0 + $_container] = count(); printf("~0~~%lu' in several
    assert f'{MAP}[1, (uint64)0] = count(); printf("~1~~0~b")' in several
    assert counting.read({"0,2": 7, "1,0": 1}) == Counter({(0, 2): 7, (1, 0): 1})


def test_a_tag_is_taken_off_again_and_no_text_passes_for_one() -> None:
    several = Counting((0, 3), by_container=False)
    assert several.untag("~3~~0~x") == (3, "~0~x")
    one = Counting((3,), by_container=False)
    assert one.untag("~0~x") == (3, "~0~x")


def test_where_a_format_is_a_macro_only_the_sum_is_counted() -> None:
    program = '#define F "a"\nk:f { printf(F); } k:g { printf("b"); }'
    result, counting = counted(Rewritten.of(program))
    assert result.text == program.replace("printf", f"{COUNT}printf")
    assert counting == Counting((UNKNOWN,), by_container=False)
    assert counting.read(5) == Counter({(UNKNOWN, 0): 5})


@pytest.mark.parametrize("value", [None, [], {"": 1}, {"x": 1}, {"1": "x"}, {"1,": 2}])
def test_what_is_no_number_of_texts_is_none(value: object) -> None:
    assert not Counting((0, 1), by_container=False).read(value)


def test_an_error_about_the_hidden_map_is_told_from_one_about_the_users() -> None:
    program = text('k:f { @x[pid] = count(); printf("a"); }')
    assert not is_at(program, program.index("@x"))
    assert not is_at(program, program.index("printf"))
    assert is_at(program, program.index(MAP))
    assert is_at(program, program.rindex("count()"))


@pytest.mark.parametrize(
    "program",
    [
        'k:f { pid > 1 ? printf("a") : 0 }',
        'k:f { $x = (printf("a"), 1); }',
        '#define SAY printf("a")\nk:f { SAY; }',
        'macro say(x) { printf("%d", x); }\nk:f { say(1); printf("a"); }',
        'fn say(): void { printf("a"); }\nk:f { say(); }',
        "k:f { @ = count(); }",
        'k:f { @x["printf"] = 1; /* printf(1); */ }',
        f'k:f {{ {MAP} = 1; printf("a"); }}',
    ],
)
def test_what_can_not_be_counted_so_is_left_as_it_is(program: str) -> None:
    assert text(program) == program


@given(
    st.recursive(
        st.sampled_from(['printf("a");', "@ = 1;", "$x = 2;"]),
        lambda inner: st.one_of(
            st.builds("if (pid) {{ {} }}".format, inner),
            st.builds("unroll(3) {{ {} }} {}".format, inner, inner),
            st.builds("{} {}".format, inner, inner),
        ),
    )
)
def test_as_many_are_counted_as_there_are(block: str) -> None:
    program = f"k:f {{ {block} }}"
    result = text(program)
    assert result.count(COUNT) == program.count("printf(")
    assert result.replace(COUNT, "") == program
    assert result.count(f"{COUNT}printf(") == program.count("printf(")
