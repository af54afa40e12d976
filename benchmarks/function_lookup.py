"""How long functions take to be found in large files, and how much memory.

A stripped Go program of 105 MB, the testbed's kubelet, and files with debug information.
"""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from benchmarks import cluster
from benchmarks.errors import BenchmarkError
from benchmarks.row import Row, at_most, spread
from kubectl_trace.binary import debug_files
from kubectl_trace.functions import patterns
from kubectl_trace.runner import files, go_returns, listing, modules
from kubectl_trace.runner.output import RecordWriter
from kubectl_trace.trace import Functions
from testbed import programs
from testbed.errors import TestbedError
from testbed.settings import KUBERNETES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kubectl_trace.runner.files import File
    from kubectl_trace.runner.modules import Module

_REPETITIONS = 7
_FUNCTION = "k8s.io/kubernetes/pkg/kubelet.(*Kubelet).syncPod"
_ALL = "all functions of a stripped Go program of 105 MB"
_ONE = "one function of a stripped Go program of 105 MB"
_SECONDS = 1.0
_SECONDS_ONE = 0.1
_MEGABYTES = 300
_DEPTH = 2
"""Pointers that types are followed through, as `calls` does."""
_CHUNK = 1 << 20
_NOWHERE = subprocess.DEVNULL


def rows() -> Iterator[Row]:
    """The kubelet's functions, all and one; one function's types."""
    kubelet = _kubelet()
    path = Path(f"/proc/{kubelet}/exe")
    yield from _of_all(kubelet, path)
    yield from _of_one(kubelet, path)
    try:
        program = programs.ensure() / "go-newest"
    except TestbedError as error:
        raise BenchmarkError(str(error)) from error
    with subprocess.Popen([program, "--wait"], stdin=subprocess.PIPE, stdout=_NOWHERE) as process:
        try:
            yield from _described("go-newest", modules.executables([process.pid]), "main.add")
        finally:
            process.kill()
    yield from _described("libc6-dbg", modules.libraries([os.getpid()], ["libc.so.6"]), "qsort_r")


def _of_all(kubelet: int, path: Path) -> Iterator[Row]:
    """In a runner, in a process of its own; and the whole command."""
    floors: list[float] = []
    listed: list[tuple[float, float]] = []
    commands: list[tuple[float, float]] = []
    for _ in range(_REPETITIONS):
        floors.append(_seconds(lambda: _read(path)))
        listed.append(_measured([sys.executable, "-m", "benchmarks.function_lookup", str(kubelet)]))
        commands.append(_measured([cluster.COMMAND, "functions", f"local/{kubelet}"]))
    floor = statistics.median(floors)
    for name, measured in ((_ALL, listed), (f"{_ALL}, `functions`", commands)):
        seconds = [each[0] for each in measured]
        yield at_most(name, seconds, unit="s", limit=_SECONDS, floor=floor)
        memory = [each[1] for each in measured]
        yield at_most(f"{name}: memory", memory, unit="MB", limit=_MEGABYTES)


def _of_one(kubelet: int, path: Path) -> Iterator[Row]:
    """Listed, and its return sites as they take a uretprobe's place."""
    floors: list[float] = []
    listed: list[float] = []
    returns: list[float] = []
    file = files.on_node(str(path))
    for _ in range(_REPETITIONS):
        floors.append(_seconds(lambda: _read(path)))
        listed.append(_seconds(lambda: _list(kubelet, _FUNCTION)))
        returns.append(_seconds(lambda: _return_sites(file)))
    floor = statistics.median(floors)
    for name, values in ((f"{_ONE}, listed", listed), (f"{_ONE}, its return sites", returns)):
        yield at_most(name, values, unit="s", limit=_SECONDS_ONE, floor=floor)


def _described(name: str, found: Sequence[Module], function: str) -> Iterator[Row]:
    """One function's arguments and types, from files that are opened anew each time."""
    floors: list[float] = []
    values: list[float] = []
    for _ in range(_REPETITIONS):
        with modules.Opened() as opened:
            binary = opened.binary(found[0])
            if binary is None or binary.debug_info is None:
                return  # this machine has none
            address = binary.functions([patterns.parse(function)])[0].address
            paths = [Path(found[0].path), *_debug_file(binary.file)]
        begin = time.perf_counter()
        with modules.Opened() as opened:
            binary = opened.binary(found[0])
            assert binary is not None
            if address not in binary.described([address], _DEPTH):
                raise BenchmarkError(f"{name} does not describe {function}")
        values.append(time.perf_counter() - begin)
        floors.append(_seconds(functools.partial(_read, *paths)))
    yield Row(
        f"the types of one function, {name}",
        statistics.median(values),
        "s",
        statistics.median(floors),
        spread=spread(values),
    )


def _debug_file(file: BinaryIO) -> list[Path]:
    """The separate one, if there is one."""
    identity = (debug_files.build_id(file) or b"").hex()
    path = Path(debug_files.DIRECTORY, ".build-id", identity[:2], f"{identity[2:]}.debug")
    return [path] if path.is_file() else []


def _kubelet() -> int:
    """The PID of one of the testbed's."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "exe") == str(KUBERNETES / "kubelet"):
                return int(process.name)
        except OSError:
            continue
    raise BenchmarkError("no kubelet of the testbed runs (make cluster-up)")


def _list(pid: int, *names: str) -> None:
    with open(os.devnull, "wb") as output:
        listing.run(Functions(names), [pid], RecordWriter(output.fileno()))


def _return_sites(file: File) -> None:
    go_returns.find([file], _FUNCTION, lambda each: each.path, unsafe=True)


def _read(*paths: Path) -> None:
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(_CHUNK):
                pass


def _measured(command: Sequence[str]) -> tuple[float, float]:
    """Seconds, and megabytes of the largest of its processes."""
    begin = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise BenchmarkError(f"{' '.join(command)} ended with {child.returncode}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    _list(int(sys.argv[1]))
