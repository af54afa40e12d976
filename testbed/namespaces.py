"""The namespaces of a machine within the machine, each held by a process that only sleeps."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from . import processes
from .commands import run
from .errors import TestbedError

if TYPE_CHECKING:
    from collections.abc import Sequence


def create(name: str) -> None:
    """Make a network and a mount namespace that live as long as the component `name`.

    No name is bound in the file system: when their last process is gone, the namespaces, their
    interfaces and their mounts are gone too, whatever killed it.
    """
    process = processes.start(
        name,
        ["unshare", "--net", "--mount", "--propagation", "private", "sleep", "infinity"],
    )
    deadline = time.monotonic() + 10
    while Path(f"/proc/{process.pid}/comm").read_text().strip() != "sleep":
        if not process.alive or time.monotonic() > deadline:
            raise TestbedError(f"{name} was not made; its log says\n{processes.log_tail(name)}")
        time.sleep(0.01)


def within(name: str, argv: Sequence[str | os.PathLike[str]]) -> list[str]:
    """The command that runs `argv` in the namespaces that `create` made as `name`."""
    pid = processes.require(name).pid
    words = [os.fspath(word) for word in argv]
    return ["nsenter", f"--target={pid}", "--net", "--mount", "--", *words]


def run_within(name: str, argv: Sequence[str | os.PathLike[str]], text: str | None = None) -> str:
    """Run a program to its end in the namespaces made as `name`; see `commands.run`."""
    return run(within(name, argv), text=text)
