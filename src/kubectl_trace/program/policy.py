"""What a cluster's owner allows programs to do, told from their text.

What can't be told is refused. Words are allowed rather than forbidden where it matters: every
version of bpftrace has new ones.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.program import contexts, kernel_memory, providers, tokens, trees, vocabulary
from kubectl_trace.program.options import OptionError, names
from kubectl_trace.program.syntax import Item, Probe
from kubectl_trace.program.tokens import Group, Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kubectl_trace.program.kernel_memory import Context
    from kubectl_trace.program.syntax import AttachPoint, Program
    from kubectl_trace.program.tokens import Token, Tree


@dataclass(frozen=True)
class Rules:
    """What is allowed; all is, if nothing is said."""

    scope_required: bool = False
    """Nothing of a program may see tasks outside its scope."""
    unsafe: bool = True
    """Bpftrace's unsafe functions may be used."""
    kernel_memory: bool = True
    """The kernel's memory may be read."""
    denied: frozenset[str] = frozenset()
    """Functions and builtins that may not be used."""
    probes: tuple[str, ...] | None = None
    """Patterns of attach points (see `is_pattern`); None: any."""


@dataclass(frozen=True)
class Refusal:
    """Why a program may not run."""

    rule: str
    """As the policy's file has it: `kernelMemory: false`."""
    message: str
    span: Span
    """Where in the program."""


SCOPE, UNSAFE, KERNEL_MEMORY = "scope: required", "unsafe: false", "kernelMemory: false"
DENIED, PROBES = "deniedFunctions", "probes"

_ALL_ALLOWED = Rules()
_NUMBER = re.compile(
    r"0[xX][0-9a-fA-F_]+[uUlL]*|[0-9][0-9_]*(?:[eE][0-9_]+)?(?:[uUlL]*|ns|us|ms|s|m|h|d)", re.ASCII
)
_DEFINE = re.compile(r"\#\s*define\s+[A-Za-z_]\w*(?P<value>(?:\s.*)?)", re.ASCII)
_SETTINGS = frozenset(
    [
        "cache_user_symbols",
        "cpp_demangle",
        "lazy_symbolication",
        "log_size",
        "max_bpf_progs",
        "max_cat_bytes",
        "max_map_keys",
        "max_probes",
        "max_strlen",
        "max_type_res_iterations",
        "max_ast_nodes",
        "missing_probes",
        "on_stack_limit",
        "perf_rb_pages",
        "print_maps_on_exit",
        "stack_mode",
        "str_trunc_trailer",
        "use_blazesym",
        "show_debug_info",
    ]
)
_OPTIONS = frozenset(
    [
        "-B",
        "-k",
        "-kk",
        "--warnings",
        "--no-warnings",
        "-q",
        "--quiet",
        "-v",
        "--verbose",
        "--no-feature",
        "--probe-filter",
        "--unsafe",
    ]
)
_VARIABLES = frozenset(
    f"BPFTRACE_{name}"
    for name in [
        "STRLEN",
        "MAX_STRLEN",
        "MAP_KEYS_MAX",
        "MAX_MAP_KEYS",
        "MAX_PROBES",
        "MAX_BPF_PROGS",
        "LOG_SIZE",
        "PERF_RB_PAGES",
        "NO_USER_SYMBOLS",
        "CACHE_USER_SYMBOLS",
        "STACK_MODE",
        "LAZY_SYMBOLICATION",
        "STR_TRUNC_TRAILER",
        "NO_CPP_DEMANGLE",
        "COLOR",
        "CAT_BYTES_MAX",
        "MAX_CAT_BYTES",
    ]
)
_USERS = frozenset(("uprobe", "uretprobe", "usdt"))
_IN_KERNEL = frozenset(["tracepoint", "rawtracepoint", "kprobe", "kretprobe", "fentry", "fexit"])
_FOR_THE_TRACE = frozenset(("BEGIN", "END", "self", "interval"))
_ONLY_SYSCALLS = ("syscalls", "raw_syscalls")
# By them `calls` finds Go's data: `kernel_memory` lets a program have curtask->thread.fsbase.
_THREADS_TYPE = re.compile(r"\b(?:task_struct|thread_struct)\b")
_RAW_OF_A_TASK = (["sys_enter"], ["sys_exit"])
_BY_FUNCTION = frozenset(("kprobe", "kretprobe", "fentry", "fexit"))
_PART = re.compile(r"[^\s*?\[\]{}$,]*\*?")


