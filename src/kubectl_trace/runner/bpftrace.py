"""The bpftrace binary: its version, its command line, its environment, its messages."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from kubectl_trace import executable
from kubectl_trace.errors import StartError
from kubectl_trace.runner import syscalls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NOTICE_ATTACHED = b"__BPFTRACE_NOTIFY_PROBES_ATTACHED"
"""The line that bpftrace prints once all probes are attached, when the environment variable of this
name is set: on stderr up to 0.19, on stdout later. `Attaching N probes` comes before up to 0.23."""

# Names that bpftrace 0.20 gave to older variables: 0.17 ignores the new ones, 0.27 the old ones.
_RENAMED = {
    "BPFTRACE_STRLEN": "BPFTRACE_MAX_STRLEN",
    "BPFTRACE_MAP_KEYS_MAX": "BPFTRACE_MAX_MAP_KEYS",
}

_BUFFER = 16 << 20
"""Bytes of the kernel's buffer, as bpftrace 0.24 and later take them (pull request 4461)."""
_VERSION = re.compile(r"v(\d[\w.-]*)")

_SAID = ".version"
"""What a file's name ends with that has a binary's size and what it says of its version."""

_DISASSEMBLER = (b"libbfd-", b"libopcodes-", b"BFD %s internal error")
"""What a build with GNU's disassembler has in it: its libraries' names, or a text of theirs."""

_MAP_KEYS = 4096
"""How many keys a map can have, if nobody says."""


def find() -> str:
    """The path of the bpftrace binary.

    Raises:
        StartError: it isn't installed.
    """
    path = executable.find("bpftrace")
    if path is None:
        raise StartError("bpftrace is not installed on this machine (Debian: apt install bpftrace)")
    return path


def version(binary: str) -> str:
    """The version, such as `0.23.2`; `unknown` if bpftrace doesn't say.

    It takes 40 ms to say so. What it has said is kept by the runner's image (deploy/Containerfile),
    with the size of the binary that said it.
    """
    with contextlib.suppress(OSError, ValueError):
        size, _, said = Path(f"{binary}{_SAID}").read_text().partition(" ")
        if int(size) == Path(binary).stat().st_size and (found := _VERSION.search(said)):
            return found[1]
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout
    found = _VERSION.search(said)
    return found[1] if found else "unknown"


def takes_offsets(binary: str) -> bool:
    """Whether a build takes uprobes behind a function's first byte.

    A build without a disassembler (`bfd: no` in `--info`, which takes long to say so) refuses them,
    as it can't check that an instruction begins there: Debian 12's 0.17 is one.
    """
    with open(binary, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return any(data.find(each) >= 0 for each in _DISASSEMBLER)


def environment(wanted: Mapping[str, str], release: str) -> dict[str, str]:
    """The environment to run bpftrace in: ours, the wanted variables under the names it knows."""
    result = {**os.environ, **wanted, NOTICE_ATTACHED.decode(): "1"}
    for old, new in _RENAMED.items():
        # 0.23 warns of the old names.
        known, other = (old, new) if _is_old(release) else (new, old)
        if other in wanted:
            result.setdefault(known, wanted[other])
            del result[other]
    return result


def is_before(release: str, minor: int) -> bool:
    """Whether a version is older than 0.`minor`; one that can't be read is not."""
    found = re.match(r"0\.(\d+)", release)
    return bool(found and int(found[1]) < minor)


def _is_old(release: str) -> bool:
    """Whether it is older than 0.20, which gave names anew."""
    return is_before(release, 20)


def with_more_map_keys(env: Mapping[str, str], release: str, times: int) -> dict[str, str]:
    """An environment in which maps have room for so many times the usual number of keys.

    What the environment says already stays.
    """
    old, new = "BPFTRACE_MAP_KEYS_MAX", "BPFTRACE_MAX_MAP_KEYS"
    if old in env or new in env:
        return dict(env)
    return {**env, old if _is_old(release) else new: str(_MAP_KEYS * times)}


def with_larger_buffer(env: Mapping[str, str], release: str, kernel: str) -> dict[str, str]:
    """An environment in which bpftrace has room for some 100,000 lines that it can't print yet.

    What the environment says already stays, and so does what later versions take themselves. Older
    ones, and those on Linux before 5.8, have a buffer for each CPU, of memory that is locked: how
    much of that a process may have is limited (perf_event_mlock_kb), so that stays small.

    Args:
        env: The environment.
        release: bpftrace's version.
        kernel: Linux's, such as `5.10.0-8-amd64`.
    """
    found = re.match(r"(\d+)\.(\d+)", kernel)
    has_rings = found is not None and (int(found[1]), int(found[2])) >= (5, 8)
    if not has_rings or is_before(release, 23) or not is_before(release, 24):
        return dict(env)
    return {"BPFTRACE_PERF_RB_PAGES": str(_BUFFER // os.sysconf("SC_PAGE_SIZE")), **env}


def untold_room(env: Mapping[str, str], release: str) -> int:
    """How many keys a map has room for, if bpftrace does not tell when it is full; else 0.

    Before 0.20 it tells of helpers' errors only with -k.
    """
    if not _is_old(release):
        return 0
    try:
        return int(env.get("BPFTRACE_MAP_KEYS_MAX", _MAP_KEYS))
    except ValueError:
        return 0  # bpftrace says what it thinks of that


def start(
    binary: str,
    program: ProgramFile,
    options: Sequence[str],
    parameters: Sequence[str],
    env: Mapping[str, str],
    fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts bpftrace on a program; it dies with us, and a terminal's Ctrl-C doesn't reach it.

    `fds`: what the program's paths need (see `files.Held`).
    """
    return subprocess.Popen(
        # After --, no parameter of the user's is an option.
        [binary, "-f", "json", *options, "--", program.path, *parameters],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        bufsize=0,
        start_new_session=True,
        pass_fds=[program.fd, *fds],
        preexec_fn=_as_ours,
    )


def _as_ours() -> None:
    syscalls.die_with_parent(signal.SIGKILL)
    # In a script's background it is ignored, and we stop bpftrace by it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class ProgramFile:
    """A program as a file that exists in memory only: nothing is left, whatever ends us."""

    def __init__(self, text: str) -> None:
        self.fd = os.memfd_create("program")
        with open(self.fd, "wb", closefd=False) as file:
            file.write(text.encode())
        self.path = f"/proc/self/fd/{self.fd}"

    def close(self) -> None:
        """Lets go of it."""
        os.close(self.fd)
