from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_trace.runner import leftovers

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_removes_the_definitions_of_one_process_and_no_others(tmp_path: Path) -> None:
    ours = "p:uprobes/p__proc_1_exe_0x10_0_bcc_42 /proc/1/exe:0x10\n"
    others = "r:uprobes/r__bin_sh_0x20_0_bcc_142 /bin/sh:0x20\np:mine /bin/sh:0x30\n"
    file = tmp_path / "uprobe_events"
    file.write_text(ours + others)
    leftovers.remove(42, tmp_path)
    assert file.read_text() == ours + others + "-:uprobes/p__proc_1_exe_0x10_0_bcc_42\n"


def test_removes_what_processes_that_have_ended_left_and_counts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = tmp_path / "proc"
    (proc / "142").mkdir(parents=True)
    (proc / "self/ns").mkdir(parents=True)
    (proc / "self/ns/pid").touch()
    file = tmp_path / "uprobe_events"
    definitions = "p:uprobes/a_bcc_42 /x:1\np:uprobes/b_bcc_142 /x:2\np:uprobes/mine /x:3\n"
    file.write_text(definitions)
    assert leftovers.remove_all(tmp_path, proc) == 0, "not all processes are seen from here"
    initial = (proc / "self/ns/pid").stat().st_ino
    monkeypatch.setattr(leftovers, "_INITIAL_PID_NAMESPACE", initial)
    assert leftovers.remove_all(tmp_path, proc) == 1
    assert file.read_text() == definitions + "-:uprobes/a_bcc_42\n"


def test_a_kernel_without_tracefs_has_no_leftovers(tmp_path: Path) -> None:
    leftovers.remove(42, tmp_path / "nothing")
