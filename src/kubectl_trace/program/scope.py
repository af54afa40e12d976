"""The scope: a predicate on every probe that fires in a task; only the target's tasks pass.

The set of those that pass is a map of bpftrace's own, kept up to date from outside by the runner.
Its keys say where a task belongs, its values number the containers from 1; 0, what a lookup of a
missing key gives, is outside. `FOREIGN` is outside, too, and no other key need be looked up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.program import macros, providers
from kubectl_trace.program.rewrite import Edit
from kubectl_trace.program.syntax import Item
from kubectl_trace.program.tokens import ProgramError, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kubectl_trace.program.syntax import AttachPoint, Probe, Program

MOUNT_NAMESPACE = "(uint64)curtask->nsproxy->mnt_ns->ns.inum"
"""The number of the current task's mount namespace, as `/proc/PID/ns/mnt` shows it."""

CGROUP2 = "cgroup"
"""The current task's cgroup in the unified hierarchy (bpf_get_current_cgroup_id)."""

FOREIGN = 1 << 32
"""The value of a key whose tasks are none of the scope by any other key either."""

_NUMBER = "0xffffffff"
"""The bits of a value that number a container: whether a map's values have a sign, the versions
of bpftrace see differently."""


def cgroup1(subsystem: int) -> str:
    """The current task's cgroup in the hierarchy of a controller, by the kernel's number of that.

    The inode number of the cgroup's directory (Linux 5.5: kernfs_node.id).
    """
    # The cast makes 0.17 look the structure up.
    return f"((struct kernfs_node *)curtask->cgroups->subsys[{subsystem}]->cgroup->kn)->id"


@dataclass(frozen=True)
class Scope:
    """How a program tells the tasks of the target from all others."""

    map: str
    """The map's name in the program, with its `@`."""
    variable: str
    """A variable that the program does not use."""
    keys: tuple[str, ...]
    """Expressions; a task passes if the map holds the value of any of them."""
    hidden_probes: tuple[str, ...] = ()
    """Probes that keep the map up to date inside the kernel."""
    definitions: str = ""
    """What the hidden probes need of C."""
    next_key: str = ""
    """For `sched_switch`: an expression for the task that comes, where that is to be in scope."""
    has_foreign: bool = False
    """The first key's value may be `FOREIGN`: which container a task is of is asked once, in the
    probe's block, where all else is put into an `if`."""

    def condition(self, probe: Probe) -> str:
        """An expression that is true for the target's tasks."""
        lookups = self._lookups(probe)
        return f"({' || '.join(lookups)})" if len(lookups) > 1 else lookups[0]

    def container(self, probe: Probe) -> str:
        """Statements that set `variable` to the number of the task's container."""
        first, *others = self._lookups(probe)
        # 0.23 crashes at a map in the condition of `?:`.
        return f"{self.variable} = {first};" + "".join(
            f" if ({self.variable} == 0) {{ {self.variable} = {lookup}; }}" for lookup in others
        )

    @property
    def is_member(self) -> str:
        """An expression that is true if `variable` numbers a container."""
        return f"({self.variable} & {_NUMBER})"

    def _lookups(self, probe: Probe) -> list[str]:
        is_next = self.next_key and all(map(_is_switch, probe.attach_points))
        keys = (self.next_key,) if is_next else self.keys
        return [f"{self.map}[{key}]" for key in keys]


def by_namespace(program: Program, cgroup: str = "") -> Scope:
    """By mount namespace and, where `cgroup` is an expression for it, by cgroup: one is enough.

    Namespace numbers are 0xf0000000 and up (PROC_DYNAMIC_FIRST), a cgroup's low 32 bits are below:
    one map holds both.
    """
    keys = [MOUNT_NAMESPACE]
    if cgroup:
        # What is quicker to know comes first (benchmarks/README.md).
        keys.insert(0 if cgroup == CGROUP2 else 1, f"(uint64){cgroup}")
    return Scope(
        _free_name(program, "@_scope"),
        _free_name(program, "$_container"),
        tuple(keys),
        has_foreign=cgroup == CGROUP2,
    )


def by_task(program: Program, *, next_task: bool = False, has_types: bool = True) -> Scope:
    """By thread ID, where the kernel's own types can't be used. Forks are followed in the kernel.

    Args:
        program: The program to limit.
        next_task: `sched_switch` is for the task that comes, not for the one that leaves.
        has_types: bpftrace knows the kernel's types, and with them those of tracepoints' arguments.
    """
    name = _free_name(program, "@_scope")
    return Scope(
        name,
        _free_name(program, "$_container"),
        ("(uint64)tid",),
        definitions="" if has_types or _includes(program) else "#define pid_t int\n",
        next_key="(uint64)args->next_pid" if next_task else "",
        hidden_probes=(
            # When the task is freed nothing of it can fire any more.
            f"tracepoint:sched:sched_process_free /{name}[(uint64)args->pid]/ "
            f"{{ delete({name}[(uint64)args->pid]); }}",
            f"tracepoint:sched:sched_process_fork /{name}[(uint64)tid]/ "
            f"{{ {name}[(uint64)args->child_pid] = {name}[(uint64)tid]; }}",
        ),
    )


