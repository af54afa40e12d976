from __future__ import annotations

import pytest

from kubectl_trace.binary import entries

ENDBR64 = b"\xf3\x0f\x1e\xfa"


@pytest.mark.parametrize("push", [b"\x55", b"\x41\x57", b"\x53", b"\x50"])
def test_a_push_behind_endbr64_is_emulated(push: bytes) -> None:
    assert entries.emulated(ENDBR64 + push + b"\x90") == 4


@pytest.mark.parametrize(
    "code",
    [
        b"",
        ENDBR64,
        ENDBR64 + b"\x41",
        b"\x55\x48\x89\xe5",  # a push at once
        ENDBR64 + b"\x48\x8b\x47\x08",  # mov
        ENDBR64 + b"\x66\x50",  # push %ax, which the kernel does not emulate
        ENDBR64 + b"\x40\x55",  # nor with another prefix
        b"\xf3\x0f\x1e\xfb\x55",  # endbr32
        b"\x90" + ENDBR64 + b"\x55",
    ],
)
def test_all_else_is_not_known(code: bytes) -> None:
    assert entries.emulated(code) == 0
