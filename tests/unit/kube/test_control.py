"""The way to a runner's standard input, with a kubelet of its own on a Unix socket."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from kubectl_trace.errors import ForbiddenError, TraceError
from kubectl_trace.kube import control
from kubectl_trace.kube.client import Client
from kubectl_trace.kube.control import ControlChannel
from kubectl_trace.trace import Hello, Stop

if TYPE_CHECKING:
    from collections.abc import Iterator

HELLO, STOP = b'\0{"type":"hello"}\n', b'\0{"type":"stop"}\n'


class Kubelet:
    """Takes web sockets; what comes in them, and the requests that ask for them."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.requests: list[Request] = []
        self.heard: SimpleQueue[bytes] = SimpleQueue()
        self.refusal = 0
        self.is_deaf = False
        self.connections: list[socket.socket] = []
        self._server = socket.create_server(self.path, family=socket.AF_UNIX)
        threading.Thread(target=self._accept, daemon=True).start()

    def socket_path(self) -> str:
        return self.path

    def close(self) -> None:
        self._server.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Ends all connections, as a node does that goes down in order."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self.connections.append(connection)
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        protocol = ServerProtocol(subprotocols=[Subprotocol("v4.channel.k8s.io")])
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(1 << 16):
                protocol.receive_data(data)
                for event in protocol.events_received():
                    if isinstance(event, Request):
                        self.requests.append(event)
                        protocol.send_response(
                            protocol.reject(self.refusal, '{"message": "no"}')
                            if self.refusal
                            else protocol.accept(event)
                        )
                    elif isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                        self.heard.put(bytes(event.data))
                for answer in protocol.data_to_send():
                    if not answer:
                        return
                    if not (self.is_deaf and self.heard.qsize()):
                        connection.sendall(answer)


@pytest.fixture
def kubelet(tmp_path: Path) -> Iterator[Kubelet]:
    with contextlib.closing(Kubelet(tmp_path / "s")) as kubelet:
        yield kubelet


@pytest.fixture
def channel(kubelet: Kubelet) -> Iterator[ControlChannel]:
    with contextlib.closing(ControlChannel(Client(kubelet), "n", "p")) as channel:
        yield channel


def fails_soon(channel: ControlChannel) -> str:
    """Why nothing can be sent any more."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            channel.send(Hello())
        except TraceError as error:
            return str(error)
    raise AssertionError("all could be sent")


def test_all_messages_go_through_one_connection_that_needs_no_thread(
    kubelet: Kubelet, channel: ControlChannel
) -> None:
    channel.send(Hello())
    threads = {thread for thread in threading.enumerate() if "_serve" not in thread.name}
    for _ in range(20):
        channel.send(Hello())
    channel.send(Stop())
    heard = [kubelet.heard.get(timeout=20) for _ in range(22)]
    assert heard == [b"\0\n" + HELLO[1:], *[HELLO] * 20, STOP]
    (request,) = kubelet.requests
    assert request.path == (
        "/api/v1/namespaces/n/pods/p/attach?container=kubectl-trace&stdin=true&stdout=false"
    )
    assert not {t for t in threading.enumerate() if "_serve" not in t.name} - threads


@pytest.mark.parametrize("wait", [True, False])
def test_what_is_sent_before_the_end_of_a_channel_comes(
    kubelet: Kubelet, channel: ControlChannel, wait: bool
) -> None:
    channel.send(Stop())
    channel.close(wait=wait)
    assert kubelet.heard.get(timeout=20).endswith(STOP[1:])


def test_a_connection_that_is_ended_is_told_and_made_anew(
    kubelet: Kubelet, channel: ControlChannel
) -> None:
    channel.send(Hello())
    kubelet.hang_up()
    assert "the connection to the runner broke" in fails_soon(channel)
    channel.send(Stop())
    while not (heard := kubelet.heard.get(timeout=20)).endswith(STOP[1:]):
        pass
    assert heard == b"\0\n" + STOP[1:], "half a message before it is not its beginning"
    assert len(kubelet.requests) == 2


def test_a_connection_that_answers_no_ping_is_made_anew(
    kubelet: Kubelet, channel: ControlChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_SILENT", 0.1)
    kubelet.is_deaf = True
    channel.send(Hello())
    assert "silent" in fails_soon(channel)


def test_a_connection_that_answers_is_kept(
    kubelet: Kubelet, channel: ControlChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        channel.send(Hello())
        kubelet.heard.get(timeout=20)
    monkeypatch.setattr(control, "_SILENT", 0.1)
    time.sleep(0.2)  # longer than an answer may take
    channel.send(Hello())
    channel.send(Hello())
    assert len(kubelet.requests) == 1


@pytest.mark.parametrize(("code", "kind"), [(403, ForbiddenError), (404, TraceError)])
def test_what_refuses_the_connection_is_told(
    kubelet: Kubelet, channel: ControlChannel, code: int, kind: type[TraceError]
) -> None:
    kubelet.refusal = code
    with pytest.raises(kind, match=r"attach to the runner.*no") as told:
        channel.send(Hello())
    assert type(told.value) is kind


def test_without_an_api_server_it_is_said(kubelet: Kubelet, channel: ControlChannel) -> None:
    Path(kubelet.path).unlink()
    with pytest.raises(TraceError, match="can't attach to the runner"):
        channel.send(Hello())
