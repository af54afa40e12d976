"""What stands between us and kubectl, with a kubectl that only notes what it is told."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.errors import TraceError
from kubectl_trace.kube.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable

KUBECTL = """#!/bin/sh
case $1 in
  proxy)
    for word; do case $word in --unix-socket=*) socket=${word#*=};; esac; done
    exec python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); time.sleep(60)' "$socket" ;;
  attach)
    pod=$2
    printf '%s ' "$@" > "$NOTES/$pod.part"
    cat >> "$NOTES/$pod.part"
    mv "$NOTES/$pod.part" "$NOTES/$pod" ;;
esac
"""


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    binary = tmp_path / "bin" / "kubectl"
    binary.parent.mkdir()
    binary.write_text(KUBECTL)
    binary.chmod(0o755)
    folder = tmp_path / "notes"
    folder.mkdir()
    monkeypatch.setenv("NOTES", str(folder))
    monkeypatch.setenv("PATH", f"{binary.parent}:{os.environ['PATH']}")
    return folder


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def killed(proxy: Proxy) -> None:
    """The client is gone without a word: its end of the pipe closes."""
    assert proxy._guard.stdin is not None
    assert proxy._guard.stdout is not None
    proxy._guard.stdin.close()
    proxy._guard.wait(20)
    proxy._guard.stdout.close()


def test_we_and_kubectl_may_open_a_file_for_each_of_hundreds_of_runners(notes: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    try:
        proxy = Proxy([], lambda text: None)
        limits = Path(f"/proc/{proxy._guard.pid}/limits").read_text()
        proxy.socket_path()
        proxy.close()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(10_240, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert int(line.split()[3]) == min(10_240, before[1])


def test_the_runners_of_a_client_that_is_killed_are_told_to_stop(notes: Path) -> None:
    flags = ["--context={} o'clock", "--namespace=ours"]
    proxy = Proxy(flags, print)
    folder = os.path.dirname(proxy.socket_path())
    for number in range(25):
        proxy.own("theirs", f"pod-{number}")
    killed(proxy)
    assert len(list(notes.iterdir())) == 25
    said = (notes / "pod-7").read_text()
    assert said == (
        "attach pod-7 --context={} o'clock --namespace=ours --namespace=theirs "
        '--container=kubectl-trace --stdin {"type":"stop"}\n'
    )
    assert not os.path.exists(folder)


def test_a_client_that_ends_in_order_has_told_them_itself(notes: Path) -> None:
    proxy = Proxy([], print)
    folder = os.path.dirname(proxy.socket_path())
    proxy.own("theirs", "pod")
    proxy.close()
    assert list(notes.iterdir()) == []
    assert not os.path.exists(folder)


def test_a_kubectl_that_has_ended_is_told_and_not_waited_for(notes: Path) -> None:
    proxy = Proxy([], print)
    proxy.socket_path()
    children = f"/proc/{proxy._guard.pid}/task/{proxy._guard.pid}/children"
    with open(children) as file:
        (kubectl,) = file.read().split()
    os.kill(int(kubectl), signal.SIGKILL)
    until(lambda: not proxy._stderr_reader.is_alive())
    with pytest.raises(TraceError, match="kubectl proxy has ended"):
        proxy.socket_path()
    proxy.close()
