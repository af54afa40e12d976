from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.errors import NotFoundError, StartError, UsageError
from kubectl_trace.runner import files

if TYPE_CHECKING:
    from pathlib import Path

PID = 10
ELF = b"\x7fELF and so on"
DEBIAN = "/usr/lib/x86_64-linux-gnu"


class Container:
    """A process in a /proc of its own, with a root directory."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.rootfs = folder / "rootfs"
        self.process = self.proc / str(PID)
        self.process.mkdir(parents=True)
        self.rootfs.mkdir()
        (self.process / "root").symlink_to(self.rootfs)

    def add(self, path: str, content: bytes = ELF, mode: int = 0o755) -> Path:
        """A file of the container, with the directories that it needs."""
        file = self.rootfs / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(mode)
        return file

    def link(self, path: str, target: str) -> None:
        link = self.rootfs / path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)

    def maps(self, *paths: str) -> None:
        # Seen from where this test runs, its root is not the root of its mount namespace.
        lines = [
            "7ffd0000-7ffd1000 rw-p 00000000 00:00 0                          [stack]\n",
            "7ffd3000-7ffd4000 rw-p 00000000 00:00 0 \n",
        ]
        for path in paths:
            file = f"{self.rootfs}{path}"
            lines += [f"7f00-7f01 r--p 00000000 00:70 150   {file}\n"] * 2
        (self.process / "maps").write_text("".join(lines))

    def environ(self, content: bytes) -> None:
        (self.process / "environ").write_bytes(content)

    def find(self, name: str) -> list[str]:
        """What is found, as the container sees it."""
        found = files.find(PID, name, self.proc)
        root = f"{self.process}/root"
        assert all(file.path.startswith(root + "/") for file in found)
        return [file.path.removeprefix(root) for file in found]


@pytest.fixture
def container(tmp_path: Path) -> Container:
    return Container(tmp_path)


def test_a_path_starts_at_the_containers_root(container: Container) -> None:
    container.add("/usr/sbin/nginx")
    assert container.find("/usr/sbin/nginx") == ["/usr/sbin/nginx"]
    assert container.find("usr/sbin/nginx") == ["/usr/sbin/nginx"], "bpftrace takes it, too"


def test_links_lead_where_the_container_would_follow_them(container: Container) -> None:
    container.add("/usr/bin/python3.11")
    container.link("/bin", "usr/bin")
    container.link("/usr/bin/python3", "/etc/alternatives/python3")
    container.link("/etc/alternatives/python3", "../../../../../usr/bin/python3.11")
    assert container.find("/bin/python3") == ["/usr/bin/python3.11"]


def test_no_path_leaves_the_containers_root(container: Container) -> None:
    (container.rootfs.parent / "secret").write_bytes(ELF)
    container.link("/up", "../secret")
    container.link("/absolute", str(container.rootfs.parent / "secret"))
    for name in ("/../secret", "/up", "/absolute", str(container.rootfs.parent / "secret")):
        with pytest.raises(NotFoundError, match=f"^no file {re.escape(name)} in the container$"):
            container.find(name)


def test_only_regular_files_count_and_a_fifo_blocks_nobody(container: Container) -> None:
    container.add("/etc/nginx.conf")
    os.mkfifo(container.rootfs / "fifo")
    container.link("/loop", "loop")
    container.link("/null", "/dev/null")
    for name in (
        "/fifo",
        "/etc",
        "/",
        "/loop",
        "/null",
        "/etc/nginx.conf/x",
        "/f*",
        "/" + "x" * 999,
    ):
        with pytest.raises(NotFoundError):
            container.find(name)


def test_wildcards_are_expanded_in_the_container(container: Container) -> None:
    container.add(f"{DEBIAN}/libssl.so.3")
    container.add(f"{DEBIAN}/libssl3.so")
    container.add("/usr/lib/aarch64-linux-gnu/libssl.so.1")
    container.add("/usr/lib/a/deeper/libssl.so.9")
    container.link("/lib", "/usr/lib")
    assert container.find("/lib/*/libssl.so.[0-9]") == [
        "/usr/lib/aarch64-linux-gnu/libssl.so.1",
        f"{DEBIAN}/libssl.so.3",
    ]
    assert container.find("/usr/../lib/x86*/libssl?.so") == [f"{DEBIAN}/libssl3.so"]
    assert container.find("/usr/lib/[^x]*/lib*") == ["/usr/lib/aarch64-linux-gnu/libssl.so.1"]


def test_a_wildcard_matches_each_file_once_and_no_hidden_one(container: Container) -> None:
    container.add("/bin/busybox")
    container.add("/bin/.hidden")
    container.link("/bin/sh", "/bin/busybox")
    os.link(container.rootfs / "bin/busybox", container.rootfs / "bin/cat")
    assert container.find("/bin/*") == ["/bin/busybox"]
    assert container.find("/bin/.h*") == ["/bin/.hidden"]


def test_a_search_passes_over_what_is_no_elf_file(container: Container) -> None:
    container.add("/usr/lib/libssl.a", b"!<arch>\n")
    container.add("/usr/lib/libssl.so", b"/* GNU ld script */")
    container.add("/usr/lib/empty.so", b"")
    container.add("/usr/lib/libssl.so.3")
    assert container.find("/usr/lib/*") == ["/usr/lib/libssl.so.3"]
    assert container.find("libssl") == ["/usr/lib/libssl.so.3"]


def test_a_wildcard_without_a_match_says_so(container: Container) -> None:
    with pytest.raises(NotFoundError, match=r"^no ELF file matches /usr/\*/x in the container$"):
        container.find("/usr/*/x")


def test_too_many_files_are_refused(container: Container) -> None:
    for number in range(1001):
        container.add(f"/bin/{number}")
    with pytest.raises(UsageError, match="more than 1000 files"):
        container.find("/bin/*")


def test_too_many_names_are_refused(container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        container.add(f"/a/{number}/x", b"")
    monkeypatch.setattr(files, "_MOST_NAMES", 10)
    with pytest.raises(UsageError, match="more than 10 names"):
        container.find("/a/*/x")


def test_more_directory_entries_than_can_be_looked_at_are_refused(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        container.add(f"/a/{number}", b"")
    monkeypatch.setattr(files, "_MOST_ENTRIES", 10)
    with pytest.raises(UsageError, match="fewer wildcards"):
        container.find("/a/x*")


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("libc", "libc.so.6"),
        ("libc", "libc-2.31.so"),
        ("libc", "ld-musl-x86_64.so.1"),
        ("libssl", "libssl.so"),
        ("libssl.so", "libssl.so.3"),
        ("libssl.so.3", "libssl.so.3"),
        ("libssl.so.1", "libssl.so.1.0.2k"),
        ("libstdc++", "libstdc++.so.6.0.30"),
        ("libpython*", "libpython3.11.so.1.0"),
    ],
)
def test_a_library_is_a_mapped_file_of_that_name(
    container: Container, name: str, base: str
) -> None:
    # More than one, in a place that is no library directory.
    for path in (f"/opt/{base}", "/opt/libcrypto.so.3", "/opt/libc-client.so.2", "/opt/libssl2.so"):
        container.add(path)
    container.maps("/opt/libcrypto.so.3", "/opt/libc-client.so.2", f"/opt/{base}")
    container.add(f"/usr/lib/{base}")
    assert container.find(name) == [f"/opt/{base}"]


def test_every_mapped_version_of_a_library_counts(container: Container) -> None:
    container.add("/opt/libssl.so.1.1")
    container.add("/opt/libssl.so.3")
    container.maps("/opt/libssl.so.3", "/opt/libssl.so.1.1")
    assert container.find("libssl") == ["/opt/libssl.so.1.1", "/opt/libssl.so.3"]


def test_a_library_that_is_not_mapped_is_found_in_the_library_directories(
    container: Container,
) -> None:
    container.add(f"{DEBIAN}/libz.so.1.3.1")
    container.add("/usr/lib/i386-linux-gnu/libz.so.1")
    container.add("/usr/lib/mozilla/libz.so.1")
    container.link(f"{DEBIAN}/libz.so.1", "libz.so.1.3.1")
    container.link("/lib", "usr/lib")
    container.maps("/usr/bin/bash")
    assert container.find("libz") == [
        "/usr/lib/i386-linux-gnu/libz.so.1",
        f"{DEBIAN}/libz.so.1.3.1",
    ]


def test_a_mapped_library_that_was_deleted_is_looked_for_anew(container: Container) -> None:
    container.add("/usr/lib/libz.so.1")
    container.maps("/usr/lib/libz.so.1 (deleted)")
    assert container.find("libz") == ["/usr/lib/libz.so.1"]


def test_a_missing_library_says_where_it_was_looked_for(container: Container) -> None:
    with pytest.raises(NotFoundError, match="no library libfoo among the mapped files or in the"):
        container.find("libfoo")


def test_a_command_is_the_first_in_the_processs_path(container: Container) -> None:
    for path in ("/opt/b/tool", "/opt/a/tool", "/usr/bin/tool", "/cwd/tool"):
        container.add(path)
    container.environ(b"MYPATH=/usr/bin\0PATH=:cwd:/missing:/opt/b:/opt/a\0PATH=/usr/bin\0")
    assert container.find("tool") == ["/opt/b/tool"]
    assert container.find("to*") == ["/opt/a/tool", "/opt/b/tool"]


@pytest.mark.parametrize("environ", [b"", b"\0\0\0 -g daemon off;\0", b"HOME=/\0"])
def test_without_a_path_the_usual_directories_are_searched(
    container: Container, environ: bytes
) -> None:
    container.add("/usr/sbin/nginx")
    container.environ(environ)
    assert container.find("nginx") == ["/usr/sbin/nginx"]


def test_a_command_is_an_executable_elf_file(container: Container) -> None:
    container.add("/usr/local/bin/tool", mode=0o644)
    container.add("/usr/sbin/tool", b"#!/bin/sh\nexec /usr/bin/tool")
    container.add("/usr/bin/tool")
    assert container.find("tool") == ["/usr/bin/tool"]


def test_a_path_in_the_environment_is_no_pattern(container: Container) -> None:
    container.add("/a/tool")
    container.environ(b"PATH=/*\0")
    with pytest.raises(NotFoundError, match="no command tool in the PATH of the container"):
        container.find("tool")


def test_a_command_may_begin_like_a_library(container: Container) -> None:
    container.add("/usr/bin/libreoffice")
    assert container.find("libreoffice") == ["/usr/bin/libreoffice"]


@pytest.mark.parametrize(
    "hostile",
    [b'x:f{system("id")}', b"x y", b"x\np x:0x1", b'x"', b"x\\", b"x$1", b"\xff", b"*", b"?"],
)
def test_a_name_that_could_write_the_program_is_refused(
    container: Container, hostile: bytes
) -> None:
    container.add("/bin/x")
    container.add("/bin/" + os.fsdecode(hostile))
    container.link("/bin/innocent", "/bin/" + os.fsdecode(hostile))
    for name in ("/bin/innocent", "/bin/*", "innocent"):
        with pytest.raises(UsageError, match="may hold letters") as refused:
            container.find(name)
        assert str(refused.value).isprintable()


def test_a_file_called_like_a_bracket_is_harmless(container: Container) -> None:
    container.add("/usr/bin/[")
    assert container.find("/usr/bin/[") == ["/usr/bin/["]


@pytest.mark.parametrize("name", ["", "/bin/a\0b", "/bin/\ud800", "a\nb"])
def test_what_can_name_no_file_is_refused(container: Container, name: str) -> None:
    with pytest.raises(UsageError):
        container.find(name)


def test_a_process_that_has_ended_is_not_found(container: Container) -> None:
    with pytest.raises(NotFoundError, match="process 11 has ended"):
        files.find(11, "/bin/sh", container.proc)


def test_a_kernel_without_openat2_is_named(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_OPENAT2", 9999)
    for name in ("/bin/sh", "/bin/*", "sh", "libc"):
        with pytest.raises(StartError, match=r"5\.6"):
            container.find(name)


def test_one_file_has_one_identity_and_a_copy_another(container: Container, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Container(tmp_path / "other")
    original = container.add("/bin/a")
    (other.rootfs / "bin").mkdir()
    os.link(original, other.rootfs / "bin/a")
    shutil.copy2(original, other.rootfs / "bin/copy")
    (one,) = files.find(PID, "/bin/a", container.proc)
    (same,) = files.find(PID, "/bin/a", other.proc)
    (copy,) = files.find(PID, "/bin/copy", other.proc)
    assert one.identity == same.identity != copy.identity
    assert one.path != same.path


def test_on_overlayfs_the_layers_file_is_what_counts(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = container.add("/bin/a")
    (here,) = files.find(PID, "/bin/a", container.proc)
    assert here.identity[0] == file.stat().st_dev
    monkeypatch.setattr(files, "_OVERLAYFS", file_system_type(file))
    (layered,) = files.find(PID, "/bin/a", container.proc)
    status = file.stat()
    assert layered.identity == (
        0,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def file_system_type(file: Path) -> int:
    return int(subprocess.check_output(["stat", "-f", "-c", "%t", str(file)]), 16)


def test_an_opened_file_can_be_read(container: Container) -> None:
    container.add("/bin/a")
    (found,) = files.find(PID, "/bin/a", container.proc)
    with files.opened(found) as file:
        assert file.read() == ELF


def test_a_file_that_has_become_another_is_not_opened(container: Container) -> None:
    path = container.add("/bin/a")
    (found,) = files.find(PID, "/bin/a", container.proc)
    path.rename(path.with_name("b"))
    with pytest.raises(NotFoundError):
        files.opened(found)
    path.write_bytes(ELF)
    with pytest.raises(NotFoundError, match="another file"):
        files.opened(found)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(NotFoundError, match="another file"):
        files.opened(found)
    path.unlink()
    path.with_name("c").write_bytes(ELF)
    path.symlink_to("c")
    with pytest.raises(NotFoundError, match="another file"):
        files.opened(found)


def test_finds_a_real_processs_files() -> None:
    executable = os.path.realpath(sys.executable)
    (found,) = files.find(os.getpid(), executable)
    assert found.path == f"/proc/{os.getpid()}/root{executable}"
    assert os.path.samefile(found.path, executable)
    for library in files.find(os.getpid(), "libc"):
        with files.opened(library) as file:
            assert file.read(4) == b"\x7fELF"


@pytest.fixture(scope="module")
def maze(tmp_path_factory: pytest.TempPathFactory) -> Container:
    container = Container(tmp_path_factory.mktemp("maze"))
    (container.rootfs.parent / "x").write_bytes(ELF)
    container.add("/x")
    container.add("/d/x")
    container.add("/d/d/x")
    container.link("/d/up", "../../..")
    container.link("/up", "..")
    container.link("/d/root", "/")
    container.link("/out", str(container.rootfs.parent))
    container.link("/d/d/self", "/proc/self/root")
    return container


@given(
    st.lists(
        st.sampled_from(["..", ".", "", "d", "x", "up", "root", "out", "self", "*", "?", "[!d]*"]),
        min_size=1,
    )
)
def test_whatever_the_path_the_file_is_the_containers(
    maze: Container, components: list[str]
) -> None:
    try:
        found = maze.find("/" + "/".join(components))
    except (NotFoundError, UsageError):
        return
    assert set(found) <= {"/x", "/d/x", "/d/d/x"}


def test_a_file_with_a_long_path_has_a_short_one_for_whom_its_descriptor_is_given(
    tmp_path: Path,
) -> None:
    path = tmp_path / ("long" * 10)
    path.write_bytes(b"content")
    held = files.Held()
    file = files.on_node(str(path))
    short = held.path(file)
    assert held.path(file) == short
    assert len(short) <= 24
    (fd,) = held.fds
    done = subprocess.run(["cat", short], pass_fds=[fd], capture_output=True, check=True)
    assert done.stdout == b"content"
    held.close()
    assert held.fds == []


def test_a_short_path_stays_as_it_is() -> None:
    held = files.Held()
    assert held.path(files.on_node("/proc/self/exe")) == "/proc/self/exe"
    assert held.fds == []