def is_pattern(text: str) -> bool:
    """Whether a text is a pattern of attach points: `uprobe`, `tracepoint:syscalls:*`.

    Parts are compared one by one; `*` may be at the end of one. A pattern with fewer parts means
    all that begins so.
    """
    first, *rest = text.split(":")
    return (
        "*" not in first
        and len(providers.expand(first)) == 1
        and all(each and _PART.fullmatch(each) for each in rest)
    )


def check(program: Program, rules: Rules) -> list[Refusal]:
    """What of a program the rules don't allow, in the text's order."""
    if rules == _ALL_ALLOWED:
        return []
    found: dict[Span, Refusal] = {}
    for refusal in _Check(program, rules).refusals():
        found.setdefault(refusal.span, refusal)
    return [found[span] for span in sorted(found)]


def check_options(
    options: Sequence[str], environment: Mapping[str, str], rules: Rules
) -> list[str]:
    """What of bpftrace's options and environment the rules don't allow, as messages."""
    if rules == _ALL_ALLOWED:
        return []
    try:
        given = names(options)
    except OptionError as error:
        return [str(error)]
    found = []
    for name in given:
        if name == "--unsafe" and not rules.unsafe:
            found.append(f"{UNSAFE}: the option --unsafe")
        elif name not in _OPTIONS:
            found.append(f"bpftrace's option {name}, which may bring in files or processes")
    found += [
        f"the variable {name}, which may bring in files"
        for name in environment
        if name not in _VARIABLES
    ]
    return found


@dataclass(frozen=True)
class _Code:
    """Statements or a predicate, and where they run."""

    span: Span
    context: Context
    is_any_task: bool = False
    """The current task may be any, in a scope, too."""


