"""What a program makes of its maps: every use of `@name`, and what follows from all of them.

Sources: src/parser.yy of bpftrace 0.17 and 0.23; src/parser.cpp, src/util/int_parser.cpp of 0.27.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from kubectl_trace.program import attach, providers
from kubectl_trace.program.syntax import Item
from kubectl_trace.program.tokens import Group, Span, Token, tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kubectl_trace.program.syntax import AttachPoint, Probe, Program
    from kubectl_trace.program.tokens import Tree

_AGGREGATIONS = frozenset(
    {"count", "sum", "min", "max", "avg", "stats", "hist", "lhist", "tseries"}
)
_WHOLE = {"clear": "cleared", "zero": "cleared", "delete": "deleted"}
WRITTEN = frozenset({"aggregated", "added", "assigned", "zeroed"})
"""The actions that give a map a value."""


class Use(NamedTuple):
    """A place where a map is named."""

    name: str
    """With its `@`."""
    action: str
    """`aggregated` (`@m = count()`), `added` (`@m++`, `@m -= x`, as a statement), `zeroed`
    (`@m = 0`), `assigned` (anything else), `printed` (as a whole), `cleared`, `deleted`, `read`, or
    `passed`: where another part of the program may do anything with it (a macro)."""
    span: Span
    """Of the name."""
    probe: Probe | None
    """None: in a macro or a function."""
    key: Group | None = None
    """The key, with its brackets."""
    call: Group | None = None
    """Of an aggregation, a print or a deletion: its arguments, with their parentheses."""
    function: Span | None = None
    """Of an aggregation: its name."""
    ends: bool = True
    """Of a print: it is a statement of its own, so that another one can follow."""
    inside: Span | None = None
    """Where a macro has the map by another name: that name's place."""


@dataclass(frozen=True)
class Map:
    """What all uses of a map in code say of it."""

    name: str
    uses: tuple[Use, ...]
    kind: str
    """`count`, `sum`, `min`, `max`, `avg`, `stats`, `hist`, `lhist`, `tseries`, `value`; empty: it
    can't be told."""
    function: str = ""
    """Of a `tseries`: what it makes of the values of an interval."""

    @property
    def is_read(self) -> bool:
        """Whether anything in the program may depend on what is in it."""
        return any(use.action in ("read", "passed") for use in self.uses)

    @property
    def is_written(self) -> bool:
        """Whether a probe gives it a value."""
        return any(use.action in WRITTEN and use.probe for use in self.uses)

    @property
    def is_keyed(self) -> bool:
        """Whether it has keys."""
        return any(
            use.key is not None or (use.action == "deleted" and has_key_argument(use))
            for use in self.uses
        )


@dataclass(frozen=True)
class Print:
    """A place where the program prints a whole map."""

    use: Use
    shown: tuple[tuple[str, str, float], ...]
    """The map's name; when: `interval`, `begin`, `end`, or empty: at an event, at any time; seconds
    between two of an `interval`, 0: not known. Several where it is in a macro that has several."""
    top: int = 0
    """Only so many of the greatest entries; 0: all."""
    div: int = 0
    """What the values are divided by; 0: by nothing."""
    is_known: bool = True
    """Whether `top` and `div` are all that the print is asked for."""


class _Macro(NamedTuple):
    parameters: tuple[str, ...]
    uses: list[Use]


def find(program: Program) -> dict[str, Map]:
    """The maps of a program, by name, in the order in which they are first named."""
    uses: defaultdict[str, list[Use]] = defaultdict(list)
    for use in _uses(program):
        uses[use.name].append(use)
    return {name: _map(program, name, tuple(each)) for name, each in uses.items()}


def prints(program: Program, parameters: Sequence[str]) -> Iterator[Print]:
    """The places where the program prints whole maps, in their order.

    Args:
        program: The program.
        parameters: What its positional parameters, such as `$1`, stand for.
    """
    uses = [use for use in _uses(program) if use.action == "printed"]
    calls: defaultdict[Span | None, list[Use]] = defaultdict(list)
    for use in uses:
        calls[use.inside].append(use)
    for use in calls[None]:
        each_call = calls.get(use.span, [use])
        shown = [(each.name, *_when(each.probe, parameters)) for each in each_call]
        values = _numbers(program, use, parameters)
        if values is None:
            yield Print(use, (*dict.fromkeys(shown),), is_known=False)
        else:
            yield Print(use, (*dict.fromkeys(shown),), *values)


