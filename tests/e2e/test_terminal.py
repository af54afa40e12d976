"""What a user sees on a terminal: the live view, and how the start goes on."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from typing import TYPE_CHECKING

import pytest

from .command import BIN, TIMEOUT, environment, trace, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .cluster import Cluster, Pod

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

ACCEPTED = "uprobe:/usr/sbin/nginx:ngx_event_accept { @requests[comm] = count(); }"


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """`kubectl-trace` on a terminal of 100 columns and 30 lines."""

    def __init__(self, *words: str) -> None:
        self._fd, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self._process = subprocess.Popen(
            [str(BIN / "kubectl-trace"), *words],
            stdin=child,
            stdout=child,
            stderr=child,
            env={**environment(), "TERM": "xterm"},
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(child)
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._fd, 1 << 16):
                self._seen += data
        except OSError:
            return  # nobody has the terminal open any more

    @property
    def raw(self) -> str:
        """All that was written, with its control sequences."""
        return self._seen.decode(errors="replace")

    @property
    def text(self) -> str:
        """All that was written, without them."""
        return _CONTROL.sub("", self.raw)

    def wait_for(self, pattern: str) -> None:
        """Waits until a regular expression is found in the text."""
        wait_until(lambda: re.search(pattern, self.text) is not None, f"{pattern} in {self.text}")

    def press(self, keys: str) -> None:
        """Types."""
        os.write(self._fd, keys.encode())

    def end(self) -> int:
        """Waits for the end; the exit code."""
        code = self._process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        return code

    def close(self) -> None:
        """Takes the terminal away."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        os.close(self._fd)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for each in opened:
        each.close()


def test_the_live_view_shows_maps_as_they_grow_and_their_last_state_stays(
    cluster: Cluster, nginx: Pod, terminals: list[Terminal]
) -> None:
    terminal = Terminal("run", "deploy/nginx", "-a", "--watch", "-e", ACCEPTED)
    terminals.append(terminal)
    terminal.wait_for("2 of 2 nodes running")
    cluster.request(nginx, 20)
    terminal.wait_for(r"nginx +20\b")
    cluster.request(nginx, 10)
    terminal.wait_for(r"nginx +30\b")
    terminal.press("s")
    terminal.wait_for("sort: key")
    terminal.press("q")
    assert terminal.end() == 0
    after = terminal.raw.rpartition("\x1b[?1049l")[2]  # back from the alternate screen
    assert "@requests[nginx]: 30" in after
    assert "lost: none" in after


def test_the_live_view_needs_a_terminal(cluster: Cluster) -> None:
    result = trace("run", "deploy/nginx", "-a", "--watch", "-e", ACCEPTED)
    assert result.code == 2
    assert "terminal" in result.stderr


def test_how_the_start_goes_on_is_shown_on_a_terminal_and_taken_away(
    cluster: Cluster, terminals: list[Terminal]
) -> None:
    program = 'BEGIN { printf("here\\n"); exit(); }'
    terminal = Terminal("run", "--all-nodes", "-a", "-e", program)
    terminals.append(terminal)
    assert terminal.end() == 0
    assert re.search(r"\r0 of 2 nodes running, node-[ab]: ", terminal.raw)
    assert terminal.text.count("] here") == 2
    quiet = Terminal("run", "--all-nodes", "-a", "--quiet", "-e", program)
    terminals.append(quiet)
    assert quiet.end() == 0
    assert "nodes running" not in quiet.text


def test_more_nodes_than_usual_are_asked_about(cluster: Cluster, terminals: list[Terminal]) -> None:
    words = ("run", "--all-nodes", "--max-nodes", "1", "-a", "-e", "BEGIN { exit(); }")
    for answer, code in (("n\n", 2), ("y\n", 0)):
        terminal = Terminal(*words)
        terminals.append(terminal)
        terminal.wait_for(r"go on\? \[y/N\]")
        terminal.press(answer)
        assert terminal.end() == code, terminal.text
