"""Programs compiled for the tests, and readers of what came out."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.binary import elf
from kubectl_trace.binary.dwarf import DebugInfo, Parameter, Subprogram

if TYPE_CHECKING:
    from collections.abc import Sequence

# Registers' numbers in the ABIs: x86-64's arguments in their order.
ARGUMENTS = [5, 4, 1, 2, 8, 9]
RAX, RBX, RCX, RDI, RSI, R8 = 0, 3, 2, 5, 4, 8
XMM0 = 17

C_PROGRAM = """
#include <stdio.h>
#include <sys/types.h>
#define NOINLINE __attribute__((noinline, noclone))
enum color { RED = 1, GREEN = -2 };
struct inner { short kind; char text[6]; };
struct point {
  int x;
  unsigned flag : 3, mode : 5;
  double ratio;
  struct inner inside;
  struct point *next;
  union { int number; float real; };
  int grid[2][3];
};
typedef struct { char *data; unsigned long length; } text_t;
typedef int (*callback_t)(const char *, int);
int calls;
NOINLINE ssize_t work(const char *name, struct point *p, text_t text, enum color c, double d,
                      struct point big, int a, int b, _Bool last) {
  calls += p->x + big.x + printf("%s %s %lu", name, text.data, text.length);
  return p->x + c + d + a + b + last;
}
NOINLINE int variadic(callback_t call, const char *format, ...) { return call(format, ++calls); }
NOINLINE void nothing(void) { calls++; }
static inline __attribute__((always_inline)) int twice(int number) { return number * 2 + calls; }
NOINLINE int caller(int value, int other) {
  return twice(value) +
         twice(other);
}
static NOINLINE int hidden(int value) { return printf("%d", value); }
static int call(const char *text, int number) { return number + text[0]; }
int main(int count, char **arguments) {
  struct point p = {count};
  text_t text = {arguments[0], 3};
  nothing();
  return work(arguments[0], &p, text, GREEN, 1.5, p, 1, 2, 1) + variadic(call, "f") +
         caller(count, 3) + hidden(count);
}
"""


def compiler(name: str) -> str:
    """The compiler's path; skips the test where it is not here."""
    found = shutil.which(name) or shutil.which(name, path="/root/.cargo/bin:/usr/lib/go/bin")
    if not found:
        pytest.skip(f"no {name} here")
    return found


@cache
def compiled(name: str, source: str, suffix: str, flags: Sequence[str] = ()) -> bytes:
    """What a compiler makes of a source."""
    path = compiler(name)
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / f"program.{suffix}", Path(folder) / "out"
        file.write_text(source)
        environment = os.environ | {"HOME": os.environ.get("HOME", "/root")}
        if name == "go":
            # Its cache makes all but the first run quick.
            command = [path, "build", *flags, "-o", str(out), str(file)]
            environment |= {"GOTOOLCHAIN": "local", "GO111MODULE": "off", "GOFLAGS": ""}
        else:
            command = [path, *flags, str(file), "-o", str(out)]
        subprocess.run(command, check=True, cwd=folder, env=environment, capture_output=True)
        return out.read_bytes()


def debug_info(data: bytes, alternative: bytes | None = None) -> DebugInfo:
    """Its debug information."""
    return DebugInfo(io.BytesIO(data), io.BytesIO(alternative) if alternative else None)


def symbol(data: bytes, name: str) -> int:
    """A symbol's address, as another reader than ours says it."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        listed = subprocess.run(
            [compiler("nm"), file.name], check=True, capture_output=True, text=True
        ).stdout
    found = [line.split()[0] for line in listed.splitlines() if line.split()[-1] == name]
    assert len(found) == 1, f"{name}: {found}"
    return int(found[0], 16)


def function(data: bytes, symbol_name: str, depth: int = 1) -> Subprogram:
    """The function at a symbol."""
    address = symbol(data, symbol_name)
    return debug_info(data).at([address], depth=depth)[address]


def parameter(of: Subprogram, name: str) -> Parameter:
    """A function's parameter."""
    return next(one for one in of.parameters if one.name == name)


def registers(of: Parameter) -> list[int] | None:
    """The registers that a parameter is in, whole or in pieces; None: elsewhere, or unknown."""
    found = [place.register for place in of.places or () if place.offset is None]
    known = [one for one in found if one is not None]
    return known if known and len(known) == len(of.places or ()) else None


def is_x86_64() -> bool:
    """Whether the compilers here make x86-64 programs."""
    with open("/proc/self/exe", "rb") as file:
        return elf.read_header(file).machine == elf.EM_X86_64
