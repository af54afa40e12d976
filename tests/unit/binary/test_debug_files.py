from __future__ import annotations

import contextlib
import io
import re
import shutil
import struct
import subprocess
import time
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.binary import debug_files, elf
from tests.unit.binary.elf_fixtures import Segment, elf_file, note

if TYPE_CHECKING:
    from pathlib import Path

needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")

IDENTITY = bytes.fromhex("93ac61ec5a8eb1396f9fbd350e3169a558528a40")
BY_IDENTITY = "/usr/lib/debug/.build-id/93/ac61ec5a8eb1396f9fbd350e3169a558528a40.debug"


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stripped program, with its debug information in `program.debug` next to it."""
    directory = tmp_path_factory.mktemp("debug_files")
    (directory / "p.c").write_text("int main(void) { return 0; }")
    path, debug = directory / "program", directory / "program.debug"
    run("gcc", "-g", "-Wl,--build-id=sha1", directory / "p.c", "-o", path)
    run("objcopy", "--only-keep-debug", path, debug)
    run("objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", path)
    return path


def with_section(program: Path, directory: Path, name: str, content: bytes) -> io.BytesIO:
    (directory / "content").write_bytes(content)
    path = directory / "changed"
    run("objcopy", "-R", name, program, path)
    run("objcopy", "--add-section", f"{name}={directory / 'content'}", path)
    return io.BytesIO(path.read_bytes())


def with_notes(*notes: bytes) -> io.BytesIO:
    return io.BytesIO(elf_file(segments=(Segment(elf.PT_NOTE, 4, b"".join(notes)),)))


@needs_gcc
def test_a_program_and_its_debug_file_have_the_build_id_that_readelf_shows(program: Path) -> None:
    shown = re.search("Build ID: ([0-9a-f]+)", run("readelf", "-n", program))
    assert shown
    for path in (program, program.with_suffix(".debug")):
        with path.open("rb") as file:
            identity = debug_files.build_id(file)
            assert identity.hex() == shown[1]
            assert debug_files.matches(file, identity)
            assert not debug_files.matches(file, identity[:-1])


@needs_gcc
def test_a_build_id_is_found_where_no_segment_has_it(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "section"
    run("objcopy", "-O", "binary", "-j", ".note.gnu.build-id", program, path)
    empty = tmp_path / "empty"
    (tmp_path / "e.c").write_text("")
    run("gcc", "-c", tmp_path / "e.c", "-o", empty)
    file = with_section(empty, tmp_path, ".note.gnu.build-id", path.read_bytes())
    with program.open("rb") as original:
        assert debug_files.build_id(file) == debug_files.build_id(original)


def test_other_notes_are_no_build_id() -> None:
    abi, identity = note(b"GNU\0", 1, bytes(16)), note(b"GNU\0", 3, IDENTITY)
    assert debug_files.build_id(with_notes(abi, note(b"Go\0\0", 3, b"x"), identity)) == IDENTITY
    assert debug_files.build_id(with_notes(abi)) == b""
    assert debug_files.build_id(with_notes(note(b"GNU\0", 3, bytes(65)))) == b"", "too long"
    assert debug_files.build_id(io.BytesIO(elf_file())) == b""


def test_nothing_matches_a_program_without_build_id() -> None:
    assert not debug_files.matches(io.BytesIO(elf_file()), b"")
    assert not debug_files.matches(io.BytesIO(b"no ELF file"), IDENTITY)


@needs_gcc
def test_the_link_names_the_debug_file_and_its_checksum(program: Path) -> None:
    debug = program.with_suffix(".debug")
    with program.open("rb") as file:
        assert debug_files.debug_link(file) == ("program.debug", zlib.crc32(debug.read_bytes()))
    with debug.open("rb") as file:
        assert debug_files.debug_link(file) is None
        assert debug_files.has_checksum(file, zlib.crc32(debug.read_bytes()))
        assert not debug_files.has_checksum(file, 0)


@needs_gcc
@pytest.mark.parametrize(
    "name", [b"../etc/shadow", b"/etc/shadow", b"..", b".", b"", b"a/b", b"\xff", b"x" * 256]
)
def test_a_link_that_is_no_file_name_is_malformed(
    program: Path, tmp_path: Path, name: bytes
) -> None:
    content = name + b"\0"
    content += bytes(-len(content) % 4) + bytes(4)
    with pytest.raises(elf.MalformedError):
        debug_files.debug_link(with_section(program, tmp_path, ".gnu_debuglink", content))


@needs_gcc
@pytest.mark.parametrize("content", [b"", b"name", b"name\0\0\0\0123", b"x" * 9000 + b"\0" * 8])
def test_a_link_that_is_cut_short_or_too_long_is_malformed(
    program: Path, tmp_path: Path, content: bytes
) -> None:
    with pytest.raises(elf.MalformedError):
        debug_files.debug_link(with_section(program, tmp_path, ".gnu_debuglink", content or b"\1"))


@needs_gcc
def test_the_alternative_is_a_path_and_a_build_id(program: Path, tmp_path: Path) -> None:
    path = "/usr/lib/debug/.dwz/x86_64-linux-gnu/coreutils.debug"
    content = path.encode() + b"\0" + IDENTITY
    file = with_section(program, tmp_path, ".gnu_debugaltlink", content)
    assert debug_files.alternative(file) == (path, IDENTITY)
    with program.open("rb") as original:
        assert debug_files.alternative(original) is None
    for broken in (content[:-20], content[:-19], path.encode(), content + bytes(50)):
        with pytest.raises(elf.MalformedError):
            debug_files.alternative(with_section(program, tmp_path, ".gnu_debugaltlink", broken))


def test_candidates_are_in_the_order_of_gdb() -> None:
    assert debug_files.candidates("/usr/bin/ls", IDENTITY, "ls.debug") == [
        BY_IDENTITY,
        "/usr/bin/ls.debug",
        "/usr/bin/.debug/ls.debug",
        "/usr/lib/debug/usr/bin/ls.debug",
    ]
    assert debug_files.candidates("/usr/bin/ls", IDENTITY, None) == [BY_IDENTITY]
    assert debug_files.candidates("/ls", b"", "ls.debug") == [
        "/ls.debug",
        "/.debug/ls.debug",
        "/usr/lib/debug/ls.debug",
    ]
    assert debug_files.candidates("/usr/bin/ls", b"", None) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "/x", "a\0b", "x" * 256])
def test_a_name_that_leads_elsewhere_is_no_candidate(name: str) -> None:
    assert debug_files.candidates("/usr/bin/ls", IDENTITY, name) == [BY_IDENTITY]


def test_a_program_is_not_its_own_debug_file() -> None:
    assert "/usr/bin/ls" not in debug_files.candidates("/usr/bin/ls", IDENTITY, "ls")


@pytest.mark.parametrize("identity", [b"\x93", bytes(65)])
def test_a_build_id_that_is_too_short_or_too_long_is_no_path(identity: bytes) -> None:
    assert debug_files.candidates("/ls", identity, None) == []


@pytest.mark.parametrize(
    "name",
    [
        "/usr/lib/debug/.dwz/x86_64-linux-gnu/coreutils.debug",
        "../../.dwz/x86_64-linux-gnu/coreutils.debug",
    ],
)
def test_an_alternative_is_looked_for_where_distributions_put_it(name: str) -> None:
    assert debug_files.alternative_candidates(name, IDENTITY) == [
        BY_IDENTITY,
        "/usr/lib/debug/.dwz/x86_64-linux-gnu/coreutils.debug",
    ]


@pytest.mark.parametrize("name", ["/etc/shadow", "/usr/lib/debug/.dwz/../../../etc/shadow", ""])
def test_an_alternative_elsewhere_is_found_by_its_build_id_alone(name: str) -> None:
    assert debug_files.alternative_candidates(name, IDENTITY) == [BY_IDENTITY]


def test_many_notes_are_read_up_to_a_bound() -> None:
    one = elf_file(segments=(Segment(elf.PT_NOTE, 4, note(b"GNU\0", 1, b"") * 3750),))
    repeated = bytearray(one + one[64:120] * 1170)
    struct.pack_into("<Q", repeated, 0x20, len(one))
    struct.pack_into("<H", repeated, 0x38, 1170)
    started = time.process_time()
    assert debug_files.build_id(io.BytesIO(repeated)) == b""
    assert time.process_time() - started < 10


def everything(data: bytes) -> None:
    file = io.BytesIO(data)
    for reader in (debug_files.build_id, debug_files.debug_link, debug_files.alternative):
        with contextlib.suppress(elf.MalformedError):
            reader(file)
    debug_files.matches(file, IDENTITY)


@needs_gcc
def test_a_real_file_that_is_changed_or_cut_short_is_malformed_or_an_answer(
    program: Path, tmp_path: Path
) -> None:
    content = b"/usr/lib/debug/.dwz/p.debug\0" + IDENTITY
    data = with_section(program, tmp_path, ".gnu_debugaltlink", content).getvalue()
    headers_at = struct.unpack_from("<Q", data, 0x28)[0]

    @given(
        st.lists(
            st.tuples(
                st.one_of(st.integers(0, 1024), st.integers(headers_at, len(data) - 1)),
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
        everything(bytes(changed))
        everything(bytes(changed[:end]))

    check()


@given(st.binary(max_size=300), st.sampled_from("<>"), st.sampled_from([4, 8]))
def test_any_bytes_are_notes_within_them(data: bytes, order: str, align: int) -> None:
    for found in debug_files.note_contents(data, order, align):
        assert found.name in data
        assert found.content in data
