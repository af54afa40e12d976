from __future__ import annotations

import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.binary import elf
from kubectl_trace.binary.returns import Returns, TailJump, returns

if TYPE_CHECKING:
    from pathlib import Path

ADDRESS = 0x401000
AMD64, ARM64 = elf.EM_X86_64, elf.EM_AARCH64
NO_INSTRUCTION = "06"


def found(code: str, machine: int = AMD64) -> Returns:
    """What is found, from the function's start."""
    ends = returns(bytes.fromhex(code), ADDRESS, machine)
    jumps = (
        TailJump(
            jump.address - ADDRESS, jump.target if jump.target is None else jump.target - ADDRESS
        )
        for jump in ends.tail_jumps
    )
    return Returns(tuple(site - ADDRESS for site in ends.sites), tuple(jumps), ends.is_complete)


@pytest.mark.parametrize("end", ["c3", "c21000", "f3c3", "f2c3"])
def test_every_kind_of_return_counts(end: str) -> None:
    assert found("90" + end) == Returns((1,), ())


def test_returns_behind_a_branch_count() -> None:
    # test eax, eax; je +1; ret; ret; int3
    assert found("85c07401c3c3cc") == Returns((4, 5), ())


def test_a_return_inside_of_an_instruction_does_not_count() -> None:
    # mov eax, 0xc3c3c3c3; ret
    assert found("b8c3c3c3c3c3") == Returns((5,), ())
    # lea rax, [rip + 0xc3]; jmp -9
    assert found("488d05c3000000ebf7") == Returns((), ())


def test_a_jump_into_an_instruction_is_followed() -> None:
    # je +1; then an instruction that has a ret in it, where the jump leads.
    assert found("7401b8c3000000c3").sites == (3, 7)


def test_a_far_return_and_what_stops_do_not_count() -> None:
    assert found("cb") == Returns((), ())
    assert found("0f0bf4cccc") == Returns((), ())


def test_jumps_out_of_the_function_are_named() -> None:
    # je to before the start; jmp to the end; both near forms.
    assert found("74f0eb00") == Returns((), (TailJump(0, -14), TailJump(2, 4)))
    assert found("e9fb0f0000") == Returns((), (TailJump(0, 0x1000),))
    assert found("0f84fa0f0000c3") == Returns((6,), (TailJump(0, 0x1000),))


@pytest.mark.parametrize("jump", ["ffe0", "ff2500000000", "3effe0"])
def test_a_computed_jump_has_no_target(jump: str) -> None:
    assert found("90" + jump) == Returns((), (TailJump(1, None),))


def test_what_only_a_computed_jump_or_the_runtime_reaches_counts() -> None:
    # jmp rax; xor eax, eax; ret; padding; ret
    assert found("ffe031c0c3ccccc3").sites == (4, 7)


def test_what_is_no_code_behind_the_last_return_does_not_count() -> None:
    assert found(f"c3{NO_INSTRUCTION}c3") == Returns((0,), (), is_complete=False)
    # A number that would end in the middle of what follows: je +5; ret; data; ret
    assert found("7402c3b8c3") == Returns((2, 4), (), is_complete=False)


def test_an_unknown_instruction_ends_what_is_read() -> None:
    # je +2; no instruction; ret; ret
    assert found(f"7402{NO_INSTRUCTION}c3c3") == Returns((4,), (), is_complete=False)


ARM64_CODE = """
    1f2003d5  nop
    40000054  b.eq +8
    c0035fd6  ret
    ff0b5fd6  retaa
    ff0f5fd6  retab
    200000b4  cbz x0, +4
    20000036  tbz x0, #0, +4
    c0ffff17  b -256
    00021fd6  br x16
    60035fd6  ret x27
    00000000  udf
"""


def test_arm64_has_fixed_encodings() -> None:
    code = "".join(line.split()[0] for line in ARM64_CODE.strip().splitlines())
    assert found(code, ARM64) == Returns((8, 12, 16), (TailJump(28, -228), TailJump(32, None)))
    assert found(code[:-4], ARM64).is_complete is False


