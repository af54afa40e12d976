"""The cluster that a verb's command line names: its client, namespace and user."""

from __future__ import annotations

import re
import subprocess
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kubectl_trace.cli.arguments import note
from kubectl_trace.errors import UsageError
from kubectl_trace.kube.proxy import Proxy, kubectl

if TYPE_CHECKING:
    import argparse
    from types import TracebackType

    from kubectl_trace.kube.client import Client

_IN_CLUSTER_NAMESPACE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"


class Cluster:
    """A connection that starts at once and is waited for when it is used."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._proxy = Proxy(arguments.connection_flags, note)
        self._config = subprocess.Popen(
            [kubectl(), *arguments.connection_flags, "config", "view", "--minify", "--output=json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._proxy.close()
        self._config.kill()
        self._config.wait()

    @cached_property
    def client(self) -> Client:
        """Calls to the API server."""
        from kubectl_trace.kube.client import Client

        return Client(self._proxy, self._arguments.request_timeout or None)

    def own(self, namespace: str, pod: str) -> None:
        """This runner is to be stopped if this command is killed."""
        self._proxy.own(namespace, pod)

    @property
    def namespace(self) -> str:
        """The namespace: the flag's, else the context's, else the pod's that we run in."""
        if self._arguments.namespace:
            namespace = str(self._arguments.namespace)
            if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", namespace):
                raise UsageError(f"{namespace!r} is no name of a namespace")
            return namespace
        return str(self._context.get("namespace") or _in_cluster_namespace() or "default")

    @property
    def user(self) -> str:
        """Who asks, as far as the client knows: the impersonated user, or the kubeconfig's."""
        for flag in self._arguments.connection_flags:
            if flag.startswith("--as="):
                return str(flag.removeprefix("--as="))
        return str(self._context.get("user") or "")

    @cached_property
    def _context(self) -> dict[str, Any]:
        """The current context; empty where there is no kubeconfig."""
        import msgspec

        output, _ = self._config.communicate()
        if self._config.returncode != 0:
            return {}
        contexts = msgspec.json.decode(output).get("contexts") or [{}]
        return dict(contexts[0].get("context") or {})


def _in_cluster_namespace() -> str:
    try:
        with open(_IN_CLUSTER_NAMESPACE) as file:
            return file.read().strip()
    except OSError:
        return ""
