"""The check for stack space that most Go functions begin with.

A function compares its stack pointer with the goroutine's limit and, where space is short, calls
runtime.morestack, which moves the stack and calls the function anew from its start: a probe there
would fire twice. Right behind the check's branch, the stack pointer and the registers with
arguments are still what they were at the start.

Source: stacksplit in cmd/internal/obj/x86, obj6.go, and cmd/internal/obj/arm64, obj7.go, of
Go 1.15, 1.19, 1.24 and 1.27.
"""

from __future__ import annotations

import re
import struct

from kubectl_trace.binary import elf

# The stack limit is in the goroutine, whose address is in r14 or, in assembly and before Go 1.17,
# in thread-local memory; at 0x10, in functions of the runtime that run on a thread's stack at 0x18.
_GET_GOROUTINE = (
    rb"(?:"
    rb"\x64\x48\x8b\x0c\x25.{4}|"  # mov rcx, fs:N
    rb"\x64\x4c\x8b\x34\x25.{4}|"  # mov r14, fs:N
    # Position-independent: N comes from the global offset table, or the linker has put it in.
    rb"(?:\x48\x8b\x0d|\x48\xc7\xc1).{4}\x64\x48\x8b\x09|"  # mov rcx, …; mov rcx, fs:[rcx]
    rb"(?:\x4c\x8b\x35|\x49\xc7\xc6).{4}\x64\x4d\x8b\x36|"  # mov r14, …; mov r14, fs:[r14]
    rb")"
)
_LIMIT = rb"[\x10\x18]"
_IF_BELOW = rb"(?:\x72(?P<below>.)|\x0f\x82(?P<far_below>.{4}))"  # jb
_IF_NOT_ABOVE = rb"(?:\x76(?P<near>.)|\x0f\x86(?P<far>.{4}))"  # jbe
_AMD64 = re.compile(
    _GET_GOROUTINE + rb"(?:"
    # Small frames: cmp rsp, [rcx or r14 + limit].
    rb"(?:\x48\x3b\x61|\x49\x3b\x66)" + _LIMIT + rb"|"
    # Larger ones: lea r12, [rsp - N]; cmp r12, [rcx or r14 + limit].
    rb"\x4c\x8d(?:\x64\x24.|\xa4\x24.{4})(?:\x4c\x3b\x61|\x4d\x3b\x66)" + _LIMIT + rb"|"
    # Before Go 1.17: lea rax, [rsp - N]; cmp rax, [rcx + limit].
    rb"\x48\x8d(?:\x44\x24.|\x84\x24.{4})\x48\x3b\x41" + _LIMIT + rb"|"
    # Huge ones: mov r12, rsp; sub r12, N; jb …; cmp r12, [rcx or r14 + limit].
    rb"\x49\x89\xe4\x49\x81\xec.{4}"
    + _IF_BELOW
    + rb"(?:\x4c\x3b\x61|\x4d\x3b\x66)"
    + _LIMIT
    + rb"|"
    # Before Go 1.17: mov rsi, [rcx + limit]; cmp rsi, stackPreempt; je …; lea rax, [rsp + N];
    # sub rax, rsi; cmp rax, N.
    rb"\x48\x8b\x71" + _LIMIT + rb"\x48\x81\xfe\xde\xfa\xff\xff"
    rb"(?:\x74(?P<equal>.)|\x0f\x84(?P<far_equal>.{4}))"
    rb"\x48\x8d\x84\x24.{4}\x48\x29\xf0\x48\x3d.{4}"
    rb")" + _IF_NOT_ABOVE,
    re.DOTALL,
)


def _ending(bits: int, value: int) -> bytes:
    """Any byte whose lowest bits are this."""
    fitting = (byte for byte in range(256) if byte & ((1 << bits) - 1) == value)
    return b"[" + b"".join(re.escape(bytes((byte,))) for byte in fitting) + b"]"


