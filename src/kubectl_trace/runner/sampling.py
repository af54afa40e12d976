"""How much of the CPUs BPF programs take, by samples: for runners that get no statistics.

Some hundred times a second each busy CPU's kernel stack is looked at (perf_event_open(2), the
cpu-clock), and the samples in which one of the programs is on it are counted. That takes
CAP_PERFMON, which bpftrace needs, too. What runs with interrupts off is not seen: the clock is one.

Formats: <linux/perf_event.h>.
"""

from __future__ import annotations

import bisect
import contextlib
import mmap
import operator
import os
import struct
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from kubectl_trace.runner import syscalls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kubectl_trace.runner.cost import Count

FREQUENCY, _LEAST_FREQUENCY = 199, 49
"""Samples a second of each CPU, and of each of many. With 199 a share of 20 % in one second is
known to ± 3 points; both are no divisors of usual periods."""
_ALL = 3200  # samples a second, at most, until there are very many CPUs

_ONLINE = Path("/sys/devices/system/cpu/online")

_SOFTWARE, _CPU_CLOCK = 1, 0
_CALLCHAIN = 1 << 5
_EXCLUDE_USER, _EXCLUDE_IDLE, _BY_FREQUENCY = 1 << 4, 1 << 7, 1 << 10
_EXCLUDE_USER_CHAIN = 1 << 22
_HEAD, _TAIL = 1024, 1032  # of struct perf_event_mmap_page
_RECORD_SAMPLE = 9
_HEADER = struct.Struct("=IHH")  # struct perf_event_header
_BYTES_A_SAMPLE = 512


class Samples:
    """Counts in how many samples programs are."""

    def __init__(self, places: Mapping[int, Sequence[tuple[int, int]]]) -> None:
        """Begins to count. `places`: where the programs are, start and end, by their IDs.

        Raises:
            OSError: the kernel does not let us.
        """
        self._places = sorted(
            (start, end, number) for number, found in places.items() for start, end in found
        )
        frequency = min(FREQUENCY, max(_LEAST_FREQUENCY, _ALL // len(_cpus())))
        self._nanoseconds = 1_000_000_000 // frequency
        page = os.sysconf("SC_PAGE_SIZE")
        pages = 1 << (frequency * _BYTES_A_SAMPLE // page).bit_length()
        with contextlib.ExitStack() as stack:
            self._rings = _open(frequency, pages, stack)
            self._stack = stack.pop_all()
        self._counted: Counter[int] = Counter()

    def counts(self) -> dict[int, Count]:
        """What each has cost since this was made, by its ID; how often it ran is not known."""
        from kubectl_trace.runner.cost import Count  # not before bpftrace has been started

        for ring in self._rings:
            for kind, body in ring.records():
                if kind == _RECORD_SAMPLE and (found := first_in(body, self._places)) is not None:
                    self._counted[found] += 1
        return {
            number: Count(0, self._counted[number] * self._nanoseconds)
            for number in {number for _, _, number in self._places}
        }

    def close(self) -> None:
        """Stops to count."""
        self._rings.clear()
        self._stack.close()


def first_in(body: bytes, places: Sequence[tuple[int, int, int]]) -> int | None:
    """Whose program a sample's stack is in, the innermost; `places`: start, end and ID, sorted."""
    (depth,) = struct.unpack_from("=Q", body)
    for address in struct.unpack_from(f"={depth}Q", body, 8):
        at = bisect.bisect_right(places, address, key=operator.itemgetter(0)) - 1
        if at >= 0 and address < places[at][1]:
            return places[at][2]
    return None


class Ring:
    """The memory that an event's records come in: a page about it, then the records."""

    def __init__(self, memory: mmap.mmap, page: int) -> None:
        self._memory, self._begin, self._size = memory, page, len(memory) - page

    def records(self) -> Iterator[tuple[int, bytes]]:
        """The kinds and bodies of the records that have come; they make room for others."""
        (head,) = struct.unpack_from("=Q", self._memory, _HEAD)
        (tail,) = struct.unpack_from("=Q", self._memory, _TAIL)
        data = self._between(tail, head)
        struct.pack_into("=Q", self._memory, _TAIL, head)
        at = 0
        while at < len(data):
            kind, _, size = _HEADER.unpack_from(data, at)
            yield kind, data[at + _HEADER.size : at + size]
            at += size

    def _between(self, tail: int, head: int) -> bytes:
        if tail == head:
            return b""
        start, end = self._begin + tail % self._size, self._begin + head % self._size
        if start < end:
            return self._memory[start:end]
        return self._memory[start:] + self._memory[self._begin : end]


def _open(frequency: int, pages: int, stack: contextlib.ExitStack) -> list[Ring]:
    """The rings of a clock on each CPU; the stack ends them."""
    page = os.sysconf("SC_PAGE_SIZE")
    rings = []
    for cpu in _cpus():
        event = syscalls.PerfEvent(
            type=_SOFTWARE,
            config=_CPU_CLOCK,
            sample_frequency=frequency,
            sample_type=_CALLCHAIN,
            flags=_EXCLUDE_USER | _EXCLUDE_IDLE | _BY_FREQUENCY | _EXCLUDE_USER_CHAIN,
        )
        fd = syscalls.perf_event_open(event, cpu)
        stack.callback(os.close, fd)
        memory = stack.enter_context(mmap.mmap(fd, (1 + pages) * page))
        rings.append(Ring(memory, page))
    return rings


def _cpus() -> list[int]:
    """The CPUs that are on: `0-3,6`."""
    found: list[int] = []
    for part in _ONLINE.read_text().strip().split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
