"""The client against a server that misbehaves as no real API server can be made to."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.errors import ForbiddenError, NotFoundError, TraceError
from kubectl_trace.kube.client import Client, GoneError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STATUS = b'{"kind":"Status","message":"no such pod"}'


class Server:
    """Answers each connection with the same bytes, and then ends it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self.answer = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def socket_path(self) -> str:
        return str(self._path)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(self.answer)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    serving = Server(tmp_path / "s")
    yield serving
    serving.close()


def response(status: str, body: bytes, length: int | None = None) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        ("404 Not Found", STATUS, NotFoundError),
        ("401 Unauthorized", STATUS, ForbiddenError),
        ("403 Forbidden", STATUS, ForbiddenError),
        ("409 Conflict", STATUS, TraceError),
        ("410 Gone", STATUS, GoneError),
        ("429 Too Many Requests", STATUS, UnavailableError),
        ("503 Service Unavailable", STATUS, UnavailableError),
        ("500 Internal Server Error", b"dial tcp: connection refused", UnavailableError),
        ("301 Moved Permanently", b"<a href=x>", TraceError),
        ("200 OK", b"<html>", UnavailableError),
        ("200 OK", b"\xff", UnavailableError),
    ],
)
def test_an_answer_is_told_by_what_it_means(
    server: Server, status: str, body: bytes, error: type[TraceError]
) -> None:
    server.answer = response(status, body)
    with pytest.raises(error) as raised:
        Client(server).get("/x")
    assert raised.type is error


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", response("200 OK", b"{", 100)])
def test_a_connection_that_breaks_is_an_api_server_that_is_away(
    server: Server, answer: bytes
) -> None:
    server.answer = answer
    with pytest.raises(UnavailableError):
        Client(server).get("/x")


def test_a_stream_that_breaks_says_so_after_what_has_come(server: Server) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n9\r\nhal"
    server.answer = chunked
    with Client(server).stream("/x", {}) as stream:
        pieces = iter(stream)
        assert next(pieces).startswith(b"hello")
        with pytest.raises(UnavailableError):
            list(pieces)


def test_a_stream_that_ends_ends(server: Server) -> None:
    server.answer = response("200 OK", b"whole")
    with Client(server).stream("/x", {}) as stream:
        assert b"".join(stream) == b"whole"


def test_a_watch_whose_version_is_too_old_says_so(server: Server) -> None:
    server.answer = response("200 OK", b'{"type":"ERROR","object":{"code":410,"message":"old"}}\n')
    with pytest.raises(GoneError):
        list(Client(server).watch("/x", {}, seconds=1))
