from __future__ import annotations

import io
import struct
import sys

import pytest

from kubectl_trace.binary import elf
from tests.unit.binary.elf_fixtures import Segment, elf_file, note

KINDS = [(64, "<"), (64, ">"), (32, "<"), (32, ">")]


def with_field(data: bytes, offset: int, layout: str, value: int) -> io.BytesIO:
    changed = bytearray(data)
    struct.pack_into(layout, changed, offset, value)
    return io.BytesIO(changed)


@pytest.mark.parametrize(("bits", "order"), KINDS)
def test_reads_either_width_and_byte_order(bits: int, order: str) -> None:
    notes = note(b"Go\0\0", 4, b"id", order) + note(b"GNU\0", 3, b"12345", order)
    segments = (
        Segment(elf.PT_LOAD, elf.PF_W, b"data", address=0x1000),
        Segment(elf.PT_NOTE, 4, notes),
    )
    file = io.BytesIO(elf_file((b".text", b".data"), segments, bits, order))
    header = elf.read_header(file)
    assert (header.is_64_bit, header.order) == (bits == 64, order)
    assert [section.name for section in elf.sections(file, header)] == [
        b"",
        b".text",
        b".data",
        b".shstrtab",
    ]
    loaded = elf.segments(file, header)
    first = loaded[0]
    assert (first.type, first.flags, first.address) == (elf.PT_LOAD, elf.PF_W, 0x1000)
    assert elf.read_at(file, first.offset, first.size) == b"data"
    assert list(elf.notes(file, header, loaded)) == [
        elf.Note(b"Go\0\0", 4),
        elf.Note(b"GNU\0", 3),
    ]


def test_a_segment_aligned_to_8_has_notes_padded_to_8() -> None:
    notes = note(b"GNU\0", 5, b"1234", align=8) + note(b"Go\0\0", 4, b"", align=8)
    file = io.BytesIO(elf_file(segments=(Segment(elf.PT_NOTE, 4, notes, align=8),)))
    header = elf.read_header(file)
    names = [found.name for found in elf.notes(file, header, elf.segments(file, header))]
    assert names == [b"GNU\0", b"Go\0\0"]


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF" + b"\x09" * 80])
def test_what_is_no_elf_file_is_malformed(data: bytes) -> None:
    with pytest.raises(elf.MalformedError):
        elf.read_header(io.BytesIO(data))


def test_a_file_without_sections_has_no_names() -> None:
    file = io.BytesIO(elf_file())
    assert elf.sections(file, elf.read_header(file)) == []


@pytest.mark.parametrize(
    ("offset", "layout", "value"),
    [
        (0x28, "<Q", 2**64 - 1),  # e_shoff
        (0x28, "<Q", 2**62),
        (0x3C, "<H", 0xFFF0),  # e_shnum
        (0x3A, "<H", 8),  # e_shentsize
        (0x3E, "<H", 77),  # e_shstrndx
    ],
)
def test_sections_that_are_not_all_there_are_malformed(
    offset: int, layout: str, value: int
) -> None:
    file = with_field(elf_file((b".text",)), offset, layout, value)
    with pytest.raises(elf.MalformedError):
        elf.sections(file, elf.read_header(file))


@pytest.mark.parametrize(
    ("offset", "layout", "value"),
    [(0x20, "<Q", 2**64 - 1), (0x38, "<H", 0xFFFF), (0x38, "<H", 9), (0x36, "<H", 1)],
)
def test_segments_that_are_not_all_there_are_malformed(
    offset: int, layout: str, value: int
) -> None:
    file = with_field(elf_file(segments=(Segment(elf.PT_NOTE, 4, b""),)), offset, layout, value)
    with pytest.raises(elf.MalformedError):
        elf.segments(file, elf.read_header(file))


def test_a_note_that_is_cut_short_ends_its_segment_only() -> None:
    broken = struct.pack("<III", 2**32 - 1, 2**32 - 1, 1) + b"Go\0\0"
    segments = (Segment(elf.PT_NOTE, 4, broken), Segment(elf.PT_NOTE, 4, note(b"A\0", 1, b"")))
    file = io.BytesIO(elf_file(segments=segments))
    header = elf.read_header(file)
    assert list(elf.notes(file, header, elf.segments(file, header))) == [elf.Note(b"A\0", 1)]


def test_notes_without_end_are_read_up_to_a_bound() -> None:
    every = (Segment(elf.PT_NOTE, 4, bytes(60_000)),) * 20
    file = io.BytesIO(elf_file(segments=every))
    header = elf.read_header(file)
    assert sum(1 for _ in elf.notes(file, header, elf.segments(file, header))) <= 65536 / 12


def test_an_offset_that_no_file_can_have_reads_nothing() -> None:
    with open(sys.executable, "rb") as file:
        assert elf.read_at(file, 2**62, 10) == b""
        assert elf.read_at(file, 2**64 - 1, 10) == b""
