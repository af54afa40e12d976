"""What the summary says, by how a bpftrace ended."""

from __future__ import annotations

import pytest

from kubectl_trace.errors import Exit
from kubectl_trace.runner import output_limit, overhead
from kubectl_trace.runner.ending import Ending, summary

REFUSED = "bpftrace refused the program"


@pytest.mark.parametrize(
    ("ending", "exit_code", "reason", "message"),
    [
        (Ending(0), Exit.DONE, "finished", ""),
        (Ending(0, "stopped", is_interrupted=True), Exit.DONE, "stopped", ""),
        (Ending(0, "deadline"), Exit.DONE, "deadline", ""),
        (Ending(0, "client gone"), Exit.DONE, "client gone", ""),
        (Ending(0, "stopped", is_attached=False), Exit.DONE, "stopped", "before its probes"),
        (Ending(0, "deadline", is_attached=False), Exit.DEADLINE, "deadline", "before its probes"),
        (Ending(1, is_attached=False), Exit.REFUSED, "refused", REFUSED),
        (Ending(1, is_attached=False, delivered=1), Exit.FAILED, "failed", "status 1"),
        (Ending(3), Exit.FAILED, "failed", "status 3"),
        (Ending(-9, is_attached=False), Exit.FAILED, "failed", "SIGKILL"),
        (Ending(0, "terminated"), Exit.FAILED, "terminated", "stopped, with its maps"),
        (Ending(0, "terminated", is_attached=False), Exit.FAILED, "terminated", "before it was"),
        (Ending(0, "client gone", silence=60), Exit.FAILED, "client gone", "not heard of for 60 s"),
        (Ending(-9, "killed", is_killed=True), Exit.GIVEN_UP, "killed", "maps given up"),
        (
            Ending(-9, "deadline", is_killed=True, grace=5),
            Exit.DEADLINE,
            "deadline",
            "not detached 5 s after the deadline",
        ),
        (
            Ending(-9, "stopped", is_killed=True, grace=5),
            Exit.FAILED,
            "stopped",
            "not detached 5 s after the stop",
        ),
        (
            Ending(-9, "client gone", is_killed=True, is_unread=True),
            Exit.FAILED,
            "client gone",
            "nobody reads",
        ),
        (Ending(0, "stopped", is_interrupted=True, is_cut=True), Exit.FAILED, "failed", "broke"),
        (Ending(0, is_cut=True), Exit.DONE, "finished", ""),
        (Ending(0, overhead.REASON, limit_says="costs"), Exit.OVERHEAD, overhead.REASON, "costs"),
        (Ending(0, output_limit.CAUSE, limit_says="x"), Exit.DONE, output_limit.CAUSE, "x"),
        (
            Ending(-9, "failed", (Exit.NOT_STARTED, "no map"), is_killed=True),
            Exit.NOT_STARTED,
            "failed",
            "no map",
        ),
        (
            Ending(-9, "failed", (Exit.REFUSED, REFUSED), is_killed=True),
            Exit.REFUSED,
            "refused",
            REFUSED,
        ),
    ],
)
def test_how_it_ended_is_told(ending: Ending, exit_code: Exit, reason: str, message: str) -> None:
    said = summary(ending)
    assert (said.exit, said.reason) == (exit_code, reason)
    assert message in said.message
    assert bool(said.message) == bool(message)


def test_what_was_delivered_and_lost_is_in_it() -> None:
    said = summary(Ending(0, delivered=3, lost={"kernel buffer": 2}))
    assert (said.delivered, said.lost) == (3, {"kernel buffer": 2})
