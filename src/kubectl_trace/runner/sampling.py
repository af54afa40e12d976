"""How much of the CPUs BPF programs take, by samples: for runners that get no statistics.

Some hundred times a second each busy CPU's kernel stack is looked at (perf_event_open(2), the
cpu-clock), and the samples in which one of the programs is on it are counted. That takes
CAP_PERFMON, which bpftrace needs, too. The kernel says where it loads programs
(PERF_RECORD_KSYMBOL, Linux 5.1). What runs with interrupts off is not seen: the clock is one.

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
from typing import TYPE_CHECKING, NamedTuple

from kubectl_trace.runner import syscalls

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kubectl_trace.runner.cost import Count, Loaded

FREQUENCY, _LEAST_FREQUENCY = 199, 49
"""Samples a second of each CPU, and of each of many. With 199 a share of 20 % in one second is
known to ± 3 points; both are no divisors of usual periods."""
_ALL = 3200  # samples a second, at most, until there are very many CPUs

_ONLINE = Path("/sys/devices/system/cpu/online")

_SOFTWARE, _CPU_CLOCK, _DUMMY = 1, 0, 9
_CALLCHAIN = 1 << 5
_EXCLUDE_USER, _EXCLUDE_IDLE, _BY_FREQUENCY = 1 << 4, 1 << 7, 1 << 10
_EXCLUDE_USER_CHAIN, _KSYMBOL = 1 << 22, 1 << 29
_HEAD, _TAIL = 1024, 1032  # of struct perf_event_mmap_page
_RECORD_SAMPLE, _RECORD_KSYMBOL = 9, 17
_BPF, _UNREGISTERED = 1, 1
_HEADER = struct.Struct("=IHH")  # struct perf_event_header
_SYMBOL = struct.Struct("=QIHH")
_PAGES_OF_SYMBOLS = 16  # room for some 1,000 programs
_BYTES_A_SAMPLE = 512


class Symbol(NamedTuple):
    """A BPF program in the kernel's memory."""

    start: int
    end: int
    name: str
    """`bpf_prog_TAG` or `bpf_prog_TAG_NAME` (kernel/bpf/core.c: bpf_prog_ksym_set_name)."""


class Symbols:
    """The BPF programs that are loaded from now on."""

    def __init__(self) -> None:
        """Begins to listen.

        Raises:
            OSError: the kernel does not let us, or is too old.
        """
        self._event = _Event(_DUMMY, 0, _KSYMBOL, _PAGES_OF_SYMBOLS)
        self._known: dict[int, Symbol] = {}

    def of(self, loaded: Sequence[Loaded]) -> dict[int, list[Symbol]]:
        """Where programs are, by their IDs."""
        for kind, body in self._event.records():
            if kind == _RECORD_KSYMBOL and (symbol := read_symbol(body)):
                self._known[symbol.start] = symbol
        return whose(loaded, list(self._known.values()))

    def close(self) -> None:
        """Stops to listen."""
        self._event.close()


class Samples:
    """Counts in how many samples programs are."""

    def __init__(self, symbols: Mapping[int, Sequence[Symbol]]) -> None:
        """Begins to count. `symbols`: where the programs are, by their IDs.

        Raises:
            OSError: the kernel does not let us.
        """
        self._places = sorted(
            (symbol.start, symbol.end, number)
            for number, found in symbols.items()
            for symbol in found
        )
        frequency = min(FREQUENCY, max(_LEAST_FREQUENCY, _ALL // len(_cpus())))
        self._nanoseconds = 1_000_000_000 // frequency
        page = os.sysconf("SC_PAGE_SIZE")
        pages = 1 << (frequency * _BYTES_A_SAMPLE // page).bit_length()
        flags = _EXCLUDE_USER | _EXCLUDE_IDLE | _BY_FREQUENCY | _EXCLUDE_USER_CHAIN
        self._event = _Event(_CPU_CLOCK, frequency, flags, pages)
        self._counted: Counter[int] = Counter()

    def counts(self) -> dict[int, Count]:
        """What each has cost since this was made, by its ID; how often it ran is not known."""
        from kubectl_trace.runner.cost import Count  # not before bpftrace has been started

        for kind, body in self._event.records():
            if kind == _RECORD_SAMPLE and (found := first_in(body, self._places)) is not None:
                self._counted[found] += 1
        return {
            number: Count(0, self._counted[number] * self._nanoseconds)
            for number in {number for _, _, number in self._places}
        }

    def close(self) -> None:
        """Stops to count."""
        self._event.close()


def read_symbol(body: bytes) -> Symbol | None:
    """The program that a record tells of; None: it was unloaded, or is none."""
    start, size, kind, flags = _SYMBOL.unpack_from(body)
    if kind != _BPF or flags & _UNREGISTERED:
        return None
    name = body[_SYMBOL.size :].split(b"\0")[0].decode(errors="replace")
    return Symbol(start, start + size, name)


def first_in(body: bytes, places: Sequence[tuple[int, int, int]]) -> int | None:
    """Whose program a sample's stack is in, the innermost; `places`: start, end and ID, sorted."""
    (depth,) = struct.unpack_from("=Q", body)
    for address in struct.unpack_from(f"={depth}Q", body, 8):
        at = bisect.bisect_right(places, address, key=operator.itemgetter(0)) - 1
        if at >= 0 and address < places[at][1]:
            return places[at][2]
    return None


def whose(loaded: Sequence[Loaded], symbols: Sequence[Symbol]) -> dict[int, list[Symbol]]:
    """The symbols of programs, by their IDs.

    A tag is a hash of a program's instructions. Programs of one tag and name are told apart by
    their order; what is left over is the last one's.
    """
    found: dict[int, list[Symbol]] = {}
    left = sorted(symbols, key=lambda each: each.start)
    programs = sorted(loaded, key=lambda each: each.id)
    for at, program in enumerate(programs):
        begins = f"bpf_prog_{program.tag}_{program.name}".rstrip("_")
        own = [each for each in left if each.name.startswith(begins)]
        later = {(other.tag, other.name) for other in programs[at + 1 :]}
        own = own[:1] if (program.tag, program.name) in later else own
        left = [each for each in left if each not in own]
        if own:
            found[program.id] = own
    return found


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


class _Event:
    """An event on each CPU."""

    def __init__(self, config: int, frequency: int, flags: int, pages: int) -> None:
        self._open = contextlib.ExitStack()
        page = os.sysconf("SC_PAGE_SIZE")
        kind = _CALLCHAIN if frequency else 0
        self.rings: list[Ring] = []
        with contextlib.ExitStack() as on_error:
            on_error.callback(self._open.close)
            for cpu in _cpus():
                event = syscalls.PerfEvent(
                    type=_SOFTWARE,
                    config=config,
                    sample_frequency=frequency,
                    sample_type=kind,
                    flags=flags,
                )
                fd = syscalls.perf_event_open(event, cpu)
                self._open.callback(os.close, fd)
                memory = self._open.enter_context(mmap.mmap(fd, (1 + pages) * page))
                self.rings.append(Ring(memory, page))
            on_error.pop_all()

    def records(self) -> Iterator[tuple[int, bytes]]:
        """The kinds and bodies of the records that have come."""
        for ring in self.rings:
            yield from ring.records()

    def close(self) -> None:
        """Ends it."""
        self.rings.clear()
        self._open.close()


def _cpus() -> list[int]:
    """The CPUs that are on: `0-3,6`."""
    found: list[int] = []
    for part in _ONLINE.read_text().strip().split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
