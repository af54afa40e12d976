from __future__ import annotations

import contextlib
import io
import lzma
import shutil
import struct
import subprocess
import sys
import time
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.binary import elf, symbols
from kubectl_trace.binary.symbols import Symbol
from tests.unit.binary.elf_fixtures import elf_file

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
#define PUBLIC __attribute__((visibility("default"), noinline))
int data = 1;
extern int elsewhere(int);
PUBLIC int twice(int x) { return x * 2; }
__attribute__((noinline, used)) static int hidden(int x) { return x + data; }
PUBLIC int calls_others(int x) { return hidden(x) + elsewhere(x); }
static int chosen_implementation(int x) { return x; }
static void *choose(void) { return chosen_implementation; }
PUBLIC int chosen(int x) __attribute__((ifunc("choose")));
PUBLIC int old_f(int x) { return x; }
PUBLIC int new_f(int x) { return x + 1; }
__asm__(".symver old_f, f@V1\\n.symver new_f, f@@V2");
"""
VERSIONS = "V1 { global: twice; calls_others; chosen; f; local: *; }; V2 { global: f; } V1;"

needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")
NONE = struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("symbols")
    (directory / "f.c").write_text(SOURCE)
    (directory / "f.map").write_text(VERSIONS)
    path = directory / "libf.so"
    script = f"-Wl,--version-script={directory / 'f.map'}"
    run("gcc", "-O1", "-fPIC", "-shared", directory / "f.c", script, "-o", path)
    return path


def found(data: bytes) -> list[Symbol]:
    return list(symbols.functions(io.BytesIO(data)))


def names(data: bytes) -> set[str]:
    return {symbol.name for symbol in found(data)}


def as_readelf_says(path: Path, kind: str) -> set[Symbol]:
    said = set()
    for line in run("readelf", "-sW", path).splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[3] == kind and fields[6] != "UND":
            name = fields[7].partition("@")[0]
            said.add(Symbol(name, int(fields[1], 16), int(fields[2], 0)))
    return said


@needs_gcc
def test_finds_the_functions_that_readelf_finds(library: Path) -> None:
    every = found(library.read_bytes())
    assert set(every) == as_readelf_says(library, "FUNC")
    assert len(every) == len(set(every)), "once, though in .symtab and .dynsym"
    assert {"twice", "hidden", "calls_others"} <= {symbol.name for symbol in every}


@needs_gcc
def test_data_and_what_other_libraries_define_are_no_functions(library: Path) -> None:
    assert not names(library.read_bytes()) & {"data", "elsewhere"}


@needs_gcc
def test_a_name_has_no_version_and_may_be_at_several_addresses(library: Path) -> None:
    at = {symbol.address for symbol in found(library.read_bytes()) if symbol.name == "f"}
    assert len(at) == 2


@needs_gcc
def test_a_function_that_is_chosen_at_run_time_is_told_apart(library: Path) -> None:
    data = library.read_bytes()
    assert "chosen" not in names(data)
    chosen = list(symbols.resolvers(io.BytesIO(data)))
    assert set(chosen) == as_readelf_says(library, "IFUNC")
    assert [symbol.name for symbol in chosen] == ["chosen"]


@needs_gcc
def test_only_names_that_match_are_given(library: Path) -> None:
    with library.open("rb") as file:
        matching = symbols.functions(file, lambda name: name.startswith(b"tw"))
        assert [symbol.name for symbol in matching] == ["twice"]


@needs_gcc
def test_a_stripped_library_has_what_it_exports(library: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "stripped"
    run("strip", "-o", stripped, library)
    assert names(stripped.read_bytes()) >= {"twice", "calls_others", "f"}
    assert "hidden" not in names(stripped.read_bytes())


def with_debug_data(library: Path, directory: Path, content: bytes) -> bytes:
    (directory / "content").write_bytes(content)
    path = directory / "mini"
    run("strip", "-o", path, library)
    section = f".gnu_debugdata={directory / 'content'}"
    run("objcopy", "--add-section", section, path)
    return path.read_bytes()


@needs_gcc
def test_mini_debug_information_has_the_functions_that_were_stripped(
    library: Path, tmp_path: Path
) -> None:
    inner = tmp_path / "inner"
    run("objcopy", "--only-keep-debug", library, inner)
    data = with_debug_data(library, tmp_path, lzma.compress(inner.read_bytes()))
    assert set(found(data)) == as_readelf_says(library, "FUNC")


@needs_gcc
@pytest.mark.parametrize(
    "content",
    [
        b"no xz",
        lzma.compress(b"no ELF file"),
        lzma.compress(bytes(1000))[:-20],
        lzma.compress(bytes(65 << 20), preset=0),
    ],
    ids=["garbage", "no ELF file", "cut short", "bomb"],
)
def test_broken_mini_debug_information_is_malformed(
    library: Path, tmp_path: Path, content: bytes
) -> None:
    with pytest.raises(elf.MalformedError):
        found(with_debug_data(library, tmp_path, content))


@needs_gcc
def test_mini_debug_information_that_asks_for_much_memory_is_malformed(
    library: Path, tmp_path: Path
) -> None:
    window = {"id": lzma.FILTER_LZMA2, "dict_size": 4 << 10}
    large = bytearray(lzma.compress(b"x", filters=[window]))
    # The size of the window is in the block's header, which ends with its checksum.
    assert large[12:17] == b"\x02\x00\x21\x01\x00"
    large[16] = 32  # 256 MiB
    struct.pack_into("<I", large, 20, zlib.crc32(large[12:20]))
    assert lzma.decompress(large) == b"x"
    with pytest.raises(elf.MalformedError):
        found(with_debug_data(library, tmp_path, bytes(large)))


@needs_gcc
def test_an_address_is_at_an_offset_in_the_file(library: Path) -> None:
    data = library.read_bytes()
    file = io.BytesIO(data)
    segments = elf.segments(file, elf.read_header(file))
    twice = next(symbol for symbol in found(data) if symbol.name == "twice")
    offset = symbols.file_offset(segments, twice.address)
    assert offset is not None
    code = elf.at_address(file, segments, twice.address, twice.size)
    assert data[offset : offset + twice.size] == code


def test_only_code_that_is_loaded_from_the_file_has_an_offset() -> None:
    segments = [
        elf.Segment(elf.PT_NOTE, elf.PF_X, 0, 0x1000, 0x100, 4),
        elf.Segment(elf.PT_LOAD, elf.PF_W, 0x200, 0x2000, 0x100, 4),
        elf.Segment(elf.PT_LOAD, elf.PF_X, 0x300, 0x403000, 0x100, 4),
    ]
    assert symbols.file_offset(segments, 0x403000) == 0x300
    assert symbols.file_offset(segments, 0x4030FF) == 0x3FF
    assert [symbols.file_offset(segments, at) for at in (0x403100, 0x2000, 0x1000)] == [None] * 3


def with_table(
    entries: bytes, strings: bytes, bits: int = 64, order: str = "<", entry_size: int = 0
) -> bytes:
    """An ELF file with this `.symtab` and `.strtab`."""
    wide = bits == 64
    data = bytearray(elf_file((b".symtab", b".strtab"), (), bits, order))
    at = struct.unpack_from(order + ("Q" if wide else "I"), data, 0x28 if wide else 0x20)[0]
    size = 64 if wide else 40
    layout = struct.Struct(order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII"))
    place = len(data)
    for index, kind, content in ((1, 2, entries), (2, 3, strings)):
        name = layout.unpack_from(data, at + index * size)[0]
        entry_size = entry_size or (24 if wide else 16)
        layout.pack_into(
            data, at + index * size, name, kind, 0, 0, place, len(content), 2, 0, 1, entry_size
        )
        place += len(content)
    return bytes(data) + entries + strings


@pytest.mark.parametrize(("bits", "order"), [(64, "<"), (64, ">"), (32, "<"), (32, ">")])
def test_reads_either_width_and_byte_order(bits: int, order: str) -> None:
    def entry(name: int, info: int, index: int, address: int, size: int) -> bytes:
        if bits == 64:
            return struct.pack(order + "IBBHQQ", name, info, 0, index, address, size)
        return struct.pack(order + "IIIBBH", name, address, size, info, 0, index)

    entries = (
        entry(0, 0, 0, 0, 0)
        + entry(1, 0x12, 7, 0x1234, 16)
        + entry(1, 0x12, 0, 0x99, 16)  # Not defined.
        + entry(5, 0x02, 0x100, 0x2000, 8)
        + entry(5, 0x01, 7, 0x3000, 8)  # Data.
    )
    data = with_table(entries, b"\0one\0two\0", bits, order)
    assert found(data) == [Symbol("one", 0x1234, 16), Symbol("two", 0x2000, 8)]


def test_a_name_that_is_no_utf_8_is_escaped() -> None:
    entry = struct.pack("<IBBHQQ", 1, 2, 0, 1, 16, 1)
    assert names(with_table(entry, b"\0f\xff\0")) == {"f\\xff"}


@pytest.mark.parametrize(
    ("entries", "strings", "entry_size"),
    [
        (struct.pack("<IBBHQQ", 9, 2, 0, 1, 16, 1), b"\0f\0", 24),
        (struct.pack("<IBBHQQ", 1, 2, 0, 1, 16, 1), b"\0f", 24),
        (struct.pack("<IBBHQQ", 1, 2, 0, 1, 16, 1), b"\0f\0", 16),
        (struct.pack("<IBBHQQ", 1, 2, 0, 1, 16, 1)[:-1], b"\0f\0", 24),
    ],
    ids=["outside", "no end", "another size", "cut short"],
)
def test_a_broken_table_is_malformed(entries: bytes, strings: bytes, entry_size: int) -> None:
    with pytest.raises(elf.MalformedError):
        found(with_table(entries, strings, entry_size=entry_size))


def test_a_table_that_says_too_much_is_malformed() -> None:
    data = bytearray(with_table(NONE, b"\0"))
    at = struct.unpack_from("<Q", data, 0x28)[0] + 64 + 0x20
    for size in (24 << 30, 2**64 - 8, 24 << 20):
        struct.pack_into("<Q", data, at, size)
        with pytest.raises(elf.MalformedError):
            found(bytes(data))


def test_many_symbols_with_the_same_long_name_are_malformed_before_they_take_long() -> None:
    entry = struct.pack("<IBBHQQ", 1, 2, 0, 1, 16, 1)
    started = time.process_time()
    with pytest.raises(elf.MalformedError):
        found(with_table(entry * 100_000, b"\0" + b"x" * (1 << 20) + b"\0"))
    assert time.process_time() - started < 10


def test_many_functions_are_found_quickly() -> None:
    count = 200_000
    entries = b"".join(
        struct.pack("<IBBHQQ", 1 + i * 16, 2, 0, 1, 0x1000 + i * 16, 16) for i in range(count)
    )
    strings = b"\0" + b"".join(b"function_%06d\0" % i for i in range(count))
    file = io.BytesIO(with_table(entries, strings))
    started = time.process_time()
    assert len(list(symbols.functions(file, lambda name: name.endswith(b"77")))) == count / 100
    assert time.process_time() - started < 10


def test_functions_of_a_real_program_are_in_its_code() -> None:
    with open(sys.executable, "rb") as file:
        segments = elf.segments(file, elf.read_header(file))
        for symbol in symbols.functions(file):
            assert symbols.file_offset(segments, symbol.address) is not None, symbol


VALID = with_table(
    NONE + struct.pack("<IBBHQQ", 1, 2, 0, 1, 16, 1) * 3 + struct.pack("<IBBHQQ", 3, 2, 0, 1, 9, 1),
    b"\0f\0gh@V\0",
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


@needs_gcc
def test_a_real_file_that_is_changed_or_cut_short_is_malformed_or_an_answer(library: Path) -> None:
    data = library.read_bytes()
    headers_at = struct.unpack_from("<Q", data, 0x28)[0]

    @given(
        st.lists(
            st.tuples(
                st.one_of(st.integers(0, 63), st.integers(headers_at, len(data) - 1)),
                st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]),
            ),
            max_size=6,
        ),
        st.integers(0, len(data)),
    )
    def check(changes: list[tuple[int, int]], end: int) -> None:
        changed = bytearray(data)
        for at, value in changes:
            changed[at] = value
        for part in (bytes(changed), bytes(changed[:end])):
            with contextlib.suppress(elf.MalformedError):
                found(part)

    check()
