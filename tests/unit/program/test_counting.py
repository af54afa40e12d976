from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.program.counting import MAP, counted
from kubectl_trace.program.rewrite import Rewritten

COUNT = f"{MAP} = count(); "


def text(program: str) -> str:
    return counted(Rewritten.of(program)).text


def test_each_printf_is_counted_where_it_is_reached() -> None:
    program = (
        'k:f { if (pid > 1) { printf("a"); } else { printf ("b") } @ = 1; /* ; */ printf("c"); } '
        'END { printf("d"); }'
    )
    wanted = program.replace("printf", f"{COUNT}printf")
    assert text(program) == wanted


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
