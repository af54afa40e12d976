from __future__ import annotations

import array
import fcntl
import os
import signal
import subprocess
import sys
import termios
import time

SCRIPT = """
import signal, sys
from kubectl_trace.cli.main import _buffered
signal.signal(signal.SIGINT, lambda *_: None)
out = _buffered(sys.stdout)
for number in range(100):
    out.buffer.write(b"%d\\n" % number * 5000)
    out.buffer.flush()
"""


def test_a_signal_during_a_write_takes_nothing_from_an_unbuffered_stdout() -> None:
    reading, writing = os.pipe()
    child = subprocess.Popen([sys.executable, "-u", "-c", SCRIPT], stdout=writing)
    os.close(writing)
    with open(reading, "rb") as stdout:
        end = time.monotonic() + 30
        while _waiting(reading) < 32 << 10:
            assert time.monotonic() < end
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        lines = stdout.read().split()
    assert child.wait(30) == 0
    assert lines == [b"%d" % number for number in range(100) for _ in range(5000)]


def _waiting(fd: int) -> int:
    waiting = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, waiting)
    return waiting[0]
