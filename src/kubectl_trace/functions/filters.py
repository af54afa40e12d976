"""Conditions on calls, such as `len > 100 && ret < 0`, checked in the kernel.

Names are those of arguments and results; `ret` is the first result, `ret2` the second, `duration`
the nanoseconds that the call took. Members: `q.id` or `q->id`. `len(x)` is the length of a slice or
string.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.binary import types
from kubectl_trace.functions import shapes
from kubectl_trace.functions.shapes import Leaf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kubectl_trace.binary.types import Type
    from kubectl_trace.functions.shapes import Shape
    from kubectl_trace.functions.writing import Traced

DURATION = "duration"
_LENGTH = "len"
_CONSTANTS = {"nil": "0", "NULL": "0", "nullptr": "0", "None": "0", "true": "1", "false": "0"}

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<string>"(?:[^"\\\x00-\x1f\x7f]|\\["\\])*")
    | (?P<number>0x[0-9a-fA-F]+|0(?![0-9])|[1-9][0-9]*)(?!\w)
    | (?P<name>[A-Za-z_~]\w*(?:(?:\.|->)[A-Za-z_]\w*)*)
    | (?P<operator>&&|\|\||==|!=|<=|>=|<<|>>|[-+*%&|^!<>()/])
    """,
    re.VERBOSE | re.ASCII,
)


class FilterError(ValueError):
    """The condition can't be read, or does not fit a function."""


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


@dataclass(frozen=True)
class Condition:
    """A condition, read but not yet of any function."""

    text: str
    tokens: tuple[_Token, ...]

    def needs_return(self, function: Traced) -> bool:
        """Whether it can be known only when the call returns."""
        names = {token.text for token in self.tokens if token.kind == "name"}
        arguments = {each.name for each in function.arguments}
        results = {each.name for each in function.results} - arguments
        return any(
            name == DURATION
            or re.fullmatch(r"ret\d*", base := re.split(r"\.|->", name)[0])
            or base in results
            for name in names
            if re.split(r"\.|->", name)[0] not in arguments
        )

    def leaves(self, function: Traced) -> list[Leaf]:
        """What of the arguments must be kept until the call returns."""
        found: list[Leaf] = []
        arguments = {leaf for each in function.arguments for leaf in shapes.leaves(each.shape)}

        def note(leaf: Leaf) -> str:
            if leaf in arguments:
                found.append(leaf)
            return leaf.expression

        self.write(function, note)
        return found

    def write(self, function: Traced, refer: Callable[[Leaf], str]) -> str:
        """The condition as an expression of bpftrace's.

        Args:
            function: Whose arguments and results the names are.
            refer: The expression for a leaf.

        Raises:
            FilterError: a name is none of the function's, or has no value that can be compared.
        """
        return " ".join(self._written(function, refer))

    def _written(self, function: Traced, refer: Callable[[Leaf], str]) -> Iterator[str]:
        skip = 0
        for index, token in enumerate(self.tokens):
            if skip:
                skip -= 1
                continue
            if token.kind != "name":
                yield token.text
            elif token.text == _LENGTH and self._is_call(index):
                found, refers = self._shape(function, self.tokens[index + 2], refer)
                yield _length(found, refers, token.text)
                skip = 3
            elif token.text in _CONSTANTS and not _named(function, token.text):
                yield _CONSTANTS[token.text]
            elif token.text == DURATION and not _named(function, token.text):
                yield refer(Leaf(DURATION))
            elif not _named(function, token.text) and (
                (number := _enumerator(function, token.text)) is not None
            ):
                yield str(number)
            else:
                found, refers = self._shape(function, token, refer)
                if isinstance(found, shapes.Text) and self._is_beside_null(index):
                    yield refers(found.pointer)
                else:
                    yield _comparable(found, refers, token.text)

    def _is_beside_null(self, index: int) -> bool:
        """Whether a text is compared with no text, and so its pointer is meant."""
        around = [
            (self.tokens[index + 1 : index + 2], self.tokens[index + 2 : index + 3]),
            (self.tokens[max(index - 1, 0) : index], self.tokens[max(index - 2, 0) : index - 1]),
        ]
        return any(
            operator
            and other
            and operator[0].text in ("==", "!=")
            and _CONSTANTS.get(other[0].text, other[0].text) == "0"
            for operator, other in around
        )

    def _is_call(self, index: int) -> bool:
        after = [token.text for token in self.tokens[index + 1 : index + 4]]
        return len(after) == 3 and (after[0], after[2]) == ("(", ")")

    def _shape(
        self, function: Traced, token: _Token, refer: Callable[[Leaf], str]
    ) -> tuple[Shape, Callable[[Leaf], str]]:
        """What a name means, and the expression of a leaf of it."""
        base, *members = re.split(r"\.|->", token.text)
        resolved = _named(function, base)
        if resolved is None:
            every = (*function.arguments, *function.results)
            named = [each.name for each in every if re.match(r"[A-Za-z_]", each.name)]
            raise FilterError(
                f"--filter: {function.name} has no {base}; there are "
                f"{', '.join([*dict.fromkeys(named), 'ret', DURATION])}"
            )
        found, is_result = resolved
        for member in members:
            parts = dict(found.parts) if isinstance(found, shapes.Group) else {}
            if member not in parts:
                known = ", ".join(name for name in parts if name) or "none"
                raise FilterError(f"--filter: {token.text}: no member {member}; there are {known}")
            found = parts[member]
        if not is_result:
            return found, refer
        return found, lambda leaf: refer(dataclasses.replace(leaf, is_result=True))


