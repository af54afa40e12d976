"""What a user calls the probes of a program that was rewritten."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

from kubectl_trace.program import syntax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_trace.program.rewrite import Rewritten
    from kubectl_trace.program.syntax import Probe, Program

_LONGEST = 120  # characters


def probes(program: Rewritten, user_text: str, given: Sequence[str] = ()) -> list[str]:
    """Each probe's attach points as the user wrote them; a hidden probe's own.

    Args:
        program: The program that runs.
        user_text: The user's.
        given: What the first of the user's probes are called instead.
    """
    own = syntax.parse(user_text.replace("\r\n", "\n"))
    users = own.probes
    starts = [probe.span.start for probe in users]
    named = [_written(own, probe) for probe in users]
    named[: len(given)] = given
    runs = syntax.parse(program.text)
    found = []
    for probe in runs.probes:
        # Its closing brace is the user's also where something was put around or in it.
        inside = range(probe.block.end - 1, probe.block.start - 1, -1)
        brace = next((offset for offset in inside if not program.is_hidden(offset)), None)
        at = -1
        if brace is not None:
            offset = program.origin(brace)
            offset -= user_text.count("\r\n", 0, offset)
            at = bisect.bisect_right(starts, offset) - 1
        is_own = at >= 0 and offset < users[at].span.end
        found.append(named[at] if is_own else _written(runs, probe))
    return found


def _written(program: Program, probe: Probe) -> str:
    points = dict.fromkeys(
        " ".join(program.of(point.span).split()) for point in probe.attach_points
    )
    text = ", ".join(points)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
