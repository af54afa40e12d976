from __future__ import annotations

import io
import struct
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.binary import elf
from kubectl_trace.binary.golang import is_go
from tests.unit.binary.elf_fixtures import Segment, elf_file, note

MAGIC = b"\xff Go buildinf:"
GO_NOTE = Segment(elf.PT_NOTE, 4, note(b"GNU\0", 3, b"1234") + note(b"Go\0\0", 4, b"id"))
KINDS = [(64, "<"), (64, ">"), (32, "<"), (32, ">")]


def go(data: bytes) -> bool:
    return is_go(io.BytesIO(data))


def data_segment(content: bytes, flags: int = elf.PF_W, address: int = 0x1000) -> bytes:
    return elf_file(segments=(Segment(elf.PT_LOAD, flags, content, address),))


@pytest.mark.parametrize(("bits", "order"), KINDS)
@pytest.mark.parametrize(
    "section", [b".go.buildinfo", b".gopclntab", b".data.rel.ro.gopclntab", b".note.go.buildid"]
)
def test_a_section_that_gos_linker_makes_tells(section: bytes, bits: int, order: str) -> None:
    assert go(elf_file((b".text", section), bits=bits, order=order))


def test_the_note_tells_where_the_section_headers_are_stripped() -> None:
    assert go(elf_file(segments=(GO_NOTE,)))


def test_the_note_tells_where_the_section_headers_are_broken() -> None:
    data = bytearray(elf_file((b".text",), (GO_NOTE,)))
    struct.pack_into("<Q", data, 0x28, 2**40)
    assert go(bytes(data))


@pytest.mark.parametrize("flags", [elf.PF_W, 0])
@pytest.mark.parametrize("before", [0, 16, 4096, (1 << 20) - 16, (1 << 20), 5 << 20])
def test_the_build_information_tells_where_all_else_is_stripped(before: int, flags: int) -> None:
    assert go(data_segment(bytes(before) + MAGIC + bytes(18), flags))


def test_a_program_that_names_the_magic_in_its_data_is_not_go() -> None:
    assert not go(data_segment(bytes(3) + MAGIC + bytes(40)))
    assert not go(data_segment(MAGIC + bytes(40), elf.PF_X)), "in code"
    assert not go(elf_file((b".data",), (Segment(elf.PT_LOAD, elf.PF_W, MAGIC, 0x1000),)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#!/bin/sh\n# .go.buildinfo",
        b"\x7fELF",
        elf_file((b".text", b".go", b".gopclntab.not", b"go.buildinfo")),
        elf_file(segments=(Segment(elf.PT_NOTE, 4, note(b"Gone", 4, b"id")),)),
    ],
)
def test_all_else_is_not_go(data: bytes) -> None:
    assert not go(data)


def test_a_real_c_program_is_not_go() -> None:
    with open(sys.executable, "rb") as file:
        assert not is_go(file)


def test_a_file_made_to_be_slow_is_quick() -> None:
    # Everywhere the magic, nowhere aligned; and 1170 segments that are all the same data.
    unaligned = data_segment((MAGIC + b"  ") * (2 << 20), address=0x1001)
    assert len(unaligned) > 32 << 20
    one = data_segment((MAGIC + b"  ") * (1 << 16), address=0x1001)
    repeated = bytearray(one[:64] + one[64:120] * 1170 + one[120:])
    struct.pack_into("<H", repeated, 0x38, 1170)
    names = elf_file((b"a" * 10_000,) * 400)
    started = time.process_time()
    assert not go(unaligned)
    assert not go(bytes(repeated))
    assert not go(names)
    assert time.process_time() - started < 5


@st.composite
def broken_files(draw: st.DrawFn) -> bytes:
    bits, order = draw(st.sampled_from(KINDS))
    segments = (GO_NOTE, Segment(elf.PT_LOAD, elf.PF_W, bytes(64) + MAGIC, 0x1000))
    sections = draw(st.sampled_from([(), (b".text", b".go.buildinfo")]))
    data = bytearray(elf_file(sections, segments, bits, order))
    for at, value in draw(
        st.lists(
            st.tuples(st.integers(0, len(data) - 1), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
        )
    ):
        data[at] = value
    return bytes(data[: draw(st.integers(0, len(data)))])


@given(broken_files())
def test_a_broken_file_is_an_answer_and_no_error(data: bytes) -> None:
    assert go(data) in (True, False)


@given(st.binary())
def test_any_bytes_are_an_answer_and_no_error(data: bytes) -> None:
    assert not go(data)
    assert go(b"\x7fELF\x02\x01" + data) in (True, False)
