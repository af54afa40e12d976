"""What followed runners tell their client: the one queue between the threads and the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubectl_trace.errors import TraceError
    from kubectl_trace.results.record import Record


@dataclass(frozen=True)
class Notice:
    """Something that the user should see, such as a pull that fails."""

    text: str
    node: str = ""


@dataclass(frozen=True)
class Progress:
    """What a runner that has not begun is waiting for."""

    node: str
    text: str


@dataclass(frozen=True)
class Records:
    """Records of one runner, in order, each once."""

    node: str
    records: list[Record]


@dataclass(frozen=True)
class Ended:
    """A runner's stream is over."""

    node: str
    lost: int = 0
    """Records that the runner numbered and that never came."""
    error: TraceError | None = None
    """Why it is over, if not by its summary record."""
    started: bool = True
    """The runner had begun."""


@dataclass(frozen=True)
class Finished:
    """All runners have ended, and no other one will come."""

    error: TraceError | None = None
    """Why there is no result at all."""


Event = Notice | Progress | Records | Ended | Finished
Sink = Callable[[Event], None]
"""Takes an event from any thread; it may block until there is room."""
