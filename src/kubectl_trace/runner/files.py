"""The files that an attach point means inside a container, found through one of its processes.

What a container's files are called, where its links lead and what they hold is the container's
choice: nothing here leaves its root, opens what is no regular file, or reads without a bound.
Formats: proc_pid_maps(5), proc_pid_environ(5), openat2(2), statfs(2).
"""

from __future__ import annotations

import ctypes
import errno
import fnmatch
import functools
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from kubectl_trace.errors import ForbiddenError, NotFoundError, StartError, UsageError
from kubectl_trace.runner.processes import PROC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

Identity = tuple[int, int, int, int, int]
"""Equal for one file seen through several containers: uprobes belong to an inode."""

_USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LIBRARY_DIRECTORIES = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")
_MULTIARCH = ("*-linux-gnu*", "*-linux-musl*")

_MOST_FILES = 1000
_SHORT = 24
"""Characters of a path: of 64 a name has the offset, a number and a PID, too."""
_MOST_NAMES = 10_000
_MOST_ENTRIES = 1_000_000

# bpftrace's attach points and wildcards and the kernel's uprobe_events (words, lines) each have
# characters that end a path. A container must not choose such a name: it would write the program.
_HARMLESS = re.compile(r"[\w./+#@%=~[-]+", re.ASCII)
_WILDCARD = re.compile(r"[*?]|\[.+\]")

_OPENAT2 = 437  # on all architectures: include/uapi/asm-generic/unistd.h
# linux/openat2.h. Magic links, such as /proc/1/root, would lead out of the container.
_NO_MAGIC_LINKS, _NO_LINKS, _IN_ROOT = 0x02, 0x04, 0x10
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK
_OVERLAYFS = 0x794C7630  # linux/magic.h
_NO_SUCH_FILE = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,  # a magic link, such as /proc/self/exe, too
    errno.EXDEV,
    errno.EAGAIN,
}


@dataclass(frozen=True)
class File:
    """A regular file of a container."""

    path: str
    """For bpftrace: /proc/PID/root/…, without a symbolic link after `root`. Of letters, digits and
    `_-./+#@%=~[` only, so that in quotes it is one path in every bpftrace."""
    identity: Identity


@dataclass
class _Root:
    """The root directory of a container's process."""

    fd: int
    path: str
    """/proc/PID/root."""
    called: str
    """What the kernel calls it; not `/` where the process is in a chroot."""
    entries_left: int
    """How many directory entries may still be looked at."""

    def inside(self, path: str) -> str:
        """A path as the kernel shows it to us, as the process sees it."""
        return "/" + path.removeprefix(self.called).lstrip("/")


def find(pid: int, name: str, proc: Path = PROC) -> list[File]:
    """The files that an attach point's target means in the container of the process `pid`.

    A path, with or without wildcards as in glob(7), starts at the container's root. A name without
    a slash is a library if it starts with `lib` (`libc`, `libssl.so.3`, `libpython*`): the files
    that the process has mapped, else all of this name in the library directories. Any other name is
    a command: the first of this name in the process's PATH. These rules, and that a search passes
    over what is no ELF file, are bpftrace's (v0.23.2: src/ast/attachpoint_parser.cpp uprobe_parser,
    src/utils.cpp resolve_binary_path).

    Returns:
        At least one file, each once, sorted by path.

    Raises:
        NotFoundError: no such file in the container, or no such process.
        UsageError: too many files, or a name that bpftrace could not take.
        ForbiddenError: a file may not be looked at.
        StartError: a file can't be read, or the kernel has no openat2(2).
    """
    if not name or not name.isprintable():
        raise UsageError(f"{name!r} is no file name")
    try:
        root = _open_root(proc / str(pid) / "root")
        try:
            return _find(root, name, proc / str(pid))
        finally:
            os.close(root.fd)
    except OSError as error:
        kind = ForbiddenError if isinstance(error, PermissionError) else StartError
        raise kind(
            f"cannot look at {str(error.filename or name)!a} in the container of process {pid}: "
            f"{error.strerror}"
        ) from error


