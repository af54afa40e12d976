from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.binary import elf
from kubectl_trace.binary.golang import build_info
from tests.unit.binary.elf_fixtures import Segment, elf_file
from tests.unit.binary.golang.go_fixtures import with_section

if TYPE_CHECKING:
    from tests.unit.binary.golang.conftest import Built

MAGIC = b"\xff Go buildinf:"
FRAME = bytes(range(16))
INFO = FRAME + b"path\texample.org/m/cmd\nmod\texample.org/m\t(devel)\t\n" + FRAME


def program(content: bytes) -> io.BytesIO:
    return io.BytesIO(elf_file(segments=(Segment(elf.PT_LOAD, elf.PF_W, content, 0x1000),)))


def inline(version: bytes, info: bytes = INFO) -> bytes:
    header = (MAGIC + b"\x08\x02").ljust(32, b"\0")
    return header + bytes((len(version),)) + version + bytes((len(info),)) + info


def pointers(version: bytes, size: int, order: str) -> bytes:
    header = MAGIC + bytes((size, order == ">"))
    code = order + ("I" if size == 4 else "Q")
    strings = b"".join(
        struct.pack(code, number)
        for number in (0x1060, len(version), 0x1060 + len(version), len(INFO))
    )
    header += struct.pack(code, 0x1020) + struct.pack(code, 0x1020 + 2 * size)
    return (header.ljust(32, b"\0") + strings).ljust(0x60, b"\0") + version + INFO


def test_go_1_18_and_newer_say_their_version_in_place() -> None:
    file = program(bytes(48) + inline(b"go1.19.8"))
    assert build_info.version(file) == "go1.19.8"


def test_a_long_version_is_whole() -> None:
    version = b"go1.27 X:" + b"e" * 200
    content = inline(b"").replace(b"\0" + bytes((len(INFO),)), b"\xd1\1" + version, 1)
    assert build_info.version(program(content)) == version.decode()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("size", [4, 8])
def test_older_go_points_at_its_version(size: int, order: str) -> None:
    file = program(pointers(b"go1.17.1", size, order))
    assert build_info.version(file) == "go1.17.1"


def test_the_section_comes_first() -> None:
    other = elf_file(segments=(Segment(elf.PT_LOAD, elf.PF_W, inline(b"go1.1") * 2, 0x1000),))
    data = with_section(other, b".go.buildinfo", b"", 0x1000)
    assert build_info.version(io.BytesIO(data)) == "go1.1"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(64),
        MAGIC,
        inline(b""),
        inline(b"go\x1b[31m"),
        inline(b"go\xff"),
        inline(b"go1.19")[:35],
        pointers(b"go1.17", 8, "<")[:40],
        MAGIC + b"\x07\0" + bytes(64),
        MAGIC + b"\x08\2" + bytes(16) + b"\xff" * 64,
    ],
)
def test_a_version_that_is_not_said_is_empty(content: bytes) -> None:
    assert build_info.version(program(content)) == ""


def test_what_is_no_elf_file_is_refused() -> None:
    with pytest.raises(elf.MalformedError):
        build_info.version(io.BytesIO(b"#!/bin/sh"))


def test_a_real_program_says_what_built_it(built: Built) -> None:
    with built.stripped.open("rb") as file:
        assert build_info.version(file) == built.version
