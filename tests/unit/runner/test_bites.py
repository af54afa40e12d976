from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kubectl_trace.runner.bites import Bites, read, throttling_note

if TYPE_CHECKING:
    from pathlib import Path

PID = 42


def cgroup(directory: Path, files: dict[str, str], pids: tuple[int, ...] = (PID,)) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    for name, content in files.items():
        (directory / name).write_text(content)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc" / str(PID)).mkdir(parents=True)
    return tmp_path / "proc"


def member_of(proc: Path, text: str) -> None:
    (proc / str(PID) / "cgroup").write_text(text)


def test_version_2_is_found_though_its_path_begins_at_our_own_namespace(
    tmp_path: Path, proc: Path
) -> None:
    root = tmp_path / "cgroup"
    cgroup(root, {}, pids=())
    cgroup(root / "kubepods" / "other", {"memory.events": "oom_kill 9\n"}, pids=(7, 142))
    files = {
        "memory.events": "low 0\nmax 5\noom 1\noom_kill 2\n",
        "cpu.stat": "usage_usec 9\nnr_throttled 3\nthrottled_usec 1500000\n",
    }
    cgroup(root / "kubepods" / "ours", files)
    member_of(proc, "0::/\n")
    assert read(root, PID, proc) == Bites(killed=2, throttled=1.5)


def test_version_1_has_a_hierarchy_for_each(tmp_path: Path, proc: Path) -> None:
    root = tmp_path / "cgroup"
    cgroup(root / "memory" / "a", {"memory.oom_control": "oom_kill_disable 0\noom_kill 1\n"})
    cgroup(root / "cpu" / "a", {"cpu.stat": "nr_throttled 3\nthrottled_time 250000000\n"})
    (root / "memory" / "cgroup.procs").write_text("")
    (root / "cpu" / "cgroup.procs").write_text("")
    member_of(proc, "3:memory:/a\n2:cpu:/a\n1:name=systemd:/a\n")
    assert read(root, PID, proc) == Bites(killed=1, throttled=0.25)


def test_one_hierarchy_with_two_names_counts_once(tmp_path: Path, proc: Path) -> None:
    root = tmp_path / "cgroup"
    cgroup(root / "cpu,cpuacct" / "a", {"cpu.stat": "throttled_time 1000000000\n"})
    (root / "cpu,cpuacct" / "cgroup.procs").write_text("")
    for name in ("cpu", "cpuacct"):
        (root / name).symlink_to("cpu,cpuacct")
    member_of(proc, "2:cpu,cpuacct:/a\n")
    assert read(root, PID, proc).throttled == 1.0


def test_where_nothing_is_mounted_nothing_is_said(tmp_path: Path, proc: Path) -> None:
    member_of(proc, "0::/a\n")
    assert read(tmp_path / "none", PID, proc) == Bites()
    assert read(tmp_path / "none", 43, proc) == Bites()


def test_throttling_is_told_only_where_it_matters() -> None:
    assert throttling_note(Bites(throttled=0.4), 1, "1") == ""
    assert throttling_note(Bites(throttled=3), 100, "1") == ""
    note = throttling_note(Bites(throttled=3.21), 10, "500m")
    assert note.startswith("the runner was throttled for 3.2 s of 10 s by --cpu 500m; ")
    # Each of its threads may have to wait.
    assert "for 10.0 s of 10 s" in throttling_note(Bites(throttled=15), 10, "1")
