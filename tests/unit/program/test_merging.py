from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.program import merging, prepare, scope, syntax
from kubectl_trace.program.merging import Merging, Shown
from kubectl_trace.program.rewrite import Edit, Rewritten
from kubectl_trace.program.tokens import ProgramError, Span

from .programs import programs
from .test_rewrite import assert_origins_hold


def planned(
    text: str, *, limited: bool = False, split: bool = False, refresh: float = 0
) -> Merging:
    return merging.plan(
        syntax.parse(text), token="tp", limited=limited, split=split, refresh=refresh
    )


def run(text: str, *, limited: bool = False, split: bool = False, refresh: float = 0) -> str:
    plan = planned(text, limited=limited, split=split, refresh=refresh)
    return Rewritten.of(text).edit(plan.edits("$c")).text


def marker(number: int) -> str:
    return rf'; printf("\x1etp{number}\x1e")'


PART = "(uint64)0 + $c"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k:f { @a = avg(1); }", "k:f { @a = stats(1); }"),
        ("k:f { @a = avg(1); $x = @a; }",) * 2,
        ("k:f { @a[1] = avg(1); print(@a[1]); }",) * 2,
        ("k:f { @a = count(); @b[1] = hist(2); @c = 3; }",) * 2,
        (
            "k:f { @a = min(1) } END { delete(@a); }",
            "k:f { @a[0] = min(1) } END { delete(@a[0]); }",
        ),
        ("k:f { @a[1] = max(1) }",) * 2,
        ("k:f { @a = max(1); $x = @a }",) * 2,
        ("END { print(@a); }", f"END {{ print(@a){marker(1)}; }}"),
        ("END { print(@a) }", f"END {{ print(@a){marker(1)} }}"),
        ("END { print(@a, 5, 1); }", f"END {{ print(@a){marker(1)}; }}"),
        ("END { print(@a, $x); }", f"END {{ print(@a, $x){marker(1)}; }}"),
        (
            "END { print(@a); if (1) { print(@b) } }",
            f"END {{ print(@a){marker(1)}; if (1) {{ print(@b){marker(2)} }} }}",
        ),
        (
            "macro m(@x) { print(@x, 2); } END { m(@a); }",
            f"macro m(@x) {{ print(@x){marker(1)}; }} END {{ m(@a); }}",
        ),
        ("END { print(@a[1]); print(5); }",) * 2,
    ],
)
def test_a_program_is_made_to_say_what_merging_needs(text: str, expected: str) -> None:
    assert run(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k:f { @a = count(); }", f"k:f {{ @a[{PART}] = count(); }}"),
        ("k:f { @a[1] = avg(1); }", f"k:f {{ @a[{PART}, 1] = stats(1); }}"),
        ("k:f { @a = min(1); }", f"k:f {{ @a[{PART}] = min(1); }}"),
        (
            "k:f { @a++; } END { print(@a); clear(@a) }",
            f"k:f {{ @a[{PART}]++; }} END {{ print(@a){marker(1)}; clear(@a) }}",
        ),
        ("k:f { @a = 1; $x = @a; } k:g { }",) * 2,
        ("k:f { @a++; } BEGIN { @a = 0; }",) * 2,
        ("i:s:1 { @a++; }",) * 2,
        ("k:f { @a[$x]++; }",) * 2,
    ],
)
def test_maps_are_kept_by_container_where_the_program_lets_them(text: str, expected: str) -> None:
    assert run(text, limited=True, split=True) == expected


def test_only_a_program_with_a_scope_has_containers() -> None:
    plan = planned("k:f { @a++; }", split=True)
    assert plan.whole == {"@a": "k uses it, which is of no container"}
    assert not plan.maps["@a"].added


def test_why_a_map_stays_whole_is_known() -> None:
    text = (
        "macro m(@x) { @x = 1 } BEGIN { @b = 0; } END { clear(@helper) }"
        "k:f { @r = 1; $x = @r; @b++; @u[$u]++; @p = 1; m(@p); @ok++; @helper = 1; $y = @helper; }"
    )
    assert planned(text, limited=True, split=True).whole == {
        "@r": "the program reads it",
        "@b": "BEGIN uses it, which is of no container",
        "@u": "how many parts its key has can't be told",
        "@p": "a macro has it",
    }


def test_the_variable_is_needed_where_maps_are_kept_by_container() -> None:
    text = "k:f { @a++; } k:g { @b = 1; $x = @b; } k:h { delete(@a); }"
    plan = planned(text, limited=True, split=True)
    assert {plan.program.of(block) for block in plan.blocks()} == {
        "{ @a++; }",
        "{ delete(@a); }",
    }


