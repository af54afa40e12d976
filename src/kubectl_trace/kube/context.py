"""The kubeconfig's current context, read here where kubectl's rules are simple.

`kubectl config view --minify` says it always, but costs as much as all else that a short verb does.
The simple case: one file, and no flag that changes more than which file or context it is
(https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNCHANGING = ("--as=", "--as-group=", "--as-uid=", "--cache-dir=", "--disable-compression=")
"""Flags that have nothing to do with contexts."""


_CREDENTIALS = ("--token=", "--client-certificate=", "--username=")
"""Flags that make a request another user's than the context's."""


class Context(NamedTuple):
    """What a context says; empty: nothing."""

    namespace: str = ""
    user: str = ""


def plain_file(flags: Sequence[str], environment: Mapping[str, str]) -> str:
    """The one kubeconfig that kubectl would read with these flags; empty: it is not that simple."""
    files: list[str] = []
    for flag in flags:
        if flag.startswith("--kubeconfig="):
            files = [flag.partition("=")[2]]
        elif not flag.startswith(("--context=", *_UNCHANGING)):
            return ""
    if not files:
        named = environment.get("KUBECONFIG", "").split(os.pathsep)
        files = [file for file in named if file]
    if not files and not environment.get("KUBECONFIG") and (home := environment.get("HOME")):
        files = [os.path.join(home, ".kube", "config")]
    return files[0] if len(files) == 1 and os.path.isfile(files[0]) else ""


def chosen_user(flags: Sequence[str]) -> str | None:
    """Who asks by these flags; empty: who can't be told; None: the context says who."""
    for prefix in ("--as=", "--user="):
        named = [flag.partition("=")[2] for flag in flags if flag.startswith(prefix)]
        if named and named[-1]:
            return named[-1]
    return "" if any(flag.startswith(_CREDENTIALS) for flag in flags) else None


def read(file: str, flags: Sequence[str]) -> Context | None:
    """The context that a kubeconfig and the flags choose; None: ask kubectl."""
    try:
        with open(file, "rb") as stream:
            config = _decoded(stream.read())
        chosen = [flag.partition("=")[2] for flag in flags if flag.startswith("--context=")]
        name = chosen[-1] if chosen else config["current-context"]
        (context,) = [each["context"] for each in config["contexts"] if each["name"] == name]
        result = Context(context.get("namespace") or "", context.get("user") or "")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    # YAML has more than texts: kubectl knows what it makes of the others.
    return result if all(isinstance(text, str) for text in (name, *result)) else None


def _decoded(text: bytes) -> Any:
    """JSON, or YAML, of which it is a part.

    Raises:
        ValueError: it is neither.
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        import yaml

    try:
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
