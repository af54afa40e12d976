"""A runner's standard input, over the API server: `attach` as a web socket."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec

from kubectl_trace.errors import ForbiddenError, TraceError
from kubectl_trace.kube.job import CONTAINER
from kubectl_trace.kube.rights import explained

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

    from kubectl_trace.kube.client import Client
    from kubectl_trace.trace import Control

# The first byte of a message is the channel: k8s.io/apimachinery, remotecommand, v4.channel.k8s.io.
_STDIN = b"\0"
_TIMEOUT = 15.0  # seconds for the kubelet to answer


class ControlChannel:
    """The way from the client to a runner. For an attached trace, its end is the client's end."""

    def __init__(self, client: Client, namespace: str, pod: str) -> None:
        """Opens the channel.

        Raises:
            ForbiddenError: the user may not attach to pods.
            TraceError: the pod is gone, or the kubelet doesn't answer.
        """
        # 130 ms, and only needed once a pod runs.
        from websockets.exceptions import InvalidStatus, WebSocketException
        from websockets.sync.client import unix_connect
        from websockets.typing import Subprotocol

        query = urlencode({"container": CONTAINER, "stdin": "true", "stdout": "false"})
        try:
            self._socket: ClientConnection = unix_connect(
                client.socket_path,
                f"ws://localhost/api/v1/namespaces/{namespace}/pods/{pod}/attach?{query}",
                subprotocols=[Subprotocol("v4.channel.k8s.io")],
                compression=None,
                open_timeout=_TIMEOUT,
                close_timeout=1,
            )
        except InvalidStatus as error:
            body = _message(bytes(error.response.body or b""))
            if error.response.status_code in (401, 403):
                raise ForbiddenError(
                    f"may not attach to the runner, which stopping a trace needs: {explained(body)}"
                ) from error
            raise TraceError(
                f"can't attach to the runner: {body or error.response.status_code}"
            ) from error
        except (OSError, WebSocketException) as error:
            raise TraceError(f"can't attach to the runner: {error}") from error

    def send(self, message: Control) -> None:
        """Sends one message; a runner that is gone needs none."""
        from websockets.exceptions import WebSocketException

        with contextlib.suppress(OSError, WebSocketException):
            self._socket.send(_STDIN + msgspec.json.encode(message) + b"\n")

    def close(self) -> None:
        """Ends the channel."""
        self._socket.close()


def _message(body: bytes) -> str:
    """What an answer says, which may be a `Status` object."""
    try:
        return str(msgspec.json.decode(body)["message"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return body.decode(errors="replace").strip()