def elements(nodes: Tree) -> list[Token | Group]:
    """The nodes without layout."""
    return [
        node for node in nodes if isinstance(node, Group) or node.kind not in ("space", "comment")
    ]


def arguments(nodes: Tree) -> list[list[Token | Group]]:
    """The elements between commas."""
    result: list[list[Token | Group]] = [[]]
    for node in elements(nodes):
        if _is(node, ","):
            result.append([])
        else:
            result[-1].append(node)
    return result


def has_key_argument(use: Use) -> bool:
    """Whether it is `delete(@m, key)` (0.22)."""
    return use.call is not None and use.key is None and len(arguments(use.call.children)) > 1


def number(text: str) -> int | None:
    """An integer as bpftrace's language has them: 10, 0x10, 010, 1_000, 1e3."""
    digits = text.replace("_", "")
    if found := re.fullmatch(r"([1-9])[eE]([0-9]{1,2})", digits):
        return int(f"{found[1]}{'0' * int(found[2])}")
    if re.fullmatch(r"0[0-7]+", digits):
        return int(digits, 8)
    return int(digits, 0) if re.fullmatch(r"[0-9]+|0[xX][0-9a-fA-F]+", digits, re.ASCII) else None


def _uses(program: Program) -> Iterator[Use]:
    macros = dict(_macros(program))
    for item in program.items:
        if isinstance(item, Item):
            if item.kind == "macro":
                # What else it does with its parameters it does with the maps that it is given.
                yield from (use for use in macros[_name(program, item)].uses if _is_print(use))
            elif item.kind in ("function", "directive"):
                yield from _anywhere(program, item)
            continue
        if item.predicate is not None:
            for token in _maps(tree(program.text, item.predicate)):
                yield Use(token.text, "read", Span(token.start, token.end), item)
        yield from _in_code(tree(program.text, item.block), item, macros)


def _macros(program: Program) -> Iterator[tuple[str, _Macro]]:
    """The macros (0.24) by name."""
    for item in program.items:
        if isinstance(item, Item) and item.kind == "macro" and item.block is not None:
            head = elements(tree(program.text, Span(item.span.start, item.block.start)))
            named = [node.children for node in head if isinstance(node, Group)]
            parameters = tuple(
                "".join(node.text for node in each if isinstance(node, Token))
                for each in (arguments(named[0]) if named else ())
            )
            uses = _in_code(tree(program.text, item.block), None, {})
            yield _name(program, item), _Macro(parameters, uses)


def _name(program: Program, item: Item) -> str:
    """A macro's name."""
    words = (
        token.text for token in elements(tree(program.text, item.span)) if isinstance(token, Token)
    )
    return (*words, "", "")[1]


def _is_print(use: Use) -> bool:
    return use.action == "printed"


def _anywhere(program: Program, item: Item) -> Iterator[Use]:
    """Uses in what may stand anywhere: a macro of the preprocessor."""
    for use in _in_code(tree(program.text, item.block or item.span), None, {}):
        yield use if _is_print(use) else use._replace(action="passed")


def _maps(nodes: Tree) -> Iterator[Token]:
    pending = [nodes]
    while pending:
        for node in pending.pop():
            if isinstance(node, Group):
                pending.append(node.children)
            elif node.kind == "map":
                yield node


def _in_code(nodes: Tree, probe: Probe | None, macros: dict[str, _Macro]) -> list[Use]:
    """The uses in a block, in the text's order."""
    found: list[Use] = []
    arguments_seen: set[int] = set()
    pending = [(nodes, "")]  # no recursion: brackets may be nested as deep as one likes
    while pending:
        children, bracket = pending.pop()
        siblings = elements(children)
        for index, node in enumerate(siblings):
            if isinstance(node, Group):
                before = siblings[index - 1] if index else None
                if node.bracket == "(" and isinstance(before, Token):
                    ends = (
                        bracket == "{"
                        and _begins_statement(siblings, index - 1)
                        and _ends_statement(siblings, index + 1)
                    )
                    uses = [*_call(node, before.text, probe, ends=ends)]
                    if before.text in macros:
                        uses = [*_given(node, macros[before.text], probe)]
                    found += uses
                    arguments_seen |= {use.span.start for use in uses}
                pending.append((node.children, node.bracket))
            elif node.kind == "map" and node.start not in arguments_seen:
                found.append(_use(siblings, index, bracket, probe))
    return sorted(found, key=lambda use: use.span.start)


