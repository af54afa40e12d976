"""A runner's standard input and output, over the API server: `attach` as a web socket."""

from __future__ import annotations

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
_PING = 15.0  # seconds between two pings, and for the answer to one


class ControlChannel:
    """The way from the client to a runner's standard input, opened when it is needed."""

    def __init__(self, client: Client, namespace: str, pod: str) -> None:
        self._client = client
        self._namespace = namespace
        self._pod = pod
        self._socket: ClientConnection | None = None

    def send(self, message: Control) -> None:
        """Sends one message. A channel that has broken is opened anew by the next one.

        Raises:
            ForbiddenError: the user may not attach to pods.
            TraceError: the pod is gone, the kubelet doesn't answer, or the channel has broken.
        """
        from websockets.exceptions import WebSocketException

        text = msgspec.json.encode(message) + b"\n"
        if self._socket is None:
            self._socket = attach(self._client, self._namespace, self._pod, output=False)
            # Where a channel broke within a message, this is not to be its end.
            text = b"\n" + text
        socket = self._socket
        try:
            socket.send(_STDIN + text)
        except (OSError, WebSocketException) as error:
            self.close()
            raise TraceError(f"the connection to the runner broke: {error}") from error

    def close(self) -> None:
        """Ends the channel."""
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.close()


def attach(client: Client, namespace: str, pod: str, *, output: bool) -> ClientConnection:
    """A web socket to a runner's standard input; `output`: and from its output as it comes.

    Raises:
        ForbiddenError: the user may not attach to pods.
        TraceError: the container does not run, or the kubelet doesn't answer.
    """
    # 130 ms, and only needed once a pod runs.
    from websockets.exceptions import InvalidStatus, WebSocketException
    from websockets.sync.client import unix_connect
    from websockets.typing import Subprotocol

    # Without stdin kubelets (1.20) say at once that all is over.
    query = urlencode({"container": CONTAINER, "stdin": "true", "stdout": str(output).lower()})
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/attach?{query}"
    try:
        return unix_connect(
            client.socket_path,
            f"ws://localhost{path}",
            subprotocols=[Subprotocol("v4.channel.k8s.io")],
            compression=None,
            open_timeout=_TIMEOUT,
            close_timeout=1,
            # A connection that is dead without a word is made anew before the runner takes us
            # for gone (trace.SILENCE).
            ping_interval=_PING,
            ping_timeout=_PING,
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


def _message(body: bytes) -> str:
    """What an answer says, which may be a `Status` object."""
    try:
        return str(msgspec.json.decode(body)["message"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return body.decode(errors="replace").strip()
