"""A runner by script: the wire records of a real one, of a program that counts, without tracing.

Its program is always a count by key in `@`. The counts are made so that their sums tell whether
each node's came, once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from kubectl_trace._version import __version__
from kubectl_trace.errors import Exit
from kubectl_trace.results.record import Map, Start, Summary
from kubectl_trace.runner.output import RecordWriter, to_data
from kubectl_trace.trace import PROTOCOL, Control, Kill, Stop, Trace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PROGRAM = "tracepoint:raw_syscalls:sys_enter { @[comm] = count(); }"
SHARED_KEYS = 20

_ATTACHES_IN = 0.4  # seconds: bpftrace 0.23 needs 0.3 to 0.7
_DETACHES_IN = 0.1

_decode_control = msgspec.json.Decoder(Control).decode


def counts(number: int) -> dict[str, int]:
    """What node `number` (from 0) counts: keys that all have, one of its own."""
    shared = {f"shared-{key}": 1000 * key + number for key in range(1, SHARED_KEYS + 1)}
    return {**shared, f"own-{number}": number + 1}


def sums(nodes: int) -> dict[str, int]:
    """What the nodes have counted together."""
    every = [counts(number) for number in range(nodes)]
    keys = {key for each in every for key in each}
    return {key: sum(each.get(key, 0) for each in every) for key in keys}


class Runner:
    """One runner's container, from its start to its exit."""

    def __init__(self, number: int, node: str, trace: Trace) -> None:
        """`number`: that of its node."""
        self._number = number
        self._node = node
        self._trace = trace
        self._writer = RecordWriter(-1)  # its lines are taken from `add`
        self._input = b""
        self._told = asyncio.Event()
        self._news = asyncio.Event()
        self._reason = ""
        self.log = bytearray()
        self.ended = False

    async def run(self) -> bytes:
        """Runs to its end; the termination message: the summary's line."""
        self._write("start", to_data(self._start()))
        await asyncio.sleep(_ATTACHES_IN)
        self._write("attached_probes", {"probes": 1})
        self._write("ready", None)
        try:
            await asyncio.wait_for(self._told.wait(), self._trace.deadline)
        except TimeoutError:
            self._reason = "deadline"
        self._write("stopping", {"reason": self._reason})
        await asyncio.sleep(_DETACHES_IN)
        if self._reason != "killed":
            self._write("map", {"@": counts(self._number)})
        summary = Summary(Exit.DONE, self._reason, delivered=1)
        line = self._write("summary", to_data(summary))
        self.ended = True
        self._wake()
        return line

    def hear(self, data: bytes) -> None:
        """Takes what a client writes to its standard input."""
        *lines, self._input = (self._input + data).split(b"\n")
        for line in filter(None, lines):
            message = _decode_control(line)
            if isinstance(message, Stop | Kill):
                self._reason = "stopped" if isinstance(message, Stop) else "killed"
                self._told.set()

    async def follow(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Gives its log from the first byte, until it has ended."""
        given = 0
        while True:
            news = self._news
            if given < len(self.log):
                piece = bytes(self.log[given:])
                given += len(piece)
                await write(piece)
            elif self.ended:
                return
            else:
                await news.wait()

    def _start(self) -> Start:
        return Start(
            trace=self._trace.id,
            version=__version__,
            protocol=PROTOCOL,
            node=self._node,
            kernel="simulated",
            bpftrace="simulated",
            merge=self._trace.merge,
            maps={"@": Map("count")},
        )

    def _write(self, kind: str, data: Any) -> bytes:
        line = self._writer.add(kind, data)
        self.log += line
        self._wake()
        return line

    def _wake(self) -> None:
        """Who waits for news has some; who waits from now on waits for others."""
        self._news.set()
        self._news = asyncio.Event()