def _given(call: Group, macro: _Macro, probe: Probe | None) -> Iterator[Use]:
    """What a macro does with the maps that it is given."""
    for place, argument in enumerate(arguments(call.children)):
        if len(argument) != 1 or not isinstance(name := argument[0], Token) or name.kind != "map":
            continue
        use = Use(name.text, "passed", Span(name.start, name.end), probe)
        parameter = (*macro.parameters, *[""] * (place + 1))[place]
        for each in macro.uses:
            if each.name == parameter:
                action = each.action if each.action in ("printed", "cleared") else "passed"
                yield use._replace(action=action, inside=each.span)
        if parameter not in {each.name for each in macro.uses}:
            yield use


def _call(call: Group, function: str, probe: Probe | None, *, ends: bool) -> Iterator[Use]:
    """The use of the map that is the call's first argument, where the call is about maps."""
    if function not in (*_WHOLE, "print"):
        return
    first, *others = arguments(call.children)
    inner = first
    while len(inner) == 1 and isinstance(inner[0], Group) and inner[0].bracket == "(":
        inner = elements(inner[0].children)
    if not inner or not isinstance(inner[0], Token) or inner[0].kind != "map":
        return
    name = inner[0]
    key = inner[1] if len(inner) == 2 and _is_key(inner[1]) else None
    use = Use(
        name.text,
        "read",
        Span(name.start, name.end),
        probe,
        key if isinstance(key, Group) else None,
        call,
        ends=ends,
    )
    if inner is not first:  # (@m), which is read, too
        if function == "print" and len(inner) == 1:
            yield use._replace(action="printed", ends=False)
    elif function == "print":
        yield use._replace(action="printed") if len(inner) == 1 else use
    elif len(inner) == 1 or (key and function == "delete"):
        # Up to 0.21 delete takes several maps (#3506).
        several = any(each and _is_map(each[0]) for each in others)
        yield use._replace(action="read" if several else _WHOLE[function])
    else:
        yield use


def _use(siblings: list[Token | Group], index: int, bracket: str, probe: Probe | None) -> Use:
    """What a statement does with the map that it begins with, or that it adds to."""
    name = siblings[index]
    assert isinstance(name, Token)
    after = index + 1
    key = siblings[after] if after < len(siblings) and _is_key(siblings[after]) else None
    after += key is not None
    use = Use(
        name.text,
        "read",
        Span(name.start, name.end),
        probe,
        key if isinstance(key, Group) else None,
    )
    if bracket != "{":
        return use
    before = _joined(siblings[max(index - 2, 0) : index])
    if (
        before in ("++", "--")
        and _begins_statement(siblings, index - 2)
        and _ends_statement(siblings, after)
    ):
        return use._replace(action="added")
    if not _begins_statement(siblings, index):
        return use
    operator = _operator(siblings, after)
    if operator in ("++", "--"):
        return use._replace(action="added" if _ends_statement(siblings, after + 2) else "read")
    if operator in ("+=", "-="):
        return use._replace(action="added")
    if operator == "=":
        return _assigned(use, siblings, after + 1)
    return use._replace(action="assigned") if operator.endswith("=") else use


def _assigned(use: Use, siblings: list[Token | Group], start: int) -> Use:
    value: list[Token | Group] = []
    for node in siblings[start:]:
        if _is(node, ";"):
            break
        value.append(node)
    match value:
        case [Token("word", function) as word, Group(bracket="(") as call] if (
            function in _AGGREGATIONS
        ):
            span = Span(word.start, word.end)
            return use._replace(action="aggregated", call=call, function=span)
        case [Token("number", text)] if number(text) == 0:
            return use._replace(action="zeroed")
    return use._replace(action="assigned")


def _operator(siblings: list[Token | Group], index: int) -> str:
    """The operator at this place that assigns or adds, or nothing."""
    for length in (3, 2, 1):
        text = _joined(siblings[index : index + length])
        if re.fullmatch(r"\+\+|--|(?:[-+*/%&|^]|<<|>>)?=", text) and len(text) == length:
            return "" if _joined(siblings[index : index + 2]) == "==" else text
    return ""


def _joined(nodes: list[Token | Group]) -> str:
    """What characters without layout between them say; empty if they are something else."""
    text = ""
    for place, node in enumerate(nodes):
        if not isinstance(node, Token) or node.kind != "other":
            return ""
        if place and node.start != nodes[place - 1].end:
            return ""
        text += node.text
    return text


