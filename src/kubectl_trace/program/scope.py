"""The scope: a predicate on every probe that fires in a task; only the target's tasks pass.

The set of those that pass is a map of bpftrace's own, kept up to date from outside by the runner.
Its keys say where a task belongs, its values number the containers from 1; 0, what a lookup of a
missing key gives, is outside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.program import providers
from kubectl_trace.program.rewrite import Edit
from kubectl_trace.program.tokens import Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kubectl_trace.program.syntax import AttachPoint, Probe, Program

MOUNT_NAMESPACE = "(uint64)curtask->nsproxy->mnt_ns->ns.inum"
"""The number of the current task's mount namespace, as `/proc/PID/ns/mnt` shows it."""

CGROUP2 = "cgroup"
"""The current task's cgroup in the unified hierarchy (bpf_get_current_cgroup_id)."""


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
    next_key: str = ""
    """For `sched_switch`: an expression for the task that comes, where that is to be in scope."""

    def condition(self, probe: Probe) -> str:
        """An expression that is true for the target's tasks."""
        if self.next_key and all(map(_is_switch, probe.attach_points)):
            return f"{self.map}[{self.next_key}]"
        lookups = " || ".join(f"{self.map}[{key}]" for key in self.keys)
        return f"({lookups})" if len(self.keys) > 1 else lookups

    @property
    def container(self) -> str:
        """Statements that set `variable` to the number of the current task's container."""
        first, *others = (f"{self.map}[{key}]" for key in self.keys)
        # 0.23 crashes at a map in the condition of `?:`.
        return f"{self.variable} = {first};" + "".join(
            f" if ({self.variable} == 0) {{ {self.variable} = {lookup}; }}" for lookup in others
        )


def by_namespace(program: Program, cgroup: str = "") -> Scope:
    """By mount namespace; a task with another one is in scope, too, if its cgroup is.

    Namespace numbers are 0xf0000000 and up (PROC_DYNAMIC_FIRST), a cgroup's low 32 bits are below:
    one map holds both.
    """
    keys = (MOUNT_NAMESPACE, f"(uint64){cgroup}") if cgroup else (MOUNT_NAMESPACE,)
    return Scope(_free_name(program, "@_scope"), _free_name(program, "$_container"), keys)


def by_task(program: Program, *, next_task: bool = False) -> Scope:
    """By thread ID, where the kernel's own types can't be used. Forks are followed in the kernel.

    `next_task`: `sched_switch` is for the task that comes, not for the one that leaves.
    """
    name = _free_name(program, "@_scope")
    return Scope(
        name,
        _free_name(program, "$_container"),
        ("(uint64)tid",),
        next_key="(uint64)args->next_pid" if next_task else "",
        hidden_probes=(
            f"tracepoint:sched:sched_process_fork /{name}[(uint64)tid]/ "
            f"{{ {name}[(uint64)args->child_pid] = {name}[(uint64)tid]; }}",
            # When the task is freed nothing of it can fire any more.
            f"tracepoint:sched:sched_process_free {{ delete({name}[(uint64)args->pid]); }}",
        ),
    )


def _free_name(program: Program, wanted: str) -> str:
    used = set(re.findall(r"[@$]\w+", program.text))
    return next(
        name
        for name in (wanted, *(f"{wanted}{number}" for number in range(len(used) + 1)))
        if name not in used
    )


def in_tasks(probe: Probe) -> bool:
    """Whether one of the probe's attach points fires in a task."""
    return any(providers.fires_in_a_task(point.provider) for point in probe.attach_points)


def is_limited(program: Program) -> bool:
    """Whether there is a probe in the program that a scope can limit."""
    return any(in_tasks(probe) for probe in program.probes)


def split(program: Program) -> Iterator[Edit]:
    """Makes one probe two where some of its attach points fire in a task and some don't."""
    for probe in program.probes:
        inside = [p for p in probe.attach_points if providers.fires_in_a_task(p.provider)]
        outside = [p for p in probe.attach_points if p not in inside]
        if not inside or not outside:
            continue
        rest = Span((probe.predicate or probe.block).start, probe.block.end)
        pieces: list[str | Span] = []
        for points in (inside, outside):
            for point in points:
                pieces += [point.span, ", "]
            pieces[-1] = " "
            pieces += [rest, " "]
        yield Edit(
            probe.span,
            tuple(pieces[:-1]),
            "two probes: the scope limits only the attach points that fire in a task",
        )


def limit(program: Program, scope: Scope, members: Mapping[int, int]) -> Iterator[Edit]:
    """Limits every probe that fires in a task to the scope.

    `members`: what is in scope from the beginning, keys of the map to containers' numbers. None of
    the program's probes mixes attach points that fire in a task with others (see `split`).
    """
    for probe in program.probes:
        if not in_tasks(probe):
            continue
        reason = "scope: only tasks of the target pass"
        if probe.predicate is None:
            yield Edit.insert(probe.block.start, f" /{scope.condition(probe)}/ ", reason)
        else:
            before = f" /{scope.condition(probe)} && (("
            yield Edit(probe.predicate, (before, _condition(probe.predicate), ") != 0)/"), reason)
    yield from _begin(program, scope, members)
    for number, hidden in enumerate(scope.hidden_probes):
        reason = "" if number else "keeps the scope up to date when tasks fork and end"
        yield Edit.insert(len(program.text), f"\n{hidden}\n", reason)


def _begin(program: Program, scope: Scope, members: Mapping[int, int]) -> Iterator[Edit]:
    """Puts the first members into the map before any other probe is attached."""
    # bpftrace wants the map's type from an assignment: key 0 is no task's.
    filled = "".join(
        f" {scope.map}[(uint64){key}] = (uint64){number};"
        for key, number in ({0: 0} | {**members}).items()
    )
    reason = "the target's containers at the start; the runner keeps the map up to date"
    begin = next((probe for probe in program.probes if _is_begin(probe)), None)
    if begin is None:
        yield Edit.insert(len(program.text), f"\nBEGIN {{{filled} }}\n", reason)
    elif begin.predicate is None:
        yield Edit.insert(begin.block.start + 1, filled, reason)
    else:  # 0.17 takes only one BEGIN
        condition = _condition(begin.predicate)
        yield Edit(begin.predicate, (f"{{{filled} if ((", condition, ") != 0)"), reason)
        yield Edit.insert(begin.block.end, " }")


def _condition(predicate: Span) -> Span:
    """What is between the slashes. As a condition among others it needs a `!= 0`.

    A predicate may be a pointer, which 0.17 takes neither in && nor in if.
    """
    return Span(predicate.start + 1, predicate.end - 1)


def _is_switch(point: AttachPoint) -> bool:
    return [part.text for part in point.parts[1:]] == ["sched", "sched_switch"]


def hidden_probes(program: Program, limit: Scope) -> int:
    """How many probes `limit` adds to the program."""
    begins = any(_is_begin(probe) for probe in program.probes)
    return len(limit.hidden_probes) + (0 if begins else 1)


def _is_begin(probe: Probe) -> bool:
    return any("BEGIN" in providers.expand(point.provider) for point in probe.attach_points)
