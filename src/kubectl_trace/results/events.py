"""What a followed trace tells its client: the one queue between the threads and the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubectl_trace.errors import TraceError
    from kubectl_trace.results.record import Record


@dataclass(frozen=True)
class Notice:
    """Something on the way to the start that the user should see, such as a pull that fails."""

    text: str


@dataclass(frozen=True)
class Records:
    """Records of one runner, in order, each once."""

    records: list[Record]


@dataclass(frozen=True)
class Ended:
    """The runner's stream is over; `error` says why, if not by its summary record."""

    error: TraceError | None = None


Event = Notice | Records | Ended
Sink = Callable[[Event], None]
"""Takes an event from any thread; it may block until there is room."""
