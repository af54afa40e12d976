from __future__ import annotations

import os
import signal
import threading

from kubectl_trace.cli.follow import Interrupts


def test_a_signal_that_another_thread_gets_reaches_the_waiting_main_thread() -> None:
    woken = threading.Event()
    counts: list[int] = []
    with Interrupts(owned=True) as interrupts:
        interrupts.action = counts.append
        interrupts.wake = woken.set
        sender = threading.Thread(
            target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        )
        sender.start()
        assert woken.wait(20)
        sender.join()
    assert counts == [1]


def test_signals_before_the_trace_is_followed_are_counted() -> None:
    with Interrupts(owned=False) as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.count == 1