def _begins_statement(siblings: list[Token | Group], index: int) -> bool:
    if index < 0:
        return False
    before = siblings[index - 1] if index else None
    return (
        before is None or _is(before, ";") or (isinstance(before, Group) and before.bracket == "{")
    )


def _ends_statement(siblings: list[Token | Group], index: int) -> bool:
    return index >= len(siblings) or _is(siblings[index], ";")


def _is(node: Token | Group, text: str) -> bool:
    return isinstance(node, Token) and node.text == text


def _is_map(node: Token | Group) -> bool:
    return isinstance(node, Token) and node.kind == "map"


def _is_key(node: Token | Group) -> bool:
    return isinstance(node, Group) and node.bracket == "["


def _map(program: Program, name: str, uses: tuple[Use, ...]) -> Map:
    kinds = {kind for use in uses if (kind := _kind(program, use))}
    if len(kinds) == 2 and kinds & {"sum", "value"}:
        kinds.discard("zero")
    kind = kinds.pop() if len(kinds) == 1 else ""
    if kind != "tseries":
        return Map(name, uses, {"zero": "value", "passed": ""}.get(kind, kind))
    functions = {_function(program, use) for use in uses if use.action == "aggregated"}
    return Map(name, uses, kind, functions.pop()) if len(functions) == 1 else Map(name, uses, "")


def _kind(program: Program, use: Use) -> str:
    match use.action:
        case "aggregated":
            assert use.function is not None
            return program.of(use.function)
        case "added":
            return "sum"
        case "zeroed":
            return "zero"
        case "assigned":
            return "value"
        case "passed":
            return "passed"
        case _:
            return ""


def _function(program: Program, use: Use) -> str:
    """What a `tseries` makes of the values of an interval: its last argument, a string."""
    assert use.call is not None
    last = arguments(use.call.children)[-1]
    text = program.of(Span(last[0].start, last[-1].end)) if last else ""
    return text[1:-1] if text.startswith('"') else ""


def _numbers(program: Program, use: Use, parameters: Sequence[str]) -> tuple[int, int] | None:
    """What a print is asked for beside the map; None: that can't be told."""
    assert use.call is not None
    _, *others = arguments(use.call.children)
    values = [_literal(program, argument, parameters) for argument in others]
    known = [value for value in values if value is not None]
    if len(known) < len(values) or len(known) > 2:
        return None
    top, div = (*known, 0, 0)[:2]
    return top, div


def _literal(
    program: Program, argument: list[Token | Group], parameters: Sequence[str]
) -> int | None:
    if len(argument) != 1 or not isinstance(argument[0], Token):
        return None
    text = argument[0].text
    text = program.macros.get(text, text).strip()
    if re.fullmatch(r"\$\d+", text):
        text = attach.with_parameters(text, parameters)
        # One that is not given, or empty, is 0.
        return 0 if text.startswith("$") else number(text or "0")
    return number(text)


def when(probe: Probe) -> str:
    """When a probe fires: `interval`, `begin`, `end`, or empty: at an event, at any time."""
    whens = {_when_of(point) for point in probe.attach_points}
    return whens.pop() if len(whens) == 1 else ""


def _when(probe: Probe | None, parameters: Sequence[str]) -> tuple[str, float]:
    """When a probe fires, and the seconds between two times, if that is known."""
    if probe is None:
        return "", 0
    at = when(probe)
    periods = {_period(point, parameters) for point in probe.attach_points}
    return at, periods.pop() if at == "interval" and len(periods) == 1 else 0


def _when_of(point: AttachPoint) -> str:
    names = providers.expand(point.provider)
    found = {"interval": "interval", "BEGIN": "begin", "END": "end"}
    return found.get(next(iter(names)), "") if len(names) == 1 else ""


_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _period(point: AttachPoint, parameters: Sequence[str]) -> float:
    parts = [attach.with_parameters(part.text, parameters) for part in point.parts[1:]]
    if len(parts) == 1 and (found := re.fullmatch(r"(\w*?)([nmu]?s|[mhd]?)", parts[0])):
        parts = [found[2] or "ns", found[1]]  # interval:100ms (0.24)
    if len(parts) != 2:
        return 0
    unit, count = parts[0], number(parts[1])
    if not count or count < 0:
        return 0
    return 1 / count if unit == "hz" else count * _UNITS.get(unit, 0)
