"""Whether code may read the kernel's memory, told from its text.

In uprobes and usdt a pointer means the process's memory, in all other probes, macros and functions
the kernel's (bpftrace src/ast/passes/semantic_analyser.cpp: find_addrspace; the pointers among
`args` of tracepoint:syscalls are the process's). Numbers that come from the kernel stay pointers
into its memory, also in maps; and a number that comes from nowhere, followed without being made a
pointer (`*@n`, `buf($n, 8)`), may be any address. So may what a number of the process's leads to:
`*arg0` reads its memory, and gives a number like any other (`**arg0`); what a pointer leads to is
a number of the process's (`**(uint64 *)arg0`). All this was measured with 0.23.2 and 0.27.1;
0.17 follows any number, `(uint64 *)0xffffffff81000000` too (`SINCE`).
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, NamedTuple

from kubectl_trace.program import trees, vocabulary
from kubectl_trace.program.tokens import Group, Span, Token

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from kubectl_trace.program.tokens import Tree

SINCE = 23
"""The minor version of bpftrace from which on this is known to hold."""

_MAKE_POINTER = "make it a pointer, (uint8 *)x, or uptr(x): a number may be any address"
_IN_PROCESS = "in uprobes and usdt it is the process's"
_ALLOWED = (
    "allowed are uptr(…), a field of args of tracepoint:syscalls:…, and all pointers in uprobes "
    "and usdt"
)


class Found(NamedTuple):
    """What reads the kernel's memory, or may."""

    message: str
    span: Span


class Context(NamedTuple):
    """Where code runs."""

    is_user: bool
    """In uprobes and usdt only."""
    is_syscall: bool
    """In tracepoint:syscalls only."""
    names: Collection[str]
    """Constants, macros and functions of the program's own."""


def reads(tree: Tree, context: Context) -> Iterator[Found]:
    """What in code, of one level of brackets, may read the kernel's memory."""
    for index, node in enumerate(tree):
        before, after = tree[:index], tree[index + 1 :]
        if isinstance(node, Group):
            yield from _brackets(node, before, context)
        elif node.kind == "word":
            yield from _word(node, before, after, context)
        elif node.text == "&" and _takes_address(before, node, after):
            yield Found("& gives an address of the kernel's", trees.span(node))
        elif node.kind == "other" and context.is_user:
            yield from _followed(node, before, after)
        elif node.kind == "other":
            yield from _operator(node, before, after)


def gives_pointers(token: Token) -> bool:
    """Whether, in a probe in the kernel, it may be a pointer into the kernel's memory."""
    return token.kind == "word" and (
        token.text in vocabulary.OF_KERNEL or vocabulary.is_argument(token.text)
    )


def follows_pointers(token: Token) -> bool:
    """Whether it is a sign of code that reads memory."""
    return token.text in ("*", ".", "[", ">") or token.text in vocabulary.MEMORY_FUNCTIONS


def _word(token: Token, before: Tree, after: Tree, context: Context) -> Iterator[Found]:
    if trees.is_member(before) and not trees.is_call(after):
        return
    name, place = token.text, trees.span(token)
    if name.removeprefix("__builtin_") in vocabulary.KERNEL_WORDS:
        if not (context.is_user and name == "curtask" and _is_thread_pointer(after)):
            yield Found(f"{name} leads to the kernel's memory", place)
    elif name in vocabulary.MEMORY_FUNCTIONS and trees.is_call(after):
        group = after[0]
        assert isinstance(group, Group)
        argument = trees.first_argument(group)
        if name == "str" and _is_in_program(argument):
            return
        if context.is_user and not _depth(argument):
            yield Found(f"{name}() may read the kernel's memory: {_MAKE_POINTER}", place)
        elif not context.is_user and not _is_users(argument, context):
            yield Found(f"{name}() may read the kernel's memory here: {_ALLOWED}", place)
    elif name == "args" and not context.is_user and not _has_member(after):
        yield Found("args as a whole is the kernel's memory here: name its fields", place)
    elif name.startswith("sarg") and vocabulary.is_argument(name) and not context.is_user:
        yield Found(f"{name} reads the kernel's stack here", place)
    elif not _is_known(name, before, after, context):
        yield Found(f"whether {name} reads the kernel's memory is not known here", place)