class _Check:
    def __init__(self, program: Program, rules: Rules) -> None:
        self._program = program
        self._rules = rules
        self._names = frozenset((*self._constants(), *self._macros()))

    def refusals(self) -> Iterator[Refusal]:
        for item in self._program.items:
            yield from self._probe(item) if isinstance(item, Probe) else self._item(item)
        codes = list(self._codes())
        for code in codes:
            for token in tokens.tokens(self._program.text, code.span):
                if _is_odd(token):
                    yield self._cannot_tell(f"{token.text!a} can't be told", trees.span(token))
            yield from self._level(trees.read(self._program.text, code.span), code)
        if not self._rules.kernel_memory:
            yield from self._carried(codes)

    def _constants(self) -> Iterator[str]:
        """Names of constants that the program defines; no builtin has such a name."""
        found = set(self._program.macros)
        for item in self._items("definition"):
            text = self._program.of(item.span)
            if text.startswith("enum"):
                found |= set(re.findall(r"[A-Za-z_]\w*", text))
        return filter(vocabulary.CONSTANT.fullmatch, found)

    def _macros(self) -> Iterator[str]:
        """Names of the language's own macros and functions, whose code is checked, too."""
        for item in (*self._items("macro"), *self._items("function")):
            if found := re.match(r"\w+\s+(\w+)", self._program.of(item.span)):
                yield found[1]

    def _items(self, kind: str) -> Iterator[Item]:
        for item in self._program.items:
            if isinstance(item, Item) and item.kind == kind:
                yield item

    def _cannot_tell(self, message: str, span: Span) -> Refusal:
        """By the rule that needs it told."""
        rules = self._rules
        for is_set, rule in (
            (rules.scope_required, SCOPE),
            (not rules.kernel_memory, KERNEL_MEMORY),
            (not rules.unsafe, UNSAFE),
            (bool(rules.denied), DENIED),
        ):
            if is_set:
                return Refusal(rule, message, span)
        return Refusal(PROBES, message, span)

    # What stands at the top level.

    def _item(self, item: Item) -> Iterator[Refusal]:
        text = self._program.of(item.span)
        if item.kind == "import":
            yield self._cannot_tell("what an import brings can't be checked", item.span)
        elif item.kind == "directive" and not _is_constant(text):
            yield self._cannot_tell(
                "of directives only #define of a number or a string can be checked", item.span
            )
        elif item.kind in ("macro", "function"):
            yield from self._head(item)
        elif item.kind == "config" and item.block is not None:
            yield from self._config(item.block)
        elif item.kind == "definition" and (found := re.search(r"\#|%:|\?\?|\\|_Pragma", text)):
            start = item.span.start + found.start()
            place = Span(start, start + len(found[0]))
            yield self._cannot_tell("a directive in a definition can't be checked", place)
        elif (
            item.kind == "definition"
            and not self._rules.kernel_memory
            and (found := _THREADS_TYPE.search(text))
        ):
            start = item.span.start + found.start()
            yield Refusal(
                KERNEL_MEMORY,
                f"a {found[0]} of the program's own says where in the kernel's memory is what",
                Span(start, start + len(found[0])),
            )

    def _head(self, item: Item) -> Iterator[Refusal]:
        """Names and parameters of a macro or function that are builtins' (0.27 lets them be)."""
        assert item.block is not None
        head = Span(item.span.start, item.block.start)
        for token in tokens.tokens(self._program.text, head):
            if token.kind == "word" and vocabulary.is_builtin(token.text):
                yield self._cannot_tell(f"{token.text} is a builtin's name", trees.span(token))

    def _config(self, block: Span) -> Iterator[Refusal]:
        for token in tokens.tokens(self._program.text, block):
            after = tokens.skip_layout(self._program.text, token.end)
            is_set = token.kind == "word" and self._program.text.startswith("=", after)
            if is_set and token.text.lower().removeprefix("bpftrace_") not in _SETTINGS:
                yield self._cannot_tell(
                    f"the setting {token.text} is not known here", trees.span(token)
                )

    # Attach points.

    def _probe(self, probe: Probe) -> Iterator[Refusal]:
        for point in probe.attach_points:
            if "$" in self._program.of(point.span).replace("$container_pid", ""):
                yield self._cannot_tell("a parameter in an attach point: write it out", point.span)
                continue
            expanded = providers.expand(point.provider)
            if not expanded:
                yield self._cannot_tell(f"{point.provider} is no known provider", point.span)
                continue
            yield from self._not_listed(point, expanded)
            if self._rules.scope_required and (message := _not_scoped(point, expanded)):
                yield Refusal(SCOPE, message, point.span)
            if not self._rules.kernel_memory and "iter" in expanded:
                yield Refusal(KERNEL_MEMORY, "iter shows the kernel's structures", point.span)

    def _not_listed(self, point: AttachPoint, expanded: frozenset[str]) -> Iterator[Refusal]:
        patterns = self._rules.probes
        if patterns is None:
            return
        parts = [part.text for part in point.parts[1:]]
        if not all(
            any(_includes(each, provider, parts) for each in patterns)
            for provider in expanded - _FOR_THE_TRACE
        ):
            allowed = ", ".join(patterns) or "none"
            yield Refusal(PROBES, f"not among the probes allowed: {allowed}", point.span)

    # Code.

    def _codes(self) -> Iterator[_Code]:
        has_any_task = False
        for probe in self._program.probes:
            each = [providers.expand(point.provider) for point in probe.attach_points]
            context = kernel_memory.Context(
                all(expanded and expanded <= _USERS for expanded in each),
                all(map(_is_syscall, probe.attach_points)),
                self._names,
            )
            is_any_task = any("interval" in expanded for expanded in each)
            has_any_task = has_any_task or is_any_task
            for span in filter(None, (probe.predicate, probe.block)):
                yield _Code(Span(span.start + 1, span.end - 1), context, is_any_task)
        context = kernel_memory.Context(False, False, self._names)
        for item in (*self._items("macro"), *self._items("function")):
            assert item.block is not None
            yield _Code(item.block, context, has_any_task)

    def _level(self, tree: Tree, code: _Code) -> Iterator[Refusal]:
        for index, node in enumerate(tree):
            if isinstance(node, Group):
                yield from self._level(trees.significant(node.children), code)
            elif node.kind == "word":
                yield from self._word(node, tree[:index], tree[index + 1 :], code)
        rules = self._rules
        if not rules.kernel_memory or (rules.scope_required and code.is_any_task):
            rule = SCOPE if rules.kernel_memory else KERNEL_MEMORY
            for found in kernel_memory.reads(tree, code.context):
                yield Refusal(rule, found.message, found.span)

    def _word(self, token: Token, before: Tree, after: Tree, code: _Code) -> Iterator[Refusal]:
        rules, place = self._rules, trees.span(token)
        is_call = trees.is_call(after)
        if trees.is_member(before) and not is_call:
            return
        name = token.text.removeprefix("__builtin_")
        if name in rules.denied:
            yield Refusal(DENIED, f"{name} is denied", place)
        elif not rules.unsafe and name in vocabulary.UNSAFE:
            yield Refusal(UNSAFE, f"{name} is unsafe", place)
        elif rules.scope_required and name in vocabulary.OUTSIDE:
            yield Refusal(SCOPE, f"{name} reaches what is on the node, outside any scope", place)
        elif rules.scope_required and code.is_any_task and vocabulary.of_task(name):
            yield Refusal(
                SCOPE,
                f"{name} in interval is of any task: print here what other probes have kept",
                place,
            )
        elif is_call and not self._is_known_function(name):
            yield self._cannot_tell(f"{name}() is not known here", place)

    def _is_known_function(self, name: str) -> bool:
        return (
            name in vocabulary.FUNCTIONS
            or name in vocabulary.KEYWORDS
            or name in vocabulary.TYPES
            or name in self._names
        )

    def _carried(self, codes: Sequence[_Code]) -> Iterator[Refusal]:
        """Addresses of the kernel's that probes of processes would read, by way of a map."""
        inside = [(code, list(tokens.tokens(self._program.text, code.span))) for code in codes]
        if not any(
            any(map(kernel_memory.gives_pointers, each))
            for code, each in inside
            if not code.context.is_user and not code.context.is_syscall
        ):
            return
        for code, each in inside:
            taken = next((token for token in each if token.kind == "map"), None)
            if code.context.is_user and taken and any(map(kernel_memory.follows_pointers, each)):
                yield Refusal(
                    KERNEL_MEMORY,
                    "a map may hold an address from the program's probes in the kernel, and this "
                    "probe reads memory: make two traces of them",
                    trees.span(taken),
                )