def _includes(program: Program) -> bool:
    """Whether it includes headers, which define what they need."""
    return any(
        re.match(r"#\s*include\b", program.of(item.span))
        for item in program.items
        if isinstance(item, Item) and item.kind == "directive"
    )


def _free_name(program: Program, wanted: str) -> str:
    used = set(re.findall(r"[@$]\w+", program.text))
    # Up to 0.23 a macro's value is put in without its white space: `@ _scope` is a map's name, too.
    used |= set(re.findall(r"[@$]\w+", "\n".join(map(_squeezed, program.macros.values()))))
    return next(
        name
        for name in (wanted, *(f"{wanted}{number}" for number in range(len(used) + 1)))
        if name not in used
    )


def _squeezed(text: str) -> str:
    return "".join(text.split())


_KERNELS_OWN = re.compile(
    r"\b(?:task_struct|nsproxy|mnt_namespace|ns_common|css_set|cgroup|cgroup_subsys_state"
    r"|kernfs_node)\b"
    # By which a name can be made of others.
    r"|\#\#|%:|\?\?|\\"
)
_SYSTEM_HEADER = re.compile(r"\#\s*include\s*<(?!/)(?:(?!\.\.)[^>])+>")


def brings_types(program: Program) -> bool:
    """Whether the kernel's types that `by_namespace` goes by may be others than the kernel's.

    bpftrace takes a program's own `struct task_struct` instead: what is in it would then say who is
    in scope.
    """
    return any(
        isinstance(item, Item)
        and item.kind in ("definition", "directive")
        and _KERNELS_OWN.search(program.of(item.span))
        for item in program.items
    )


def check_includes(program: Program) -> None:
    """Refuses what would bring any file of the node into the program, and so into its errors.

    Raises:
        ProgramError: something else is included than a system's header, `<linux/fs.h>`.
    """
    for item in program.items:
        if not isinstance(item, Item) or item.kind not in ("directive", "definition"):
            continue
        text = program.of(item.span)
        is_define = re.match(r"\#\s*define\b", text)
        # What a C compiler takes for a directive (C17 5.2.1.1 and 6.4.6), also in its comments.
        if item.kind == "definition" and (found := re.search(r"\#|%:|\?\?|\\", text)):
            raise ProgramError(
                "a directive of the preprocessor in a definition: it may include any file",
                item.span.start + found.start(),
            )
        if item.kind == "directive" and not is_define and not _is_harmless_directive(text):
            raise ProgramError(
                "this may bring any file of the node into the program: only headers of the system "
                "can be included, <linux/fs.h>; or use --no-scope",
                item.span.start,
            )


def _is_harmless_directive(text: str) -> bool:
    if _SYSTEM_HEADER.match(text):
        return True
    return re.match(r"\#\s*(?:undef|ifdef|ifndef|else|endif|pragma\s+once)\b", text) is not None


def in_tasks(probe: Probe) -> bool:
    """Whether one of the probe's attach points fires in a task."""
    return any(providers.fires_in_a_task(point.provider) for point in probe.attach_points)


def is_limited(program: Program) -> bool:
    """Whether there is, or may be, a probe in the program that a scope is to limit."""
    return any(map(in_tasks, program.probes)) or any(_imports_with_probes(program))


def split(program: Program) -> Iterator[Edit]:
    """Makes one probe two where some of its attach points fire in a task and some don't."""
    for probe in program.probes:
        inside = [p.span for p in probe.attach_points if providers.fires_in_a_task(p.provider)]
        outside = [p.span for p in probe.attach_points if p.span not in inside]
        if not inside or not outside:
            continue
        rest = Span((probe.predicate or probe.block).start, probe.block.end)
        pieces: list[str | Span] = []
        for spans in (inside, outside):
            for span in spans:
                pieces += [span, ", "]
            pieces[-1] = " "
            pieces += [rest, " "]
        reason = "two probes: the scope limits only the attach points that fire in a task"
        yield Edit(probe.span, tuple(pieces[:-1]), reason)


