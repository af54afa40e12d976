from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubectl_trace.program import return_sites, syntax
from kubectl_trace.program.return_sites import Sites
from kubectl_trace.program.rewrite import Rewritten
from kubectl_trace.program.tokens import ProgramError, Span
from tests.unit.program.programs import programs

AX = Sites((("/bin/go", 0x1010), ("/bin/go", 0x1020)), 'reg("ax")')
BX = Sites((("/bin/other", 0x2010),), 'reg("bx")')
UNKNOWN = Sites((("/bin/old", 0x3010),), "")
PLACES = 'uprobe:"/bin/go":0x1010, uprobe:"/bin/go":0x1020'


def sites_of(program: syntax.Program, wanted: dict[str, Sites]) -> dict[int, Sites]:
    return {
        point.span.start: wanted[program.of(point.span)]
        for probe in program.probes
        for point in probe.attach_points
        if program.of(point.span) in wanted
    }


def rewritten(text: str, wanted: dict[str, Sites]) -> Rewritten:
    """As runner/plan.py does it: first `split`, then `replace`."""
    program = syntax.parse(text)
    apart = Rewritten.of(text).edit(return_sites.split(program, sites_of(program, wanted)))
    again = syntax.parse(apart.text)
    found = apart.edit(return_sites.replace(again, sites_of(again, wanted)))
    syntax.parse(found.text)
    return found


def words(text: str) -> str:
    return " ".join(text.split())


POINT = 'uretprobe:/bin/go:"main.f"'
OTHER = 'uretprobe:/bin/other:"main.g"'
OLD = "uretprobe:/bin/old:main.h"
WANTED = {POINT: AX, OTHER: BX, OLD: UNKNOWN}


def made(text: str) -> str:
    return words(rewritten(text, WANTED).text)


def test_a_uretprobe_becomes_uprobes_on_the_return_instructions() -> None:
    assert made(f"{POINT} {{ @ = count(); }}") == f"{PLACES} {{ @ = count(); }}"


def test_other_uretprobes_stay() -> None:
    text = "uretprobe:/bin/c:f { @[retval] = count(); }"
    assert rewritten(text, WANTED).text == text


def test_the_returned_value_is_the_first_results_register() -> None:
    assert made(f"{POINT} /retval > 1/ {{ @[retval] = sum(-retval); }}") == (
        f'{PLACES} /reg("ax") > 1/ {{ @[reg("ax")] = sum(-reg("ax")); }}'
    )


def test_in_other_probes_it_stays_what_it_is() -> None:
    text = f"{POINT} {{ @a = retval; }} uretprobe:/bin/c:f {{ @b = retval; }}"
    assert made(text) == (f'{PLACES} {{ @a = reg("ax"); }} uretprobe:/bin/c:f {{ @b = retval; }}')


@pytest.mark.parametrize(
    "inner",
    [
        '"retval"',
        "$retval",
        "@retval",
        "retval2",
        "/* retval */ 1",
        "1 // retval\n",
        '"\\"retval\\""',
        "$x->retval",
        "$x.retval",
        "args->retval",
    ],
)
def test_what_only_looks_like_it_stays(inner: str) -> None:
    text = f"{POINT} {{ @ = {inner} ; }}"
    assert rewritten(text, WANTED).text == text.replace(POINT, PLACES)


def test_several_points_of_one_probe_are_replaced_each() -> None:
    text = f"{POINT},\n{OTHER} {{ @ = count(); }}"
    assert made(text) == f'{PLACES}, uprobe:"/bin/other":0x2010 {{ @ = count(); }}'


def test_a_probe_of_both_kinds_becomes_two() -> None:
    text = f"uretprobe:/bin/c:f, {POINT}, kprobe:g /pid > 1/ {{ @[retval] = count(); }}"
    assert made(text) == (
        f'{PLACES} /pid > 1/ {{ @[reg("ax")] = count(); }} '
        "uretprobe:/bin/c:f, kprobe:g /pid > 1/ { @[retval] = count(); }"
    )


def test_where_results_are_in_different_places_the_value_is_refused() -> None:
    text = f"{POINT}, {OTHER} {{ @ = retval; }}"
    with pytest.raises(ProgramError, match="differs") as error:
        rewritten(text, WANTED)
    assert text[error.value.offset :].startswith("retval")


def test_where_the_result_is_not_known_the_value_is_refused_and_nothing_else() -> None:
    with pytest.raises(ProgramError, match="not known"):
        rewritten(f"{OLD} /retval/ {{ }}", WANTED)
    assert made(f"{OLD} {{ @ = count(); }}") == 'uprobe:"/bin/old":0x3010 { @ = count(); }'


def test_functions_with_one_place_for_their_results_may_share_a_probe() -> None:
    wanted = {POINT: AX, OTHER: Sites(BX.places, AX.result)}
    assert 'reg("ax")' in rewritten(f"{POINT}, {OTHER} {{ @ = retval; }}", wanted).text


def test_lines_may_end_as_on_windows() -> None:
    text = (
        f"// retval\r\n{POINT},\r\nuretprobe:/bin/c:f\r\n/retval/\r\n{{\r\n\t@ = retval;\r\n}}\r\n"
    )
    found = rewritten(text, WANTED).text
    assert found.startswith("// retval\r\n" + PLACES)
    assert found.count('reg("ax")') == 2
    assert found.count("retval") == 3
    assert found.endswith("}\r\n")


def test_every_change_says_why() -> None:
    text = f"uretprobe:/bin/c:f, {POINT} {{ @ = retval; }}"
    changes = rewritten(text, WANTED).changes
    assert [change.reason.partition(":")[0] for change in changes] == [
        "two probes",
        "a uretprobe can crash a Go program",
        'the first result is in reg("ax")',
    ]
    assert text[changes[1].offset :].startswith(POINT)
    assert text[changes[2].offset :].startswith("retval")


def is_kept(text: str, found: Rewritten) -> bool:
    """Whether all that is not hidden is what the user has at its origin."""
    return all(
        character == text[found.origin(offset)]
        for offset, character in enumerate(found.text)
        if not found.is_hidden(offset)
    )


@given(programs(), st.integers(0, 5))
@settings(max_examples=30)
def test_places_lead_back_to_the_users_text(text: str, number: int) -> None:
    program = syntax.parse(text)
    points = [
        program.of(point.span)
        for probe in program.probes
        for point in probe.attach_points
        if "uprobe" in point.provider or "uretprobe" in point.provider
    ]
    wanted = {point: AX for index, point in enumerate(points) if index != number}
    found = rewritten(text, wanted)
    assert is_kept(text, found)
    assert len(found.text) >= len(text) or wanted
    again = syntax.parse(found.text)
    assert not {
        again.of(point.span) for probe in again.probes for point in probe.attach_points
    } & set(wanted)


def test_nothing_wanted_changes_nothing() -> None:
    text = f"{POINT}, {OTHER} {{ @ = retval; }}"
    program = syntax.parse(text)
    assert list(return_sites.split(program, {})) == []
    assert list(return_sites.replace(program, {})) == []
    assert program.probes[0].span == Span(0, len(text))
