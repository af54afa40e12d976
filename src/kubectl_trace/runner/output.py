"""Records out: bpftrace's lines in, wire records out, few writes, nothing lost uncounted."""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

import msgspec

from kubectl_trace.results.record import NO_RESULTS, Record, encode
from kubectl_trace.runner import output_limit
from kubectl_trace.runner.repeated import Repeated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kubectl_trace.results import dialect
    from kubectl_trace.runner.output_limit import OutputLimit

_PIECE = 16 << 10
"""Bytes of a line that the container runtime leaves whole (containerd: pkg/cri/io,
defaultBufSize; CRI-O: conmon's STDIO_BUF_SIZE)."""
_LONGEST = 16_000
"""Bytes of texts, or calls, that are joined into one record: the log path costs per line."""
_BESIDE = 6
"""Bytes of a text in a record beside its own: quotes, a comma, escapes, the container's number."""

# Each is told at once, and after that once a second.
_REPEATED = frozenset({"lost_events", "helper_error"})

KERNEL_BUFFER = "kernel buffer"
"""Why most events are lost: there was no room for them in the buffer that bpftrace reads."""

# Many of these make one record.
_JOINABLE = {"printf": str, "call": dict}


@dataclass(frozen=True)
class Given:
    """A record of bpftrace's, as the user's program would have made it, and what is known of it."""

    output: dialect.Output
    container: int | list[int] = 0
    """As `Record.container`."""
    print: int = 0
    """As `Record.print`."""
    probe: str = ""
    """The probe that it is of, as the user wrote it; empty: not known."""


@dataclass(frozen=True)
class Texts:
    """What as many printfs have made as there are texts, in their order."""

    texts: list[str]
    containers: list[int]
    """The number of each one's container, or once that of all."""
    probes: list[str]
    """What the user calls each one's probe, or once that of all; empty: not known."""

    def each(self) -> Iterator[Given]:
        """One by one."""
        from kubectl_trace.results import dialect  # which bpftrace's start does not wait for

        for text, container, probe in zip(self.texts, cycle(self.containers), cycle(self.probes)):
            yield Given(dialect.Output("printf", text), container, probe=probe)


