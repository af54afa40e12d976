"""Running programs to their end."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from .errors import TestbedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Put before a command whose work must not go on beside the next one's when this one is killed.
UNTIL_WE_END = ("setpriv", "--pdeathsig=KILL")


def say(text: str) -> None:
    """Tell the user what is going on, on standard error: standard output is for results."""
    print(text, file=sys.stderr, flush=True)


def last_lines(text: str, count: int = 20) -> str:
    """The last `count` lines of a text, indented to be shown below a message."""
    lines = text.strip().splitlines()[-count:]
    return "\n".join(f"  {line}" for line in lines) or "  (it wrote nothing)"


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    text: str | None = None,
    timeout: float | None = None,
) -> str:
    """Run a program to its end and give what it wrote on standard output.

    Args:
        argv: the program and its arguments.
        env: variables to add to this process's own.
        text: what the program reads on standard input; nothing otherwise.
        timeout: seconds it may take.

    Raises:
        TestbedError: it could not be run, failed, or took too long; the message has its last lines.
    """
    shown = " ".join(os.fspath(word) for word in argv)
    try:
        done = subprocess.run(
            argv,
            input=text or "",
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except OSError as error:
        raise TestbedError(f"{shown}: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise TestbedError(f"{shown}: not done after {timeout:g} s") from error
    if done.returncode != 0:
        tail = last_lines(done.stdout + done.stderr)
        raise TestbedError(f"{shown}: exit status {done.returncode}\n{tail}")
    return done.stdout
