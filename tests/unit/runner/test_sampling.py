from __future__ import annotations

import mmap
import struct

from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.runner import sampling
from kubectl_trace.runner.sampling import Ring

PAGE = 4096
KERNEL = (1 << 64) - 128  # PERF_CONTEXT_KERNEL


def sample(*addresses: int) -> bytes:
    return struct.pack(f"={1 + len(addresses)}Q", len(addresses), *addresses)


def record(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHH", kind, 0, 8 + len(body)) + body


def test_a_sample_is_the_innermost_programs_that_is_on_its_stack() -> None:
    places = [(100, 200, 7), (300, 400, 8)]
    assert sampling.first_in(sample(KERNEL, 5, 350, 150, 1), places) == 8
    assert sampling.first_in(sample(KERNEL, 5, 199), places) == 7
    assert sampling.first_in(sample(KERNEL, 5, 200, 250, 400), places) is None
    assert sampling.first_in(sample(), places) is None
    assert sampling.first_in(sample(KERNEL, 5), []) is None


@given(st.lists(st.lists(st.binary(max_size=300), max_size=12), max_size=12))
def test_a_ring_gives_each_record_once_and_whole(rounds: list[list[bytes]]) -> None:
    memory = mmap.mmap(-1, 2 * PAGE)
    ring = Ring(memory, PAGE)
    head = 0
    for bodies in rounds:
        given = [body.ljust(-len(body) % 8 + len(body), b"\0") for body in bodies]
        for body in given:
            for byte in record(9, body):
                memory[PAGE + head % PAGE] = byte
                head += 1
        struct.pack_into("=Q", memory, 1024, head)
        assert list(ring.records()) == [(9, body) for body in given]
        assert struct.unpack_from("=Q", memory, 1032) == (head,)
    memory.close()