def _is_known(name: str, before: Tree, after: Tree, context: Context) -> bool:
    if name in vocabulary.KEYWORDS:
        return context.is_user or name not in ("struct", "union", "enum")
    if name in vocabulary.TYPES or name in vocabulary.HARMLESS_FUNCTIONS or name in context.names:
        return True
    if trees.is_call(after):
        return False
    if context.is_user and (trees.is_type_name(before) or _is_in_cast(before, after)):
        return True
    return name in vocabulary.HARMLESS_WORDS or vocabulary.of_task(name)


def _is_in_cast(before: Tree, after: Tree) -> bool:
    """Whether the level is a pointer's type, `(Foo *)`: words, and at its end a star."""
    return trees.words(after[-1:]) == "*" and all(
        isinstance(node, Token) and (node.kind == "word" or node.text == "*")
        for node in (*before, *after)
    )


def _operator(token: Token, before: Tree, after: Tree) -> Iterator[Found]:
    place = trees.span(token)
    if token.text == "*" and not (_is_value(before) and after):
        yield Found(f"* follows a pointer into the kernel's memory here; {_IN_PROCESS}", place)
    elif trees.is_arrow(before, token) and not _is_args(before[:-1]):
        yield Found(f"-> follows a pointer into the kernel's memory here; {_IN_PROCESS}", place)
    elif token.text == ".":
        next_text = trees.words(after[:1])
        is_range = next_text == "." or trees.words(before[-1:]) == "."
        is_tuple = next_text.isdecimal()
        if not is_range and not is_tuple and not _is_args(before):
            yield Found(
                f". may follow a pointer into the kernel's memory here; {_IN_PROCESS}", place
            )


def _has_member(after: Tree) -> bool:
    """Whether `.` or `->` follows."""
    two = trees.words(after[:2])
    return two == "->" or (two.startswith(".") and two != "..")


def _takes_address(before: Tree, token: Token, after: Tree) -> bool:
    """Whether this `&` stands before what it takes the address of (0.24 and later)."""
    # Of && the second follows an odd number of others that touch.
    begin, run = token.start, 0
    for node in reversed(before):
        if not isinstance(node, Token) or node.text != "&" or node.end != begin:
            break
        begin, run = node.start, run + 1
    follows = isinstance(after[0], Token) and after[0].text == "&" if after else False
    if run % 2 or (follows and after[0].start == token.end):
        return False
    return not _is_value(before)


def _is_args(before: Tree) -> bool:
    """Whether what stands before is the builtin `args`, not a member of that name."""
    return trees.words(before[-1:]) == "args" and not trees.is_member(before[:-1])


def _followed(token: Token, before: Tree, after: Tree) -> Iterator[Found]:
    """A number that is followed, in a process's probe."""
    # Of a type there are only more stars behind one.
    is_type = trees.words(after).strip("*") == "" and not any(
        isinstance(node, Group) for node in after
    )
    if token.text == "*" and not _is_value(before) and not is_type and not _operand(after)[0]:
        yield Found(f"* may follow a number: {_MAKE_POINTER}", trees.span(token))


def _depth(tree: Tree) -> int:
    """How often what an expression gives is surely followed in the process's memory, in its probes.

    0: it may be a number of no known origin. 1: a number that the process gave. More: a pointer.
    """
    depth, rest = _operand(tree)
    signs = [node.text for node in rest if isinstance(node, Token) and node.kind == "other"]
    if not rest or not depth:
        return depth
    # Numbers that are added leave the first operand what it is; of other operators it is not known.
    adds = trees.words(rest[:1]) in ("+", "-") and trees.words(rest[1:2]) not in ("+", "-", ">")
    return 1 if adds and not _OTHER_VALUES.intersection(signs) else 0


def _operand(tree: Tree) -> tuple[int, Tree]:
    """The depth (`_depth`) of the operand that begins here, and what comes behind it."""
    if not tree:
        return 0, ()
    first, rest = tree[0], tree[1:]
    if isinstance(first, Group):
        inside = trees.significant(first.children)
        if first.bracket != "(":
            return _suffixed(0, rest)
        if rest and _is_type(first) and trees.words(inside[-1:]) == "*" and len(inside) > 1:
            _, behind = _operand(rest)
            return 1 + _stars(inside), behind
        if rest and len(inside) == 1 and trees.words(inside) in vocabulary.TYPES:
            depth, behind = _operand(rest)
            return min(depth, 1), behind
        return _suffixed(_depth(inside), rest)
    if first.text == "*":
        depth, behind = _operand(rest)
        return max(depth - 1, 0), behind
    if first.text in ("uptr", "reg"):
        return _suffixed(1, rest[1:]) if trees.is_call(rest) else (0, rest)
    if first.text == "retval" or vocabulary.is_argument(first.text):
        return _suffixed(1, rest)
    if first.text == "args" or first.kind in ("variable", "map"):
        return _suffixed(0, rest, has_members=True)
    return _suffixed(0, rest)


