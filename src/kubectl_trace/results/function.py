"""Functions that can be traced: the data of `functions` records."""

from __future__ import annotations

import msgspec


class Function(msgspec.Struct, frozen=True, omit_defaults=True):
    """A function of a file, or a USDT probe."""

    name: str
    """As its language has it, with its namespace but without parameters."""
    file: str
    """As the container has it."""
    kind: str = "function"
    """`function`, `usdt`, or `inlined`: there is none, the compiler put it into others."""
    address: int = 0
    """Virtual, in the file."""
    offset: int = 0
    """Bytes from the file's start."""
    size: int = 0
    """Bytes; 0: not known."""
    language: str = ""
    """`C`, `C++`, `Rust`, `Go`; empty: not known."""
    signature: str = ""
    """Parameters and results with their types; empty: there is no debug information. Of a USDT
    probe the sizes of its arguments, of an inlined function where it is."""
    return_sites: int | None = None
    """Instructions at which it returns; None: not counted."""
    symbol: str = ""
    """The linker's name, where it is another."""
