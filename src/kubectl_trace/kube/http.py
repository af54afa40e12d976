"""HTTP/1.1 over a Unix socket: as much of RFC 9112 as `kubectl proxy` speaks.

http.client speaks all of it, and imports TLS and mail for it: 30 ms of a verb that takes a hundred.
"""

from __future__ import annotations

import io
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
"""RFC 3986, 2.3."""

_DIGITS = {10: frozenset(b"0123456789"), 16: frozenset(b"0123456789abcdefABCDEF")}
_LINE = 1 << 16  # bytes of a line of the head, at most
_HEADERS = 200  # lines of it
_BUFFER = 1 << 18  # bytes read ahead


class ProtocolError(ValueError):
    """What came is no HTTP, or not all of it."""


def target(path: str, query: Mapping[str, str] | None) -> str:
    """A path and a query as a request line has them."""
    pairs = (f"{_quoted(name)}={_quoted(value)}" for name, value in (query or {}).items())
    return _quoted(path, b"/") + ("?" + "&".join(pairs) if query else "")


def _quoted(text: str, also: bytes = b"") -> str:
    return "".join(
        chr(byte) if byte in _UNRESERVED or byte in also else f"%{byte:02X}"
        for byte in text.encode()
    )


def _size(text: bytes, base: int) -> int:
    if not _DIGITS[base].issuperset(text) or not text:
        raise ProtocolError("its answer has a size that is none")
    return int(text, base)


class Exchange:
    """One request on a connection of its own, and its response."""

    def __init__(self, path: str, timeout: float | None) -> None:
        """Connects to a Unix socket; `timeout`: seconds for each wait, None: any time.

        Raises:
            OSError: nobody listens.
        """
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self._file = io.BufferedReader(socket.SocketIO(self.socket, "r"), _BUFFER)
        self._chunked = self._is_after_chunk = False
        self._left: int | None = 0  # bytes of the body, or of its chunk; None: to the end
        self.status = 0
        try:
            self.socket.connect(path)
        except BaseException:
            self.close()
            raise

    def request(self, method: str, where: str, body: bytes | None) -> None:
        """Sends a request whose body, if it has one, is JSON, and reads the response's head.

        Raises:
            ProtocolError: what comes is no HTTP.
            OSError: the connection breaks.
        """
        lines = [
            f"{method} {where} HTTP/1.1",
            "Host: localhost",
            "Accept: application/json",
            "Accept-Encoding: identity",
        ]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode("ascii") + (body or b""))
        while (status := self._head()) < 200:  # interim responses
            pass
        self.status = status

    def read(self) -> bytes:
        """The rest of the body.

        Raises:
            ProtocolError: the connection ends before the body.
            OSError: the connection breaks.
        """
        return b"".join(iter(lambda: self.read_some(_BUFFER), b""))

    def read_some(self, most: int) -> bytes:
        """Some bytes of the body, as soon as there are any; none: its end.

        Raises:
            ProtocolError: the connection ends before the body.
            OSError: the connection breaks.
        """
        if self._left is None:
            return self._file.read1(most)
        if not self._left:
            if not self._chunked:
                return b""
            self._next_chunk()
            if not self._left:
                return b""
        data = self._file.read1(min(most, self._left))
        if not data:
            raise ProtocolError("it ended in the middle of a response")
        self._left -= len(data)
        self._is_after_chunk = self._chunked and not self._left
        return data

    def close(self) -> None:
        """Ends the connection."""
        self._file.close()
        self.socket.close()

    def _head(self) -> int:
        words = self._line().split(maxsplit=2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise ProtocolError("its answer is no HTTP")
        status = int(words[1])
        headers = self._headers()
        self._chunked = headers.get(b"transfer-encoding", b"").lower() == b"chunked"
        if self._chunked or status in (204, 304) or status < 200:
            self._left = 0
        elif b"content-length" in headers:
            self._left = _size(headers[b"content-length"], 10)
        else:
            self._left = None
        return status

    def _headers(self) -> dict[bytes, bytes]:
        headers: dict[bytes, bytes] = {}
        for _ in range(_HEADERS):
            line = self._line()
            if not line:
                return headers
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
        raise ProtocolError("its answer has too many headers")

    def _next_chunk(self) -> None:
        if self._is_after_chunk and self._line():
            raise ProtocolError("a chunk of its answer is longer than it says")
        self._is_after_chunk = False
        self._left = _size(self._line().partition(b";")[0].strip(), 16)
        if not self._left:
            self._headers()  # trailers
            self._chunked = False

    def _line(self) -> bytes:
        line = self._file.readline(_LINE)
        if not line.endswith(b"\n"):
            raise ProtocolError("it ended in the middle of a response")
        return line.rstrip(b"\r\n")
