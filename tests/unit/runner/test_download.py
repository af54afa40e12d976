from __future__ import annotations

import contextlib
import http.server
import io
import threading
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.runner import download

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def serving(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):  # who asked has gone
                answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/file"
        server.shutdown()


def fetched(url: str, most: int = 1 << 20, seconds: float = 10.0) -> bytes:
    file = io.BytesIO()
    download.into(file, url, most=most, seconds=seconds)
    return file.getvalue()


def test_what_is_there_is_fetched() -> None:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(b"x" * 100_000)

    with serving(answer) as url:
        assert fetched(url) == b"x" * 100_000
        with pytest.raises(OSError, match="larger than 0 MiB"):
            fetched(url, most=1000)


def test_a_server_without_it_says_so() -> None:
    with (
        serving(lambda request: request.send_error(404)) as url,
        pytest.raises(OSError, match="404"),
    ):
        fetched(url)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "data:text/plain,x",
        "FILE:///etc/passwd",
        "/etc/passwd",
        "http://[",
        "http://x y/",
        "",
    ],
)
def test_only_http_is_asked(url: str) -> None:
    with pytest.raises(OSError):  # noqa: PT011
        fetched(url)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_no_server_leads_to_the_nodes_files(target: str) -> None:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", target)
        request.end_headers()

    with serving(answer) as url, pytest.raises(OSError):  # noqa: PT011
        fetched(url)


def test_a_server_that_trickles_does_not_hold_the_trace() -> None:
    stop = threading.Event()

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not stop.wait(0.02):
            request.wfile.write(b"x")

    with serving(answer) as url:
        with pytest.raises(OSError, match=r"not there after 0\.3 s"):
            fetched(url, seconds=0.3)
        stop.set()


def test_a_password_is_not_shown() -> None:
    assert download.shown("https://me:secret@host/x@y") == "https://host/x@y"
    assert download.shown("https://host/x") == "https://host/x"