def on_node(path: str) -> File:
    """A file at a path of our own view, such as /proc/PID/exe; its links are followed.

    Raises:
        NotFoundError: there is no regular file.
        ForbiddenError: it may not be looked at.
    """
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        kind = ForbiddenError if isinstance(error, PermissionError) else NotFoundError
        raise kind(f"cannot open {path}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise NotFoundError(f"{path} is no regular file")
        return File(path, _identity(fd))
    finally:
        os.close(fd)


def opened(file: File) -> BinaryIO:
    """The file, for reading; the caller closes it. Never blocks, whatever is at the path by now.

    Raises:
        NotFoundError: it is not there any more, or another one is.
    """
    try:
        found = os.open(file.path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(found).st_mode) or _identity(found) != file.identity:
                raise NotFoundError(f"{file.path} has become another file")
            # The very file of the descriptor.
            return open(f"/proc/self/fd/{found}", "rb")
        finally:
            os.close(found)
    except OSError as error:
        raise NotFoundError(f"cannot open {file.path}: {error.strerror}") from error


def is_harmless(path: str) -> bool:
    """Whether a path is one in every bpftrace: it ends nothing in a program."""
    return _HARMLESS.fullmatch(path) is not None


class Held:
    """Files kept open, so that what is started with their descriptors has short paths for them.

    With no CAP_SYS_ADMIN bpftrace (bcc, libbpf.c) names a uprobe in tracefs by its file's path, and
    such a name has 64 characters at most (linux/trace_events.h: MAX_EVENT_NAME_LEN).
    """

    def __init__(self) -> None:
        self._files: dict[Identity, BinaryIO] = {}

    @property
    def fds(self) -> list[int]:
        """The descriptors, which whoever uses the paths must have."""
        return [file.fileno() for file in self._files.values()]

    def path(self, file: File) -> str:
        """The file's path for a process that has the descriptors.

        Its own one where that is short and does not lead through the container's folders, in which
        something else could stand by the time that it is used.

        Raises:
            NotFoundError: it is not there any more.
        """
        is_short = len(file.path) <= _SHORT and "/root/" not in file.path
        return file.path if is_short else self.hold(file)

    def hold(self, file: File) -> str:
        """As `path`, always by a descriptor: the file stays this one.

        Raises:
            NotFoundError: it is not there any more.
        """
        if file.identity not in self._files:
            self._files[file.identity] = opened(file)
        return f"/proc/self/fd/{self._files[file.identity].fileno()}"

    def close(self) -> None:
        """Closes them; the paths are none any more."""
        for file in self._files.values():
            file.close()
        self._files.clear()


def _find(root: _Root, name: str, process: Path) -> list[File]:
    if "/" in name:
        if _WILDCARD.search(name):
            found = _elf_files(root, _expand(root, name))
            missing = f"no ELF file matches {name} in the container"
        else:
            file = _resolve(root, name)
            found = [file] if file else []
            missing = f"no file {name} in the container"
    else:
        found = []
        missing = f"no command {name} in the PATH of the container"
        if name.startswith("lib"):
            found = _libraries(root, name, process)
            missing = (
                f"no library {name} among the mapped files or in the library directories of the "
                "container, nor a command in its PATH"
            )
        found = found or _commands(root, name, process)
    if not found:
        raise NotFoundError(missing)
    for file in found:
        if not is_harmless(file.path.removeprefix(root.path)):
            raise UsageError(
                f"{name} means {file.path!a}: a path to trace may hold letters, digits and "
                "_-./+#@%=~[ only"
            )
    return sorted(found, key=lambda file: file.path)


def _libraries(root: _Root, name: str, process: Path) -> list[File]:
    matches = _library_matcher(name)
    paths = _mapped(root, process)
    mapped = _elf_files(root, (path for path in paths if matches(path.rpartition("/")[2])))
    if mapped:
        return mapped
    directories: list[str] = []
    for directory in _LIBRARY_DIRECTORIES:
        directories.append(directory)
        for pattern in _MULTIARCH:
            directories += _expand(root, f"{directory}/{pattern}")
    return _elf_files(root, _matching(root, directories, matches))


def _library_matcher(name: str) -> Callable[[str], object]:
    """Whether a base name is the library's: itself, or its versions.

    libc.so.6; libc-2.31.so (glibc before 2.34); ld-musl-x86_64.so.1, which is musl's libc.
    """
    if _WILDCARD.search(name):
        return _matcher(name)
    version = r"(?:\..+)?" if ".so" in name else r"(?:(?:-\d[\d.]*)?\.so(?:\..+)?)?"
    musl = r"|ld-musl-.+\.so\.1" if name == "libc" else ""
    return re.compile(re.escape(name) + version + musl).fullmatch


def _mapped(root: _Root, process: Path) -> Iterator[str]:
    """The paths of the files that the process has mapped, each at least once."""
    last = b""
    try:
        with (process / "maps").open("rb") as maps:
            for line in maps:
                *_, path = line.rstrip(b"\n").split(None, 5)
                # What is deleted can't be reached by a path, and without CAP_CHECKPOINT_RESTORE
                # not by /proc/PID/map_files either.
                if path != last and path.startswith(b"/") and not path.endswith(b" (deleted)"):
                    yield root.inside(os.fsdecode(path))
                last = path
    except OSError:  # It has ended: other processes may still use the library.
        return


def _commands(root: _Root, name: str, process: Path) -> list[File]:
    directories = _search_path(process)
    if _WILDCARD.search(name):
        paths = _matching(root, directories, _matcher(name))
        return _elf_files(root, paths, executable=True)
    paths = (f"{directory}/{name}" for directory in directories)
    return _elf_files(root, paths, executable=True)[:1]


def _search_path(process: Path) -> list[str]:
    """The absolute directories of the process's PATH, or the usual ones.

    A program that writes its title over its environment, such as nginx, shows no PATH.
    """
    try:
        variables = (process / "environ").read_bytes().split(b"\0")
    except OSError:
        variables = []
    for variable in variables:
        if variable.startswith(b"PATH="):
            directories = dict.fromkeys(os.fsdecode(variable[5:]).split(":"))
            return [path for path in directories if path.startswith("/")][:_MOST_FILES]
    return _USUAL_PATH.split(":")


def _expand(root: _Root, pattern: str) -> list[str]:
    """The paths that match, component by component. One without wildcards need not exist."""
    paths = [""]
    for component in pattern.split("/"):
        if component in ("", "."):
            continue
        if not _WILDCARD.search(component):
            paths = [f"{path}/{component}" for path in paths]
            continue
        matches = _matcher(component)
        matching: list[str] = []
        for path in paths:
            for entry in _entries(root, path or "/"):
                if matches(entry):
                    matching.append(f"{path}/{entry}")
                    if len(matching) > _MOST_NAMES:
                        raise UsageError(
                            f"{pattern} matches more than {_MOST_NAMES} names in the container"
                        )
        paths = sorted(matching)
    return paths


def _matching(
    root: _Root, directories: Iterable[str], matches: Callable[[str], object]
) -> Iterator[str]:
    """The paths in the directories whose base names match."""
    for directory in directories:
        for entry in _entries(root, directory):
            if matches(entry):
                yield f"{directory}/{entry}"


def _matcher(pattern: str) -> Callable[[str], object]:
    """Whether a name matches; as in glob(7) no wildcard matches a leading dot."""
    # A leading ^ in brackets is glibc's other way to write !.
    matches = re.compile(fnmatch.translate(pattern.replace("[^", "[!"))).match
    if pattern.startswith("."):
        return matches
    return lambda name: not name.startswith(".") and matches(name)


def _entries(root: _Root, directory: str) -> Iterator[str]:
    """The names in a directory of the container; none where there is no such directory."""
    try:
        fd = _openat2(root.fd, directory, _DIRECTORY)
    except OSError:
        return
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                root.entries_left -= 1
                if root.entries_left < 0:
                    raise UsageError(
                        f"more than {_MOST_ENTRIES} names in the directories of the container "
                        "that would have to be looked at: give a path with fewer wildcards"
                    )
                yield entry.name
    except OSError:
        return
    finally:
        os.close(fd)


def _elf_files(root: _Root, paths: Iterable[str], *, executable: bool = False) -> list[File]:
    """The ELF files among the paths, each file once.

    Raises:
        UsageError: there are more than 1000.
    """
    found: dict[Identity, File] = {}
    for path in paths:
        file = _resolve(root, path, lambda fd: _is_elf(fd, executable=executable))
        if file:
            found.setdefault(file.identity, file)
        if len(found) > _MOST_FILES:
            raise UsageError(f"more than {_MOST_FILES} files of the container match")
    return list(found.values())


def _is_elf(path_fd: int, *, executable: bool) -> bool:
    if executable and not os.fstat(path_fd).st_mode & 0o111:
        return False
    # The very file of the descriptor, which is known to be a regular one.
    fd = os.open(f"/proc/self/fd/{path_fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.pread(fd, 4, 0) == b"\x7fELF"
    finally:
        os.close(fd)


def _resolve(
    root: _Root, path: str, wanted: Callable[[int], bool] = lambda fd: True
) -> File | None:
    """The regular file at a path, links followed as a process in this root would."""
    try:
        fd = _openat2(root.fd, path, os.O_PATH)
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            return None
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode) or not wanted(fd):
            return None
        identity = _identity(fd)
        # Seen from another mount namespace, the path starts at the root of the file's own.
        real = root.inside(os.readlink(f"/proc/self/fd/{fd}"))
        # It may have been moved or deleted meanwhile, and then its name has become another's.
        again = _openat2(root.fd, real, os.O_PATH, _NO_LINKS)
        try:
            return File(root.path + real, identity) if _identity(again) == identity else None
        finally:
            os.close(again)
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            return None
        raise
    finally:
        os.close(fd)


def _identity(fd: int) -> Identity:
    """Which inode uprobes on the file belong to.

    On overlayfs the one of the layer (kernel/events/uprobes.c: d_real_inode), which has another
    device number in every container but the same inode number, size and times; a file copied up
    keeps the number and gets a new ctime. On all else the device is part of it: snapshots (btrfs,
    zfs, device mapper) have equal inode numbers and times, and inodes of their own.
    """
    status = os.fstat(fd)
    if not _on_overlayfs(fd):
        return status.st_dev, status.st_ino, 0, 0, 0
    return 0, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _on_overlayfs(fd: int) -> bool:
    # 256 bytes are more than a struct statfs has. Its first field is the type: 32 bits on s390x,
    # little-endian 64 on the other machines that Kubernetes runs on.
    buffer = (ctypes.c_uint32 * 64)()
    if _libc().fstatfs(fd, buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return buffer[0] == _OVERLAYFS


def _open_root(path: Path) -> _Root:
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise NotFoundError(f"process {path.parent.name} has ended") from error
    return _Root(fd, str(path), os.readlink(f"/proc/self/fd/{fd}"), _MOST_ENTRIES)


class _OpenHow(ctypes.Structure):
    """Struct open_how of linux/openat2.h."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def _openat2(directory: int, path: str, flags: int, resolve: int = 0) -> int:
    """A descriptor of the file at `path`, resolved in the directory as in a root.

    Raises:
        OSError: as openat2(2).
        StartError: the kernel is older than 5.6.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve | _IN_ROOT | _NO_MAGIC_LINKS)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    # EAGAIN: something was renamed while a `..` was resolved; a container may do so for ever.
    for _ in range(10):
        fd: int = _libc().syscall(
            ctypes.c_long(_OPENAT2),
            ctypes.c_long(directory),
            os.fsencode(path),
            ctypes.byref(how),
            size,
        )
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number != errno.EAGAIN:
            break
    if number == errno.ENOSYS:
        raise StartError("the node's kernel has no openat2(2): Linux 5.6 or newer is needed")
    raise OSError(number, os.strerror(number), path)


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc
