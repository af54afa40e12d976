from __future__ import annotations

import contextlib
import http.server
import io
import os
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.binary import debug_files, elf
from kubectl_trace.errors import NotFoundError
from kubectl_trace.functions import patterns
from kubectl_trace.runner import files, modules
from kubectl_trace.runner.modules import Module, Opened
from tests.unit.binary.dwarf.programs import compiler

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kubectl_trace.functions.catalog import Binary

SOURCE = r"""
#include <stdio.h>
#include <unistd.h>
int calls;
__attribute__((noinline)) static int hidden(int n) { return n + ++calls; }
int main(int count, char **arguments) {
  printf("%p\n", (void *)hidden);
  fflush(stdout);
  read(0, arguments[0], 1);
  return hidden(count);
}
"""
LIBRARY = "int answer(int n) { return n + 42; }"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "p.c").write_text(SOURCE)
    (folder / "l.c").write_text(LIBRARY)
    for command in (
        "gcc -O1 -g -fpie -pie -Wl,--build-id p.c -o whole",
        "objcopy --only-keep-debug whole whole.debug",
        "objcopy --strip-all whole stripped",
        "objcopy --strip-all --add-gnu-debuglink=whole.debug whole linked",
        "gcc -O1 -shared -fpic -Wl,--build-id l.c -o libanswer.so.1",
        "gcc -O1 p.c -Wl,--no-as-needed ./libanswer.so.1 -Wl,-rpath,$ORIGIN -o user",
    ):
        program, *arguments = command.split()
        subprocess.run([compiler(program), *arguments], check=True, capture_output=True, cwd=folder)
    return folder


@contextlib.contextmanager
def running(path: Path) -> Iterator[tuple[int, int]]:
    """The program, running: its PID, and where it has `hidden`."""
    with subprocess.Popen(
        [path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=path.parent
    ) as process:
        assert process.stdout is not None
        try:
            yield process.pid, int(process.stdout.readline(), 16)
        finally:
            process.kill()


def names(binary: Binary | None) -> list[str]:
    assert binary is not None
    return [each.name for each in binary.functions([patterns.parse("hidden")])]


def opened(path: Path, server: str = "") -> tuple[list[str], list[str]]:
    """Whether `hidden` is found in a program that runs, and what the user is told."""
    with running(path) as (pid, _), Opened(server) as found:
        (module,) = modules.executables([pid])
        return names(found.binary(module)), found.notes


def test_a_program_that_several_processes_run_is_there_once(built: Path) -> None:
    with running(built / "whole") as (one, _), running(built / "whole") as (two, _):
        (found,) = modules.executables([one, two])
        assert (found.path, found.shown, found.pid) == (
            f"/proc/{one}/exe",
            str(built / "whole"),
            one,
        )


def test_processes_that_have_ended_are_passed_over(built: Path) -> None:
    with running(built / "whole") as (pid, _):
        pass
    assert modules.executables([pid]) == []


def test_a_program_that_was_deleted_or_replaced_is_the_one_that_runs(
    built: Path, tmp_path: Path
) -> None:
    path = tmp_path / "gone"
    path.write_bytes((built / "whole").read_bytes())
    path.chmod(0o755)
    with running(path) as (pid, _), Opened() as found:
        path.unlink()
        path.write_bytes(b"#!/bin/sh\n")
        (module,) = modules.executables([pid])
        assert module.shown == f"{path} (deleted)"
        assert names(found.binary(module)) == ["hidden"]


def test_a_library_is_found_by_its_name_among_what_is_mapped(built: Path) -> None:
    with running(built / "user") as (one, _), running(built / "user") as (two, _):
        (found,) = modules.libraries([one, two], ["libanswer.so.1"])
        assert found.shown == str(built / "libanswer.so.1")
        assert found.path == f"/proc/{one}/root{built}/libanswer.so.1"
        (same,) = modules.libraries([one], ["libanswer.so.1", str(built / "libanswer.so.1")])
        assert same.file.identity == found.file.identity


def test_a_library_that_some_process_has_is_enough(built: Path) -> None:
    with running(built / "whole") as (one, _), running(built / "user") as (two, _):
        (found,) = modules.libraries([one, two], ["libanswer.so.1"])
        assert found.pid == two
        with pytest.raises(NotFoundError, match="libanswer"):
            modules.libraries([one], ["libanswer.so.1"])


def test_debug_information_is_found_by_the_link_in_the_program(built: Path) -> None:
    assert opened(built / "stripped") == ([], [])
    assert opened(built / "linked") == (["hidden"], [])
    assert opened(built / "whole") == (["hidden"], [])


def test_debug_information_of_another_build_is_not_taken(built: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").write_bytes((built / "linked").read_bytes())
    (tmp_path / "linked").chmod(0o755)
    debug = bytearray((built / "whole.debug").read_bytes())
    with open(built / "whole", "rb") as file:
        identity = debug_files.build_id(file)
    at = bytes(debug).index(identity)
    debug[at] ^= 1
    (tmp_path / "whole.debug").write_bytes(debug)
    assert opened(tmp_path / "linked") == ([], [])


@contextlib.contextmanager
def server(content: bytes | None) -> Iterator[tuple[str, list[str]]]:
    """A debuginfod server that has one file, or none: its address, and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404 if content is None else 200)
            self.end_headers()
            if content is not None:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}", asked
        finally:
            serving.shutdown()
            thread.join()


def test_a_server_is_asked_by_build_id_for_what_is_not_here(built: Path) -> None:
    with open(built / "whole", "rb") as file:
        identity = debug_files.build_id(file).hex()
    with server((built / "whole.debug").read_bytes()) as (address, asked):
        assert opened(built / "stripped", f"{address}/") == (["hidden"], [])
        assert asked == [f"/buildid/{identity}/debuginfo"]
        opened(built / "linked", address)
        assert len(asked) == 1


def test_a_server_that_has_it_not_is_told_of(built: Path) -> None:
    with server(None) as (address, _):
        found, notes = opened(built / "stripped", address)
    assert found == []
    assert len(notes) == 1
    assert "404" in notes[0]


def test_a_server_that_is_not_there_is_told_of(built: Path) -> None:
    for address in ("http://127.0.0.1:1", "nonsense", "ftp://", "http://[", "file:///etc/passwd"):
        found, notes = opened(built / "stripped", address)
        assert found == []
        assert len(notes) == 1
        assert notes[0].startswith("debuginfod: ")


def test_what_a_server_sends_instead_of_debug_information_changes_nothing(built: Path) -> None:
    for content in (
        b"",
        b"<html>",
        b"\x7fELF" + bytes(60),
        (built / "libanswer.so.1").read_bytes(),
    ):
        with server(content) as (address, _):
            assert opened(built / "stripped", address)[0] == []


def test_what_is_no_elf_file_is_no_binary(tmp_path: Path) -> None:
    path = tmp_path / "script"
    path.write_text("#!/bin/sh\n")
    with Opened() as found:
        assert found.binary(Module(str(path), str(path), 1, files.on_node(str(path)))) is None


def test_files_are_closed_with_the_modules(built: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    opened(built / "linked")
    assert len(os.listdir("/proc/self/fd")) == before


def test_how_far_a_program_is_from_its_addresses_is_known(built: Path) -> None:
    with running(built / "whole") as (pid, place), Opened() as found:
        (module,) = modules.executables([pid])
        binary = found.binary(module)
        assert binary is not None
        (hidden,) = binary.functions([patterns.parse("hidden")])
        assert modules.load_bias(module, pid, binary.segments) == place - hidden.address
        assert modules.load_bias(module, pid, []) == 0
    assert modules.load_bias(module, pid, binary.segments) == 0


def test_how_far_a_library_is_from_its_addresses_is_known(built: Path) -> None:
    with running(built / "user") as (pid, _):
        (module,) = modules.libraries([pid], ["libanswer.so.1"])
        data = io.BytesIO((built / "libanswer.so.1").read_bytes())
        segments = elf.segments(data, elf.read_header(data))
        with open(f"/proc/{pid}/maps") as maps:
            lines = [line.split() for line in maps if "libanswer" in line]
        first = int(lines[0][0].partition("-")[0], 16)
        assert modules.load_bias(module, pid, segments) == first
