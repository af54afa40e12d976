"""The executables and libraries of the target's processes, opened with what describes them."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, BinaryIO

from kubectl_trace.binary import debug_files, elf, usdt
from kubectl_trace.errors import NotFoundError, TraceError
from kubectl_trace.functions.catalog import Binary
from kubectl_trace.runner import files

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from kubectl_trace.runner.files import File, Identity

DELETED = " (deleted)"
"""The kernel puts it behind the path of a file that is not there any more."""
NO_SYMBOLS = "it has no symbols: --lib names a library, docs/functions.md other sources"
"""What to tell where a program has no function by name."""
_LONGEST_DOWNLOAD = 512 << 20
_DOWNLOAD_TIMEOUT = 300.0  # seconds


@dataclass(frozen=True)
class Module:
    """A file that some of the processes run or have mapped."""

    path: str
    """For bpftrace, from the node."""
    shown: str
    """As the container has it."""
    pid: int
    """One of the processes."""
    file: File


def executables(pids: Iterable[int]) -> list[Module]:
    """What the processes run, each file once, also where it was deleted or replaced since."""
    found: dict[Identity, Module] = {}
    for pid in pids:
        path = f"/proc/{pid}/exe"
        try:
            file = files.on_node(path)
            shown = os.readlink(path)
        except (TraceError, OSError):
            continue  # it has ended, or is a kernel's thread
        found.setdefault(file.identity, Module(path, shown, pid, file))
    return list(found.values())


def libraries(pids: Sequence[int], names: Iterable[str]) -> list[Module]:
    """The files that these names mean in the processes' containers, each once.

    Raises:
        NotFoundError: no process has such a file.
    """
    found: dict[Identity, Module] = {}
    for name in names:
        missing: NotFoundError | None = None
        there = False
        for pid in pids:
            try:
                for file in files.find(pid, name):
                    there = True
                    shown = file.path.removeprefix(f"/proc/{pid}/root")
                    found.setdefault(file.identity, Module(file.path, shown, pid, file))
            except NotFoundError as error:
                missing = error
        if not there:
            for module in _deleted(pids, name):
                there = True
                found.setdefault(module.file.identity, module)
        if missing is not None and not there:
            raise missing
    return list(found.values())


def _deleted(pids: Sequence[int], name: str) -> Iterator[Module]:
    """Libraries of that name or path that were deleted while processes have them mapped.

    The kernel opens them for those with CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN only
    (proc_pid_map_files(5)), which the runner in a pod is not given.
    """
    for pid in pids:
        try:
            with open(f"/proc/{pid}/maps", "rb") as maps:
                for line in maps:
                    place, *_, path = line.rstrip(b"\n").split(None, 5)
                    shown = os.fsdecode(path).removesuffix(DELETED)
                    if not path.endswith(DELETED.encode()):
                        continue
                    if name in (shown, shown.rpartition("/")[2]):
                        here = f"/proc/{pid}/map_files/{place.decode()}"
                        yield Module(here, shown + DELETED, pid, files.on_node(here))
                        break
        except (OSError, ValueError, TraceError):
            continue


def with_probes(pids: Sequence[int], provider: str, names: Collection[str]) -> list[Module]:
    """The executables and libraries of the processes that have USDT probes of a provider.

    Args:
        pids: The processes.
        provider: The probes' provider.
        names: Some of them must be there.
    """
    found: dict[Identity, Module] = {}
    mapped = ("libjvm.so", "libruby*.so*", "libpython*.so*", "libphp*.so*")
    for module in (*executables(pids), *_mapped(pids, mapped)):
        try:
            with files.opened(module.file) as file:
                if any(
                    each.provider == provider and each.name in names for each in usdt.probes(file)
                ):
                    found.setdefault(module.file.identity, module)
        except (elf.MalformedError, TraceError, OSError):
            continue
    return list(found.values())


def _mapped(pids: Sequence[int], names: Sequence[str]) -> Iterator[Module]:
    """The libraries of these names that the processes have mapped."""
    for pid in pids:
        try:
            with open(f"/proc/{pid}/maps", "rb") as maps:
                paths = {os.fsdecode(line.rstrip(b"\n").split(None, 5)[-1]) for line in maps}
        except OSError:
            continue
        for path in sorted(paths):
            name = path.rpartition("/")[2]
            if path.startswith("/") and any(fnmatchcase(name, each) for each in names):
                with contextlib.suppress(TraceError):
                    yield from libraries([pid], [path])


@dataclass
class Opened:
    """Modules that are read; closed together."""

    debuginfod: str = ""
    notes: list[str] = field(default_factory=list)
    """What the user should know."""
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def binary(self, module: Module) -> Binary | None:
        """The module as a binary, with its debug files where there are some; None: it is no ELF."""
        try:
            file = self._stack.enter_context(files.opened(module.file))
            debug = self._debug(module, file)
            alternative = self._alternative(module, debug or file)
            return Binary(file, debug, alternative)
        except (elf.MalformedError, TraceError, OSError):
            return None  # no program, or its process has ended

    def _debug(self, module: Module, file: BinaryIO) -> BinaryIO | None:
        """The separate file with its debug information, from the container or a server."""
        try:
            identity = debug_files.build_id(file)
            link = debug_files.debug_link(file)
        except elf.MalformedError:
            return None
        name, checksum = link or (None, 0)
        for path in debug_files.candidates(module.shown.removesuffix(DELETED), identity, name):
            for found in self._in_container(module, path):
                with contextlib.suppress(elf.MalformedError):
                    if identity and debug_files.matches(found, identity):
                        return found
                    if not identity and name and debug_files.has_checksum(found, checksum):
                        return found
        return self._downloaded(identity) if identity and self.debuginfod else None

    def _alternative(self, module: Module, file: BinaryIO) -> BinaryIO | None:
        """What dwz has moved out of several debug files into one."""
        try:
            found = debug_files.alternative(file)
        except elf.MalformedError:
            return None
        if found is None:
            return None
        for path in debug_files.alternative_candidates(*found):
            for each in self._in_container(module, path):
                with contextlib.suppress(elf.MalformedError):
                    if debug_files.matches(each, found[1]):
                        return each
        return None

    def _in_container(self, module: Module, path: str) -> Iterator[BinaryIO]:
        try:
            for file in files.find(module.pid, path):
                yield self._stack.enter_context(files.opened(file))
        except TraceError:
            return

    def _downloaded(self, identity: bytes) -> BinaryIO | None:
        """Debug information from a debuginfod server (elfutils, debuginfod(8): webapi)."""
        import tempfile

        from kubectl_trace.runner import download

        url = f"{self.debuginfod.rstrip('/')}/buildid/{identity.hex()}/debuginfo"
        file = tempfile.TemporaryFile()  # noqa: SIM115
        self._stack.callback(file.close)
        try:
            download.into(file, url, most=_LONGEST_DOWNLOAD, seconds=_DOWNLOAD_TIMEOUT)
        except OSError as error:
            self.notes.append(f"debuginfod: {download.shown(url)}: {error}")
            return None
        if not debug_files.matches(file, identity):
            self.notes.append(f"debuginfod: {download.shown(url)}: the answer is of another build")
            return None
        return file


def load_bias(module: Module, pid: int, segments: Sequence[elf.Segment]) -> int:
    """How far a process has the file from the addresses that the file itself has.

    0 where it can't be told, as it is for a program at fixed addresses.
    """
    first = next((each for each in segments if each.type == elf.PT_LOAD), None)
    if first is None:
        return 0
    name = module.shown.removesuffix(DELETED)
    try:
        with open(f"/proc/{pid}/maps", "rb") as maps:
            for line in maps:
                addresses, _, offset, _, _, *path = line.rstrip(b"\n").split(None, 5)
                shown = os.fsdecode(path[0]).removesuffix(DELETED) if path else ""
                if shown == name and int(offset, 16) == 0:
                    return int(addresses.partition(b"-")[0], 16) - (first.address & ~0xFFF)
    except (OSError, ValueError):
        return 0
    return 0


def semaphores(
    module: Module, pids: Iterable[int], names: Collection[str]
) -> list[tuple[int, int]]:
    """Processes that have the file, and where its probes of these names have their semaphores.

    Args:
        module: A file with USDT probes.
        pids: The processes.
        names: The probes, without their provider.
    """
    try:
        with files.opened(module.file) as file:
            segments = elf.segments(file, elf.read_header(file))
            addresses = {
                each.semaphore
                for each in usdt.probes(file)
                if each.name in names and each.semaphore
            }
    except (elf.MalformedError, TraceError, OSError):
        return []
    if not addresses:
        return []
    has_fixed_place = any(each.type == elf.PT_LOAD and each.address >> 20 for each in segments[:9])
    return [
        (pid, address + bias)
        for pid in pids
        if (bias := load_bias(module, pid, segments)) or has_fixed_place
        for address in sorted(addresses)
    ]
