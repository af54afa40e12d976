"""One command at a time, by a lock on a file."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .commands import say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def locked(file: Path, what: str) -> Iterator[None]:
    """Hold the lock; wait for another command that does, and say for what it is waited."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another testbed command to {what}")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
