"""A user's program made ready to run, step by step; each step is a rewrite of its own module."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from kubectl_trace.program import attach, return_sites, scope, syntax, tags
from kubectl_trace.program.rewrite import Edit, Rewritten
from kubectl_trace.program.tokens import ProgramError, Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kubectl_trace.program.merging import Merging
    from kubectl_trace.program.return_sites import Sites
    from kubectl_trace.program.scope import Scope


def placed(
    text: str,
    paths: Mapping[str, Sequence[str]],
    pids: Sequence[int],
    sites: Mapping[int, Sites] | None = None,
    entries: Mapping[tuple[str, str], int] | None = None,
) -> Rewritten:
    """The program with its files and `$container_pid` replaced (see `attach`).

    Args:
        text: The user's program.
        paths: What takes the place of its files' names.
        pids: What `$container_pid` may stand for.
        sites: Uretprobes that run as uprobes, by their offsets in the text with single line ends.
        entries: Uprobes that are to be some bytes behind their functions' start (see `attach`).

    Raises:
        ProgramError: `$container_pid` can't be replaced, or the text is no program.
    """
    # Up to 0.23 bpftrace counts a line's end of two characters as two lines.
    endings = (Edit(Span(*found.span()), ("\n",), "") for found in re.finditer("\r\n", text))
    source = Rewritten.of(text).edit(endings)
    if sites:
        source = _without_uretprobes(source, sites)
    program = syntax.parse(source.text)
    return source.edit(
        [*attach.place(program, paths, entries), *attach.container_pid(program, pids)],
    )


def _without_uretprobes(source: Rewritten, sites: Mapping[int, Sites]) -> Rewritten:
    before = syntax.parse(source.text)
    written = {
        before.of(point.span): sites[point.span.start]
        for probe in before.probes
        for point in probe.attach_points
        if point.span.start in sites
    }
    source = source.edit(return_sites.split(before, sites))
    program = syntax.parse(source.text)
    moved = {
        point.span.start: written[text]
        for probe in program.probes
        for point in probe.attach_points
        if (text := program.of(point.span)) in written
    }
    with _in_users_text(source):
        return source.edit(return_sites.replace(program, moved))


def _separated(source: Rewritten) -> Rewritten:
    """The program with probes of which each fires in tasks or does not (see `scope.split`)."""
    return source.edit(scope.split(syntax.parse(source.text)))


def limited(source: Rewritten, limit: Scope, merging: Merging | None = None) -> Rewritten:
    """The program with every probe limited to a scope, and its printfs tagged.

    Args:
        source: The program.
        limit: The scope.
        merging: What its maps need to be merged (see `merging_of`); None: nothing.

    Raises:
        ProgramError: that can't be done; its offset is one in the user's text.
    """
    source = _separated(source)
    program = syntax.parse(source.text)
    with _in_users_text(source):
        edits = [
            *scope.limit(program, limit),
            *tags.tag(program, limit, merging.blocks() if merging else ()),
            *(merging.edits(limit.variable) if merging else ()),
        ]
    return source.edit(edits)


def merged(source: Rewritten, merging: Merging) -> Rewritten:
    """The program for all tasks, with what its maps need to be merged.

    Raises:
        ProgramError: that can't be done; its offset is one in the user's text.
    """
    with _in_users_text(source):
        return source.edit(merging.edits(""))


def merging_of(
    source: Rewritten,
    parameters: Sequence[str],
    *,
    token: str,
    is_limited: bool,
    split: bool,
    refresh: float,
) -> Merging:
    """How the maps of a program are merged (see `merging.plan`), which is to be limited or not.

    Raises:
        ProgramError: they can't be; its offset is one in the user's text.
    """
    from kubectl_trace.program import merging as merge  # 4 ms that other programs need not wait for

    source = _separated(source) if is_limited else source
    with _in_users_text(source):
        return merge.plan(
            syntax.parse(source.text),
            parameters,
            token=token,
            limited=is_limited,
            split=split,
            refresh=refresh,
        )


@contextlib.contextmanager
def _in_users_text(source: Rewritten) -> Iterator[None]:
    try:
        yield
    except ProgramError as error:
        raise ProgramError(error.message, source.origin(error.offset)) from error
