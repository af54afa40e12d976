"""How much of a program's output is written: what is beyond is dropped, and counted. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubectl_trace.results.record import MAPS, encode

if TYPE_CHECKING:
    from kubectl_trace.trace import Limits

CAUSE = "output limit"
"""What is lost by it, and why the trace ends."""


class OutputLimit:
    """Admits results until there are too many, or they are too long.

    Maps are not counted and always admitted, for they are what a stop collects; but they are long.
    """

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
        """Whether a result is to be written."""
        is_map = kind in MAPS
        if not is_map and self.is_reached:
            self.dropped += 1
            return False
        self._admitted += not is_map
        if self._bytes:
            self._size += len(data.encode() if isinstance(data, str) else encode(data))
        return True

    def admits_all(self, texts: list[str]) -> bool:
        """Whether all these texts are to be written, without coming to the limit."""
        size = len("".join(texts).encode()) if self._bytes else 0
        if self._records and self._admitted + len(texts) >= self._records:
            return False
        if self._bytes and self._size + size >= self._bytes:
            return False
        self._admitted += len(texts)
        self._size += size
        return True

    def message(self) -> str:
        """What the user is told at the end."""
        flag = self._flag
        written = self._admitted if flag == "--max-records" else self._size
        unit = "records" if flag == "--max-records" else "bytes"
        more = f", {self.dropped} more records dropped" if self.dropped else ""
        return (
            f"{written} {unit} written{more}: raise {flag}, or print less (a map instead of lines, "
            "a predicate)"
        )
