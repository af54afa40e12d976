from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_trace.runner import leftovers

if TYPE_CHECKING:
    from pathlib import Path


def test_removes_the_definitions_of_one_process_and_no_others(tmp_path: Path) -> None:
    ours = "p:uprobes/p__proc_1_exe_0x10_0_bcc_42 /proc/1/exe:0x10\n"
    others = "r:uprobes/r__bin_sh_0x20_0_bcc_142 /bin/sh:0x20\np:mine /bin/sh:0x30\n"
    file = tmp_path / "uprobe_events"
    file.write_text(ours + others)
    leftovers.remove(42, tmp_path)
    assert file.read_text() == ours + others + "-:uprobes/p__proc_1_exe_0x10_0_bcc_42\n"


def test_a_kernel_without_tracefs_has_no_leftovers(tmp_path: Path) -> None:
    leftovers.remove(42, tmp_path / "nothing")
