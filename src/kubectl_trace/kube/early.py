"""A runner's first output, before its log can be read.

Nobody can read a container's log until the kubelet has noticed that the container runs, and it
looks once a second (kubernetes pkg/kubelet/pleg/generic.go; kubelet_pods.go:
validateContainerLogStatus). Attaching asks the runtime itself (findContainer): what is written from
then on comes at once. The log, which has everything, takes over as soon as it can be read.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from kubectl_trace.errors import ForbiddenError, TraceError
from kubectl_trace.kube import control
from kubectl_trace.results.record import decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.sync.client import ClientConnection

    from kubectl_trace.kube.client import Client

AT_MOST = 3
"""Runners of a trace whose output is read early: it takes some calls to the API server for each."""

_STDOUT = 1  # as in control.py
_FIRST = 0.25  # seconds from when a pod has its node until it can have a container that runs
_AGAIN = 0.05  # seconds between two attempts
_PATIENCE = 3.0  # seconds: an image that is still being pulled takes longer than the kubelet's look
_ENOUGH = 1 << 18
"""Bytes. A flood is better read from the log: who reads slowly here makes the runner wait."""


class Beginning:
    """The whole lines of a stream that is one of records from the first, without a gap. Pure."""

    def __init__(self) -> None:
        self._rest = b""
        self._next = 0
        self.is_over = False
        """What comes next is not to be had here."""

    def feed(self, data: bytes) -> bytes:
        """What of the records is whole with this piece."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        taken = bytearray()
        for line in lines:
            if self.is_over or not self._is_next(line):
                self.is_over = True
                break
            self._next += 1
            taken += line + b"\n"
        self.is_over = self.is_over or len(self._rest) > _ENOUGH
        return bytes(taken)

    def _is_next(self, line: bytes) -> bool:
        try:
            return decode(line).seq == self._next
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False


class EarlyOutput:
    """Reads what a runner writes at its start, in a thread of its own."""

    def __init__(
        self, client: Client, namespace: str, pod: str, give: Callable[[bytes], None]
    ) -> None:
        """Begins to try. `give` gets whole lines, from the first record on, without a gap."""
        self._where = (client, namespace, pod)
        self._give = give
        self._closed = threading.Event()
        self._giving = threading.Lock()
        self._socket: ClientConnection | None = None
        self._thread = threading.Thread(target=self._run, name=f"{pod} early", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the reading: once it returns, nothing more is given."""
        # The thread may be in the middle of an attempt to attach, and is not waited for.
        with self._giving:
            self._closed.set()
        self.stop()

    def stop(self) -> None:
        """Ends the reading soon."""
        self._closed.set()
        if (connection := self._socket) is not None:
            # Without the closing handshake, for which the kubelet takes its time.
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        end = time.monotonic() + _PATIENCE
        wait = _FIRST
        while not self._closed.wait(wait) and time.monotonic() < end:
            try:
                self._socket = _attach(*self._where)
            except ForbiddenError:
                return  # who speaks to the runner says so
            except TraceError:
                wait = _AGAIN
                continue
            self._read(self._socket)
            return

    def _read(self, connection: ClientConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        beginning = Beginning()
        read = 0
        with contextlib.suppress(ConnectionClosed, OSError):
            while not (self._closed.is_set() or beginning.is_over or read > _ENOUGH):
                message = connection.recv()
                if isinstance(message, str) or message[:1] != bytes([_STDOUT]):
                    continue
                read += len(message)
                if lines := beginning.feed(message[1:]):
                    self._give_unless_closed(lines)
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_RDWR)

    def _give_unless_closed(self, lines: bytes) -> None:
        with self._giving:
            if not self._closed.is_set():
                self._give(lines)


def _attach(client: Client, namespace: str, pod: str) -> ClientConnection:
    """A web socket to a runner's output as it comes.

    Raises:
        ForbiddenError: the user may not attach to pods.
        TraceError: the container does not run, or the kubelet doesn't answer.
    """
    # 130 ms, and only needed once a pod runs.
    from websockets.sync.client import unix_connect
    from websockets.typing import Subprotocol

    path = control.attach_path(namespace, pod, output=True)
    with control.refusals("its first output"):
        return unix_connect(
            client.socket_path,
            f"ws://localhost{path}",
            subprotocols=[Subprotocol(control.PROTOCOL)],
            compression=None,
            open_timeout=_PATIENCE,
            close_timeout=1,
        )