def test_maps_that_no_interval_prints_are_printed_now_and_then() -> None:
    text = (
        "k:f { @a++; @b[1]++; @c++; @d++; } i:s:1 { print(@b); } END { clear(@c); print(@d); "
        "clear(@d); }"
    )
    plan = planned(text, refresh=0.5)
    assert plan.prints == (
        Shown(1, "@b", "interval", 1.0),
        Shown(2, "@d", "end", 0),
        Shown(3, "@a", "refresh", 0.5),
        Shown(4, "@d", "refresh", 0.5),
    )
    assert plan.hidden_probes == 1
    assert run(text, refresh=0.5).endswith(
        f"interval:ms:500 {{ print(@a){marker(3)}; print(@d){marker(4)}; }}\n"
    )


@pytest.mark.parametrize(
    "text", ["BEGIN { @a = 1 }", "k:f { $x = 1 }", "k:f { } END { @a = 1; clear(@a) }"]
)
def test_nothing_is_printed_now_and_then_where_nothing_is_to_be(text: str) -> None:
    plan = planned(text, refresh=1)
    assert (plan.prints, plan.hidden_probes) == ((), 0)
    assert run(text, refresh=1) == text


@pytest.mark.parametrize(
    "text",
    [
        "k:f { 1 ? print(@a) : print(@b) }",
        "k:f { print((@a)); }",
        "k:f { (print(@a)); }",
        "#define P print(@a)\nk:f { P; }",
    ],
)
def test_a_print_that_nothing_can_follow_is_refused(text: str) -> None:
    with pytest.raises(ProgramError, match="make it a statement"):
        planned(text)


def test_a_macro_that_would_change_what_is_put_in_is_refused() -> None:
    with pytest.raises(ProgramError, match="the macro printf would change"):
        run("#define printf system\nEND { print(@a); }")


@given(st.integers(1, 10**9 - 1))
def test_a_marker_is_known_by_its_token(number: int) -> None:
    plan = planned("k:f { }")
    assert plan.marked(f"\x1etp{number}\x1e") == number
    for other in (
        f"tp{number}",
        f"\x1e{number}\x1e",
        f"\x1eup{number}\x1e",
        f"\x1etp{number}\x1ex",
    ):
        assert plan.marked(other) == 0


@given(st.text())
def test_no_other_text_is_a_marker(text: str) -> None:
    assert planned("k:f { }").marked(f"\x1e{text}\x1e") == 0


def everything(text: str) -> tuple[Rewritten, Merging]:
    """The program with all that merging can put in."""
    source = prepare.placed(text, {}, [1])
    limit = scope.by_namespace(syntax.parse(source.text))
    plan = prepare.merging_of(source, ("1",), token="tp", is_limited=True, split=True, refresh=1)
    return prepare.limited(source, limit, plan), plan


@given(programs())
def test_with_all_that_merging_needs_a_program_is_one_and_each_character_has_its_origin(
    text: str,
) -> None:
    rewritten, plan = everything(text)
    program = syntax.parse(rewritten.text)
    assert_origins_hold(text, rewritten)
    limit = scope.by_namespace(syntax.parse(prepare.placed(text, {}, [1]).text))
    hidden = scope.hidden_probes(plan.program, limit) + plan.hidden_probes
    assert len(program.probes) == len(plan.program.probes) + hidden


@given(programs())
def test_without_what_merging_puts_in_a_program_is_what_it_was(text: str) -> None:
    _, plan = everything(text)
    edits = [*plan.edits("$c")]
    left = Rewritten.of(plan.program.text)
    rewritten = left.edit(edits)
    visible = "".join(
        character
        for offset, character in enumerate(rewritten.text)
        if not rewritten.is_hidden(offset)
    )
    taken_out = [Edit(edit.span, kept(edit), "") for edit in edits]
    assert visible == left.edit(taken_out).text
    for edit in edits:
        assert may_go(plan.program.of(edit.span), kept(edit))


def kept(edit: Edit) -> tuple[Span, ...]:
    return tuple(piece for piece in edit.pieces if isinstance(piece, Span))


def may_go(text: str, copies: tuple[Span, ...]) -> bool:
    """What merging may take out: `avg`, what prints are asked for, brackets, delete's comma."""
    return bool(copies) or text in ("", "avg", "(", ")") or text.lstrip()[:1] in (",", "/")


@pytest.mark.parametrize(
    "text",
    [
        "k:f { @a++; print(@a, 5); }" * 1000,
        "k:f {" + "$x = 1; @a[$x]++;" * 1000 + "}",
        "k:f {" + "".join(f"$x{n} = 1; @a[$x{n}]++;" for n in range(1000)) + "}",
        "k:f { @b = 1; @a[@b]++; }" * 1000,
        "macro m(@x) { print(@x) } k:f {" + "m(@a);" * 1000 + "}",
        "".join(f"k:f {{ @a{number} = min(1); }}" for number in range(1000)),
    ],
)
def test_merging_takes_linear_time(text: str) -> None:
    begin = time.process_time()
    everything(text)
    assert time.process_time() - begin < 10  # of squares it would be minutes