def parse(text: str) -> Condition:
    """Reads a condition.

    Raises:
        FilterError: where it can't be read.
    """
    tokens: list[_Token] = []
    position = depth = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise FilterError(f"--filter: can't read {text[position:][:20]!r}")
        kind = str(found.lastgroup)
        if kind != "space":
            tokens.append(_Token(kind, found.group(), position))
        depth += {"(": 1, ")": -1}.get(found.group(), 0)
        if depth < 0:
            raise FilterError("--filter: a ) without its (")
        position = found.end()
    if not tokens:
        raise FilterError("--filter: it is empty")
    for token in tokens:
        if token.kind == "number" and int(token.text, 0) >> 64:
            raise FilterError(f"--filter: {token.text} is more than a register holds")
    if depth:
        raise FilterError("--filter: a ( without its )")
    _check_order(tokens)
    return Condition(text, tuple(tokens))


def _check_order(tokens: list[_Token]) -> None:
    """Values and operators take turns; `len` has one name between its parentheses."""
    wants_value = True
    for index, token in enumerate(tokens):
        is_call = token.text == "(" and index > 0 and tokens[index - 1].text == _LENGTH
        if is_call:
            inside = tokens[index + 1 : index + 3]
            if [each.kind for each in inside] != ["name", "operator"] or inside[1].text != ")":
                raise FilterError("--filter: len() takes one name")
            wants_value = True
            continue
        if token.kind != "operator":
            fits, wants_value = wants_value, False
        elif token.text in ("(", "!") or (token.text == "-" and wants_value):
            fits = wants_value
        elif token.text == ")":
            fits = not wants_value
        else:
            fits, wants_value = not wants_value, True
        if not fits:
            raise FilterError(f"--filter: {token.text!r} is out of place")
    if wants_value:
        raise FilterError("--filter: something is missing at its end")


def signed(kind: Type, expression: str) -> str:
    """A number as its type means it, 64 bits wide."""
    is_signed = (
        kind.is_signed
        if isinstance(kind, types.Integer | types.Enumeration | types.Character)
        else False
    )
    if not is_signed:
        return f"(uint64)({expression})"
    if kind.size < 8:
        return f"(int64)(int{kind.size * 8})({expression})"
    return f"(int64)({expression})"


def _named(function: Traced, name: str) -> tuple[Shape, bool] | None:
    """The argument or result of a name, and whether it is a result."""
    arguments = [(each, False) for each in function.arguments]
    results = [(each, True) for each in function.results]
    for each, is_result in (*arguments, *results):
        if each.name == name:
            return each.shape, is_result
    if found := re.fullmatch(r"ret([1-9])?", name):
        index = int(found[1] or 1) - 1
        if index < len(results):
            return results[index][0].shape, True
    for each, is_result in (*arguments, *results):
        if isinstance(each.shape, shapes.Registers) and name in each.shape.names:
            leaf = each.shape.leaves[each.shape.names.index(name)]
            return shapes.Scalar(types.Integer("uint64", 8, False), leaf), is_result
    return None


def _enumerator(function: Traced, name: str) -> int | None:
    """The number of a name that an enumeration among the values has."""
    pending = [each.shape for each in (*function.arguments, *function.results)]
    while pending:
        match pending.pop():
            case shapes.Scalar(type=types.Enumeration(values=values)):
                for known, number in values:
                    if known == name:
                        return number
            case shapes.Group(parts=parts):
                pending += [part for _, part in parts]
    return None


def _comparable(found: Shape, refer: Callable[[Leaf], str], name: str) -> str:
    match found:
        case shapes.Scalar(type=types.Float()):
            raise FilterError(
                f"--filter: {name} is a floating-point number, which BPF can't compare"
            )
        case shapes.Scalar(type=kind, leaf=leaf, bits=bits):
            if bits and getattr(kind, "is_signed", False):
                return f"((int64)({refer(leaf)} << {64 - bits}) >> {64 - bits})"
            return signed(kind, refer(leaf))
        case shapes.Text(text=leaf):
            return refer(leaf)
        case shapes.Interface(word=leaf):
            return f"(uint64)({refer(leaf)})"
        case shapes.Group(pointer=Leaf() as leaf):
            return f"(uint64)({refer(leaf)})"
        case shapes.Registers(leaves=(leaf, *_)):
            return f"(uint64)({refer(leaf)})"
        case shapes.Missing(reason=reason):
            raise FilterError(f"--filter: {name} can't be read: {reason}")
    raise FilterError(f"--filter: {name} is no single value: name a member, or len({name})")


def _length(found: Shape, refer: Callable[[Leaf], str], name: str) -> str:
    match found:
        case shapes.Elements(length=Leaf() as leaf) | shapes.Text(length=Leaf() as leaf):
            return f"(uint64)({refer(leaf)})"
    raise FilterError(f"--filter: {name}() is for slices and strings that know their length")
