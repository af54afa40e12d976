"""A file from a server that a user names and a node asks: by HTTP, bounded in size and time."""

from __future__ import annotations

import http.client
import time
import urllib.parse
import urllib.request
from typing import IO

_ANSWER = 30.0
"""Seconds in which the server must have sent something."""
_CHUNK = 1 << 20


def into(file: IO[bytes], url: str, *, most: int, seconds: float) -> None:
    """Writes what is at a URL into a file.

    Args:
        file: Where.
        url: Of http or https.
        most: Bytes, at most.
        seconds: That all of it may take.

    Raises:
        OSError: it can't be had so.
    """
    end = time.monotonic() + seconds
    try:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise OSError("no http or https URL")
        with _opener().open(url, timeout=min(_ANSWER, seconds)) as response:
            # One read from the network at a time: a server that trickles is seen, too.
            while chunk := response.read1(_CHUNK):
                if file.tell() + len(chunk) > most:
                    raise OSError(f"larger than {most >> 20} MiB")
                if time.monotonic() > end:
                    raise OSError(f"not there after {seconds:g} s")
                file.write(chunk)
    except (ValueError, http.client.HTTPException) as error:
        raise OSError(str(error)) from error


def shown(url: str) -> str:
    """A URL without the name and password that may be in it."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def _opener() -> urllib.request.OpenerDirector:
    """Without the usual handlers of file:, ftp: and data:, to which a server could redirect."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener
