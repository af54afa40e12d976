"""The API server's HTTP interface: get, list, create, delete, watch, and streams of text."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from kubectl_trace.errors import ForbiddenError, NotFoundError, TraceError
from kubectl_trace.kube import http

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

Object = dict[str, Any]
"""A Kubernetes object as its JSON says it."""

_CHUNK = 1 << 18  # bytes a read of a stream


class GoneError(TraceError):
    """The resource version of a watch is too old (410)."""


class UnavailableError(TraceError):
    """The API server, or a kubelet behind it, can't be reached or is in trouble: try again."""


class Connection(Protocol):
    """Where the API server's socket is, once it is there."""

    def socket_path(self) -> str:
        """The path of a Unix socket that speaks HTTP."""
        ...


class Client:
    """Calls to the API server. Each has a connection of its own, so that threads share nothing."""

    def __init__(self, connection: Connection, request_timeout: float | None = None) -> None:
        """`request_timeout`: seconds for one call to be answered; watches and streams have none."""
        self._connection = connection
        self._request_timeout = request_timeout

    @property
    def socket_path(self) -> str:
        """The path of the Unix socket behind this client."""
        return self._connection.socket_path()

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Object:
        """One object, or a list of them.

        Raises:
            NotFoundError, ForbiddenError, TraceError: as the API server answers.
        """
        return self._object("GET", path, query)

    def create(self, path: str, body: Object, query: Mapping[str, str] | None = None) -> Object:
        """Creates an object and gives it back as the API server stored it.

        Raises:
            NotFoundError, ForbiddenError, TraceError: as the API server answers.
        """
        return self._object("POST", path, query, body)

    def delete(self, path: str, body: Object | None = None) -> Object:
        """Deletes an object; `body` is a `DeleteOptions`.

        Raises:
            NotFoundError, ForbiddenError, TraceError: as the API server answers.
        """
        return self._object("DELETE", path, None, body)

    def watch(self, path: str, query: Mapping[str, str], *, seconds: int) -> Iterator[Object]:
        """The events of one watch, `{"type": …, "object": …}`, until the server ends it.

        Raises:
            GoneError: the resource version is too old; list again.
            ForbiddenError, TraceError: as the API server answers.
        """
        every = {**query, "watch": "true", "timeoutSeconds": str(seconds)}
        rest = b""
        with self.stream(path, every) as stream:
            for chunk in stream:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    with _as_unavailable():
                        event = cast("Object", msgspec.json.decode(line))
                    if event["type"] == "ERROR":
                        raise _error(event["object"].get("code", 500), event["object"])
                    yield event

    def stream(self, path: str, query: Mapping[str, str]) -> Stream:
        """A body in pieces as they come.

        Raises:
            NotFoundError, ForbiddenError, TraceError: as the API server answers.
        """
        exchange = self._request("GET", path, query)
        if exchange.status >= 300:
            raise self._failure(exchange)
        return Stream(exchange)

    def _object(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Object | None = None,
    ) -> Object:
        exchange = self._request(method, path, query, body, self._request_timeout)
        if exchange.status >= 300:
            raise self._failure(exchange)
        with contextlib.closing(exchange), _as_unavailable():
            return cast("Object", msgspec.json.decode(exchange.read()))

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Object | None = None,
        timeout: float | None = None,
    ) -> http.Exchange:
        socket_path = self.socket_path
        encoded = msgspec.json.encode(body) if body is not None else None
        with _as_unavailable(), contextlib.ExitStack() as on_error:
            exchange = http.Exchange(socket_path, timeout)
            on_error.callback(exchange.close)
            exchange.request(method, http.target(path, query), encoded)
            on_error.pop_all()
        return exchange

    def _failure(self, exchange: http.Exchange) -> TraceError:
        with contextlib.closing(exchange), _as_unavailable():
            body = exchange.read()
        try:
            status = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            status = None
        if not isinstance(status, dict):
            # Not the API server's own words, but those of kubectl proxy or of something between.
            said = body.decode(errors="replace").strip()[:500]
            if exchange.status >= 500:
                return UnavailableError(f"the API server can't be reached: {said}")
            status = {"message": said}
        return _error(exchange.status, status)


class Stream:
    """A response body in pieces; closing it, also from another thread, ends the iteration.

    Iterating raises UnavailableError where the connection breaks before the body's end.
    """

    def __init__(self, exchange: http.Exchange) -> None:
        self._exchange = exchange
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        while True:
            try:
                with _as_unavailable():
                    chunk = self._exchange.read_some(_CHUNK)
            except UnavailableError:
                if self._closed:
                    return
                raise
            if not chunk:
                return
            yield chunk

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._exchange.socket.shutdown(socket.SHUT_RDWR)
        self._exchange.close()


@contextlib.contextmanager
def _as_unavailable() -> Iterator[None]:
    """What goes wrong between us and the API server, as one kind of error."""
    try:
        yield
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise UnavailableError(f"the connection to the API server broke: {error}") from error


def _error(code: int, status: Object) -> TraceError:
    message = str(status.get("message") or f"the API server answered {code}")
    if code == 404:
        return NotFoundError(message)
    if code in (401, 403):
        from kubectl_trace.kube.rights import explained

        return ForbiddenError(explained(message))
    if code == 410:
        return GoneError(message)
    if code == 429 or code >= 500:
        # Its own trouble, or a kubelet's that it asks for a log.
        return UnavailableError(message)
    return TraceError(message)
