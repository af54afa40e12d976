from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.runner import bpftrace

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("0.17.0", "BPFTRACE_MAP_KEYS_MAX"),
        ("0.20.1", "BPFTRACE_MAX_MAP_KEYS"),
        ("0.27.1", "BPFTRACE_MAX_MAP_KEYS"),
        ("unknown", "BPFTRACE_MAX_MAP_KEYS"),
    ],
)
def test_maps_get_room_by_the_name_that_the_version_knows(release: str, name: str) -> None:
    assert bpftrace.with_more_map_keys({"A": "b"}, release, 4) == {"A": "b", name: "16384"}


@pytest.mark.parametrize("name", ["BPFTRACE_MAP_KEYS_MAX", "BPFTRACE_MAX_MAP_KEYS"])
def test_room_that_the_user_set_stays(name: str) -> None:
    assert bpftrace.with_more_map_keys({name: "7"}, "0.23.2", 4) == {name: "7"}


@pytest.mark.parametrize("name", ["BPFTRACE_MAP_KEYS_MAX", "BPFTRACE_MAX_MAP_KEYS"])
@pytest.mark.parametrize(
    ("release", "known"),
    [("0.17.0", "BPFTRACE_MAP_KEYS_MAX"), ("0.23.2", "BPFTRACE_MAX_MAP_KEYS")],
)
def test_a_variable_has_the_name_that_the_version_knows_and_no_other(
    name: str, release: str, known: str
) -> None:
    found = bpftrace.environment({name: "7"}, release)
    assert {key: value for key, value in found.items() if "MAP" in key} == {known: "7"}


@pytest.mark.parametrize(
    ("release", "kernel", "is_larger"),
    [
        ("0.23.2", "6.1.0-18-amd64", True),
        ("0.23.2", "5.8.0", True),
        ("0.23.2", "5.4.0-150-generic", False),
        ("0.23.2", "unknown", False),
        ("0.17.0", "6.1.0", False),
        ("0.27.1", "6.1.0", False),
    ],
)
def test_a_ring_buffer_has_16_mib_where_bpftrace_takes_less(
    release: str, kernel: str, *, is_larger: bool
) -> None:
    pages = str((16 << 20) // os.sysconf("SC_PAGE_SIZE"))
    found = bpftrace.with_larger_buffer({}, release, kernel)
    assert found == ({"BPFTRACE_PERF_RB_PAGES": pages} if is_larger else {})


def test_what_the_user_says_of_the_buffer_stays() -> None:
    own = {"BPFTRACE_PERF_RB_PAGES": "8"}
    assert bpftrace.with_larger_buffer(own, "0.23.2", "6.1.0") == own


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """Says 0.21.3 when it is run."""
    file = tmp_path / "bpftrace"
    file.write_text("#!/bin/sh\necho bpftrace v0.21.3\n")
    file.chmod(0o755)
    return file


def test_a_version_that_the_image_knows_is_not_asked_for(binary: Path) -> None:
    size = binary.stat().st_size
    binary.with_name("bpftrace.version").write_text(f"{size} bpftrace v0.23.2\n")
    assert bpftrace.version(str(binary)) == "0.23.2"


@pytest.mark.parametrize("known", ["1 bpftrace v0.23.2\n", "", "bpftrace v0.23.2", None])
def test_the_version_of_another_binary_is_not_taken(binary: Path, known: str | None) -> None:
    if known is not None:
        binary.with_name("bpftrace.version").write_text(known)
    assert bpftrace.version(str(binary)) == "0.21.3"


@pytest.mark.parametrize(
    ("content", "takes"),
    [
        (b"\x7fELF libopcodes-2.44-system.so ", True),
        (b"\x7fELF BFD %s internal error, aborting at %s:%d\n", True),
        (b"\x7fELF libLLVM-14.so.1 elf64-x86-64", False),
    ],
)
def test_a_build_without_a_disassembler_takes_no_offsets(
    tmp_path: Path, content: bytes, *, takes: bool
) -> None:
    file = tmp_path / "bpftrace"
    file.write_bytes(content)
    assert bpftrace.takes_offsets(str(file)) == takes
