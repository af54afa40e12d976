"""Pipes, as the kernel has them."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.runner.streams import CHUNK, gathering, waiting, widened

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe2(os.O_NONBLOCK)
    yield ends
    for fd in ends:
        os.close(fd)


def test_a_pipe_that_must_stay_small_says_its_size(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl.fcntl(pipe[0], fcntl.F_SETPIPE_SZ, 8192)
    really = fcntl.fcntl

    def refusing(fd: int, operation: int, argument: int = 0) -> int:
        if operation == fcntl.F_SETPIPE_SZ:
            raise PermissionError
        return really(fd, operation, argument)

    monkeypatch.setattr(fcntl, "fcntl", refusing)
    assert widened(pipe[0]) == 8192
    monkeypatch.undo()
    assert widened(pipe[0]) == CHUNK


@pytest.mark.parametrize("size", [4096, 8192, 65536, CHUNK])
@pytest.mark.parametrize("length", [1, 70, 2049, 4095, 4096])
def test_nobody_sleeps_on_a_pipe_that_is_full(
    size: int, length: int, pipe: tuple[int, int]
) -> None:
    fcntl.fcntl(pipe[0], fcntl.F_SETPIPE_SZ, size)
    with contextlib.suppress(BlockingIOError):
        while os.write(pipe[1], b"x" * length):
            pass
    assert not gathering(waiting(pipe[0]), size)


@pytest.mark.parametrize("size", [4096, 65536, CHUNK])
def test_a_pipe_that_has_room_is_not_full_after_the_sleep(size: int) -> None:
    assert 0 < gathering(size // 2 - 1, size) * 50e6 <= size // 2