def test_arm64_branches_out_of_the_function_are_named() -> None:
    # b.ne -4; cbnz x1, +1 MiB; tbnz x1, #0, +32 KiB - 4; b +128 MiB - 4
    assert found("e1ffff54e1ff7fb5e1ff0337ffffff15", ARM64).tail_jumps == (
        TailJump(0, -4),
        TailJump(4, 4 + 0xFFFFC),
        TailJump(8, 8 + 0x7FFC),
        TailJump(12, 12 + 0x7FFFFFC),
    )


def test_what_is_too_large_or_of_another_machine_is_refused() -> None:
    with pytest.raises(elf.MalformedError, match="larger"):
        returns(bytes((4 << 20) + 1), ADDRESS, AMD64)
    with pytest.raises(elf.MalformedError, match="neither"):
        returns(b"\xc3", ADDRESS, 3)
    assert returns(b"", ADDRESS, AMD64) == Returns((), ())


def test_too_many_instructions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubectl_trace.binary.returns._MOST_INSTRUCTIONS", 1000)
    with pytest.raises(elf.MalformedError, match="many"):
        returns(b"\x90" * 2000, ADDRESS, AMD64)


def test_code_made_to_be_slow_is_quick() -> None:
    # Instructions of 10 bytes with a jump into each, whose own overlap; nothing but jumps; nothing
    # that is an instruction.
    started = time.process_time()
    for code in (b"\x48\xb8\xeb\xf9", b"\x75\x01", b"\x06"):
        returns(code * (1 << 15), ADDRESS, AMD64)
    returns(b"\x41\0\0\x54" * (1 << 15), ADDRESS, ARM64)
    assert time.process_time() - started < 5


@given(st.binary(max_size=256), st.sampled_from([AMD64, ARM64]))
def test_any_bytes_are_an_answer(code: bytes, machine: int) -> None:
    ends = returns(code, ADDRESS, machine)
    assert all(ADDRESS <= site < ADDRESS + len(code) for site in ends.sites)
    assert list(ends.sites) == sorted(set(ends.sites))


def test_functions_of_a_real_c_program_return_where_objdump_says(tmp_path: Path) -> None:
    if not shutil.which("gcc") or not shutil.which("objdump"):
        pytest.skip("no gcc or no objdump here")
    source = """
        int sum(const int *v, int n) { int s = 0; for (int i = 0; i < n; i++) s += v[i]; return s; }
        __attribute__((noinline)) int pick(int a) {
            switch (a) {
            case 0: return 5; case 1: return sum(0, a); case 2: return 77; case 3: return a * a;
            case 4: return 6; case 5: return a / 3; case 6: return 1; case 7: return a + 9;
            }
            return -1;
        }
        int tail(int a) { return a > 3 ? pick(a + 1) : 7; }
    """
    (tmp_path / "a.c").write_text(source)
    program = tmp_path / "a.so"
    flags = ["-O2", "-shared", "-fPIC", "-fno-semantic-interposition"]
    subprocess.run(["gcc", *flags, "-o", program, tmp_path / "a.c"], check=True)
    for name in ("sum", "pick", "tail"):
        said = subprocess.run(
            ["objdump", "-d", "-w", f"--disassemble={name}", program],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        code, sites, jumps = {}, [], []
        for line in said.splitlines():
            place, _, rest = line.strip().partition(":\t")
            if not rest or not all(letter in "0123456789abcdef" for letter in place):
                continue
            encoded, _, instruction = rest.partition("\t")
            code[int(place, 16)] = bytes.fromhex(encoded)
            if instruction.startswith("ret"):
                sites.append(int(place, 16))
            if (
                instruction.startswith("jmp")
                and "<" in instruction
                and f"<{name}" not in instruction
            ):
                jumps.append(int(place, 16))
        start = min(code)
        header = elf.EM_X86_64 if "x86-64" in said else elf.EM_AARCH64
        ends = returns(b"".join(code.values()), start, header)
        assert ends.is_complete
        assert list(ends.sites) == sites
        assert [jump.address for jump in ends.tail_jumps if jump.target is not None] == jumps
    assert jumps
