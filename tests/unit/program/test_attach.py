from __future__ import annotations

import pytest

from kubectl_trace.program import attach, syntax
from kubectl_trace.program.rewrite import Rewritten
from kubectl_trace.program.tokens import ProgramError


def placed(text: str, paths: dict[str, list[str]]) -> str:
    return Rewritten.of(text).edit(attach.place(syntax.parse(text), paths)).text


def with_pids(text: str, *pids: int) -> str:
    return Rewritten.of(text).edit(attach.container_pid(syntax.parse(text), pids)).text


def test_files_are_those_of_uprobes_and_usdt_each_once() -> None:
    text = (
        'uprobe:/bin/a:f, ur:/bin/a:g, k:/bin/k:f {} U:"/b c":p:n, mine=u:libc:malloc {} '
        "u:/bin/x@f.c:12, u:f, BEGIN {}"
    )
    assert attach.files(syntax.parse(text)) == ("/bin/a", "/b c", "libc", "/bin/x")


@pytest.mark.parametrize("provider", ["uretprobe", "ur", "mine=ur"])
def test_return_probes_are_found_however_they_are_written(provider: str) -> None:
    text = f"u:/a:f, {provider}:/b:f {{}}"
    assert [name for _, name in attach.return_probes(syntax.parse(text))] == ["/b"]


@pytest.mark.parametrize(
    ("text", "paths", "expected"),
    [
        ("u:/bin/x:f {}", ["/proc/1/root/bin/x"], "u:/proc/1/root/bin/x:f {}"),
        ("u:/bin/x:f {}", ["/p/a b"], 'u:"/p/a b":f {}'),
        ('u:"/bin/x":"main.f" {}', ["/p/é"], 'u:"/p/é":"main.f" {}'),
        ("u:/bin/x:f {}", ['/p/"\\'], 'u:"/p/\\"\\\\":f {}'),
        ("u:/bin/x:f, BEGIN {}", ["/a", "/b"], "u:/a:f, u:/b:f, BEGIN {}"),
        ("u:/bin/x@f.c:1 {}", ["/a"], "u:/a@f.c:1 {}"),
        ("u:/bin/x:f {}", ["/bin/x"], "u:/bin/x:f {}"),
        ("k:/bin/x:f {}", ["/a"], "k:/bin/x:f {}"),
    ],
)
def test_probes_attach_to_the_paths_that_are_given(
    text: str, paths: list[str], expected: str
) -> None:
    result = placed(text, {"/bin/x": paths})
    assert result == expected
    points = [p for probe in syntax.parse(result).probes for p in probe.attach_points]
    if text != expected:
        assert [p.parts[1].text for p in points if len(p.parts) > 1] == paths


def test_a_name_without_path_stays() -> None:
    assert placed("u:/bin/y:f {}", {"/bin/x": ["/a"]}) == "u:/bin/y:f {}"


def test_container_pid_is_replaced_in_code_and_strings_and_attach_points() -> None:
    text = (
        "// $container_pid\n"
        'k:f_$container_pid /pid == $container_pid/ { printf("$container_pid $container_pids"); } '
        "/* $container_pid */ i:s:1 { @[$container_pid] = $container_pid2; }"
    )
    assert with_pids(text, 42) == (
        "// $container_pid\n"
        'k:f_42 /pid == 42/ { printf("42 $container_pids"); } '
        "/* $container_pid */ i:s:1 { @[42] = $container_pid2; }"
    )


def test_container_pid_in_the_file_of_an_attach_point_is_for_place() -> None:
    text = "u:/proc/$container_pid/exe:f { }"
    assert with_pids(text, 1, 2) == text
    assert attach.uses_container_pid(syntax.parse(text))


@pytest.mark.parametrize("pids", [(), (1, 2)])
def test_container_pid_for_several_processes_is_refused(pids: tuple[int, ...]) -> None:
    with pytest.raises(ProgramError, match=f"stands for {len(pids)} processes") as error:
        with_pids("BEGIN { $container_pid }", *pids)
    assert error.value.offset == 8


def test_container_pid_in_comments_only_is_not_used() -> None:
    text = "/* $container_pid */ BEGIN /* $container_pid */ { // $container_pid\n}"
    assert not attach.uses_container_pid(syntax.parse(text))
    assert with_pids(text) == text


@pytest.mark.parametrize(
    ("name", "expected"),
    [("$1", "/bin/a"), ("/x/$2/y", "/x/b/y"), ("$3", "$3"), ("$0", "$0"), ("$12", "$12")],
)
def test_positional_parameters_in_a_files_name(name: str, expected: str) -> None:
    assert attach.with_parameters(name, ["/bin/a", "b"]) == expected


@pytest.mark.parametrize(
    ("text", "parameter"),
    [
        ("BEGIN {} $1 {}", "uretprobe:/bin/x:f"),
        ("BEGIN {} uretprobe:$1 {}", "/bin/x:f"),
        ("BEGIN {} $1:/bin/x:f {}", "ur"),
        ("BEGIN {} u:$1:f {}", "/bin/x:12"),
    ],
)
def test_a_parameter_that_is_more_than_a_part_with_a_file_is_refused(
    text: str, parameter: str
) -> None:
    with pytest.raises(ProgramError, match="more than one part") as error:
        attach.check_parameters(syntax.parse(text), [parameter])
    assert error.value.offset == 9


@pytest.mark.parametrize(
    ("text", "parameter"),
    [
        ("$1 {}", "kprobe:f"),
        ("u:$1:f {}", "/bin/x"),
        ("u:/bin/x:$1 {}", "f"),
        ("u:$2:f {}", "/bin/x:f"),
        ("u:/bin/x:f { $1 }", "a:b"),
        ("u:$1 {}", "{"),
        ("$1 {}", ""),
    ],
)
def test_other_parameters_are_taken(text: str, parameter: str) -> None:
    attach.check_parameters(syntax.parse(text), [parameter])
