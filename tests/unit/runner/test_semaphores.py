"""Semaphores of USDT probes: raised while somebody listens, then as they were."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.runner import semaphores
from kubectl_trace.runner.semaphores import Semaphores

if TYPE_CHECKING:
    from pathlib import Path

OTHER_RUNNER = """
import signal, sys
from pathlib import Path
from kubectl_trace.runner import semaphores
from kubectl_trace.runner.semaphores import Semaphores
semaphores._TRACEFS = (Path(sys.argv[1]),)
pid, address = map(int, sys.argv[2:])
"""
_PTRACER, _ANY = 0x59616D61, -1


@pytest.fixture(autouse=True)
def tracefs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the runners of a node share."""
    (tmp_path / "events").mkdir()
    monkeypatch.setattr(semaphores, "_TRACEFS", (tmp_path / "none", tmp_path))
    return tmp_path


def other_runner(script: str, tracefs: Path, semaphore: ctypes.c_uint16) -> subprocess.Popen[bytes]:
    """Another process that may change our memory."""
    ctypes.CDLL(None).prctl(_PTRACER, _ANY, 0, 0, 0)
    words = (str(tracefs), str(os.getpid()), str(ctypes.addressof(semaphore)))
    return subprocess.Popen(
        [sys.executable, "-c", OTHER_RUNNER + script, *words], stdout=subprocess.PIPE
    )


def test_a_semaphore_is_raised_and_lowered_again() -> None:
    semaphore = ctypes.c_uint16(3)
    before = signal.getsignal(signal.SIGTERM)
    raised = Semaphores()
    assert raised.lift(os.getpid(), ctypes.addressof(semaphore))
    assert raised.lift(os.getpid(), ctypes.addressof(semaphore))
    assert semaphore.value == 5
    raised.close()
    assert semaphore.value == 3
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_runner_that_is_halted_holds_nobody_up(
    tracefs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semaphores, "_LONGEST_WAIT", 0.05)
    halted = os.open(tracefs, os.O_RDONLY)
    fcntl.flock(halted, fcntl.LOCK_EX)
    semaphore = ctypes.c_uint16(0)
    raised = Semaphores()
    assert raised.lift(os.getpid(), ctypes.addressof(semaphore))
    assert semaphore.value == 1
    raised.close()
    os.close(halted)


def test_what_can_not_be_raised_is_told() -> None:
    raised = Semaphores()
    assert not raised.lift(os.getpid(), 8)
    assert not raised.lift(0, 8)
    raised.close()


def test_what_somebody_else_has_lowered_is_not_lowered_below_0() -> None:
    semaphore = ctypes.c_uint16(0)
    raised = Semaphores()
    assert raised.lift(os.getpid(), ctypes.addressof(semaphore))
    semaphore.value = 0
    raised.close()
    assert semaphore.value == 0


def test_where_runners_share_nothing_it_is_raised_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(semaphores, "_TRACEFS", (tmp_path / "none",))
    test_a_semaphore_is_raised_and_lowered_again()


def test_two_runners_of_a_node_count_together(tracefs: Path) -> None:
    semaphore = ctypes.c_uint16(0)
    script = """
print(flush=True)
for _ in range(5000):
    raised = Semaphores()
    assert raised.lift(pid, address)
    raised.close()
"""
    with other_runner(script, tracefs, semaphore) as other:
        assert other.stdout is not None
        other.stdout.readline()
        while other.poll() is None:
            raised = Semaphores()
            assert raised.lift(os.getpid(), ctypes.addressof(semaphore))
            assert semaphore.value in {1, 2}
            raised.close()
    assert other.returncode == 0
    assert semaphore.value == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_runner_that_is_ended_before_it_has_a_supervisor_lowers_it(
    number: signal.Signals, tracefs: Path
) -> None:
    semaphore = ctypes.c_uint16(0)
    script = """
signal.signal(signal.SIGINT, signal.SIG_DFL)
assert Semaphores().lift(pid, address)
print(flush=True)
signal.pause()
"""
    with other_runner(script, tracefs, semaphore) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert semaphore.value == 1
        other.send_signal(number)
    assert other.returncode == -number
    assert semaphore.value == 0
