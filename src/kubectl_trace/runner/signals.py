"""Signals as something to be waited for."""

from __future__ import annotations

import os
import signal

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Those that tell a runner to end."""


class Signals:
    """SIGTERM, SIGINT and SIGHUP as bytes on a file descriptor, for as long as it is entered."""

    def __enter__(self) -> Signals:
        self.fd, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = {number: signal.signal(number, self._ignore) for number in ENDING}
        self._wakeup = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self.fd)
        os.close(self._writing)

    @staticmethod
    def _ignore(number: int, frame: object) -> None:
        """Python writes the signal's number to the wake-up descriptor; nothing is left to do."""
