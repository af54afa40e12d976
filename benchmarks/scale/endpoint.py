"""The HTTPS endpoint of all simulated kubelets: a container's log, and its standard input.

As the kubelet's (k8s.io/kubernetes pkg/kubelet/server/server.go): /containerLogs/NAMESPACE/POD/NAME
in chunks, /attach/NAMESPACE/POD/NAME as a web socket with `v4.channel.k8s.io`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from benchmarks.scale.scripted import Runner

_STDIN = b"\0"
"""The first byte of a message is the channel."""


class Endpoint:
    """Serves the runners that `find` knows, by namespace and pod."""

    def __init__(self, find: Callable[[str, str], Runner | None]) -> None:
        self._find = find

    async def listen(self, tls: ssl.SSLContext) -> int:
        """Listens; on which port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls, backlog=1000)
        return int(server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                path = head.split(b" ", 2)[1].decode().partition("?")[0]
                _, verb, namespace, pod, *_ = [*path.split("/"), "", "", ""]
                runner = self._find(namespace, pod)
                if runner is None:
                    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                elif verb == "containerLogs":
                    await _log(runner, writer)
                elif verb == "attach":
                    await _attach(runner, head, reader, writer)
                    break
                else:
                    writer.write(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n")
        writer.close()


async def _log(runner: Runner, writer: asyncio.StreamWriter) -> None:
    async def write(piece: bytes) -> None:
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()

    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    await runner.follow(write)
    writer.write(b"0\r\n\r\n")


async def _attach(
    runner: Runner, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    protocol = ServerProtocol(subprotocols=[Subprotocol("v4.channel.k8s.io")])
    protocol.receive_data(head)
    while True:
        for event in protocol.events_received():
            if isinstance(event, Request):
                protocol.send_response(protocol.accept(event))
            elif isinstance(event, Frame) and _is_input(event):
                runner.hear(bytes(event.data[1:]))
        for data in protocol.data_to_send():
            if not data:
                return
            writer.write(data)
        await writer.drain()
        data = await reader.read(1 << 16)
        if not data:
            return
        protocol.receive_data(data)


def _is_input(frame: Frame) -> bool:
    return frame.opcode in (Opcode.BINARY, Opcode.TEXT) and bytes(frame.data[:1]) == _STDIN
