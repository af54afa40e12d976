from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kubectl_trace.binary import elf
from kubectl_trace.binary.golang.pclntab import FunctionTable
from kubectl_trace.binary.golang.prologue import after_stack_check

if TYPE_CHECKING:
    from tests.unit.binary.golang.conftest import Built

ADDRESS = 0x401000
AMD64, ARM64 = elf.EM_X86_64, elf.EM_AARCH64

#: What functions begin with, where the check's branch leads, and what is there. The Go version and
#: the function that each is from.
CHECKS = {
    "1.19 internal/cpu.Initialize": (
        (AMD64, "493b66107638", 62),
        "488944240848895c2410e8539e0500488b442408488b5c2410eba7",
    ),
    "1.19 internal/cpu.doinit": (
        (AMD64, "493b66100f8624080000", 2094),
        "e8ad900500e9c8f7ffff",
    ),
    "1.19 internal/cpu.processOptions": (
        (AMD64, "4c8d6424f84d3b66100f862a050000", 1337),
        "488944240848895c2410e8f8980500488b442408488b5c2410e9a9faffff",
    ),
    "1.19 runtime.boundsError.Error": (
        (AMD64, "4c8da42438ffffff4d3b66100f86c4050000", 1494),
        "488944240848895c2410884c241840887c2419e8b2340500"
        "488b442408488b5c24100fb64c24180fb67c2419e9f9f9ffff",
    ),
    "1.19 a closure of esbuild's": (
        (AMD64, "4c8da42430fcffff4d3b66107651", 95),
        "90e8fb18caffeb99",
    ),
    "1.19 runtime.(*mheap).allocManual": (
        (AMD64, "493b66187635", 59),
        "488944240848895c2410884c2418e8b2ae0300488b442408488b5c24100fb64c2418eba1",
    ),
    "1.19 runtime.getproccount": (
        (AMD64, "4989e44981eca81f00000f82dd0000004d3b66100f86d3000000", 237),
        "e8eecd0200e909ffffff",
    ),
    "1.19 debugCall128": (
        (AMD64, "644c8b3425f8ffffff4c8d6424f84d3b66107640", 84),
        "e867080000eba5",
    ),
    "1.19 debugCall4096": (
        (AMD64, "644c8b3425f8ffffff4989e44981ec880f000072464d3b66107640", 91),
        "e8e0050000eb9e",
    ),
    "1.19 runtime.call16": (
        (AMD64, "644c8b3425f8ffffff493b66107671", 128),
        "e8dbfbffffe976ffffff",
    ),
    "1.27 runtime.vdsoauxv": (
        (AMD64, "4c8d6424f84d3b6610766a", 117),
        "488944240848895c241090e8dbba0000488b442408488b5c2410e96cffffff",
    ),
    "1.27, position-independent, runtime.call16": (
        (AMD64, "49c7c6f8ffffff644d8b36493b6610765e", 111),
        "e8ecfbffffeb8a",
    ),
    "1.27, position-independent, runtime.call4096": (
        (AMD64, "49c7c6f8ffffff644d8b364989e44981ec880f00000f82850000004d3b6610767f", 160),
        "e89bf6ffffe956ffffff",
    ),
    "1.15 internal/cpu.Initialize": (
        (AMD64, "64488b0c25f8ffffff483b61107638", 71),
        "e854080600ebb2",
    ),
    "1.15 internal/cpu.processOptions": (
        (AMD64, "64488b0c25f8ffffff488d4424b0483b41100f8633070000", 1867),
        "e8f0000600e9abf8ffff",
    ),
    "1.15 runtime.getproccount": (
        (
            AMD64,
            "64488b0c25f8ffffff488b71104881fedefaffff0f84e0000000488d8424a00300004829f0"
            "483d482300000f86c9000000",
            250,
        ),
        "e8612e030090e9fbfeffff",
    ),
    "1.15 debugCall4096": (
        (
            AMD64,
            "64488b0c25f8ffffff488b71104881fedefaffff7453488d8424a00300004829f0483d281300007640",
            105,
        ),
        "e8b2060000eb90",
    ),
    "1.15, position-independent, runtime.(*TypeAssertionError).Error": (
        (AMD64, "48c7c1f8ffffff64488b09488d842470ffffff483b41100f86cc040000", 1257),
        "e8b2af0500e90dfbffff",
    ),
    "1.24 internal/abi.Kind.String": (
        (ARM64, "900b40f9ff6330eba9030054", 124),
        "e0230039e3031eaa07ac0194e0234039ddffff17",
    ),
    "1.24 internal/abi.NewName": (
        (ARM64, "900b40f9f10301d13f0210eb491d0054", 948),
        "e08700a9e28f01a9e4a30039e5a70039e3031eaa12aa0194e08740a9e28f41a9e4a34039e5a7403909ffff17",
    ),
    "1.24 runtime.scanstack": (
        (ARM64, "900f40f9f18302d13f0210ebe92e0054", 1512),
        "e08700a9e3031eaa90440194e08740a982feff17",
    ),
    "1.24 runtime.getproccount": (
        (ARM64, "900b40f91bf683d2f1633bebe30600543f0210eba9060054", 232),
        "e3031eaa9de40094c4ffff17",
    ),
    "1.24 debugCall4096": (
        (ARM64, "900b40f9f1433ef1630200543f0210eb29020054", 84),
        "e3031eaa62010094e9ffff17",
    ),
    "1.24 runtime.call131072": (
        (ARM64, "900b40f91bf29fd23b00a0f2f1633beb030700543f0210ebc9060054", 240),
        "e3031eaae3fbff97c2ffff17",
    ),
    "1.15 arm64 internal/cpu.Initialize": (
        (ARM64, "810b40f9e20300915f0001eba9010054", 64),
        "e3031eaad7610194eeffff17",
    ),
    "1.15 arm64 runtime.getproccount": (
        (
            ARM64,
            "810b40f93ba480923f001bebc0070054e2830e91420001cb036a84d25f0003eb29070054",
            260,
        ),
        "e3031eaa3eba0094bdffff17",
    ),
}


