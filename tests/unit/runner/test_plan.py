"""A program made to run on this node; real containers' files are in the end-to-end tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from kubectl_trace.binary import elf, golang, symbols
from kubectl_trace.errors import ForbiddenError, NotFoundError, RefusedError
from kubectl_trace.program import scope
from kubectl_trace.runner import bpftrace, files, modules, plan
from kubectl_trace.runner.translation import Translation
from kubectl_trace.trace import Trace

EXE = os.path.realpath(sys.executable)
OWN = f"/proc/{os.getpid()}/root{EXE}"


@pytest.fixture(autouse=True)
def functions_begin_as_they_do_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_behind", lambda file, functions: {})


def trace(program: str, *parameters: str) -> Trace:
    return Trace(id="1", program=program, program_name="mine.bt", parameters=parameters)


def limited(program: str) -> plan.Plan:
    groundwork = plan.prepared(trace(program), [os.getpid()])
    return groundwork.limited(scope.by_namespace(groundwork.syntax))


def translated(program: str) -> Translation:
    chosen = limited(program)
    return Translation(chosen, bpftrace.ProgramFile(chosen.program.text), program, "mine.bt")


def test_a_file_is_the_processs_own() -> None:
    program = plan.prepared(trace(f"uprobe:{EXE}:main {{ }}"), [os.getpid()]).program
    assert program.text == f"uprobe:{OWN}:main {{ }}"


def test_a_file_may_be_a_positional_parameter() -> None:
    program = plan.prepared(trace("uprobe:$1:main { }", EXE), [os.getpid()]).program
    assert program.text == f"uprobe:{OWN}:main {{ }}"


def test_a_file_of_several_processes_is_attached_once() -> None:
    pids = [os.getpid(), os.getppid()]
    program = plan.prepared(
        trace("uprobe:/proc/$container_pid/root/etc/passwd:f { }"), pids
    ).program
    assert program.text.count("uprobe:") == 1


@pytest.mark.parametrize(
    "name",
    [
        "/proc/1/root/bin/sh",
        "/proc/1/exe",
        "/proc/self/exe",
        "/proc/self/root/bin/sh",
        "/proc/self/fd/3",
        "/proc/thread-self/root/bin/sh",
        "/proc/*/exe",
        "/proc/[1-9]/exe",
        "/proc/$container_pid/../1/exe",
        "/proc/$container_pid/cwd/x",
        "/proc/$container_pid/fd/3",
        "/proc/$container_pid/map_files/1-2",
        "/proc/$container_pid/task/1/root/bin/sh",
        "/proc/$container_pid/exe/",
        "/proc/$container_pid//exe",
        "/proc/$container_pid1/exe",
        "/proc/sys/kernel/ostype",
        "/proc/0001/exe",
        "/proc/2/root",
    ],
)
@pytest.mark.parametrize("as_parameter", [False, True])
def test_a_file_of_the_node_is_none_of_the_targets(name: str, as_parameter: bool) -> None:
    written = "$1" if as_parameter else f'"{name}"'
    parameters = (name,) if as_parameter else ()
    with pytest.raises(RefusedError, match=r"^mine\.bt:1:11: .*no file of the target's containers"):
        plan.prepared(trace(f"uretprobe:{written}:main {{ }}", *parameters), [os.getpid()])


@pytest.mark.parametrize("name", ["/proc/$container_pid/exe", f"/proc/{os.getpid()}/exe"])
def test_the_targets_own_executable_is_named_by_proc_too(name: str) -> None:
    program = plan.prepared(trace(f"uprobe:{name}:main {{ }}"), [os.getpid()]).program
    assert program.text == f"uprobe:/proc/{os.getpid()}/exe:main {{ }}"


def _in_root(root: Path) -> subprocess.Popen[bytes]:
    """A process in that root; it waits for its input to end."""
    code = "import os, sys; os.chroot(sys.argv[1]); os.chdir('/'); print(flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_below_the_root_of_the_target_no_link_leads_out(tmp_path: Path) -> None:
    """A process in a root of its own, whose files try to be others outside of it."""
    if os.geteuid() != 0:
        pytest.skip("chroot needs root")
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "proc").mkdir()
    shutil.copy("/bin/sleep", root / "bin" / "own")
    (root / "bin" / "absolute").symlink_to(EXE)
    (root / "bin" / "up").symlink_to("../" * 20 + EXE.lstrip("/"))
    (root / "bin" / "magic").symlink_to(f"/proc/{os.getpid()}/root{EXE}")
    (root / "bin" / "inside").symlink_to("/bin/own")
    os.mkfifo(root / "bin" / "fifo")

    with _in_root(root) as process:
        for name in ("absolute", "up", "magic", "fifo"):
            for path in (f"/bin/{name}", f"/proc/$container_pid/root/bin/{name}", f"bin/{name}"):
                with pytest.raises(NotFoundError):
                    plan.prepared(trace(f"uprobe:{path}:main {{ }}"), [process.pid])
            with pytest.raises(NotFoundError):
                modules.libraries([process.pid], [f"/bin/{name}"])
        for path in ("/bin/inside", "/proc/$container_pid/root/bin/inside"):
            program = plan.prepared(trace(f"uprobe:{path}:main {{ }}"), [process.pid]).program
            assert program.text == f"uprobe:/proc/{process.pid}/root/bin/own:main {{ }}"
        process.kill()


@pytest.mark.parametrize(
    "name", ["/dev/fd/0", "//proc/self/exe", "/./proc/1/exe", "/dev/../proc/1/root/bin/sh"]
)
def test_no_link_of_the_kernels_leads_out_by_another_spelling(name: str) -> None:
    with pytest.raises((NotFoundError, ForbiddenError)):
        plan.prepared(trace(f'uprobe:"{name}":main {{ }}'), [os.getpid()])
    with pytest.raises((NotFoundError, ForbiddenError)):
        modules.libraries([os.getpid()], [name])


def test_without_a_scope_files_of_the_node_may_be_named() -> None:
    wanted = msgspec.structs.replace(trace("uprobe:/proc/self/exe:main { }"), scope=False)
    assert plan.prepared(wanted, [os.getpid()]).program.text == wanted.program


def test_without_processes_files_are_left_to_bpftrace() -> None:
    text = "uprobe:/no/such:f { } uprobe:libc:malloc { }"
    assert plan.prepared(trace(text), []).program.text == text


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(NotFoundError, match="/no/such"):
        plan.prepared(trace("uprobe:/no/such:f { }"), [os.getpid()])


def test_a_program_that_is_none_is_refused_with_its_place() -> None:
    with pytest.raises(RefusedError, match=r"^mine\.bt:2:1: "):
        plan.prepared(trace("BEGIN {\r\n)"), [])


def test_a_tagged_text_is_shown_without_its_tag() -> None:
    translation = translated(f'uprobe:{EXE}:main {{ printf("x"); }}')
    (shown,) = translation.output(b'{"type": "printf", "data": "~12~hello"}')
    assert (shown.output.data, shown.container) == ("hello", 12)


def test_the_scopes_map_is_not_shown() -> None:
    translation = translated(f"uprobe:{EXE}:main {{ @a = 1; }}")
    assert translation.output(b'{"type": "map", "data": {"@_scope": {"7": 1}}}') == []
    assert len(translation.output(b'{"type": "map", "data": {"@a": 1}}')) == 1


def test_hidden_probes_are_not_counted() -> None:
    translation = translated(f"uprobe:{EXE}:main {{ }}")
    (shown,) = translation.output(b'{"type": "attached_probes", "data": {"probes": 2}}')
    assert shown.output.data == {"probes": 1}


def test_an_attach_point_is_shown_as_the_user_wrote_it() -> None:
    translation = translated(f"uprobe:{EXE}:main {{ @[probe] = count(); }}")
    line = f'{{"type": "map", "data": {{"@": {{"uprobe:{OWN}:main": 1}}}}}}'
    (shown,) = translation.output(line.encode())
    assert shown.output.data == {"@": {f"uprobe:{EXE}:main": 1}}


def test_an_error_at_run_time_has_the_users_place() -> None:
    program = f"uprobe:{EXE}:main {{ @a[1] = 1; }}"
    translation = translated(program)
    column = limited(program).program.text.index("@a[1]") + 1
    line = f'{{"type": "helper_error", "msg": "full", "line": 1, "col": {column}}}'
    (shown,) = translation.output(line.encode())
    assert shown.output.data == {"msg": "full", "line": 1, "col": program.index("@a[1]") + 1}


def test_a_file_that_only_some_containers_have_is_attached_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = files.find

    def find(pid: int, name: str) -> list[files.File]:
        if pid == 1:
            raise NotFoundError("no such file")
        return real(pid, name)

    monkeypatch.setattr(files, "find", find)
    program = plan.prepared(trace(f"uprobe:{EXE}:main {{ }}"), [1, os.getpid()]).program
    assert program.text == f"uprobe:{OWN}:main {{ }}"


def test_what_can_not_be_limited_is_refused_with_its_place() -> None:
    groundwork = plan.prepared(trace('import "x.bt";\nBEGIN { }'), [])
    with pytest.raises(RefusedError, match=r"^mine\.bt:1:1: an imported script"):
        groundwork.limited(scope.by_namespace(groundwork.syntax))


def test_a_parameter_that_hides_a_file_is_refused() -> None:
    with pytest.raises(RefusedError, match="write it as PROVIDER:FILE:FUNCTION"):
        plan.prepared(trace("uretprobe:$1 { }", f"{EXE}:main"), [])


def merged(program: str, *parameters: str) -> Translation:
    """A program for all tasks, merged."""
    wanted = msgspec.structs.replace(trace(program, *parameters), merge=True, refresh=1.0)
    chosen = plan.prepared(wanted, []).unlimited()
    return Translation(chosen, bpftrace.ProgramFile(chosen.program.text), program, "mine.bt")


def printf(text: str) -> bytes:
    return msgspec.json.encode({"type": "printf", "data": text})


def test_a_marker_is_not_shown_and_says_which_print_a_map_is_of() -> None:
    translation = merged('k:f { @a = count(); printf("x"); } END { print(@a); }')
    assert translation.output(b'{"type": "map", "data": {"@a": 5}}') == []
    text = translation._plan.program.text
    (written, *_) = re.findall(r'printf\("(~1~\\x1e[^"]*)"\)', text)
    (shown,) = translation.output(printf(written.replace(r"\x1e", "\x1e")))
    assert (shown.output.data, shown.print) == ({"@a": 5}, 1)


@pytest.mark.parametrize("text", ["\x1e1\x1e", "\x1ep1\x1e", "\x1e0\x1ehello"])
def test_a_text_that_looks_like_a_marker_is_shown(text: str) -> None:
    (shown,) = merged('END { print(@a); printf("x") }').output(printf(text))
    assert (shown.output.data, shown.container, shown.print) == (text, 0, 0)


def test_what_is_held_is_given_in_the_end() -> None:
    translation = merged("k:f { @a = count(); }")
    translation.output(b'{"type": "map", "data": {"@a": 5}}')
    assert [given.output.data for given in translation.rest()] == [{"@a": 5}]


def test_the_probe_of_a_refresh_is_not_counted() -> None:
    translation = merged("k:f { @a = count(); }")
    (shown,) = translation.output(b'{"type": "attached_probes", "data": {"probes": 2}}')
    assert shown.output.data == {"probes": 1}


def test_without_merging_a_program_for_all_tasks_is_not_changed() -> None:
    program = "k:f { @a = avg(1); } END { print(@a, 5); }"
    wanted = msgspec.structs.replace(trace(program), split=True, refresh=1.0)
    chosen = plan.prepared(wanted, []).unlimited()
    assert (chosen.program.text, chosen.merging) == (program, None)


def test_a_print_that_can_not_be_merged_is_refused_with_its_place() -> None:
    with pytest.raises(RefusedError, match=r"^mine\.bt:1:14: here print\(@a\) is part"):
        merged("k:f { print((@a)); }")


def test_a_uprobe_is_behind_the_bytes_that_do_nothing_and_keeps_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "_behind", lambda file, functions: {"main": 4})
    text = f"uprobe:{EXE}:main, uprobe:{EXE}:other, uprobe:{EXE}:main+8 {{ @ = count(); }}"
    chosen = plan.prepared(trace(text), [os.getpid()]).unlimited()
    assert chosen.program.text.startswith(
        f"uprobe:{OWN}:main+4, uprobe:{OWN}:other, uprobe:{OWN}:main+8 {{"
    )
    shown = [point.shown for point in chosen.points]
    assert shown == [f"uprobe:{EXE}:{name}" for name in ("main", "other", "main+8")]


@pytest.mark.parametrize(
    "program",
    [
        "uprobe:EXE:main { @[ustack] = count(); }",
        "uprobe:EXE:main { printf(probe); }",
        'uprobe:EXE:main / reg("ip") / { }',
        "uprobe:EXE:main { @ = sarg0; }",
        "uprobe:EXE:mai* { }",
        "uprobe:EXE:16 { }",
        "uretprobe:EXE:main { }",
        "#define P probe\nuprobe:EXE:main { print(P); }",
    ],
)
def test_a_probe_whose_place_could_be_told_stays_where_it_is(
    monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(plan, "_behind", lambda file, functions: dict.fromkeys(functions, 4))
    found = plan.prepared(trace(program.replace("EXE", EXE)), [os.getpid()]).program.text
    assert "+4" not in found


def test_a_probe_stays_where_it_is_if_bpftrace_takes_no_offsets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "_behind", lambda file, functions: dict.fromkeys(functions, 4))
    program = trace(f"uprobe:{EXE}:main {{ }}")
    found = plan.prepared(program, [os.getpid()], takes_offsets=lambda: False).program.text
    assert "+4" not in found


def test_files_whose_functions_begin_in_different_ways_are_attached_to_at_their_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter(({"main": 4}, {}))
    monkeypatch.setattr(plan, "_behind", lambda file, functions: next(answers))
    monkeypatch.setattr(
        plan, "find_files", lambda name, pids: [files.on_node(EXE), files.on_node("/bin/sh")]
    )
    found = plan.prepared(trace(f"uprobe:{EXE}:main {{ }}"), [os.getpid()]).program.text
    assert "+4" not in found


@pytest.mark.parametrize("what", ["of another machine", "Go"])
def test_symbols_are_read_only_where_functions_may_begin_with_what_does_nothing(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    header = bytearray(Path(EXE).read_bytes()[:64])
    header[18:20] = (elf.EM_AARCH64 if what != "Go" else elf.EM_X86_64).to_bytes(2, sys.byteorder)
    (tmp_path / "program").write_bytes(header)
    monkeypatch.setattr(golang, "is_go", lambda file: what == "Go")
    monkeypatch.setattr(symbols, "functions", lambda file, wanted: pytest.fail("they are read"))
    assert plan._behind(files.on_node(str(tmp_path / "program")), ["main.main"]) == {}


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="of amd64")
def test_what_a_function_begins_with_is_read_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    source = tmp_path / "a.c"
    source.write_text(
        'asm(".globl marked, plain, far\\n.type marked,@function\\n.type plain,@function\\n"\n'
        '    "marked: endbr64; push %r12; pop %r12; ret\\n.size marked,.-marked\\n"\n'
        '    "plain: endbr64; mov %rdi,%rax; ret; nop\\n.size plain,.-plain\\n");\n'
        "int main(void) { return 0; }\n"
    )
    subprocess.run(["gcc", "-o", tmp_path / "a", source], check=True)
    file = files.on_node(str(tmp_path / "a"))
    found = plan._behind(file, ["marked", "plain", "missing"])
    assert {name: behind for name, behind in found.items() if behind} == {"marked": 4}
    assert plan._behind(files.on_node("/etc/passwd"), ["marked"]) == {}
