"""Programs that try to see other tasks than those of their scope."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings

from kubectl_trace.program import prepare, scope, syntax
from kubectl_trace.program.rewrite import Rewritten
from kubectl_trace.program.tokens import Group, ProgramError, matching, tree
from tests.unit.program.programs import near_programs, programs


def limited(text: str, cgroup: str = "") -> str:
    source = Rewritten.of(text)
    return prepare.limited(source, scope.by_namespace(syntax.parse(text), cgroup)).text


def is_guarded(text: str, condition: str) -> bool:
    """Whether nothing but the scope's condition decides first in every probe of a task.

    Read anew: the condition stands at the predicate's beginning, and what follows, if anything
    does, is `&&` and one pair of parentheses that ends with the predicate.
    """
    program = syntax.parse(text)
    for probe in program.probes:
        if not scope.in_tasks(probe):
            continue
        if probe.predicate is None:
            return False
        predicate = text[probe.predicate.start : probe.predicate.end]
        start = f"/{condition}"
        if not predicate.startswith(start):
            return False
        rest = predicate[len(start) : -1]
        if not rest:
            continue
        opening = probe.predicate.start + len(start) + len(" && ")
        if not rest.startswith(" && (") or matching(text, opening) != probe.predicate.end - 1:
            return False
    return True


def is_guarded_inside(text: str, limit: scope.Scope) -> bool:
    """The same where the scope has foreign tasks: whether all of a probe is in its `if`."""
    program = syntax.parse(text)
    for probe in program.probes:
        if not scope.in_tasks(probe):
            continue
        start = f"{{ {limit.container(probe)} if ("
        if probe.predicate or not text.startswith(start, probe.block.start):
            return False
        (whole,) = tree(text, probe.block)
        assert isinstance(whole, Group)
        *_, condition, body = [
            each
            for each in whole.children
            if isinstance(each, Group) or each.kind not in ("space", "comment")
        ]
        if not (isinstance(body, Group) and body.bracket == "{"):
            return False
        inside = probe.block.start + len(start)
        if not isinstance(condition, Group) or condition.start != inside - 1:
            return False
        rest = text[inside + len(limit.is_member) : condition.end - 1]
        if not text.startswith(limit.is_member, inside) or (
            rest
            and not (
                rest.startswith(" && (")
                and matching(text, condition.end - 1 - len(rest) + len(" && ")) == condition.end - 1
            )
        ):
            return False
    return True


@settings(max_examples=300, deadline=None)
@given(near_programs() | programs())
def test_whatever_the_program_the_scope_decides_first(text: str) -> None:
    try:
        program = syntax.parse(text)
        limit = scope.by_namespace(program)
        result = limited(text)
    except ProgramError:
        return
    (probe, *_) = program.probes
    assert is_guarded(result, limit.condition(probe))
    limit = scope.by_namespace(program, scope.CGROUP2)
    assert is_guarded_inside(limited(text, scope.CGROUP2), limit)
    assert limit.map not in re.findall(r"@\w*", text)


@pytest.mark.parametrize(
    "predicate",
    [
        "1 || 1",
        "1 // || 1\n",
        "1 /* */ || /* */ 1",
        '1 || comm == "/ {"',
        "(1) || (1)",
        "!0",
        "1 ? 1 : 1",
        "1, 1",
        "pid / 1 / 1 || 1",
    ],
)
def test_no_predicate_is_stronger_than_the_scope(predicate: str) -> None:
    text = f"kprobe:f /{predicate}/ {{ @ = count(); }}"
    program = syntax.parse(text)
    condition = scope.by_namespace(program).condition(program.probes[0])
    assert is_guarded(limited(text), condition)
    limit = scope.by_namespace(program, scope.CGROUP2)
    assert is_guarded_inside(limited(text, scope.CGROUP2), limit)


@pytest.mark.parametrize(
    "text",
    [
        "a=kprobe:f { }",
        '"BEGIN"=kprobe:f { }',
        '"a=BEGIN"=kprobe:f { }',
        "BEGIN=kprobe:f { }",
        "a=BEGIN=kprobe:f { }",
        '"#!"=kprobe:f { }',
        "#! first line\nkprobe:f { }",
    ],
)
def test_a_probe_with_a_name_is_limited_as_another(text: str) -> None:
    program = syntax.parse(text)
    condition = scope.by_namespace(program).condition(program.probes[0])
    assert is_guarded(limited(text), condition)
    assert condition in limited(text)


@pytest.mark.parametrize(
    "program",
    [
        "kprobe:f /1) || (1/ { }",
        "kprobe:f /1)) != 0 || ((1/ { }",
        "kprobe:f /1 /* / { }",
        'kprobe:f /"a/ { }',
        "kprobe:f /1] || [1/ { }",
        "kprobe:f { } /* kprobe:g { }",
        "kprobe:f { } } kprobe:g { {",
        "kprobe:f\\\n{ }",
        "kprobe:f { }\0kprobe:g { }",
        # What 0.27 takes for probes, and older ones for comments.
        "kprobe:f { }\n#!a=kprobe:g { }",
        "/* */\n#!a=kprobe:g { }\nkprobe:f { }",
        "kprobe:f {\n#! x\n}",
        "kprobe:f\n#! x\n{ }",
        "#define X } kprobe:g {\nkprobe:f { X }",
        "#define X / *\nkprobe:f { X }",
        "#define curtask 0\nkprobe:f { }",
        "#define inum x\nkprobe:f { }",
        "#define kprobe BEGIN\nkprobe:f { }",
        "macro curtask() { 0 } kprobe:f { }",
        "fn cgroup() : uint64 { return 0; } kprobe:f { }",
        'import "other.bt"; kprobe:f { }',
        'import "/tmp/folder"; kprobe:f { }',
    ],
)
def test_what_would_change_the_scopes_text_is_refused(program: str) -> None:
    with pytest.raises(ProgramError):
        prepare.limited(Rewritten.of(program), scope.by_namespace(syntax.parse(program), "cgroup"))


@pytest.mark.parametrize(
    "text",
    [
        "BEGIN { clear(@_scope); } kprobe:f { }",
        "kprobe:f { @_scope[(uint64)1] = (uint64)1; }",
        "kprobe:f { delete(@_scope[1]); } END { print(@_scope); }",
        "#define M @_scope\nBEGIN { clear(M); } kprobe:f { }",
        "#define M @ _scope\nBEGIN { clear(M); } kprobe:f { }",
        "#define M @\t_scope /* x */\nBEGIN { clear(M); } kprobe:f { }",
        "let @_scope = hash(1); kprobe:f { @_scope[1] = 1 }",
        "macro m(@_scope) { clear(@_scope) } kprobe:f { }",
        "kprobe:f { $_container = 1; @a = $_container }",
        "#define V $ _container\nkprobe:f { V = 1; }",
    ],
)
def test_the_scopes_own_names_can_not_be_reached(text: str) -> None:
    limit = scope.by_namespace(syntax.parse(text))
    squeezed = re.sub(r"[ \t]", "", text)
    names = set(re.findall(r"[@$]\w+", text)) | set(re.findall(r"[@$]\w+", squeezed))
    assert limit.map not in names
    assert limit.variable not in names


@pytest.mark.parametrize(
    "types",
    [
        "struct task_struct { int x; };",
        "struct nsproxy { int x; };",
        "struct mnt_namespace { int x; }",
        "struct ns_common { unsigned inum; }",
        "struct css_set { int x; }",
        "struct kernfs_node { unsigned long id; }",
        "union cgroup { int x; };",
        "#define T task_struct\nstruct T { int x; };",
        "#define J(a, b) a##b\nstruct J(task_, struct) { int x; };",
        "#define T t%:%:x\n",
        "#define T \\u0074ask_struct\n",
    ],
)
def test_types_that_would_say_who_is_in_scope_are_noticed(types: str) -> None:
    assert scope.brings_types(syntax.parse(f"{types} kprobe:f {{ }}"))


@pytest.mark.parametrize(
    "text", ["struct task { int x; };", "#define LIMIT 3\n", '#define S "x"\n', "enum e { A };"]
)
def test_types_of_ones_own_change_no_scope(text: str) -> None:
    assert not scope.brings_types(syntax.parse(f"{text} kprobe:f {{ }}"))


@pytest.mark.parametrize(
    "text",
    [
        '#include "/etc/shadow"\n',
        "#include </etc/shadow>\n",
        "#include <../../etc/shadow>\n",
        '#include "x.h"\n',
        '# include "/proc/1/environ"\n',
        '#include/**/"/etc/shadow"\n',
        '#define F "/etc/shadow"\n#include F\n',
        '#include_next "/etc/shadow"\n',
        '#import "/etc/shadow"\n',
        '#embed "/etc/shadow"\n',
        '#if __has_include("/etc/shadow")\n#endif\n',
        '#pragma include_alias("x", "/etc/shadow")\n',
        "struct x {\n#include </etc/shadow>\n};",
        "struct x {\n%:include </etc/shadow>\n};",
        "struct x {\n??=include </etc/shadow>\n};",
    ],
)
def test_no_file_of_the_node_comes_into_a_program(text: str) -> None:
    with pytest.raises(ProgramError, match=r"any file|first line only"):
        limited(f"{text} kprobe:f {{ }}")


@pytest.mark.parametrize(
    "text", ["#include <linux/fs.h>\n", "#  include  <net/sock.h> // c\n", "#ifdef A\n#endif\n"]
)
def test_headers_of_the_system_can_be_included(text: str) -> None:
    limited(f"{text} kprobe:f {{ }}")


def test_a_probe_that_leaves_its_if_is_noticed() -> None:
    limit = scope.by_namespace(syntax.parse("k:f {}"), scope.CGROUP2)
    head = f"k:f {{ {limit.container(syntax.parse('k:f {}').probes[0])} if "
    good = f"{head}({limit.is_member}) {{ }} }}"
    assert is_guarded_inside(good, limit)
    for bad in (
        f"{head}({limit.is_member}) {{ }} x }}",
        f"{head}({limit.is_member}) {{ }} else {{ x }} }}",
        f"{head}({limit.is_member} || (1)) {{ }} }}",
        f"{head}({limit.is_member} && (1) || (1)) {{ }} }}",
        good.replace(" if ", " x; if "),
        "k:f { }",
    ):
        assert not is_guarded_inside(bad, limit), bad