def _is_constant(directive: str) -> bool:
    """Whether a directive defines a name as a number or string.

    Of several words bpftrace up to 0.23 makes one.
    """
    define = _DEFINE.fullmatch(directive.rstrip())
    value = define["value"].strip() if define else "?"
    return not value or bool(_NUMBER.fullmatch(value) or re.fullmatch(tokens.STRING, value))


def _is_odd(token: Token) -> bool:
    """Whether a version of bpftrace may read it as other elements."""
    text = token.text
    match token.kind:
        case "number":
            return _NUMBER.fullmatch(text) is None
        case "string":
            return re.fullmatch(tokens.STRING, text) is None
        case "variable":
            return re.fullmatch(r"\$[0-9]+\D.*", text) is not None
        case "map":
            return re.match(r"@[0-9]", text) is not None
        case "other":
            return text == "#" or not text.isascii()
        case _:
            return False


def _not_scoped(point: AttachPoint, expanded: frozenset[str]) -> str:
    """Why an attach point may show other tasks than those in scope; empty: it does not."""
    if expanded <= _FOR_THE_TRACE:
        return ""
    if "*" in point.provider:
        return "a wildcard for the provider: name it"
    if not all(map(providers.fires_in_a_task, expanded)):
        return f"{'/'.join(sorted(expanded))} visits all tasks: no scope limits it"
    parts = [part.text for part in point.parts[1:]]
    if expanded & _IN_KERNEL and any(re.search(r"[*?\[]", part) for part in parts):
        if parts[0] in _ONLY_SYSCALLS and expanded == {"tracepoint"}:
            return ""
        return "a wildcard may mean probes that are about other tasks: name each"
    if "rawtracepoint" in expanded and parts[-1:] not in _RAW_OF_A_TASK:
        return "a raw tracepoint may be about other tasks: name it as tracepoint:GROUP:NAME"
    note = contexts.note(point)
    return f"it {note}" if note else ""


def _includes(pattern: str, provider: str, parts: Sequence[str]) -> bool:
    """Whether all that an attach point may mean is in a pattern."""
    first, *wanted = pattern.split(":")
    if providers.expand(first) != {provider} or len(parts) < len(wanted):
        return False
    if provider in _BY_FUNCTION and len(parts) > 1 and len(wanted) == 1:
        parts = parts[-1:]  # a function, in whichever module
    return all(map(_is_in, wanted, parts))


def _is_in(pattern: str, part: str) -> bool:
    """Whether all that a part of an attach point may mean is in a pattern's part."""
    if not pattern.endswith("*"):
        return part == pattern
    literal, wildcard, _ = re.split(r"([*?\[]|\Z)", part, maxsplit=1)
    # A wildcard may mean .., and so a file outside the folder, only where a dot is before it.
    leads_out = "/" in part and (
        posixpath.normpath(part) != part or (wildcard and re.search(r"/\.[^/]*[*?\[]", part))
    )
    return literal.startswith(pattern[:-1]) and not leads_out


def _is_syscall(point: AttachPoint) -> bool:
    return (
        providers.expand(point.provider) == {"tracepoint"}
        and len(point.parts) > 2
        and point.parts[1].text == "syscalls"
    )
