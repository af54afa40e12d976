from __future__ import annotations

import io
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.binary import elf
from kubectl_trace.binary.golang import build_info
from kubectl_trace.binary.golang.pclntab import FunctionTable
from kubectl_trace.binary.golang.types import TypeTable
from tests.unit.binary.elf_fixtures import Segment, elf_file
from tests.unit.binary.golang.go_fixtures import (
    DATA,
    FORMS,
    INLINED,
    INT,
    MODULE,
    STRUCT,
    TABLE,
    go_program,
    type_at,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAMS = [
    go_program(version, machine, is_relocated)
    for version in FORMS
    for machine in (elf.EM_X86_64, elf.EM_AARCH64)
    for is_relocated in (False, True)
]


def ask_everything(data: bytes) -> None:
    """Ask all there is to ask; a MalformedError is an answer."""
    file = io.BytesIO(data)
    with suppress(elf.MalformedError):
        build_info.version(file)
    with suppress(elf.MalformedError):
        types = TypeTable(file)
        for place in (INT, STRUCT):
            types.kind(type_at(place))
            types.type_name(type_at(place))
    with suppress(elf.MalformedError):
        table = FunctionTable(file)
        questions: list[Callable[[], object]] = [
            lambda: list(table.functions()),
            lambda: table.every("main.Add"),
            lambda: table.named("main.main"),
            lambda: table.mentions(INLINED),
            lambda: table.inlined_in(INLINED),
        ]
        for question in questions:
            with suppress(elf.MalformedError):
                question()


@st.composite
def broken_programs(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(PROGRAMS)))
    changes = st.tuples(
        st.integers(0, len(data) // 8 - 1),
        st.one_of(
            st.integers(0, 2**64 - 1),
            st.sampled_from([0, 1, 8, TABLE, MODULE, DATA, 2**31, 2**32 - 1, 2**63, 2**64 - 8]),
        ),
        st.sampled_from([1, 2, 4, 8]),
    )
    for word, value, size in draw(st.lists(changes, max_size=4)):
        data[8 * word : 8 * word + size] = value.to_bytes(8, "little")[:size]
    return bytes(data[: draw(st.sampled_from([len(data), draw(st.integers(0, len(data)))]))])


@given(broken_programs())
def test_a_broken_program_is_an_answer_or_is_refused(data: bytes) -> None:
    ask_everything(data)


@pytest.mark.parametrize("data", PROGRAMS)
def test_every_part_of_the_table_may_be_wrong(data: bytes) -> None:
    start = data.index(b"\xff\xff\xff\0\0") - 1
    for at in range(start, start + 640, 4):
        for value in (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"):
            ask_everything(data[:at] + value + data[at + 4 :])


def test_files_made_to_be_slow_are_quick() -> None:
    magic = b"\xf1\xff\xff\xff\0\0\1\x08"
    header = magic + struct.pack("<8Q", 1 << 19, 1, 0, 80, 88, 96, 104, 112)
    segments = (
        Segment(elf.PT_LOAD, elf.PF_X, b"\x90" * 64, 0x400000),
        Segment(elf.PT_LOAD, 0, header + bytes(8 << 20), TABLE),
    )
    files = [
        # Everywhere a beginning of the table; aligned and not.
        elf_file(segments=(Segment(elf.PT_LOAD, 0, magic * (4 << 20), 0x1000),)),
        elf_file(segments=(Segment(elf.PT_LOAD, 0, magic * (4 << 20), 0x1001),)),
        # Half a million functions, all with one long name.
        elf_file(segments=segments),
        # Everywhere a pointer to the table.
        elf_file(
            segments=(
                *segments,
                Segment(elf.PT_LOAD, elf.PF_W, struct.pack("<Q", TABLE) * (4 << 20), 0x2000000),
            )
        ),
    ]
    started = time.process_time()
    for data in files:
        ask_everything(data)
    assert time.process_time() - started < 10
