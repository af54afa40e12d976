"""A runner's standard input, over the API server: `attach` as a web socket.

Nothing is read but when something is sent: no thread is needed for a connection, so that a client
can speak to hundreds of runners.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from typing import TYPE_CHECKING

import msgspec

from kubectl_trace.errors import ForbiddenError, TraceError
from kubectl_trace.kube import http
from kubectl_trace.kube.job import CONTAINER
from kubectl_trace.kube.rights import explained

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubectl_trace.kube.client import Client
    from kubectl_trace.trace import Control

PROTOCOL = "v4.channel.k8s.io"
"""The first byte of a message is the channel: k8s.io/apimachinery, remotecommand."""

_STDIN = b"\0"
_TIMEOUT = 15.0  # seconds for the kubelet to answer
_SILENT = 15.0
"""Seconds for a ping to be answered. A connection that is dead without a word is made anew before
the runner takes us for gone (trace.SILENCE)."""
_CHUNK = 1 << 16  # bytes a read
_FAREWELL = 1.0  # seconds for the kubelet to take the end of a connection


class ControlChannel:
    """The way from the client to a runner's standard input, opened when it is needed."""

    def __init__(self, client: Client, namespace: str, pod: str) -> None:
        self._client = client
        self._namespace = namespace
        self._pod = pod
        self._socket: _WebSocket | None = None

    def send(self, message: Control) -> None:
        """Sends one message. A channel that has broken is opened anew by the next one.

        Raises:
            ForbiddenError: the user may not attach to pods.
            TraceError: the pod is gone, the kubelet doesn't answer, or the channel has broken.
        """
        text = msgspec.json.encode(message) + b"\n"
        if self._socket is None:
            self._socket = self._open()
            # Where a channel broke within a message, this is not to be its end.
            text = b"\n" + text
        try:
            self._socket.send(_STDIN + text)
        except OSError as error:
            self.close()
            raise TraceError(f"the connection to the runner broke: {error}") from error

    def close(self, *, wait: bool = False) -> None:
        """Ends the channel. `wait`: a little, until what was sent has been taken."""
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.close(wait=wait)

    def _open(self) -> _WebSocket:
        with refusals("stopping a trace"):
            path = attach_path(self._namespace, self._pod, output=False)
            return _WebSocket(self._client.socket_path, path)


def attach_path(namespace: str, pod: str, *, output: bool) -> str:
    """Where a runner's standard input is to be had; `output`: and its output as it comes."""
    # Without stdin kubelets (1.20) say at once that all is over.
    query = {"container": CONTAINER, "stdin": "true", "stdout": str(output).lower()}
    return http.target(f"/api/v1/namespaces/{namespace}/pods/{pod}/attach", query)


@contextlib.contextmanager
def refusals(use: str) -> Iterator[None]:
    """What comes of an attempt to attach, as errors of ours; `use`: what it is needed for.

    Raises:
        ForbiddenError: the user may not attach to pods.
        TraceError: the container does not run, or the kubelet doesn't answer.
    """
    # Only needed once a pod runs.
    from websockets.exceptions import InvalidStatus, WebSocketException

    try:
        yield
    except InvalidStatus as error:
        body = _message(bytes(error.response.body or b""))
        if error.response.status_code in (401, 403):
            raise ForbiddenError(
                f"may not attach to the runner, which {use} needs: {explained(body)}"
            ) from error
        raise TraceError(
            f"can't attach to the runner: {body or error.response.status_code}"
        ) from error
    except (OSError, WebSocketException) as error:
        raise TraceError(f"can't attach to the runner: {error}") from error


class _WebSocket:
    """A web socket that is only written to; what comes is looked at before each message."""

    def __init__(self, socket_path: str, resource: str) -> None:
        """Connects, to a Unix socket.

        Raises:
            OSError: the connection broke, or is not answered.
            websockets.exceptions.WebSocketException: it is refused.
        """
        from websockets.client import ClientProtocol
        from websockets.protocol import State
        from websockets.typing import Subprotocol
        from websockets.uri import parse_uri

        self._protocol = ClientProtocol(
            parse_uri(f"ws://localhost{resource}"),
            subprotocols=[Subprotocol(PROTOCOL)],
        )
        self._asked_at = 0.0
        """When the last ping was sent; 0: it is answered."""
        with contextlib.ExitStack() as on_error:
            self._socket = socket.socket(socket.AF_UNIX)
            on_error.callback(self._socket.close)
            self._socket.settimeout(_TIMEOUT)
            self._socket.connect(socket_path)
            self._protocol.send_request(self._protocol.connect())
            self._flush()
            while self._protocol.state is State.CONNECTING:
                if self._protocol.handshake_exc is not None:
                    raise self._protocol.handshake_exc
                self._take(self._socket.recv(_CHUNK))
            on_error.pop_all()

    def send(self, data: bytes) -> None:
        """Sends a message.

        Raises:
            OSError: the connection has broken, or its other end has ended it or is silent.
        """
        from websockets.frames import Opcode

        for piece in self._what_came():
            self._take(piece)
        for event in self._protocol.events_received():
            if getattr(event, "opcode", None) is Opcode.PONG:
                self._asked_at = 0.0
        if self._protocol.close_expected():
            raise ConnectionError("its other end has closed it")
        now = time.monotonic()
        if self._asked_at and now - self._asked_at > _SILENT:
            raise TimeoutError("its other end is silent")
        self._protocol.send_binary(data)
        if not self._asked_at:
            self._asked_at = now
            self._protocol.send_ping(b"")
        self._flush()

    def close(self, *, wait: bool) -> None:
        """Says goodbye. `wait`: a little, for the answer."""
        from websockets.protocol import State

        with contextlib.suppress(OSError), self._socket:
            if self._protocol.state is State.OPEN:
                self._protocol.send_close()
                self._flush()
            self._socket.settimeout(_FAREWELL)
            while wait and (piece := self._socket.recv(_CHUNK)):
                self._take(piece)

    def _what_came(self) -> Iterator[bytes]:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while poll.poll(0):
            yield self._socket.recv(_CHUNK)

    def _take(self, data: bytes) -> None:
        if data:
            self._protocol.receive_data(data)
            self._flush()
        else:
            self._protocol.receive_eof()
            if self._protocol.handshake_exc is None:
                raise ConnectionError("it has ended")

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._socket.sendall(data)


def _message(body: bytes) -> str:
    """What an answer says, which may be a `Status` object."""
    try:
        return str(msgspec.json.decode(body)["message"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return body.decode(errors="replace").strip()