def limit(program: Program, scope: Scope) -> list[Edit]:
    """Limits every probe that fires in a task to the scope; nobody is in it yet.

    Either all of a probe's attach points fire in a task or none does (see `split`).

    Raises:
        ProgramError: the program imports probes, which can't be limited, or it changes by macros
            what would limit it.
    """
    for item in _imports_with_probes(program):
        raise ProgramError(
            "an imported script or folder may have probes, which no scope limits: put what is "
            "needed of it into the program, or use --no-scope",
            item.span.start,
        )
    edits = [*_predicates(program, scope), *_begin(program, scope)]
    if scope.definitions:
        edits.append(Edit.insert(program.items[0].span.start, scope.definitions))
    for number, hidden in enumerate(scope.hidden_probes):
        reason = "" if number else "keeps the scope up to date when tasks fork and end"
        # Before the user's: probes are attached in their order.
        edits.append(Edit.insert(program.probes[0].span.start, f"{hidden} ", reason))
    check_includes(program)
    _refuse_macros(program, edits)
    return edits


def _predicates(program: Program, scope: Scope) -> Iterator[Edit]:
    for probe in program.probes:
        if not in_tasks(probe):
            continue
        reason = "scope: only tasks of the target pass"
        if scope.has_foreign:
            begin = f"{{ {scope.container(probe)} if ({scope.is_member}"
            if probe.predicate is None:
                yield Edit.insert(probe.block.start, f" {begin}) ", reason)
            else:
                inside = f" && ({_OPENING}", _condition(probe.predicate), f"{_CLOSING})"
                yield Edit(probe.predicate, (begin, *inside, ")"), reason)
            yield Edit.insert(probe.block.end, " }")
        elif probe.predicate is None:
            yield Edit.insert(probe.block.start, f" /{scope.condition(probe)}/ ", reason)
        else:
            condition = _condition(probe.predicate)
            before = f"{scope.condition(probe)} && ({_OPENING}"
            yield Edit.insert(condition.start, before, reason)
            yield Edit.insert(condition.end, f"{_CLOSING})")


def _begin(program: Program, scope: Scope) -> Iterator[Edit]:
    """Lets the map be what it is: bpftrace wants its types from an assignment."""
    # Key 0 is no task's. The members are not put in here: they may be gone when this runs.
    filled = f" {scope.map}[(uint64)0] = (uint64)0;"
    reason = "makes the map of what is in scope; the runner fills it and keeps it up to date"
    begin = next((probe for probe in program.probes if _is_begin(probe)), None)
    if begin is None:
        yield Edit.insert(len(program.text), f"\nBEGIN {{{filled} }}\n", reason)
    elif begin.predicate is None:
        yield Edit.insert(begin.block.start + 1, filled, reason)
    else:  # 0.17 takes only one BEGIN
        condition = _condition(begin.predicate)
        yield Edit(
            begin.predicate, (f"{{{filled} if ({_OPENING}", condition, f"{_CLOSING})"), reason
        )
        yield Edit.insert(begin.block.end, " }")


# Around a user's condition among others. It may be a pointer, which 0.17 takes neither in && nor in
# if; and (retval) != 0 would be a cast of !=... for 0.27.
_OPENING, _CLOSING = "((", ")) != 0"


def _condition(predicate: Span) -> Span:
    """What is between the slashes."""
    return Span(predicate.start + 1, predicate.end - 1)


# Of what 0.27 imports (src/ast/passes/resolve_imports.cpp) scripts and folders may have probes.
_WITHOUT_PROBES = re.compile(r'"(?:stdlib(?:/.*)?|.*\.(?:h|c|o))"')


def _imports_with_probes(program: Program) -> Iterator[Item]:
    imports = (item for item in program.items if isinstance(item, Item) and item.kind == "import")
    return (item for item in imports if not _WITHOUT_PROBES.search(program.of(item.span)))


def _refuse_macros(program: Program, edits: Iterable[Edit]) -> None:
    # From 0.24 on the language has macros and functions of its own, and builtins may be such.
    own = {
        words[1]
        for item in program.items
        if isinstance(item, Item)
        and item.kind in ("macro", "function")
        and (words := re.match(r"\w+\s+(\w+)", program.of(item.span)))
    }
    if not program.macros and not own:
        return
    added = " ".join(piece for edit in edits for piece in edit.pieces if isinstance(piece, str))
    if changed := macros.words(added) & (program.macros.keys() | own):
        raise ProgramError(
            f"the macro {min(changed)} would change what limits the program to its target: give it "
            "another name, or use --no-scope",
            program.items[0].span.start,
        )


def _is_switch(point: AttachPoint) -> bool:
    return providers.expand(point.provider) == {"tracepoint"} and [
        part.text for part in point.parts[1:]
    ] == ["sched", "sched_switch"]


def hidden_probes(program: Program, limit: Scope) -> int:
    """How many probes `limit` adds to the program."""
    begins = any(_is_begin(probe) for probe in program.probes)
    return len(limit.hidden_probes) + (0 if begins else 1)


def _is_begin(probe: Probe) -> bool:
    return any(providers.is_begin(point.provider) for point in probe.attach_points)