def _stars(type_name: Tree) -> int:
    """How many stars a type's name ends with."""
    return len(
        list(itertools.takewhile(lambda node: trees.words((node,)) == "*", reversed(type_name)))
    )


def _suffixed(depth: int, rest: Tree, *, has_members: bool = False) -> tuple[int, Tree]:
    """The depth of an operand with its indexes and members, and what comes behind them.

    `has_members`: those that are named are the process's, as of all that has a depth.
    """
    has_members = has_members or depth > 0
    while rest:
        if isinstance(rest[0], Group) and rest[0].bracket in "[(":
            depth, rest = max(depth - 1, 0), rest[1:]
        elif trees.words(rest[:2]) == "->" and isinstance(rest[0], Token):
            depth, rest = int(has_members), rest[3:]
        elif trees.words(rest[:1]) == "." and trees.words(rest[1:2]) != ".":
            is_tuple = trees.words(rest[1:2]).isdecimal()
            depth, rest = int(has_members and not is_tuple), rest[2:]
        else:
            break
    return depth, rest


_TYPE_BEGINS = vocabulary.TYPES | {"struct", "union", "enum"}
_CALLED = vocabulary.FUNCTIONS | {"sizeof", "offsetof"}
_OTHER_VALUES = frozenset("?|&^~%<=!/")
"""Operators by which a value can become another one's than the first operand's."""


def _brackets(group: Group, before: Tree, context: Context) -> Iterator[Found]:
    if group.bracket == "[" and before and not context.is_user:
        last = before[-1]
        if not (isinstance(last, Token) and last.kind == "map"):
            yield Found(
                f"[ may follow a pointer into the kernel's memory here; {_IN_PROCESS}",
                Span(group.start, group.start + 1),
            )


def _is_value(before: Tree) -> bool:
    """Whether what stands before `*` is a value, so that it multiplies."""
    if not before:
        return False
    last = before[-1]
    if isinstance(last, Group):
        # (uint64)*p follows a pointer; @m[k] * 2, f(x) * 2 and ($a + 1) * 2 multiply.
        is_called = len(before) > 1 and trees.words(before[-2:-1]) in _CALLED
        return last.bracket == "[" or (last.bracket == "(" and (is_called or not _is_type(last)))
    return last.kind in ("number", "variable", "map") or (
        last.kind == "word" and last.text not in vocabulary.KEYWORDS | vocabulary.TYPES
    )


def _is_type(group: Group) -> bool:
    """Whether parentheses may hold a type: nothing but words and stars, or one of arrays."""
    inside = trees.significant(group.children)
    return trees.words(inside[:1]) in _TYPE_BEGINS or all(
        isinstance(node, Token) and (node.text == "*" or node.kind == "word") for node in inside
    )


def _is_thread_pointer(after: Tree) -> bool:
    """`curtask->thread.fsbase`: the current thread's own register, by which Go's data is found."""
    return trees.words(after[:5]) == "->thread.fsbase" and not (
        len(after) > 5
        and (
            (isinstance(after[5], Group) and after[5].bracket == "[")
            or trees.words(after[5:6]) == "."
            or trees.words(after[5:7]) == "->"
        )
    )


def _is_in_program(argument: Tree) -> bool:
    """Whether the text that `str` gives is the program's own; as an address a parameter is any."""
    if len(argument) != 1 or not isinstance(argument[0], Token):
        return False
    return re.fullmatch(r'\$[0-9]+|".*"', argument[0].text, re.DOTALL) is not None


def _is_users(argument: Tree, context: Context) -> bool:
    """Whether a function's argument is surely no pointer into the kernel's memory."""
    if not all(isinstance(node, Token) for node in argument):
        return (
            len(argument) == 2 and trees.words(argument) == "uptr" and trees.is_call(argument[1:])
        )
    text = trees.words(argument)
    is_field = re.fullmatch(r"args(?:->|\.)[A-Za-z_]\w*", text, re.ASCII) is not None
    return context.is_syscall and is_field and len(argument) <= 4
