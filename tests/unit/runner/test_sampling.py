from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.runner import sampling
from kubectl_trace.runner.cost import Loaded
from kubectl_trace.runner.sampling import Ring, Symbol

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = 4096
KERNEL = (1 << 64) - 128  # PERF_CONTEXT_KERNEL


def ksymbol(name: str, start: int = 0xFFFFFFFFC0022058, *, kind: int = 1, flags: int = 0) -> bytes:
    return struct.pack("=QIHH", start, 23, kind, flags) + name.encode() + b"\0\0\0"


def sample(*addresses: int) -> bytes:
    return struct.pack(f"={1 + len(addresses)}Q", len(addresses), *addresses)


def record(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHH", kind, 0, 8 + len(body)) + body


def test_a_program_that_is_loaded_has_a_place_and_a_name() -> None:
    start = 0xFFFFFFFFC0022058
    assert sampling.read_symbol(ksymbol("bpf_prog_62efe59b7d4f5ea1_a")) == Symbol(
        start, start + 23, "bpf_prog_62efe59b7d4f5ea1_a"
    )


@pytest.mark.parametrize("words", [{"kind": 2}, {"flags": 1}])
def test_what_is_unloaded_or_no_program_has_none(words: dict[str, int]) -> None:
    assert sampling.read_symbol(ksymbol("bpf_prog_1", **words)) is None


def test_a_sample_is_the_innermost_programs_that_is_on_its_stack() -> None:
    places = [(100, 200, 7), (300, 400, 8)]
    assert sampling.first_in(sample(KERNEL, 5, 350, 150, 1), places) == 8
    assert sampling.first_in(sample(KERNEL, 5, 199), places) == 7
    assert sampling.first_in(sample(KERNEL, 5, 200, 250, 400), places) is None
    assert sampling.first_in(sample(), places) is None
    assert sampling.first_in(sample(KERNEL, 5), []) is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        # The kernel keeps 15 characters of a name; a symbol has all of it.
        (
            [("aa", "f"), ("bb", "tracepoint_sysc")],
            {1: ["bpf_prog_aa_f"], 2: ["bpf_prog_bb_tracepoint_syscalls_x_1"]},
        ),
        ([("cc", "")], {1: ["bpf_prog_cc"]}),
        ([("dd", "f")], {}),
        ([("ee", "f"), ("ee", "f")], {1: ["bpf_prog_ee_f"], 2: ["bpf_prog_ee_f"]}),
        ([("ee", "f")], {1: ["bpf_prog_ee_f", "bpf_prog_ee_f"]}),
    ],
)
def test_programs_are_known_by_their_tags_and_names(
    names: Sequence[tuple[str, str]], expected: dict[int, list[str]]
) -> None:
    symbols = [
        Symbol(at, at + 1, name)
        for at, name in enumerate(
            (
                *("bpf_prog_aa_f", "bpf_prog_ab_f", "bpf_prog_bb_tracepoint_syscalls_x_1"),
                *("bpf_prog_cc", "bpf_prog_ee_f", "bpf_prog_ee_f", "bpf_prog_ee_g"),
            )
        )
    ]
    loaded = [Loaded(at, name, 5, tag) for at, (tag, name) in enumerate(names, 1)]
    found = sampling.whose(loaded, symbols)
    assert {number: [each.name for each in own] for number, own in found.items()} == expected


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
