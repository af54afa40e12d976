"""As much HTTP/1.1 as the simulated kubelets speak: a client's connection, and reading requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

_LIMIT = 1 << 24  # bytes of one line: an event of a watch


class Api:
    """The API server, over some connections that stay open."""

    def __init__(self, port: int, token: str, tls: ssl.SSLContext, *, at_once: int) -> None:
        """Connects when it is first used. `at_once`: how many calls."""
        self._port = port
        self._token = token
        self._tls = tls
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._room = asyncio.Semaphore(at_once)

    async def call(
        self, method: str, path: str, body: object = None, kind: str = "application/json"
    ) -> Any:
        """What the API server answers.

        Raises:
            OSError: it refuses, or is gone.
        """
        async with self._room:
            reader, writer = self._idle.pop() if self._idle else await self._connect()
            self._send(writer, method, path, body, kind)
            status, headers = await _head(reader)
            data = b"".join([piece async for piece in _body(reader, headers)])
            self._idle.append((reader, writer))
        if status >= 300:
            raise OSError(f"{method} {path}: {status} {data[:500]!r}")
        return msgspec.json.decode(data)

    async def watch(self, path: str) -> AsyncIterator[dict[str, Any]]:
        """The events of one watch."""
        reader, writer = await self._connect()
        self._send(writer, "GET", path, None, "application/json")
        status, headers = await _head(reader)
        if status >= 300:
            raise OSError(f"{path}: {status}")
        rest = b""
        async for piece in _body(reader, headers):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield msgspec.json.decode(line)
        writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port, ssl=self._tls, limit=_LIMIT)

    def _send(
        self, writer: asyncio.StreamWriter, method: str, path: str, body: object, kind: str
    ) -> None:
        data = b"" if body is None else msgspec.json.encode(body)
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {self._token}",
            "Accept: application/json",
            f"Content-Type: {kind}",
            f"Content-Length: {len(data)}",
            "\r\n",
        ]
        writer.write("\r\n".join(lines).encode() + data)


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines if line)
    return int(first.split()[1]), headers


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding") != "chunked":
        yield await reader.readexactly(int(headers.get("content-length", 0)))
        return
    while size := int(await reader.readline(), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
