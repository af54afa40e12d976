"""Types of values as debug information describes them: sizes and offsets are in bytes.

A type may refer to itself. What is behind more pointers than a reader was asked to follow is an
`Opaque` with the type's name.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number, or an address that is no pointer."""

    name: str
    size: int
    is_signed: bool


@dataclass(frozen=True, slots=True)
class Boolean:
    """A truth value."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Character:
    """A character: C's char, Rust's char (4 bytes, Unicode)."""

    name: str
    size: int
    is_signed: bool


@dataclass(frozen=True, slots=True)
class Float:
    """A floating-point or complex number."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Enumeration:
    """A whole number of which some values have names."""

    name: str
    size: int
    is_signed: bool
    values: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Pointer:
    """An address; references, too."""

    name: str
    size: int
    to: Type


@dataclass(frozen=True, slots=True)
class Member:
    """A field of a structure."""

    name: str
    type: Type
    offset: int
    bits: int = 0
    """Of a bit field: how many; 0: it is none."""
    bit_offset: int = 0
    """Of a bit field: its lowest bit's place above the offset, on a little-endian machine."""
    tag: int | None = None
    """Of a variant (a Rust enum's): which value of the first member, the tag, chooses it; None: all
    other values."""


@dataclass(frozen=True, slots=True)
class Structure:
    """A structure, class, union or tuple.

    Of Go also strings, slices and interfaces, of Rust also enums with data and fat pointers.
    """

    kind: str
    """`struct`, `class` or `union`; of Go `string`, `slice`, `interface` (with methods or without:
    `eface`), of Rust `variants`, too: of these the first member is the tag, without a name, where
    there is more than one variant."""
    name: str
    size: int
    members: tuple[Member, ...]
    is_trivial: bool = True
    """A C++ value that is passed as C would: not one with a copy constructor or destructor of its
    own, which goes by a hidden reference."""


@dataclass(frozen=True, slots=True)
class Array:
    """Elements one after the other; `count` is -1 where it isn't known."""

    name: str
    element: Type
    count: int
    size: int


@dataclass(frozen=True, slots=True)
class Opaque:
    """Something of which nothing but the name, and perhaps the size, is known or wanted."""

    name: str
    size: int = 0


Type = Integer | Boolean | Character | Float | Enumeration | Pointer | Structure | Array | Opaque
