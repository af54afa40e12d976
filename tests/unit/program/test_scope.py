from __future__ import annotations

import pytest

from kubectl_trace.program import scope, syntax
from kubectl_trace.program.rewrite import Rewritten
from kubectl_trace.program.scope import Scope
from kubectl_trace.program.tokens import ProgramError

SCOPE = Scope("@s", "$c", ("ns",))


def split(text: str) -> str:
    return Rewritten.of(text).edit(scope.split(syntax.parse(text))).text


def limited(text: str, limit: Scope = SCOPE) -> str:
    return Rewritten.of(text).edit(scope.limit(syntax.parse(text), limit)).text


MADE = " @s[(uint64)0] = (uint64)0;"
ADDED = f"\nBEGIN {{{MADE} }}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k:f{}", "k:f /@s[ns]/ {}"),
        ("k:f, {}", "k:f,  /@s[ns]/ {}"),
        ("k:f // c\n{}", "k:f // c\n /@s[ns]/ {}"),
        ("k:f /pid/{}", "k:f /@s[ns] && (((pid)) != 0)/{}"),
        ("k:f / 1 // c\n/ {}", "k:f /@s[ns] && ((( 1 // c\n)) != 0)/ {}"),
        ("u:/bin/x:f/pid==1/{}", "u:/bin/x:f/pid==1/ /@s[ns]/ {}"),
        ("X {} $1 {}", "X  /@s[ns]/ {} $1  /@s[ns]/ {}"),
        ("END {\n// {\n}\nk:f {}", "END {\n// {\n}\nk:f  /@s[ns]/ {}"),
        ("i:s:1 {} END {} iter:task {} self:signal:SIGUSR1 {}",) * 2,
    ],
)
def test_probes_that_fire_in_a_task_get_a_predicate(text: str, expected: str) -> None:
    assert limited(text) == expected + ADDED


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k:f{}", "k:f {ASKED && M) {} }"),
        ("k:f {}", "k:f  {ASKED && M) {} }"),
        ("k:f /pid/{x}", "k:f {ASKED && M && (((pid)) != 0)){x} }"),
        ("k:f / 1 // c\n/ {}", "k:f {ASKED && M && ((( 1 // c\n)) != 0)) {} }"),
        ("i:s:1 /x/ {} END {}",) * 2,
    ],
)
def test_where_foreign_tasks_are_known_all_of_a_probe_is_asked_once(
    text: str, expected: str
) -> None:
    limit = Scope("@s", "$c", ("cg", "ns"), has_foreign=True)
    asked = " $c = @s[cg]; if ($c == 0) { $c = @s[ns]; } if (($c & 0xffffffff)"
    assert limited(text, limit) == expected.replace("ASKED && M", asked) + ADDED


def test_a_foreign_task_is_no_container_and_no_container_is_foreign() -> None:
    # As the program's condition has it, whether its values have a sign or not.
    assert scope.FOREIGN & 0xFFFFFFFF == 0
    assert scope.FOREIGN != 0


def test_only_by_the_unified_hierarchy_foreign_tasks_are_known() -> None:
    program = syntax.parse("k:f {}")
    assert scope.by_namespace(program, scope.CGROUP2).has_foreign
    assert not scope.by_namespace(program, scope.cgroup1(1)).has_foreign
    assert not scope.by_namespace(program).has_foreign


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k:f {}", "k:f  /@s[ns]/ {}" + ADDED),
        ("BEGIN {} BEGIN {}", f"BEGIN {{{MADE}}} BEGIN {{}}"),
        ("begin{ }", f"begin{{{MADE} }}"),
        ("BEGIN /p/ { x }", f"BEGIN {{{MADE} if (((p)) != 0) {{ x }} }}"),
    ],
)
def test_the_map_is_made_by_a_begin(text: str, expected: str) -> None:
    assert limited(text) == expected
    syntax.parse(expected)


