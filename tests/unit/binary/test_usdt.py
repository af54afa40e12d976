from __future__ import annotations

import contextlib
import io
import re
import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.binary import elf, usdt
from kubectl_trace.binary.usdt import Usdt, UsdtArgument
from tests.unit.binary.elf_fixtures import elf_file, note

needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")

# As sys/sdt.h of SystemTap makes it, which is a package of its own.
SOURCE = r"""
short demo_semaphore __attribute__((section(".probes"), used));
#define PROBE(provider, name, semaphore, arguments) __asm__ volatile( \
  "990: nop\n" \
  ".pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n" \
  ".4byte 992f-991f,994f-993f,3\n991: .asciz \"stapsdt\"\n992: .balign 4\n" \
  "993: .8byte 990b\n.8byte _.stapsdt.base\n.8byte " semaphore "\n" \
  ".asciz \"" provider "\"\n.asciz \"" name "\"\n.asciz \"" arguments "\"\n" \
  "994: .balign 4\n.popsection\n" \
  ".ifndef _.stapsdt.base\n" \
  ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n.weak _.stapsdt.base\n" \
  ".hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n.size _.stapsdt.base,1\n.popsection\n.endif\n")
void f(void) { PROBE("demo", "entry", "demo_semaphore", "-4@%edi 8@8(%rsp)"); }
int main(void) { PROBE("demo", "plain", "0", ""); f(); return 0; }
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("usdt")
    (directory / "p.c").write_text(SOURCE)
    path = directory / "p"
    subprocess.run(["gcc", "-O1", "-no-pie", directory / "p.c", "-o", path], check=True)
    return path


def found(data: bytes) -> list[Usdt]:
    return list(usdt.probes(io.BytesIO(data)))


def as_readelf_says(path: Path) -> list[tuple[str, str, int, int, str]]:
    said = subprocess.run(["readelf", "-n", path], check=True, capture_output=True, text=True)
    pattern = (
        r"Provider: (\S+)\s+Name: (\S+)\s+"
        r"Location: (\S+), Base: \S+, Semaphore: (\S+)\s+Arguments: *(.*)"
    )
    return [
        (provider, name, int(address, 16), int(semaphore, 16), arguments.strip())
        for provider, name, address, semaphore, arguments in re.findall(pattern, said.stdout)
    ]


def as_written(argument: UsdtArgument) -> str:
    sign, letter = "-" * argument.is_signed, "f" * argument.is_float
    return f"{sign}{argument.size}{letter}@{argument.text}"


def check_against_readelf(path: Path) -> int:
    probes = [
        (p.provider, p.name, p.address, p.semaphore, " ".join(map(as_written, p.arguments)))
        for p in found(path.read_bytes())
    ]
    assert probes == as_readelf_says(path)
    return len(probes)


@needs_gcc
def test_finds_the_probes_that_readelf_finds(program: Path) -> None:
    assert check_against_readelf(program) == 2
    entry = next(probe for probe in found(program.read_bytes()) if probe.name == "entry")
    assert entry.provider == "demo"
    assert entry.semaphore
    assert entry.arguments == (
        UsdtArgument(4, True, False, "%edi"),
        UsdtArgument(8, False, False, "8(%rsp)"),
    )


@pytest.mark.parametrize(
    ("path", "least"),
    [
        ("/usr/bin/python3.11", 8),
        ("/usr/lib/jvm/java-17-openjdk-amd64/lib/server/libjvm.so", 500),
        ("/usr/lib/x86_64-linux-gnu/libstdc++.so.6", 3),
    ],
)
def test_finds_the_probes_of_a_runtime_as_readelf_does(path: str, least: int) -> None:
    if not Path(path).exists() or not shutil.which("readelf"):
        pytest.skip("not on this machine")
    assert check_against_readelf(Path(path)) >= least


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", []),
        (
            "-4@%edi 8@8(%rsp) 8@$5 4@sym(%rip) 8@(%rax,%rcx,4)",
            [
                UsdtArgument(4, True, False, "%edi"),
                UsdtArgument(8, False, False, "8(%rsp)"),
                UsdtArgument(8, False, False, "$5"),
                UsdtArgument(4, False, False, "sym(%rip)"),
                UsdtArgument(8, False, False, "(%rax,%rcx,4)"),
            ],
        ),
        (
            "8f@%xmm0 -4@$-1",
            [UsdtArgument(8, False, True, "%xmm0"), UsdtArgument(4, True, False, "$-1")],
        ),
        (
            "-4@[sp, 16] 8@x0",
            [UsdtArgument(4, True, False, "[sp, 16]"), UsdtArgument(8, False, False, "x0")],
        ),
        (
            "%rdi 4(%rsp)",
            [UsdtArgument(0, False, False, "%rdi"), UsdtArgument(0, False, False, "4(%rsp)")],
        ),
        ("8@foo@GOTPCREL(%rip)", [UsdtArgument(8, False, False, "foo@GOTPCREL(%rip)")]),
    ],
)
def test_arguments_have_size_sign_and_place(text: str, arguments: list[UsdtArgument]) -> None:
    assert list(usdt.arguments(text)) == arguments


@pytest.mark.parametrize("text", ["[" * 50_000, "(" * 50_000, "([" * 25_000, "9" * 50_000 + "@x"])
def test_arguments_made_to_be_slow_are_quick(text: str) -> None:
    started = time.process_time()
    assert len(usdt.arguments(text)) == 1
    assert time.process_time() - started < 10


def with_notes(notes: bytes, bits: int = 64, order: str = "<", base: int | None = None) -> bytes:
    """An ELF file with these notes of probes, and `.stapsdt.base` at this address."""
    wide = bits == 64
    sections = (b".note.stapsdt", b".stapsdt.base" if base is not None else b".else")
    data = bytearray(elf_file(sections, (), bits, order))
    at = struct.unpack_from(order + ("Q" if wide else "I"), data, 0x28 if wide else 0x20)[0]
    size = 64 if wide else 40
    layout = struct.Struct(order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII"))
    for index, place in ((1, (7, 0, 0, len(data), len(notes))), (2, (1, 2, base or 0, 0, 1))):
        name = layout.unpack_from(data, at + index * size)[0]
        layout.pack_into(data, at + index * size, name, *place, 0, 0, 4, 0)
    return bytes(data) + notes


def probe_note(
    texts: bytes, addresses: tuple[int, int, int], bits: int = 64, order: str = "<"
) -> bytes:
    content = struct.pack(order + ("QQQ" if bits == 64 else "III"), *addresses) + texts
    return note(b"stapsdt\0", 3, content, order)


@pytest.mark.parametrize(("bits", "order"), [(64, "<"), (64, ">"), (32, "<"), (32, ">")])
def test_reads_either_width_and_byte_order(bits: int, order: str) -> None:
    one = probe_note(b"p\0one\x004@r0\0", (0x1000, 0, 0x2000), bits, order)
    two = probe_note(b"p\0two\0\0", (0x1010, 0, 0), bits, order)
    assert found(with_notes(one + note(b"GNU\0", 1, b"else", order) + two, bits, order)) == [
        Usdt("p", "one", 0x1000, 0x2000, (UsdtArgument(4, False, False, "r0"),)),
        Usdt("p", "two", 0x1010, 0, ()),
    ]


def test_addresses_move_with_a_library_that_was_prelinked() -> None:
    notes = probe_note(b"p\0n\0\0", (0x1000, 0x5000, 0x8000))
    notes += probe_note(b"p\0always\0\0", (0x1100, 0x5000, 0))
    moved = found(with_notes(notes, base=0x305000))
    assert [(probe.address, probe.semaphore) for probe in moved] == [
        (0x301000, 0x308000),
        (0x301100, 0),
    ]
    back = found(with_notes(notes, base=0x4F00))
    assert [(probe.address, probe.semaphore) for probe in back] == [(0xF00, 0x7F00), (0x1000, 0)]


def test_a_file_without_probes_has_none() -> None:
    assert found(elf_file((b".text",))) == []
    assert found(elf_file()) == []


@pytest.mark.parametrize("texts", [b"", b"p\0", b"p\0n\0", b"p\0n\x004@r0"])
def test_a_probe_that_is_cut_short_is_malformed(texts: bytes) -> None:
    with pytest.raises(elf.MalformedError):
        found(with_notes(probe_note(texts, (1, 2, 3))))


def test_what_is_no_elf_file_is_malformed() -> None:
    with pytest.raises(elf.MalformedError):
        found(b"#!/bin/sh\n")


VALID = with_notes(
    probe_note(b"p\0one\x004@r0\0", (0x1000, 9, 0x2000)) + probe_note(b"p\0b\0\0", (1, 9, 0)),
    base=9,
)


@given(
    st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, len(VALID)),
)
def test_a_broken_file_is_malformed_or_an_answer(changes: list[tuple[int, int]], end: int) -> None:
    data = bytearray(VALID)
    for at, value in changes:
        data[at] = value
    for part in (bytes(data), bytes(data[:end])):
        with contextlib.suppress(elf.MalformedError):
            found(part)


@given(st.text())
def test_any_text_is_arguments(text: str) -> None:
    assert all(argument.text for argument in usdt.arguments(text))
