"""The installed command, run as a user would, and what it shows."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BIN = Path(sys.executable).parent
TIMEOUT = 120.0  # seconds: any test's command has ended by then


@dataclass(frozen=True)
class Result:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def trace_id(self) -> str:
        """The ID in `trace <uuid> created`, wherever it was printed."""
        found = re.search(r"^trace (\S+) created$", self.stdout + "\n" + self.stderr, re.MULTILINE)
        assert found, self
        return found[1]

    @property
    def lines(self) -> list[str]:
        """The lines of stdout."""
        return self.stdout.splitlines()


class Command:
    """A command that runs; its output is in files, so that no reader can slow it down."""

    def __init__(
        self, *words: str, stdin: str | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self._stdout = tempfile.TemporaryFile()  # noqa: SIM115
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        with tempfile.TemporaryFile() as given:
            given.write((stdin or "").encode())
            given.seek(0)
            self._process = subprocess.Popen(
                words,
                stdin=given,
                stdout=self._stdout,
                stderr=self._stderr,
                env={**environment(), **(env or {})},
                start_new_session=True,
                # Under nohup, or in a shell's background, these signals are ignored.
                preexec_fn=_as_a_users,
            )

    @property
    def pid(self) -> int:
        """The process's PID."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def stdout(self) -> str:
        """What it has written so far."""
        return _content(self._stdout)

    def stderr(self) -> str:
        """What it has complained so far."""
        return _content(self._stderr)

    def wait_for(self, text: str) -> Command:
        """Waits until the text is on stdout or stderr; fails when the command ends before."""
        wait_until(
            lambda: (
                text in self.stdout() or text in self.stderr() or self._process.poll() is not None
            ),
            f"{text!r} from {self._process.args!r}",
        )
        assert text in self.stdout() or text in self.stderr(), self.finish()
        return self

    def wait_until_attached(self) -> Command:
        """Waits until all probes of the trace are attached."""
        return self.wait_for("attached ")

    def signal(self, number: signal.Signals) -> None:
        """Sends the command a signal."""
        self._process.send_signal(number)

    def interrupt(self) -> Command:
        """Ctrl-C, once."""
        self.signal(signal.SIGINT)
        return self

    def finish(self) -> Result:
        """Waits for the end."""
        try:
            code = self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError(
                f"{self._process.args!r} did not end; stdout {self.stdout()!r}; "
                f"stderr {self.stderr()!r}"
            ) from None
        result = Result(code, self.stdout(), self.stderr())
        self._stdout.close()
        self._stderr.close()
        return result


def _as_a_users() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def environment() -> dict[str, str]:
    """The environment of a user who has the command on PATH."""
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}


def start(*words: str, stdin: str | None = None) -> Command:
    """Starts `kubectl-trace` with these words."""
    return Command(str(BIN / "kubectl-trace"), *words, stdin=stdin)


def trace(*words: str, stdin: str | None = None) -> Result:
    """Runs `kubectl-trace` with these words to its end."""
    return start(*words, stdin=stdin).finish()


def kubectl(*words: str) -> Result:
    """Runs kubectl to its end."""
    return Command("kubectl", *words).finish()


def wait_until(condition: Callable[[], bool], what: str, seconds: float = TIMEOUT) -> None:
    """Waits for a condition, with a bound."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


def _content(file: IO[bytes]) -> str:
    # By the descriptor: the file's own position is the writing process's, too.
    fd = file.fileno()
    return os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")
