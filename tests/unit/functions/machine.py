"""A process's registers and memory, and bpftrace's expressions on them, evaluated."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kubectl_trace.functions import shapes, shaping, values
from kubectl_trace.functions.shapes import Limits
from kubectl_trace.functions.values import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubectl_trace.binary.types import Type
    from kubectl_trace.functions.shapes import Shape
    from kubectl_trace.functions.sources import Source
    from kubectl_trace.functions.values import Value

WORD = (1 << 64) - 1
HEAP = 0x7F00_0000_0000
_TOKEN = re.compile(r'\s*(reg\("\w+"\)|str\(|\$\w+\.\d+|nsecs|0x[0-9a-f]+|\d+|u?int\d+|<<|>>|.)')
_LEVELS: tuple[dict[str, Callable[[int, int], int]], ...] = (
    {"|": lambda a, b: a | b},
    {"&": lambda a, b: a & b},
    {"<<": lambda a, b: a << b, ">>": lambda a, b: a >> b},
    {"+": lambda a, b: a + b, "-": lambda a, b: a - b},
    {"*": lambda a, b: a * b, "/": lambda a, b: a // b if b else 0},
)


@dataclass
class Machine:
    """What a stopped process has; what is nowhere reads as zero, as in bpftrace."""

    registers: dict[str, int] = field(default_factory=dict)
    regions: list[tuple[int, bytes]] = field(default_factory=list)
    most: int = 65
    """Bytes of a text with its last, which is zero: BPFTRACE_MAX_STRLEN."""

    def put(self, data: bytes) -> int:
        """Has these bytes in memory somewhere: where."""
        last = max((at + len(each) for at, each in self.regions if at >= HEAP), default=HEAP)
        address = last + 64 + -last % 16
        self.regions.append((address, data))
        return address

    def read(self, address: int, size: int) -> bytes:
        for start, data in self.regions:
            if start <= address < start + len(data):
                return data[address - start : address - start + size].ljust(size, b"\0")
        return bytes(size)

    def number(self, expression: str) -> int:
        parser = _Parser(expression, self)
        value = parser.binary(0)
        assert not parser.tokens, f"{expression}: {parser.tokens} is left"
        return value & WORD

    def text(self, expression: str) -> str:
        """A `str(pointer, size)`, as bpftrace's JSON has it once `dialect` has read it."""
        assert re.fullmatch(r"str\(.*\)", expression)
        pointer, _, size = expression[4:-1].rpartition(", ")
        most = min(self.number(size), self.most) - 1
        found = self.read(self.number(pointer), max(most, 0)).partition(b"\0")[0]
        return found.decode("utf-8", "backslashreplace")

    def value(self, shape: Shape, types: Callable[[int], str] = lambda _: "") -> Value:
        """What is shown of a value of this shape, all its leaves read here."""
        every = shapes.leaves(shape)
        numbers = [self.number(leaf.expression) for leaf in every if not leaf.is_text]
        texts = [self.text(leaf.expression) for leaf in every if leaf.is_text]
        reader = Reader(iter(numbers), iter(texts), types, "nil")
        found = values.value(shape, reader)
        assert next(reader.numbers, None) is None, "a number was not taken"
        assert next(reader.texts, None) is None, "a text was not taken"
        return found

    def shown(self, kind: Type, source: Source, deep: int = 1, size: int = 64) -> Value:
        """What is shown of a value of this type at this place."""
        return self.value(shaping.shape(kind, source, Limits(deep, size)))


class _Parser:
    def __init__(self, text: str, machine: Machine) -> None:
        self.tokens = [found[1] for found in _TOKEN.finditer(text)]
        self._machine = machine

    def binary(self, level: int) -> int:
        if level == len(_LEVELS):
            return self._unary()[0]
        left = self.binary(level + 1)
        while self.tokens and self.tokens[0] in _LEVELS[level]:
            operator = _LEVELS[level][self.tokens.pop(0)]
            left = operator(left, self.binary(level + 1)) & WORD
        return left

    def _unary(self) -> tuple[int, int]:
        """A value, and the size of what it points to."""
        token = self.tokens.pop(0)
        if token == "*":
            address, size = self._unary()
            assert size, "what it points to has no type"
            return int.from_bytes(self._machine.read(address, size), "little"), 0
        if token == "-":
            return -self._unary()[0] & WORD, 0
        if token == "(" and (kind := re.fullmatch(r"(u?)int(\d+)", self.tokens[0])):
            del self.tokens[0]
            is_pointer = self.tokens[0] == "*"
            del self.tokens[: 2 if is_pointer else 1]
            value, _ = self._unary()
            bits = int(kind[2])
            if is_pointer:
                return value, bits // 8
            value &= (1 << bits) - 1
            return (value - (value >> bits - 1 << bits) if not kind[1] else value) & WORD, 0
        if token == "(":
            value = self.binary(0)
            assert self.tokens.pop(0) == ")"
            return value, 0
        if found := re.fullmatch(r'reg\("(\w+)"\)', token):
            return self._machine.registers.get(found[1], 0xDEAD) & WORD, 0
        return int(token, 0), 0


def in_words(machine: Machine, data: bytes, names: Sequence[str]) -> None:
    """Puts a value's bytes into these registers; what is above them is what was there before."""
    padded = data + b"\xa5" * (-len(data) % 8)
    for index, name in enumerate(names):
        machine.registers[name] = int.from_bytes(padded[8 * index : 8 * index + 8], "little")


def is_right_or_unknown(found: Any, value: Any) -> bool:
    """Whether every part is the value's or not there."""
    if isinstance(found, dict) and isinstance(value, dict):
        return found.keys() == value.keys() and all(
            is_right_or_unknown(found[key], value[key]) for key in value
        )
    if isinstance(found, list) and isinstance(value, list):
        return len(found) == len(value) and all(map(is_right_or_unknown, found, value))
    return bool(found is None or found == value)
