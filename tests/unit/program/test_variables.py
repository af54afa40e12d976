from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.program.variables import (
    lost_to_the_shell,
    replace_container_pid,
    uses_container_pid,
)


def test_replaces_in_attach_points_code_and_strings() -> None:
    program = 'uprobe:/proc/$container_pid/exe:f { printf("$container_pid %d", $container_pid); }'
    assert replace_container_pid(program, 42) == 'uprobe:/proc/42/exe:f { printf("42 %d", 42); }'


def test_leaves_comments_alone() -> None:
    program = "// $container_pid\n/* $container_pid */ BEGIN { exit(); }"
    assert replace_container_pid(program, 42) == program
    assert not uses_container_pid(program)


def test_leaves_longer_names_alone() -> None:
    program = "BEGIN { $container_pids = 1; }"
    assert replace_container_pid(program, 42) == program


def test_a_comment_sign_in_a_string_starts_no_comment() -> None:
    program = 'BEGIN { printf("// /* $container_pid"); }'
    assert "42" in replace_container_pid(program, 42)


def test_a_wildcard_path_starts_no_comment() -> None:
    program = "uprobe:/proc/$container_pid/root/usr/lib/*:f { @[$container_pid] = count(); }"
    assert replace_container_pid(program, 7).count("7") == 2


def test_an_unfinished_comment_or_string_hides_nothing_before_it() -> None:
    assert uses_container_pid("BEGIN { $container_pid } /* open")
    assert uses_container_pid('BEGIN { $container_pid } "open')


@given(st.text())
def test_a_program_that_does_not_name_it_stays_as_it_is(program: str) -> None:
    if "$container_pid" not in program:
        assert replace_container_pid(program, 1) == program


@given(st.text(alphabet='/*"$container_pid:\n \\{}'), st.integers(1, 2**22))
def test_what_uses_it_is_what_replacing_changes(program: str, pid: int) -> None:
    assert uses_container_pid(program) == (replace_container_pid(program, pid) != program)


def test_a_path_without_its_pid_was_eaten_by_the_shell() -> None:
    assert lost_to_the_shell("uprobe:/proc//exe:f {}")
    assert not lost_to_the_shell("uprobe:/proc/1/exe:f {}")
