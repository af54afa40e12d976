"""A user's program made ready to run, step by step; each step is a rewrite of its own module."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kubectl_trace.program import attach, scope, syntax, tags
from kubectl_trace.program.rewrite import Edit, Rewritten
from kubectl_trace.program.tokens import ProgramError, Span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kubectl_trace.program.scope import Scope


def placed(text: str, paths: Mapping[str, Sequence[str]], pids: Sequence[int]) -> Rewritten:
    """The program with its files and `$container_pid` replaced (see `attach`).

    Raises:
        ProgramError: `$container_pid` can't be replaced, or the text is no program.
    """
    # Up to 0.23 bpftrace counts a line's end of two characters as two lines.
    endings = (Edit(Span(*found.span()), ("\n",), "") for found in re.finditer("\r\n", text))
    source = Rewritten.of(text).edit(endings)
    program = syntax.parse(source.text)
    return source.edit(
        [*attach.place(program, paths), *attach.container_pid(program, pids)],
    )


def limited(source: Rewritten, limit: Scope) -> Rewritten:
    """The program with every probe limited to a scope, and its printfs tagged.

    Raises:
        ProgramError: that can't be done; its offset is one in the user's text.
    """
    source = source.edit(scope.split(syntax.parse(source.text)))
    program = syntax.parse(source.text)
    try:
        edits = [*scope.limit(program, limit), *tags.tag(program, limit)]
    except ProgramError as error:
        raise ProgramError(error.message, source.origin(error.offset)) from error
    return source.edit(edits)
