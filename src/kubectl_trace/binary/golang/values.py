"""Values by address of code, as Go packs them: a line, a file, an inlined call.

Format: runtime, symtab.go (`pcvalue`, `step`), the same in Go 1.2 to 1.27: by turns a difference to
the value before, which at first is -1, and how long the value holds; a difference of 0 ends it.
"""

from __future__ import annotations

_LONGEST_VARINT = 5


def highest(data: bytes, at: int, most: int) -> tuple[int, int]:
    """The highest of the values from a place on, and how many there are, `most` at most."""
    value = best = -1
    for count in range(most):
        difference, at = _number(data, at)
        if not at or (not difference and count):
            return best, count
        value += _signed(difference)
        best = max(best, value)
        _length, at = _number(data, at)
        if not at:
            return best, count
    return best, most


def _number(data: bytes, at: int) -> tuple[int, int]:
    """The varint there, and where it ends; (0, 0) where it doesn't."""
    number = 0
    for index, byte in enumerate(data[at : at + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return number, at + index + 1
    return 0, 0


def _signed(number: int) -> int:
    """Zigzag: 0, -1, 1, -2 and so on."""
    return -(number + 1) // 2 if number & 1 else number // 2
