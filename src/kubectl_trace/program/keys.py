"""Keys of maps with another part before theirs, in a way that can be taken out of results again.

bpftrace joins the parts of a key with commas. After 0.17 a tuple may be a key: it is shown without
its brackets, but with them where another part stands beside it, in a way that depends on the
version. So a tuple's parts are put beside the new part one by one.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from typing import TYPE_CHECKING

from kubectl_trace.program.maps import arguments, elements, has_key_argument
from kubectl_trace.program.rewrite import Edit
from kubectl_trace.program.syntax import Item
from kubectl_trace.program.tokens import Group, Span, Token, tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kubectl_trace.program.maps import Use
    from kubectl_trace.program.syntax import Program
    from kubectl_trace.program.tokens import Tree

    Nodes = Sequence[Token | Group]

_PLAIN = 0
"""A key of one part."""
_UNKNOWN = -1


class Keys:
    """The keys of a program's maps."""

    def __init__(self, program: Program) -> None:
        self._values = {block: _values(tree(program.text, block)) for block in program.code}
        """What variables and maps are assigned, by block and name."""
        self._of_maps: defaultdict[str, list[Nodes]] = defaultdict(list)
        for values in self._values.values():
            for name, each in values.items():
                self._of_maps[name] += each if name.startswith("@") else ()
        self._known: dict[tuple[Span | None, str], int] = {}
        # From 0.24 on they may stand for a tuple.
        self._macros = program.macros.keys() | {
            word
            for item in program.items
            if isinstance(item, Item) and item.kind in ("macro", "function")
            for word in program.of(item.span).replace("(", " ").split()[1:2]
        }

    def can_be_extended(self, use: Use) -> bool:
        """Whether the place's key, if it has one, is known well enough for `extended`."""
        key = _key(use)
        return key is None or len(key) > 1 or self._parts(key[0], use, ()) != _UNKNOWN

    def extended(self, use: Use, part: str, reason: str) -> Iterator[Edit]:
        """Puts a part before the key; it is the key where there is none."""
        key = _key(use)
        if key is None:
            yield Edit.insert(use.span.end, f"[{part}]", reason)
            return
        if use.key is not None:
            yield Edit.insert(use.key.start + 1, f"{part}, ", reason)
        else:  # delete(@m, key)
            assert use.call is not None
            yield Edit(Span(use.span.end, _start(key)), (f"[{part}, ",), reason)
            yield Edit.insert(use.call.end - 1, "]")
        if len(key) > 1:
            return
        parts = self._parts(key[0], use, ())
        if parts == _PLAIN:
            return
        wraps, inner = _unwrapped(key[0])
        for wrap in wraps:
            yield Edit(Span(wrap.start, wrap.start + 1), (), "")
            yield Edit(Span(wrap.end - 1, wrap.end), (), "")
        if len(inner) == 1 and isinstance(inner[0], Token):
            variable = Span(inner[0].start, inner[0].end)
            pieces: list[str | Span] = []
            for index in range(parts):
                pieces += [variable, f".{index}, "]
            yield Edit(variable, (*pieces[:-1], f".{parts - 1}"), "")

    def _parts(self, nodes: Nodes, use: Use, seen: tuple[str, ...]) -> int:
        """Of how many parts the tuple is that an expression gives; `_PLAIN`: it gives none."""
        _, inner = _unwrapped(nodes)
        if len(arguments(tuple(inner))) > 1:
            return _arity(inner)
        if branches := _branches(inner):
            kinds = {self._parts(branch, use, seen) for branch in branches}
            return _PLAIN if kinds == {_PLAIN} else _UNKNOWN
        match list(inner):
            case []:
                return _UNKNOWN
            case [Token("variable", name)] if name[1:].isdecimal():
                return _PLAIN  # a positional parameter
            case [Token("variable", name)]:
                return self._assigned(name, use, seen)
            case [Token("map", name)] | [Token("map", name), Group(bracket="[")]:
                # What the program reads of a map, it reads as one value.
                return _PLAIN if self._assigned(name, use, seen) == _PLAIN else _UNKNOWN
            case [*_, Token("other", "."), Token("number")]:
                return _UNKNOWN  # a part of a tuple
        if any(
            (isinstance(node, Group) and node.bracket == "{")
            or (isinstance(node, Token) and node.text in self._macros)
            for node in inner
        ):
            return _UNKNOWN
        return _PLAIN

    def _assigned(self, name: str, use: Use, seen: tuple[str, ...]) -> int:
        """The same for what a variable of the use's block, or a map, is assigned."""
        block = use.probe.block if use.probe and name.startswith("$") else None
        if (block, name) in self._known:
            return self._known[block, name]
        if name in seen:
            return _UNKNOWN
        values = self._values[block].get(name, []) if block else self._of_maps.get(name, [])
        kinds = {self._parts(value, use, (*seen, name)) for value in values}
        result = kinds.pop() if len(kinds) == 1 else _UNKNOWN
        if not seen:
            self._known[block, name] = result
        return result


def _key(use: Use) -> list[list[Token | Group]] | None:
    """The parts of a place's key."""
    if use.key is not None:
        return arguments(use.key.children)
    if use.action == "deleted" and has_key_argument(use):
        assert use.call is not None
        return arguments(use.call.children)[1:]
    return None


def _start(key: list[list[Token | Group]]) -> int:
    return key[0][0].start


def _unwrapped(nodes: Nodes) -> tuple[list[Group], Nodes]:
    """What is in the parentheses around an expression, and they."""
    wraps: list[Group] = []
    while len(nodes) == 1 and isinstance(nodes[0], Group) and nodes[0].bracket == "(":
        wraps.append(nodes[0])
        nodes = elements(nodes[0].children)
    return wraps, nodes


def _arity(nodes: Nodes) -> int:
    parts = arguments(tuple(nodes))
    return len(parts) if all(parts) else _UNKNOWN


def _branches(nodes: Nodes) -> list[Nodes]:
    """What a conditional expression may give."""
    places = [
        index for index, node in enumerate(nodes) if isinstance(node, Token) and node.text in "?:"
    ]
    if not places or not any(_is(nodes[place], "?") for place in places):
        return []
    ends = [*places[1:], len(nodes)]
    return [
        nodes[place + 1 : end]
        for place, end in zip(places, ends, strict=True)
        if not (end < len(nodes) and _is(nodes[end], "?"))
    ]


def _is(node: Token | Group, text: str) -> bool:
    return isinstance(node, Token) and node.text == text


def _values(nodes: Tree) -> dict[str, list[Nodes]]:
    """What variables and maps are assigned in a block; an empty list: what can't be told."""
    found: defaultdict[str, list[Nodes]] = defaultdict(list)
    pending = [nodes]
    while pending:
        siblings = elements(pending.pop())
        ends = [index for index, node in enumerate(siblings) if _is(node, ";")]
        for index, node in enumerate(siblings):
            if isinstance(node, Group):
                pending.append(node.children)
            elif node.kind in ("variable", "map"):
                after = index + 1
                if after < len(siblings) and isinstance(siblings[after], Group):
                    after += 1
                if [_is(each, "=") for each in siblings[after : after + 2]] == [True, False]:
                    place = bisect.bisect(ends, after)
                    end = ends[place] if place < len(ends) else len(siblings)
                    found[node.text].append(siblings[after + 1 : end])
                elif after < len(siblings) and _is(siblings[after], ":"):
                    found[node.text].append([])  # for ($kv : @m)
    return found
