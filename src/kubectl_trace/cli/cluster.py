"""The cluster that a verb's command line names: its client, namespace and user."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cached_property

from kubectl_trace.cli.arguments import note
from kubectl_trace.errors import TraceError, UsageError
from kubectl_trace.kube.proxy import Proxy, kubectl

TYPE_CHECKING = False  # typing is imported once kubectl has been started
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from types import TracebackType

    from kubectl_trace.kube.client import Client
    from kubectl_trace.kube.context import Context

_IN_CLUSTER_NAMESPACE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"


class Cluster:
    """A connection that starts at once and is waited for when it is used.

    That it can't be had is told then, too: what is wrong with a command line comes first.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._proxy = _started(arguments.connection_flags)
        self._owns = False

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(self._proxy, Proxy):
            self._proxy.close(wait=self._owns)

    @cached_property
    def client(self) -> Client:
        """Calls to the API server.

        Raises:
            TraceError: there is no kubectl on PATH.
        """
        if isinstance(self._proxy, TraceError):
            raise self._proxy
        from kubectl_trace.kube.client import Client

        return Client(self._proxy, self._arguments.request_timeout or None)

    def own(self, namespace: str, pod: str) -> None:
        """This runner is to be stopped if this command is killed."""
        self._owns = True
        if isinstance(self._proxy, Proxy):
            self._proxy.own(namespace, pod)

    @property
    def namespace(self) -> str:
        """The namespace: the flag's, else the context's, else the pod's that we run in."""
        if self._arguments.namespace:
            namespace = str(self._arguments.namespace)
            if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", namespace):
                raise UsageError(f"{namespace!r} is no name of a namespace")
            return namespace
        return self._context.namespace or _in_cluster_namespace() or "default"

    @property
    def user(self) -> str:
        """Who asks, as far as the client knows: the impersonated user, or the kubeconfig's."""
        from kubectl_trace.kube import context

        flags = self._arguments.connection_flags
        chosen = context.chosen_user(flags)
        return self._context.user if chosen is None else chosen

    @cached_property
    def _context(self) -> Context:
        """The current context; empty where there is no kubeconfig."""
        from kubectl_trace.kube import context

        flags = self._arguments.connection_flags
        file = context.plain_file(flags, os.environ)
        return (context.read(file, flags) if file else None) or _asked(flags)


def _started(flags: Sequence[str]) -> Proxy | TraceError:
    try:
        return Proxy(flags, note)
    except TraceError as error:
        return error


def _asked(flags: Sequence[str]) -> Context:
    """The current context as kubectl says it."""
    import msgspec

    from kubectl_trace.kube.context import Context

    done = subprocess.run(
        [kubectl(), *flags, "config", "view", "--minify", "--output=json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        check=False,
    )
    if done.returncode != 0:
        return Context()
    contexts = msgspec.json.decode(done.stdout).get("contexts") or [{}]
    context = contexts[0].get("context") or {}
    return Context(context.get("namespace") or "", context.get("user") or "")


def _in_cluster_namespace() -> str:
    try:
        with open(_IN_CLUSTER_NAMESPACE) as file:
            return file.read().strip()
    except OSError:
        return ""
