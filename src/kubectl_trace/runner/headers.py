"""Kernel headers for programs that include some: from the node, or from a mirror.

bpftrace looks for them where BPFTRACE_KERNEL_SOURCE and BPFTRACE_KERNEL_BUILD say (bpftrace
docs/man/adoc/bpftrace.adoc), so they are put at `source` and `build` of one folder that the trace's
pod shares. The init container has the node's root folder, to read, at /node.
"""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import sys
import tarfile
import tempfile
from pathlib import Path

from kubectl_trace.errors import Exit, StartError
from kubectl_trace.runner import download

_WHAT_GOES_WRONG = (
    *(StartError, OSError, EOFError),
    *(tarfile.TarError, lzma.LZMAError),
)
_NODE = Path("/node")
_KHEADERS = Path("/sys/kernel/kheaders.tar.xz")  # CONFIG_IKHEADERS
_TIMEOUT = 300.0  # seconds for the archive to come from the mirror
_LARGEST_ARCHIVE = 512 << 20  # bytes: Debian's largest is a tenth of it
_LARGEST_UNPACKED = 2 << 30  # bytes: no distribution's headers are a tenth of it
_BLOCK = 4096  # bytes that a file takes, at least
_SYMLINKS = 40  # as many as the kernel follows, path_resolution(7)


def fetch(directory: Path, mirror: str) -> int:
    """Puts the running kernel's headers into `directory`; the exit code.

    It looks in /lib/modules/RELEASE of the node, then in its kheaders archive, then at
    MIRROR/linux-headers-RELEASE.tar.xz.
    """
    release = os.uname().release
    try:
        where = _fetch(directory, release, mirror, _NODE)
    except _WHAT_GOES_WRONG as error:
        print(f"kernel headers: {error}", file=sys.stderr)
        return int(Exit.NOT_STARTED)
    print(f"kernel headers of {release}: from {where}", file=sys.stderr)
    return int(Exit.DONE)


def _fetch(directory: Path, release: str, mirror: str, node: Path) -> str:
    with tempfile.TemporaryDirectory(dir=directory, prefix=".new-") as new:
        folder = Path(new)
        where = (
            _from_modules(folder, release, node)
            or _from_kheaders(folder)
            or (mirror and _from_mirror(folder, release, mirror))
        )
        if not where:
            raise StartError(
                f"the node has none for its kernel {release} (/lib/modules/{release}/build, "
                f"{_KHEADERS}); install its headers package, name a mirror with "
                "--headers-mirror, or leave the #include away where BTF knows the types"
            )
        for name in ("build", "source"):
            os.replace(folder / name, directory / name)
    return where


def _from_modules(folder: Path, release: str, node: Path) -> str:
    modules = Path("/lib/modules", release)
    build = resolve_within(node, modules / "build")
    if build is None or not build.is_dir():
        return ""
    source = resolve_within(node, modules / "source")
    _copy_headers(build, folder / "build")
    _copy_headers(source if source and source.is_dir() else build, folder / "source")
    return f"the node's {modules}"


def _from_kheaders(folder: Path) -> str:
    if not _KHEADERS.exists():
        return ""
    _unpack(_KHEADERS, folder)
    return f"the kernel's {_KHEADERS}"


def _from_mirror(folder: Path, release: str, mirror: str) -> str:
    url = f"{mirror.rstrip('/')}/linux-headers-{release}.tar.xz"
    with tempfile.NamedTemporaryFile(dir=folder) as archive:
        try:
            download.into(archive, url, most=_LARGEST_ARCHIVE, seconds=_TIMEOUT)
        except OSError as error:
            raise StartError(f"{download.shown(url)}: {error}") from error
        archive.flush()
        _unpack(Path(archive.name), folder)
    return download.shown(url)


def _unpack(archive: Path, folder: Path) -> None:
    """An archive of headers: as /lib/modules/RELEASE has them, or one tree for both.

    Raises:
        StartError: it is too large.
        OSError, EOFError, tarfile.TarError, lzma.LZMAError: it is broken, or leads elsewhere.
    """
    unpacked = folder / "unpacked"
    size = 0

    def bounded(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        nonlocal size
        size += max(member.size, _BLOCK)
        if size > _LARGEST_UNPACKED:
            raise StartError(f"the archive unpacks to more than {_LARGEST_UNPACKED >> 20} MiB")
        return tarfile.data_filter(member, path)

    with tarfile.open(archive) as tar:
        tar.extractall(unpacked, filter=bounded)
    if (unpacked / "build").is_dir():
        source = unpacked / "source"
        os.rename(unpacked / "build", folder / "build")
        if source.is_dir():
            os.rename(source, folder / "source")
        else:
            shutil.copytree(folder / "build", folder / "source", symlinks=True)
        return
    shutil.copytree(unpacked, folder / "source", symlinks=True)
    os.rename(unpacked, folder / "build")


def _copy_headers(tree: Path, to: Path) -> None:
    """Copies what a compiler of headers reads, and no scripts, objects or documentation."""
    for name in ("include", "arch"):
        if (tree / name).is_dir():
            shutil.copytree(
                tree / name,
                to / name,
                ignore_dangling_symlinks=True,
                ignore=shutil.ignore_patterns("*.o", "*.ko", "*.cmd", "*.S", "boot"),
            )
    to.mkdir(exist_ok=True)


def resolve_within(root: Path, path: Path) -> Path | None:
    """Where an absolute path leads in another root folder, its symbolic links followed there.

    None where it leads nowhere, or goes round in a circle.
    """
    pending = [part for part in reversed(path.parts) if part != "/"]
    done: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            done = done[:-1]
            continue
        here = root.joinpath(*done, part)
        try:
            is_link = stat.S_ISLNK(here.lstat().st_mode)
        except OSError:
            return None
        if not is_link:
            done.append(part)
            continue
        links += 1
        if links > _SYMLINKS:
            return None
        target = here.readlink()
        if target.is_absolute():
            done = []
        pending.extend(part for part in reversed(target.parts) if part not in ("/", "."))
    return root.joinpath(*done)
