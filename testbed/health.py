"""Asking a component over HTTP whether it is well."""

from __future__ import annotations

import ssl
import urllib.request


def answers(url: str) -> bool:
    """Whether the health address of a component answers 200 within a second."""
    # A health address has nothing to hide and no certificate that this process knows.
    context = ssl._create_unverified_context() if url.startswith("https:") else None
    # Not through a proxy that the environment may name.
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