def function(name: str) -> tuple[bytes, int, int]:
    """The function without what it does, the machine, and how long the check is."""
    (machine, check, target), call = CHECKS[name]
    begin = bytes.fromhex(check)
    nothing = b"\x90" if machine == AMD64 else bytes.fromhex("1f2003d5")
    code = begin + nothing * ((target - len(begin)) // len(nothing)) + bytes.fromhex(call)
    return code, machine, len(begin)


@pytest.mark.parametrize("name", CHECKS)
def test_a_probe_goes_behind_the_check(name: str) -> None:
    code, machine, size = function(name)
    assert after_stack_check(code, ADDRESS, machine) == ADDRESS + size


@pytest.mark.parametrize("name", CHECKS)
def test_what_does_not_call_the_function_again_is_no_check(name: str) -> None:
    code, machine, size = function(name)
    for cut in (size, size + 4, len(code) - 1):
        assert after_stack_check(code[:cut], ADDRESS, machine) == ADDRESS
    # One instruction later, the jump leads elsewhere.
    nothing = b"\x90" if machine == AMD64 else bytes.fromhex("1f2003d5")
    assert after_stack_check(nothing + code, ADDRESS, machine) == ADDRESS
    (_, _, target), _ = CHECKS[name]
    moved = code[:target] + nothing + code[target:]
    assert after_stack_check(moved, ADDRESS, machine) == ADDRESS


@pytest.mark.parametrize(
    ("machine", "code"),
    [
        (AMD64, "488d0c40488d0409488d4005c3"),  # Without a stack
        (AMD64, "554889e54883ec10"),  # go:nosplit
        (ARM64, "0000018bc0035fd6"),
        (AMD64, ""),
        (ARM64, "900b40"),
        (elf.EM_X86_64 + 1, CHECKS["1.19 internal/cpu.Initialize"][0][1]),
    ],
)
def test_a_function_without_a_check_is_probed_at_its_start(machine: int, code: str) -> None:
    assert after_stack_check(bytes.fromhex(code), ADDRESS, machine) == ADDRESS


@given(st.sampled_from(sorted(CHECKS)), st.integers(0, 60), st.integers(0, 255))
@example("1.19 internal/cpu.Initialize", 5, 0x80)
def test_a_changed_function_gives_its_start_or_the_same_place(
    name: str, at: int, value: int
) -> None:
    code, machine, size = function(name)
    changed = bytearray(code)
    changed[at] = value
    found = after_stack_check(bytes(changed), ADDRESS, machine)
    assert found in (ADDRESS, ADDRESS + size)


@given(st.binary(), st.sampled_from([AMD64, ARM64]))
def test_any_bytes_give_an_address(code: bytes, machine: int) -> None:
    assert ADDRESS <= after_stack_check(code, ADDRESS, machine) <= ADDRESS + len(code)


def test_functions_of_a_real_program_that_call_morestack_have_a_check(built: Built) -> None:
    with built.stripped.open("rb") as file:
        header = elf.read_header(file)
        if header.machine != AMD64:
            pytest.skip("calls are found by amd64's encoding")
        segments = elf.segments(file, header)
        functions = list(FunctionTable(file).functions())
        called = [f.address for f in functions if f.name.startswith("runtime.morestack")]
        checked = 0
        for found in functions:
            code = elf.at_address(file, segments, found.address, found.size)
            after = after_stack_check(code, found.address, AMD64)
            calls = any(
                struct.pack("<Bi", 0xE8, target - found.address - at - 5) == code[at : at + 5]
                for target in called
                for at in _places(code, b"\xe8")
            )
            assert (after > found.address) == calls, found
            checked += calls
    assert checked > 500


def _places(code: bytes, byte: bytes) -> list[int]:
    return [at for at in range(len(code)) if code[at : at + 1] == byte]
