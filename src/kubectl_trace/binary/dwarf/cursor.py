"""Numbers out of bytes, one after the other: DWARF 5, 7.6 (LEB128)."""

from __future__ import annotations

from typing import Literal

from kubectl_trace.binary import elf

# Ten bytes of seven bits hold 64 bits; padded ones may be longer, but no writer pads that much.
_LONGEST_LEB = 16


class Cursor:
    """A place in bytes that moves on with each read.

    All methods raise MalformedError where the bytes end.
    """

    __slots__ = ("at", "data", "end", "order")

    def __init__(
        self, data: bytes, at: int, order: Literal["little", "big"], size: int | None = None
    ) -> None:
        self.data, self.at, self.order = data, at, order
        self.end = len(data) if size is None else min(at + size, len(data))

    def unsigned(self, size: int) -> int:
        """A number of so many bytes."""
        return int.from_bytes(self.block(size), self.order)

    def block(self, size: int) -> bytes:
        """So many bytes."""
        at, end = self.at, self.at + size
        if end > self.end:
            raise elf.MalformedError("debug information is cut short")
        self.at = end
        return self.data[at:end]

    def uleb(self) -> int:
        """An unsigned LEB128 number."""
        value, self.at = uleb(self.data, self.at, self.end)
        return value

    def sleb(self) -> int:
        """A signed LEB128 number."""
        value, self.at = sleb(self.data, self.at, self.end)
        return value

    def string(self) -> bytes:
        """The bytes up to a zero, which is passed over."""
        end = self.data.find(b"\0", self.at, self.end)
        if end < 0:
            raise elf.MalformedError("debug information is cut short")
        value, self.at = self.data[self.at : end], end + 1
        return value


def uleb(data: bytes, at: int, end: int) -> tuple[int, int]:
    """An unsigned LEB128 number, and where the bytes after it are.

    Raises:
        MalformedError: the bytes end within it, or it is longer than any number is.
    """
    value = shift = 0
    for position in range(at, min(at + _LONGEST_LEB, end)):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
    raise elf.MalformedError("a number is cut short")


def sleb(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A signed LEB128 number, and where the bytes after it are.

    Raises:
        MalformedError: the bytes end within it, or it is longer than any number is.
    """
    value, after = uleb(data, at, end)
    bits = 7 * (after - at)
    return (value - (1 << bits) if value >> (bits - 1) else value), after
