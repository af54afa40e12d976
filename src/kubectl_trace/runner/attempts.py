"""The ways to run a program in its scope: another one for when bpftrace can't take the first."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_trace.program import contexts, scope
from kubectl_trace.results.record import Member, ScopeChange
from kubectl_trace.runner import cgroups, plan, processes
from kubectl_trace.runner.output import to_data

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from kubectl_trace.runner.cgroups import Hierarchy
    from kubectl_trace.runner.members import Members, Present
    from kubectl_trace.runner.output import RecordWriter
    from kubectl_trace.runner.plan import Groundwork, Plan
    from kubectl_trace.runner.processes import Process
    from kubectl_trace.trace import Container, Trace

_BY_THREAD = (
    "tasks are told by thread ID: the first moment of those that come into a container from "
    "outside (a restart, kubectl exec) may be missed"
)
_NO_TYPES = f"this kernel has no BTF, so {_BY_THREAD}"
_OWN_TYPES = (
    "bpftrace can't use the kernel's own types in this program (does it bring its own?), so "
    f"{_BY_THREAD}"
)
_NEXT = f"for the next task {_BY_THREAD}"


@dataclass(frozen=True)
class Attempt:
    """A program as it is to run, and who is in its scope."""

    plan: Plan
    members: Callable[[], Members] | None = None
    """Finds out who that is, which takes a while and is not needed before bpftrace has compiled the
    program; None: all tasks are."""
    has_fallback: bool = False
    by_task: bool = False
    """Tasks are told by their IDs."""


def attempts(
    trace: Trace,
    groundwork: Groundwork,
    chosen: Mapping[str, Process],
    environment: Mapping[str, str],
    writer: RecordWriter,
    permitted: Callable[[Iterable[Container]], tuple[Container, ...]] = tuple,
) -> Iterator[Attempt]:
    """The ways to run the program, best first.

    Args:
        trace: The trace.
        groundwork: Its program.
        chosen: A process of each container that runs, by the container's ID.
        environment: Bpftrace's.
        writer: Takes what the user should know.
        permitted: Those of the containers that come later which may be in scope.

    Raises:
        RefusedError: the program can't be limited.
    """
    program = groundwork.syntax
    if not groundwork.is_limited:
        yield Attempt(groundwork.unlimited())
        return

    def complain(text: str) -> None:
        writer.add("stderr", f"scope: {text}")

    for note in contexts.notes(program, next_task=trace.scope_next):
        complain(note)
    hierarchy = _hierarchy(chosen) if trace.containers else None

    def members(*, by_task: bool = False, root: Process | None = None) -> Members:
        from kubectl_trace.runner.members import Members  # bpftrace does not wait for it

        return Members(
            trace.containers,
            hierarchy,
            on_change=functools.partial(_say_change, writer),
            on_begun=functools.partial(_say_other_files, groundwork, complain),
            complain=complain,
            by_task=by_task,
            root=root,
            permitted=permitted,
        )

    has_types = plan.has_kernel_types(environment)
    why = "" if trace.pid else _NEXT if trace.scope_next else _NO_TYPES
    if has_types and not trace.pid and scope.brings_types(program):
        why = _OWN_TYPES
    elif has_types and not trace.pid and not trace.scope_next:
        limit = scope.by_namespace(program, hierarchy.expression if hierarchy else "")
        yield Attempt(groundwork.limited(limit), members, has_fallback=True)
        why = _OWN_TYPES
    if why:
        complain(why)
    limit = scope.by_task(program, next_task=trace.scope_next, has_types=has_types)
    root = processes.read(trace.pid) if trace.pid else None
    by_task = functools.partial(members, by_task=True, root=root)
    yield Attempt(groundwork.limited(limit), by_task, by_task=True)


def member(number: int, container: Container) -> Member:
    """A container of the scope, for a record."""
    return Member(
        number,
        container.namespace,
        container.pod,
        container.container,
        container.container_id,
    )


def _hierarchy(chosen: Mapping[str, Process]) -> Hierarchy | None:
    # One may have ended since.
    found = (cgroups.hierarchy(process.pid, container) for container, process in chosen.items())
    return next((each for each in found if each is not None), None)


def _say_change(writer: RecordWriter, joined: Sequence[Present], left: Sequence[Present]) -> None:
    change = ScopeChange(
        joined=tuple(member(each.number, each.container) for each in joined),
        left=tuple(member(each.number, each.container) for each in left),
    )
    writer.add("scope", to_data(change))


def _say_other_files(
    groundwork: Groundwork, complain: Callable[[str], None], begun: Present
) -> None:
    for name in groundwork.not_attached(begun.pid):
        complain(
            f"{name} of container {begun.container.container} of pod {begun.container.pod} is "
            "another file than those that probes are attached to; start the trace anew to see "
            "its functions"
        )