# Words of 4 bytes, little endian. The goroutine's address is in x28. Constants that don't fit into
# an instruction are put together in x27 with movz, movk, movn and orr.
_CONSTANT = rb"(?:" + _ending(5, 27) + rb"..[\xd2\xf2\x92\xb2]){1,4}"
_IF_LOW_OR_SAME = rb"(?P<branch>" + _ending(5, 9) + rb"..\x54)"
_SP_MINUS = _ending(2, 3) + rb"."
_ARM64 = re.compile(
    rb"(?:"
    # ldr x16, [x28, #limit]
    rb"\x90[\x0b\x0f]\x40\xf9(?:"
    # cmp sp, x16
    rb"\xff\x63\x30\xeb|(?:"
    # sub x17, sp, #N
    rb"\xf1" + _SP_MINUS + rb"\xd1|"
    # subs x17, sp, #N or x27; b.lo …
    rb"(?:\xf1" + _SP_MINUS + rb"\xf1|" + _CONSTANT + rb"\xf1\x63\x3b\xeb)"
    rb"(?P<below>" + _ending(5, 3) + rb"..\x54)"
    # cmp x17, x16
    rb")\x3f\x02\x10\xeb)|"
    # Before Go 1.17: ldr x1, [x28, #limit]
    rb"\x81[\x0b\x0f]\x40\xf9(?:"
    # mov x2, sp or sub x2, sp, #N; cmp x2, x1
    rb"(?:\xe2\x03\x00\x91|\xe2"
    + _SP_MINUS
    + rb"\xd1)\x5f\x00\x01\xeb|"
    # x27: stackPreempt; cmp x1, x27; b.eq …
    + _CONSTANT
    + rb"\x3f\x00\x1b\xeb(?P<equal>"
    + _ending(5, 0)
    + rb"..\x54)"
    # add x2, sp, #N; sub x2, x2, x1; x3: N; cmp x2, x3
    rb"\xe2" + _SP_MINUS + rb"\x91\x42\x00\x01\xcb"
    rb"(?:" + _ending(5, 3) + rb"..[\xd2\xf2\x92\xb2]){1,4}\x5f\x00\x03\xeb"
    rb"))" + _IF_LOW_OR_SAME,
    re.DOTALL,
)
# The call saves and restores the registers with arguments: 2 times 24 instructions.
_LONGEST_CALL = 1024


def after_stack_check(code: bytes, address: int, machine: int) -> int:
    """Where a Go function has made sure of its stack: from there it runs once a call.

    Args:
        code: The whole function, as in the file.
        address: Where the function begins.
        machine: `EM_X86_64` or `EM_AARCH64` of elf.py.

    Returns:
        The address of the instruction behind the check; the function's own where it has none
        (leaf functions, `go:nosplit`), or one that isn't known.
    """
    if machine == elf.EM_X86_64:
        check = _AMD64.match(code)
        targets = _amd64_targets(check) if check else set()
        calls_again = _amd64_calls_again
    elif machine == elf.EM_AARCH64:
        check = _ARM64.match(code)
        targets = _arm64_targets(check) if check else set()
        calls_again = _arm64_calls_again
    else:
        return address
    if not check or len(targets) != 1:
        return address
    (target,) = targets
    is_check = target >= check.end() and calls_again(code, target)
    return address + check.end() if is_check else address


def _amd64_targets(check: re.Match[bytes]) -> set[int]:
    """Where the check's branches lead, from the function's start: all to one place."""
    return {
        check.end(group) + int.from_bytes(check[group], "little", signed=True)
        for group in check.re.groupindex
        if check[group]
    }


def _arm64_targets(check: re.Match[bytes]) -> set[int]:
    targets = set()
    for group in check.re.groupindex:
        if check[group]:
            # The number of words is in bits 5 to 23, with a sign.
            words = int.from_bytes(check[group], "little") >> 5 & 0x7FFFF
            targets.add(check.start(group) + 4 * (words - (words >> 18 << 19)))
    return targets


def _amd64_calls_again(code: bytes, at: int) -> bool:
    """Whether what is there calls something and then jumps to the function's start."""
    call = code.find(b"\xe8", at, at + _LONGEST_CALL)
    if call < 0:
        return False
    return any(
        code.startswith(_amd64_jumps(jump), jump)
        for jump in range(call + 5, min(call + _LONGEST_CALL, len(code)))
    )


def _amd64_jumps(at: int) -> tuple[bytes, ...]:
    """The jumps from there to the function's start."""
    far = b"\xe9" + struct.pack("<i", -at - 5)
    return (far, b"\xeb" + struct.pack("<b", -at - 2)) if at + 2 <= 128 else (far,)


def _arm64_calls_again(code: bytes, at: int) -> bool:
    called = False
    for place in range(at, min(at + _LONGEST_CALL, len(code) - 3), 4):
        word = int.from_bytes(code[place : place + 4], "little")
        if called and word == 0x14000000 | (-place // 4 & 0x3FFFFFF):  # b
            return True
        called = called or word >> 26 == 0x25  # bl
    return False
