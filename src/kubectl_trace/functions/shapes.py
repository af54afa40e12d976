"""Shapes: what of a value is read when a probe fires.

A shape is made of leaves: numbers and texts that the kernel reads. `shaping` makes that of a type,
`values` makes of the leaves what a person reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubectl_trace.binary.types import Type


@dataclass(frozen=True)
class Leaf:
    """Something that the kernel reads: a number of 8 bytes, or a text."""

    expression: str
    is_text: bool = False
    is_result: bool = False
    """It is read when the call returns, and no argument though it may be where one was."""


@dataclass(frozen=True)
class Limits:
    """How much of values is read."""

    deep: int = 1
    """How many pointers are followed into structures."""
    string_size: int = 64
    """Bytes of a text."""
    counts_zero: bool = True
    """The size that bpftrace's str() takes counts the zero byte that ends its result: not in
    0.17."""


@dataclass(frozen=True)
class Scalar:
    """A number of some kind."""

    type: Type
    leaf: Leaf
    bits: int = 0
    """Of a bit field: how many; 0: all."""

    @property
    def type_name(self) -> str:
        """The type's name."""
        return self.type.name


@dataclass(frozen=True)
class Known:
    """A number that the compiler knew, so that it is passed nowhere."""

    type: Type
    number: int

    @property
    def type_name(self) -> str:
        """The type's name."""
        return self.type.name


@dataclass(frozen=True)
class Variants:
    """A Rust enum with data: a tag says which of the variants it is."""

    type_name: str
    tag: Leaf
    tag_bits: int
    variants: tuple[tuple[int | None, str, Shape], ...]
    """Tag (None: all others), name, content."""


@dataclass(frozen=True)
class Text:
    """Characters behind a pointer, up to a zero byte or, if there is a length, so many."""

    type_name: str
    pointer: Leaf
    length: Leaf | None
    text: Leaf
    most: int
    """Bytes of it that are read."""


@dataclass(frozen=True)
class Group:
    """Named parts: a structure's, perhaps behind a pointer."""

    type_name: str
    parts: tuple[tuple[str, Shape], ...]
    pointer: Leaf | None = None
    has_more: bool = False


@dataclass(frozen=True)
class Elements:
    """The first elements of a slice or an array."""

    type_name: str
    elements: tuple[Shape, ...]
    length: Leaf | None
    """None: there are as many as `count`."""
    count: int = 0


@dataclass(frozen=True)
class Interface:
    """A Go interface: the type that is in it, and of some types the value."""

    type_name: str
    word: Leaf
    """Zero: nil."""
    type_address: Leaf
    data: Leaf
    first: Leaf
    """The first 8 bytes of what `data` points to."""
    length: Leaf
    """The second."""
    text: Leaf
    """The text of that length that the first points to, should they be a string."""
    most: int


@dataclass(frozen=True)
class Registers:
    """Registers of a function about whose arguments nothing is known."""

    type_name: str
    names: tuple[str, ...]
    leaves: tuple[Leaf, ...]
    texts: tuple[tuple[int, Leaf], ...] = ()
    """Of Go: which register may be the first of a string, and the text that it would be."""
    most: int = 0


@dataclass(frozen=True)
class Missing:
    """A value that can't be had."""

    type_name: str
    reason: str


Shape = Scalar | Known | Variants | Text | Group | Elements | Interface | Registers | Missing


def leaves(each: Shape) -> list[Leaf]:
    """All that is read of it, in order."""
    match each:
        case Scalar(leaf=leaf):
            return [leaf]
        case Variants():
            return [each.tag, *(leaf for *_, part in each.variants for leaf in leaves(part))]
        case Text():
            return [each.pointer, *([each.length] if each.length else []), each.text]
        case Group():
            inner = [leaf for _, part in each.parts for leaf in leaves(part)]
            return [each.pointer, *inner] if each.pointer else inner
        case Elements():
            inner = [leaf for part in each.elements for leaf in leaves(part)]
            return [each.length, *inner] if each.length else inner
        case Interface():
            return [
                *(each.word, each.type_address, each.data, each.first, each.length),
                each.text,
            ]
        case Registers():
            return [*each.leaves, *(leaf for _, leaf in each.texts)]
    return []