def test_a_wildcard_is_not_taken_for_begin() -> None:
    assert limited("*:vfs_read {}") == "*:vfs_read  /@s[ns]/ {}" + ADDED


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("BEGIN, k:f /1/ { x }", "k:f /1/ { x } BEGIN /1/ { x }"),
        ("k:a, i:s:1, k:b, {}", "k:a, k:b {} i:s:1 {}"),
        ("END, BEGIN, k:f {}", "k:f {} END, BEGIN {}"),
        ("BEGIN, i:s:1 {}",) * 2,
        ("k:a, k:b {}",) * 2,
        ("END, i:s:1 {}",) * 2,
    ],
)
def test_a_probe_of_several_kinds_becomes_several(text: str, expected: str) -> None:
    assert split(text) == expected


@pytest.mark.parametrize("name", ["x.bt", "folder", "/etc/x.bt", "stdlib.bt", "a.h/x"])
def test_imports_that_may_have_probes_are_refused(name: str) -> None:
    with pytest.raises(ProgramError, match="may have probes") as error:
        limited(f' import "{name}"; k:f {{}}')
    assert error.value.offset == 1


@pytest.mark.parametrize("name", ["BEGIN", "ns", "uint64"])
def test_macros_that_would_change_the_scope_are_refused(name: str) -> None:
    program = syntax.parse(f"#define {name} kprobe:f\nk:g {{ }}")
    with pytest.raises(ProgramError, match=f"the macro {name} would change"):
        scope.limit(program, scope.by_namespace(program))


@pytest.mark.parametrize("name", ["stdlib", "stdlib/x", "x.h", "a/x.bpf.c", "x.bpf.o"])
def test_imports_without_probes_are_taken(name: str) -> None:
    limited(f'import "{name}"; k:f {{}}')


def test_a_task_passes_by_any_of_the_keys() -> None:
    limit = Scope("@s", "$c", ("a", "b"))
    (probe,) = syntax.parse("k:f {}").probes
    assert limit.condition(probe) == "(@s[a] || @s[b])"
    assert limit.container(probe) == "$c = @s[a]; if ($c == 0) { $c = @s[b]; }"


@pytest.mark.parametrize(
    ("point", "key"),
    [
        ("tracepoint:sched:sched_switch", "next"),
        ("t:sched:sched_switch", "next"),
        ("mine=t:sched:sched_switch", "next"),
        ("rawtracepoint:sched:sched_switch", "ns"),
        ("t:sched:sched_wakeup", "ns"),
        ("t:sched:sched_switch, t:sched:sched_wakeup", "ns"),
    ],
)
def test_the_next_task_is_asked_for_where_the_tracepoint_names_it(point: str, key: str) -> None:
    limit = Scope("@s", "$c", ("ns",), next_key="next")
    (probe,) = syntax.parse(point + " {}").probes
    assert limit.condition(probe) == f"@s[{key}]"
    assert limit.container(probe) == f"$c = @s[{key}];"


def test_names_are_free_in_the_program() -> None:
    program = syntax.parse("k:f { @_scope = 1; @_scope0 = 1; $_container = 2 }")
    limit = scope.by_namespace(program)
    assert (limit.map, limit.variable) == ("@_scope1", "$_container0")


@pytest.mark.parametrize(("text", "count"), [("k:f {}", 1), ("k:f {} begin {}", 0)])
def test_hidden_probes_are_counted(text: str, count: int) -> None:
    program = syntax.parse(text)
    for limit in (scope.by_namespace(program), scope.by_task(program)):
        hidden = scope.hidden_probes(program, limit)
        assert hidden == count + len(limit.hidden_probes)
        assert len(syntax.parse(limited(text, limit)).probes) == len(program.probes) + hidden


def test_only_programs_with_a_probe_in_a_task_are_limited() -> None:
    assert scope.is_limited(syntax.parse("BEGIN, k:f {}"))
    assert scope.is_limited(syntax.parse('import "x.bt"; BEGIN {}'))
    assert not scope.is_limited(syntax.parse('import "stdlib"; BEGIN {} i:s:1 {}'))
