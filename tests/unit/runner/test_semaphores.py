"""Semaphores of USDT probes: raised while somebody listens, then as they were."""

from __future__ import annotations

import ctypes
import os

from kubectl_trace.runner.semaphores import Semaphores


def test_a_semaphore_is_raised_and_lowered_again() -> None:
    semaphore = ctypes.c_uint16(3)
    raised = Semaphores()
    assert raised.lift(os.getpid(), ctypes.addressof(semaphore))
    assert raised.lift(os.getpid(), ctypes.addressof(semaphore))
    assert semaphore.value == 5
    raised.close()
    assert semaphore.value == 3


def test_what_can_not_be_raised_is_told() -> None:
    raised = Semaphores()
    assert not raised.lift(os.getpid(), 8)
    assert not raised.lift(0, 8)
    raised.close()