class RecordWriter:
    """Numbers records and writes them as lines to a file descriptor."""

    def __init__(self, fd: int, clock: Callable[[], float] = time.time) -> None:
        self._fd = fd
        self._clock = clock
        self._seq = 0
        self._lines = bytearray()
        self._joined_type = ""
        self._joined: list[Any] = []
        self._containers: list[int] = []
        self._size = 0
        """About the bytes of what is joined."""
        self._repeated = Repeated()
        self.limit: OutputLimit | None = None
        """What may be written of results; None: everything."""
        self.delivered = 0
        self.delivered_by: Counter[int] = Counter()
        """Texts and calls by their containers' numbers."""
        self.lost: dict[str, int] = {}
        self.lost_by: Counter[tuple[str, str, int]] = Counter()
        """Lost events by cause, probe and container, where the probe is known."""

    def add(self, kind: str, data: Any) -> bytes:
        """Queues one record; its line."""
        self._join()
        return self._append(kind, data)

    def add_output(self, given: Given) -> None:
        """Queues one record of bpftrace's; consecutive texts or calls are joined."""
        output = given.output
        if output.type not in NO_RESULTS and output.data not in ({}, []):
            if self.limit is not None and not self.limit.admits(output.type, output.data):
                self._count(output_limit.CAUSE, 1, given)
                return
            self.delivered += 1
        data, container = output.data, given.container
        joinable = isinstance(data, _JOINABLE.get(output.type, ()))
        if joinable and isinstance(container, int):
            self.delivered_by[container] += 1
            size = len(data if isinstance(data, str) else encode(data)) + _BESIDE
            if output.type != self._joined_type or self._size + size > _LONGEST:
                self._join()
            self._joined_type = output.type
            self._joined.append(data)
            self._containers.append(container)
            self._size += size
            return
        if output.type == "lost_events" and isinstance(output.data, dict):
            self._count(KERNEL_BUFFER, output.data.get("events", 0), given)
        if output.type == "rate_limit" and isinstance(output.data, dict):
            self._count("rate limit", output.data.get("events", 0), given)
        if output.type == "helper_error" and _is_map_full(output.data):
            self._count("map full", 1, given)
        if output.type in _REPEATED and isinstance(output.data, dict):
            told = self._repeated.take(output.type, output.data, time.monotonic())
            if told is not None:
                self.add(output.type, told)
            return
        self._join()
        self._append(output.type, output.data, given.container, given.print)

    def add_texts(self, given: Texts) -> None:
        """Queues what `add_output` would of each text."""
        if self.limit is not None and not self.limit.admits_all(given.texts):
            for each in given.each():
                self.add_output(each)
            return
        texts = given.texts
        many = len(texts)
        self.delivered += many
        containers = given.containers
        if len(containers) == 1:
            self.delivered_by[containers[0]] += many
            containers = containers * many
        else:
            self.delivered_by.update(containers)
        average = len("".join(texts).encode()) / many + _BESIDE
        start = 0
        while start < many:
            fitting = int((_LONGEST - self._size) / average)
            if self._joined and (fitting < 1 or self._joined_type != "printf"):
                self._join()
                fitting = int(_LONGEST / average)
            end = min(start + max(fitting, 1), many)
            self._joined_type = "printf"
            self._joined += texts[start:end]
            self._containers += containers[start:end]
            self._size += int(average * (end - start))
            start = end

    def add_rest(self) -> None:
        """Queues what was held back."""
        for kind, told in self._repeated.rest():
            self.add(kind, told)

    def flush(self) -> None:
        """Writes what is queued; blocks while the reader is slow.

        Raises:
            BrokenPipeError: the reader is gone.
        """
        self._join()
        view = memoryview(bytes(self._lines))
        self._lines.clear()
        while view:
            view = view[os.write(self._fd, view) :]

    def _count(self, cause: str, events: object, given: Given) -> None:
        if not isinstance(events, int):
            return
        self.lost[cause] = self.lost.get(cause, 0) + events
        if given.probe and isinstance(given.container, int):
            self.lost_by[cause, given.probe, given.container] += events

    def _join(self) -> None:
        if self._joined:
            self._append_joined(self._joined, self._containers)
        self._joined, self._containers, self._size = [], [], 0

    def _append_joined(self, joined: list[Any], containers: list[int]) -> None:
        many = len(joined)
        line = self._line(
            self._joined_type,
            joined[0] if many == 1 else joined,
            containers[0] if len(set(containers)) == 1 else containers,
        )
        if len(line) <= _PIECE or many == 1:
            self._queue(line)
            return
        # The sizes of texts were guessed.
        for half in (slice(many // 2), slice(many // 2, many)):
            self._append_joined(joined[half], containers[half])

    def _append(
        self, kind: str, data: Any, container: int | list[int] = 0, number: int = 0
    ) -> bytes:
        return self._queue(self._line(kind, data, container, number))

    def _line(self, kind: str, data: Any, container: int | list[int] = 0, number: int = 0) -> bytes:
        moment = round(self._clock(), 6)
        return encode(Record(self._seq, moment, kind, data, container, number)) + b"\n"

    def _queue(self, line: bytes) -> bytes:
        self._lines += line
        self._seq += 1
        return line


def _is_map_full(data: object) -> bool:
    # The text differs from version to version.
    return isinstance(data, dict) and (data.get("helper"), data.get("retcode")) == (
        "map_update_elem",
        -errno.E2BIG,
    )


def to_data(struct: msgspec.Struct) -> Any:
    """A struct as the plain data of a record."""
    return msgspec.to_builtins(struct)
