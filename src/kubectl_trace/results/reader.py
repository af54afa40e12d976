"""The wire's bytes to records: lines joined, repeats dropped, gaps counted."""

from __future__ import annotations

import msgspec

from kubectl_trace.results.record import Record, decode


class RecordReader:
    """Reads one runner's stream, which may be read again from an earlier place after a break."""

    def __init__(self) -> None:
        self._rest = b""
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
        *lines, self._rest = (self._rest + data).split(b"\n")
        records: list[Record] = []
        for line in lines:
            try:
                record = decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                if line.strip():
                    records.append(Record(-1, 0.0, "stderr", line.decode(errors="replace")))
                continue
            if record.seq < self._next:
                continue
            self.lost += record.seq - self._next
            self._next = record.seq + 1
            self.ended = self.ended or record.type == "summary"
            records.append(record)
        return records

    def restart(self) -> None:
        """The stream comes anew; half a line of the old one means nothing."""
        self._rest = b""
