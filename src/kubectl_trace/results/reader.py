"""The wire's bytes to records: lines joined, repeats dropped, gaps counted."""

from __future__ import annotations

import msgspec

from kubectl_trace.results.record import Record, decode

_LONGEST = 128 << 20
"""Bytes of a line, at most: a map of many keys comes as one."""
_SHOWN = 64 << 10
"""Bytes that are shown of a line that is no record."""


class RecordReader:
    """Reads one runner's stream, which may be read again from an earlier place after a break."""

    def __init__(self, longest: int = _LONGEST) -> None:
        self._longest = longest
        self._rest = bytearray()
        self._skips = False
        self._next = 0
        self.lost = 0
        """Records that never came: gaps in the sequence numbers."""
        self.ended = False
        """The summary record has come."""

    def feed(self, data: bytes) -> list[Record]:
        """The records that this piece completes.

        A line that is no record (a crash of the runner, a message of the container runtime) becomes
        a `stderr` record without a number.
        """
        records: list[Record] = []
        for line in self._lines(data):
            try:
                record = decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                if line.strip():
                    records.append(_message(line[:_SHOWN].decode(errors="replace")))
                continue
            if record.seq < self._next:
                continue
            self.lost += record.seq - self._next
            self._next = record.seq + 1
            self.ended = self.ended or record.type == "summary"
            records.append(record)
        if self._skips and self._rest:
            self._rest.clear()
            records.append(
                _message(f"a line of more than {self._longest >> 20} MiB is passed over")
            )
        return records

    def _lines(self, data: bytes) -> list[bytes]:
        """The whole lines; the rest of one that is too long is thrown away as it comes."""
        first, newline, others = data.partition(b"\n")
        if not self._skips:
            self._rest += first
        if not newline:
            self._skips = self._skips or len(self._rest) > self._longest
            return []
        line = bytes(self._rest)
        self._rest.clear()
        self._skips = False
        *lines, rest = others.split(b"\n")
        self._rest += rest
        return [line, *lines]

    def restart(self) -> None:
        """The stream comes anew; half a line of the old one means nothing."""
        self._rest.clear()
        self._skips = False


def _message(text: str) -> Record:
    return Record(-1, 0.0, "stderr", text)
