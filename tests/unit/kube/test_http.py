"""HTTP as far as it is spoken here: bodies come whole, whatever they are cut into."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubectl_trace.kube import http

if TYPE_CHECKING:
    from pathlib import Path

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(deadline=None)
@given(TEXT, st.dictionaries(TEXT.filter(bool), TEXT.filter(bool), max_size=4))
def test_a_target_means_what_it_was_made_of(path: str, query: dict[str, str]) -> None:
    made = http.target(f"/{path}", query)
    assert made.isascii()
    assert made.isprintable()
    assert " " not in made
    found = urlsplit(f"http://h{made}")
    assert unquote(found.path) == f"/{path}"
    assert found.path == quote(f"/{path}")
    assert parse_qs(found.query, keep_blank_values=True, strict_parsing=bool(query)) == {
        name: [value] for name, value in query.items()
    }


def answered(path: Path, answer: bytes) -> http.Exchange:
    """An exchange whose other side says this and ends."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        exchange = http.Exchange(str(path), 10)
        try:
            exchange.request("GET", "/", None)
        except BaseException:
            exchange.close()
            raise
        finally:
            thread.join(10)
        return exchange


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.integers(1, 50))
def test_a_body_in_chunks_comes_whole(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes], most: int
) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"%x;note=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    path = tmp_path_factory.mktemp("s") / "s"
    exchange = answered(path, head + body + b"0\r\nDone: yes\r\n\r\n")
    pieces = list(iter(lambda: exchange.read_some(most), b""))
    assert b"".join(pieces) == b"".join(chunks)
    assert all(len(piece) <= most for piece in pieces)
    assert exchange.read_some(most) == b"", "the end stays the end"
    exchange.close()


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.0 200 OK\r\n\r\nto the end", 200, b"to the end"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (
            b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n",
            404,
            b"",
        ),
    ],
)
def test_a_body_ends_where_its_head_says(
    tmp_path: Path, answer: bytes, status: int, body: bytes
) -> None:
    exchange = answered(tmp_path / "s", answer)
    assert (exchange.status, exchange.read()) == (status, body)
    exchange.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 OK\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1_0\r\n0123456789\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
    ],
)
def test_what_is_no_http_is_told(tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(ValueError), contextlib.ExitStack() as stack:  # noqa: PT011
        stack.enter_context(contextlib.closing(answered(tmp_path / "s", answer))).read()
