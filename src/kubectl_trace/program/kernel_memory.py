"""Whether code may read the kernel's memory, told from its text.

In uprobes and usdt a pointer means the process's memory, in all other probes, macros and functions
the kernel's (bpftrace src/ast/passes/semantic_analyser.cpp: find_addrspace; the pointers among
`args` of tracepoint:syscalls are the process's). Numbers that come from the kernel stay pointers
into its memory, also in maps; and a number that comes from nowhere, followed without being made a
pointer (`*@n`, `buf($n, 8)`), may be any address. All this was measured with 0.23.2 and 0.27.1;
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
        if context.is_user and not _is_pointer(argument):
            yield Found(f"{name}() may read the kernel's memory: {_MAKE_POINTER}", place)
        elif not context.is_user and not _is_users(argument, context):
            yield Found(f"{name}() may read the kernel's memory here: {_ALLOWED}", place)
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
    elif trees.is_arrow(before, token) and trees.words(before[-2:-1]) != "args":
        yield Found(f"-> follows a pointer into the kernel's memory here; {_IN_PROCESS}", place)
    elif token.text == ".":
        next_text = trees.words(after[:1])
        is_range = next_text == "." or trees.words(before[-1:]) == "."
        is_tuple = next_text.isdecimal()
        if not is_range and not is_tuple and trees.words(before[-1:]) != "args":
            yield Found(
                f". may follow a pointer into the kernel's memory here; {_IN_PROCESS}", place
            )


def _followed(token: Token, before: Tree, after: Tree) -> Iterator[Found]:
    """A number that is followed, in a process's probe."""
    # Of a type there are only more stars behind one.
    is_type = trees.words(after).strip("*") == "" and not any(
        isinstance(node, Group) for node in after
    )
    if token.text == "*" and not _is_value(before) and not is_type and not _is_pointer(after):
        yield Found(f"* may follow a number: {_MAKE_POINTER}", trees.span(token))


def _is_pointer(tree: Tree) -> bool:
    """Whether what begins here is surely a pointer of the process, or a number that it gave."""
    expression = tuple(
        itertools.takewhile(lambda node: trees.words((node,)) not in (";", ","), tree)
    )
    if not expression:
        return False
    first, rest = expression[0], expression[1:]
    if any(isinstance(node, Token) and node.text in _OTHER_VALUES for node in expression):
        return False
    is_member = trees.words(rest[:2]) == "->" or (
        trees.words(rest[:1]) == "." and not trees.words(rest[1:2]).isdecimal()
    )
    if isinstance(first, Group):
        inside = trees.significant(first.children)
        if rest and len(inside) == 1 and trees.words(inside) in vocabulary.TYPES:
            return _is_pointer(rest)
        is_cast = bool(rest) and len(inside) > 1 and trees.words(inside[-1:]) == "*"
        return first.bracket == "(" and (is_cast or is_member or (not rest and _is_pointer(inside)))
    if first.text == "*":
        return _is_pointer(rest)
    if first.kind == "string" or re.fullmatch(r"\$[0-9]+", first.text):
        return not rest  # its text is in the program itself
    if first.kind in ("variable", "map"):
        while rest and isinstance(rest[0], Group) and rest[0].bracket == "[":
            rest = rest[1:]
        return trees.words(rest[:2]) == "->" or is_member
    if first.text in ("uptr", "reg"):
        return trees.is_call(rest)
    return first.text in ("args", "retval") or vocabulary.is_argument(first.text)


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
    """Whether parentheses may hold a type: nothing but words and stars."""
    return all(
        isinstance(node, Token) and (node.text == "*" or node.kind == "word")
        for node in trees.significant(group.children)
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


def _is_users(argument: Tree, context: Context) -> bool:
    """Whether a function's argument is surely no pointer into the kernel's memory."""
    if not all(isinstance(node, Token) for node in argument):
        return (
            len(argument) == 2 and trees.words(argument) == "uptr" and trees.is_call(argument[1:])
        )
    text = trees.words(argument)
    if len(argument) == 1:
        # A parameter's text is in the program itself.
        return re.fullmatch(r'\$[0-9]+|".*"', text, re.DOTALL) is not None
    is_field = re.fullmatch(r"args(?:->|\.)\w+", text, re.ASCII) is not None
    return context.is_syscall and is_field and len(argument) <= 4
