"""The bpftrace versions that the project supports, each to be run on this machine's kernel.

0.17 is this machine's own, Debian 12's. The others are unpacked from later suites, C library and
all, and started by that library's loader: no chroot, so that a path means to them what it means to
whoever gives it, and what they start is this machine's.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from . import suites
from .commands import run, say
from .errors import TestbedError
from .lock import locked
from .settings import CACHE

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The Debian suite that has each version.
SUITES = {"0.17": "bookworm", "0.23": "trixie", "0.27": "sid"}

_HOSTS = "0.17"
# Not by name: in PATH may be a script that runs this.
_HOSTS_BPFTRACE = Path("/usr/bin/bpftrace")
_FOLDER = CACHE / "bpftrace"
_TRACEFS = "/sys/kernel/tracing"


def execute(version: str, arguments: Sequence[str]) -> NoReturn:
    """Become bpftrace of that version, unpacked first where it is not yet.

    It sees this machine's file system, and tracefs even where this machine has not mounted it.

    Raises:
        TestbedError: there is no such version, or no longer, it could not be unpacked, or not root.
    """
    _check(version)
    command = _hosts() if version == _HOSTS else _loaded(_unpacked(version))
    script = f'mountpoint -q {_TRACEFS} || mount -t tracefs tracefs {_TRACEFS} && exec "$@"'
    # Python ignores these, and so would what it becomes.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    unshare = ("unshare", "--mount", "--propagation", "private")
    os.execvp(unshare[0], [*unshare, "sh", "-c", script, "sh", *command, *arguments])


def programs(version: str) -> list[Path]:
    """Every bpftrace program that Debian's package of that version ships.

    Raises:
        TestbedError: as `execute`.
    """
    _check(version)
    return sorted(_unpacked(version).rglob("*.bt"))


def _check(version: str) -> None:
    if version not in SUITES:
        raise TestbedError(f"no bpftrace {version} here, only {', '.join(SUITES)}")
    if os.geteuid() != 0:
        raise TestbedError("bpftrace needs root, and so does unpacking it")


def _hosts() -> list[str]:
    """The words that start this machine's own bpftrace, installed if it isn't."""
    if not _HOSTS_BPFTRACE.exists():
        with locked(_FOLDER / "lock", "unpack bpftrace"):
            suites.install("bpftrace")
    command = [str(_HOSTS_BPFTRACE)]
    _require(_HOSTS, command, "this machine")
    return command


def _loaded(root: Path) -> list[str]:
    """The words that start the bpftrace in `root`, with the libraries beside it."""
    # A link to the loader, because the process gets its name.
    loader = root / "bpftrace"
    libraries = str(loader.resolve().parent)
    program = str(root / "usr/bin/bpftrace")
    return [str(loader), "--argv0", "bpftrace", "--library-path", libraries, program]


def _unpacked(version: str) -> Path:
    """The folder with that version's package; made once a machine, and whole if it is there."""
    suite = SUITES[version]
    root = _FOLDER / suite
    if root.exists():
        return root
    with locked(_FOLDER / "lock", "unpack bpftrace"):
        if root.exists():
            return root
        with suites.made_whole(root) as new:
            say(f"unpacking bpftrace {version} of Debian {suite}")
            if version == _HOSTS:
                _unpack_package(new)
            else:
                _unpack_suite(suite, new)
                _require(version, _loaded(new), f"Debian {suite}")
    return root


def _unpack_package(root: Path) -> None:
    """Unpack this machine's own suite's package, without what it depends on."""
    run(["apt-get", "-qq", "update"])
    work = root.with_name("package")
    work.mkdir()
    # As root: apt's own user may not write there.
    apt = ("apt-get", "-qq", "-o", "APT::Sandbox::User=root")
    run(["env", f"--chdir={work}", *apt, "download", "bpftrace"])
    (package,) = work.glob("bpftrace_*.deb")
    run(["dpkg-deb", "--extract", package, root])


def _unpack_suite(suite: str, root: Path) -> None:
    """Unpack bpftrace of another suite and all that it depends on; nothing is configured."""
    suites.unpack(suite, "bpftrace", root)
    loader, *_ = root.glob("usr/lib/*/ld-linux*.so.*")
    (root / "bpftrace").symlink_to(loader.relative_to(root))


def _require(version: str, command: Sequence[str], where: str) -> None:
    """Raise TestbedError unless the bpftrace that `command` starts is of that version."""
    answer = run([*command, "--version"]).strip()
    found = answer.removeprefix("bpftrace v")
    if not found.startswith(f"{version}."):
        raise TestbedError(f"{where} has bpftrace {found}, and {version} is asked for")
