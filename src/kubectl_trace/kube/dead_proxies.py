"""What clients that were killed with their proxies' shells have left on this machine."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kubectl_trace.kube.proxy import FOLDERS, GUARD, RUNNERS, SOCKET, listens, temporary

if TYPE_CHECKING:
    from collections.abc import Iterator

_YOUNG = 60.0  # seconds in which a proxy must have begun to listen
_LAST = 5.0  # seconds for kubectl to end
_CREDENTIALS = struct.Struct("3i")  # unix(7): struct ucred


def remove() -> list[str]:
    """Ends the proxies that nobody else would end, and removes dead ones' folders; their paths."""
    found = [folder for folder in _ours() if _is_dead(folder) or _has_been_ended(folder)]
    for folder in found:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def _ours() -> Iterator[str]:
    """The folders of this user's proxies: everybody may put what they like beside them."""
    with os.scandir(temporary()) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if (
                    entry.name.startswith(FOLDERS)
                    and entry.is_dir(follow_symlinks=False)
                    and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
                ):
                    yield entry.path


def _is_dead(folder: str) -> bool:
    """Whether a folder has what proxies have, and its proxy has ended."""
    try:
        there = set(os.listdir(folder))
        is_old = time.time() - os.stat(folder).st_mtime > _YOUNG
    except OSError:  # it ends just now
        return False
    if not there:
        return is_old  # killed before it listened
    is_a_proxys = SOCKET in there and there <= {SOCKET, RUNNERS}
    return is_a_proxys and not listens(os.path.join(folder, SOCKET))


def _has_been_ended(folder: str) -> bool:
    """Ends a proxy that has outlived its client and its shell; whether it did."""
    if sys.platform != "linux":
        return False
    try:
        pid = _listener(os.path.join(folder, SOCKET))
        if not pid:
            return False
        process = os.pidfd_open(pid)  # from here on the number means no other process
    except OSError:
        return False
    try:
        if not _is_proxy(pid, folder) or _is_needed(pid, folder):
            return False
        signal.pidfd_send_signal(process, signal.SIGTERM)
        return bool(select.select([process], [], [], _LAST)[0])
    except OSError:  # it ends just now
        return False
    finally:
        os.close(process)


def _listener(path: str) -> int:
    """Which process of this user listens on a Unix socket; 0: none that can be told."""
    with socket.socket(socket.AF_UNIX) as attempt:
        attempt.connect(path)
        said = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, user, _ = _CREDENTIALS.unpack(said)
    return int(pid) if user == os.geteuid() else 0


def _is_proxy(pid: int, folder: str) -> bool:
    words = _words(pid)
    return "proxy" in words and f"--unix-socket={os.path.join(folder, SOCKET)}" in words


def _is_needed(pid: int, folder: str) -> bool:
    """Whether the client or the shell is there, as far as can be seen."""
    # The client reads what kubectl complains of; nobody else does.
    if _is_read(f"/proc/{pid}/fd/2"):
        return True
    while (pid := _parent(pid)) > 1:
        words = _words(pid)
        if GUARD in words and folder in words:
            return True
    return pid != 1


def _is_read(pipe: str) -> bool:
    writing = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(writing, 0)
        return not any(happened & select.POLLERR for _, happened in poll.poll(0))
    finally:
        os.close(writing)


def _words(pid: int) -> list[str]:
    return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")


def _parent(pid: int) -> int:
    """Its parent's PID; 0: it is not to be seen from here."""
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
