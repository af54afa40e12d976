"""A container as the scope knows one: a mount namespace and a cgroup, with a busy task in it."""

from __future__ import annotations

import os
import subprocess
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.errors import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOURCE = Path(__file__).with_name("loop.c")


class Busy:
    """The task: it makes system calls at full speed when it is asked for them."""

    def __init__(self, process: subprocess.Popen[str], container_id: str, cgroup: Path) -> None:
        self._process = process
        self.container_id = container_id
        self.cgroup = cgroup
        if self._answer() != "ready":
            raise BenchmarkError("the loop of system calls does not start")

    @property
    def pid(self) -> int:
        """Its PID."""
        return self._process.pid

    @property
    def mount_namespace(self) -> int:
        """The number of its mount namespace."""
        return os.stat(f"/proc/{self.pid}/ns/mnt").st_ino

    def run(self, calls: int) -> float:
        """Makes this many calls; nanoseconds that each of them took."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{calls}\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def program() -> Iterator[Path]:
    """What the tasks run, compiled."""
    with TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder, "bench-loop")
        try:
            subprocess.run(["gcc", "-O2", "-Wall", "-o", path, _SOURCE], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise BenchmarkError(f"{_SOURCE.name} can't be compiled: {error}") from error
        yield path


def hierarchies() -> dict[int, Path]:
    """By version of cgroups, where a hierarchy in which cgroups can be made is mounted."""
    found: dict[int, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        point = Path(fields.split(" ")[4])
        if kind == "cgroup2":
            found.setdefault(2, point)
        # A controller that limits nothing unless it is told to.
        elif kind == "cgroup" and {"pids", "freezer"} & set(options.split(",")):
            found.setdefault(1, point)
    return found


@contextmanager
def started(path: Path, hierarchy: Path) -> Iterator[Busy]:
    """A task on the last processor, in a mount namespace and a cgroup of its own."""
    container_id = uuid.uuid4().hex * 2
    cgroup = hierarchy / f"bench-{container_id}"
    cgroup.mkdir()
    try:
        process = subprocess.Popen(
            ["unshare", "--mount", path, str(max(os.sched_getaffinity(0)))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                (cgroup / "cgroup.procs").write_text(str(process.pid))
                yield Busy(process, container_id, cgroup)
            finally:
                process.kill()
    finally:
        with suppress(OSError):
            cgroup.rmdir()
