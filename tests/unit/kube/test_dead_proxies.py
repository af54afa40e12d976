"""A kubectl proxy that nobody would end any more is ended, and no other."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.kube import dead_proxies, proxy
from kubectl_trace.kube.proxy import Proxy, listens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are told by /proc")

KUBECTL = f"""\
#!{sys.executable}
import os, socket, sys, time
if sys.argv[1] == "proxy":
    path = next(word for word in sys.argv if word.startswith("--unix-socket=")).partition("=")[2]
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        time.sleep(60)
"""

CLIENT = """\
import os, sys, time
from kubectl_trace.kube.proxy import Proxy
proxy = Proxy([], print)
print(os.path.dirname(proxy.socket_path()), proxy._guard.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    binary = tmp_path / "bin" / "kubectl"
    binary.parent.mkdir()
    binary.write_text(KUBECTL)
    binary.chmod(0o755)
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("PATH", f"{binary.parent}:{os.environ['PATH']}")
    return folder


class Client:
    """A client in a process of its own, with its proxy."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLIENT], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        folder, guard = self._process.stdout.readline().split()
        self.folder, self.guard = folder, int(guard)
        children = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()
        self.kubectl = os.pidfd_open(int(children[0]))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(20)

    def end(self) -> None:
        self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.kubectl, signal.SIGKILL)
        os.close(self.kubectl)


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    try:
        yield client
    finally:
        client.end()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def test_a_proxy_that_has_outlived_its_client_and_its_shell_is_ended(client: Client) -> None:
    os.kill(client.guard, signal.SIGKILL)
    client.kill()
    until(lambda: not is_alive(client.guard))
    socket_path = os.path.join(client.folder, proxy.SOCKET)
    assert listens(socket_path)
    assert dead_proxies.remove() == [client.folder]
    assert not listens(socket_path)
    assert not os.path.exists(client.folder)


def test_a_proxy_whose_client_lives_is_left_alone(client: Client) -> None:
    assert dead_proxies.remove() == []
    os.kill(client.guard, signal.SIGKILL)
    until(lambda: not is_alive(client.guard))
    assert dead_proxies.remove() == []
    assert listens(os.path.join(client.folder, proxy.SOCKET))


def test_a_proxy_whose_shell_lives_is_left_to_it(client: Client) -> None:
    """The shell may be about to tell the runners to stop."""
    os.kill(client.guard, signal.SIGSTOP)
    client.kill()
    try:
        assert dead_proxies.remove() == []
        assert listens(os.path.join(client.folder, proxy.SOCKET))
    finally:
        os.kill(client.guard, signal.SIGCONT)
    until(lambda: not os.path.exists(client.folder))


def test_who_listens_there_but_is_no_proxy_is_left_alone(temporary: Path) -> None:
    folder = temporary / "kubectl-trace-x"
    folder.mkdir()
    script = (
        "import socket, sys, time\n"
        "listening = socket.socket(socket.AF_UNIX)\n"
        "listening.bind(sys.argv[2])\n"
        "listening.listen()\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, "proxy", f"{folder}/s"]) as process:
        try:
            until(lambda: listens(f"{folder}/s"))
            assert dead_proxies.remove() == []
            assert process.poll() is None
        finally:
            process.kill()


def test_our_own_proxy_is_left_alone() -> None:
    ours = Proxy([], print)
    path = ours.socket_path()
    assert dead_proxies.remove() == []
    assert listens(path)
    ours.close()
