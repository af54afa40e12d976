"""How much of a program's output is written: what is beyond is dropped, and counted. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubectl_trace.results.record import MAPS, encode

if TYPE_CHECKING:
    from kubectl_trace.trace import Limits

CAUSE = "output limit"
"""What is lost by it, and why the trace ends."""


class OutputLimit:
    """Admits results until there are too many, or they are too long."""

    def __init__(self, limits: Limits) -> None:
        self._records = limits.records
        self._bytes = limits.bytes
        self._admitted = 0
        self._size = 0
        self.dropped = 0

    @property
    def is_reached(self) -> bool:
        """Whether nothing more is admitted but maps."""
        return bool(self._flag)

    @property
    def _flag(self) -> str:
        if self._records and self._admitted >= self._records:
            return "--max-records"
        if self._bytes and self._size >= self._bytes:
            return "--max-bytes"
        return ""

    def admits(self, kind: str, data: Any) -> bool:
        """Whether a result is to be written. Maps always are: they are what a stop collects."""
        if self.is_reached and kind not in MAPS:
            self.dropped += 1
            return False
        self._admitted += 1
        if self._bytes:
            # A text's size is known without encoding it; and records of others are few or large.
            self._size += len(data.encode()) if isinstance(data, str) else len(encode(data))
        return True

    def message(self) -> str:
        """What the user is told at the end."""
        flag = self._flag
        size = f"{self._size} bytes of results" if flag == "--max-bytes" else "records"
        many = f"{self._admitted} {size}" if flag == "--max-records" else size
        return (
            f"{many} written, {self.dropped} more records dropped: raise {flag}, or print less (a "
            "map instead of lines, a predicate)"
        )
