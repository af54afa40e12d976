"""The program as the user gives it to `run`: text, file or URL; options, parameters, environment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from kubectl_trace.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from kubectl_trace.program.syntax import Program

_LARGEST_PROGRAM = 1 << 20  # bytes: a ConfigMap holds no more
_DOWNLOAD_TIMEOUT = 30.0  # seconds


def program(arguments: argparse.Namespace) -> tuple[str, str]:
    """The program, and the name that bpftrace's messages shall give it.

    Raises:
        UsageError: no program, several, or one that can't be read.
    """
    given = [
        flag for flag in ("eval", "filename", "program") if getattr(arguments, flag) is not None
    ]
    if not given:
        raise UsageError("a program is needed: -e 'PROGRAM', -f FILE or -f -")
    if len(given) > 1:
        raise UsageError("give the program once: with -e, with -f or with --program")
    if arguments.filename is None:
        text, name = arguments.eval or arguments.program or "", "stdin"  # as bpftrace -e says it
    elif arguments.filename == "-":
        text, name = _read(sys.stdin.buffer, "stdin").decode(errors="surrogateescape"), "stdin"
    elif arguments.filename.startswith(("http://", "https://")):
        text, name = _download(arguments.filename), arguments.filename.rpartition("/")[2] or "stdin"
    else:
        path = Path(arguments.filename)
        try:
            with path.open("rb") as file:
                text, name = _read(file, str(path)).decode(), path.name
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{path}: not a text in UTF-8 ({error.reason})") from error
    if not text.strip():
        raise UsageError("the program is empty")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError("the program is no text in UTF-8")
    return text, name


def _read(file: IO[bytes], name: str) -> bytes:
    data = file.read(_LARGEST_PROGRAM + 1)
    if len(data) > _LARGEST_PROGRAM:
        raise UsageError(f"{name}: larger than {_LARGEST_PROGRAM >> 20} MiB")
    return data


def _download(url: str) -> str:
    """The program at a URL, as `kubectl apply -f URL` reads manifests."""
    import http.client
    import urllib.error
    import urllib.request

    from kubectl_trace.runner.download import shown

    try:
        with urllib.request.urlopen(url, timeout=_DOWNLOAD_TIMEOUT) as response:
            data: bytes = response.read(_LARGEST_PROGRAM + 1)
            text = data.decode()
    except urllib.error.URLError as error:
        raise UsageError(f"{shown(url)}: {error.reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UsageError(f"{shown(url)}: {error}") from error
    if len(data) > _LARGEST_PROGRAM:
        raise UsageError(f"{shown(url)}: larger than {_LARGEST_PROGRAM >> 20} MiB")
    return text


def after_dashes(words: list[str]) -> tuple[list[str], list[str]]:
    """Bpftrace's options, and the program's positional parameters.

    Raises:
        UsageError: an option that has no place here.
    """
    from kubectl_trace.program import options

    try:
        return options.split(words)
    except options.OptionError as error:
        raise UsageError(str(error)) from error


def environment(pairs: list[str]) -> dict[str, str]:
    """Variables from `NAME=VALUE`.

    Raises:
        UsageError: a pair that is none.
    """
    from kubectl_trace.program import options

    result: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"--env {pair}: write NAME=VALUE")
        result[name] = value
    try:
        options.check_variables(result)
    except options.OptionError as error:
        raise UsageError(f"--env: {error}") from error
    return result


def checked(text: str, name: str, *, limited: bool) -> Program:
    """The program's parts. `limited`: it is to run in a scope.

    Raises:
        UsageError: the text is no program, or can't be limited to a scope; where, and why.
    """
    from kubectl_trace.program import prepare, scope, syntax
    from kubectl_trace.program.rewrite import Rewritten
    from kubectl_trace.program.tokens import ProgramError

    try:
        program = syntax.parse(text)
        if limited and scope.is_limited(program):
            # What the runner will do, for its errors only.
            prepare.limited(Rewritten.of(text), scope.by_namespace(program))
        return program
    except ProgramError as error:
        raise UsageError(syntax.explain(error, text, name)) from error
