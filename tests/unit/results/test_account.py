from __future__ import annotations

import pytest

from kubectl_trace.errors import Exit, RefusedError, StartError, TraceError
from kubectl_trace.results.account import Account, Accountant
from kubectl_trace.results.events import Ended
from kubectl_trace.results.record import Summary

DONE = Summary(exit=0, reason="stopped", delivered=3)


def account(
    *nodes: Summary | TraceError, strict: bool = False, transport: int = 0, missed: int = 0
) -> Account:
    """The account of nodes that began and ended so, or did not.

    `transport`: records of each that never came; `missed`: how many results were in them.
    """
    accountant = Accountant(strict=strict)
    for number, end in enumerate(nodes):
        name = f"node-{number}"
        if isinstance(end, Summary):
            accountant.ready(name)
            accountant.seen(name, end.delivered - missed)
            accountant.summary(name, end)
            accountant.ended(Ended(name, transport))
        else:
            accountant.ended(Ended(name, error=end, started=not isinstance(end, StartError)))
    return accountant.total()


def test_what_is_delivered_and_lost_adds_up_over_the_nodes() -> None:
    one = Summary(exit=0, reason="stopped", delivered=5, lost={"map full": 2})
    other = Summary(exit=0, reason="stopped", delivered=7, lost={"map full": 1, "kernel buffer": 4})
    total = account(one, other, transport=1, missed=3)
    assert total.delivered == 12 - 2 * 3
    assert total.lost == {"map full": 3, "kernel buffer": 4, "transport": 6}
    assert total.nodes["node-0"].lost == {"map full": 2, "transport": 3}
    assert total.reason == "stopped"


def test_a_lost_record_without_a_result_is_told_too() -> None:
    total = account(DONE, transport=1)
    assert (total.delivered, total.lost) == (3, {"transport": 1})


def test_a_node_that_could_not_begin_does_not_fail_the_others() -> None:
    total = account(DONE, StartError("ImagePullBackOff"))
    assert total.exit == Exit.DONE
    assert total.nodes["node-1"].message == "ImagePullBackOff"
    assert not total.is_complete


@pytest.mark.parametrize(
    ("nodes", "code"),
    [
        ([StartError("a"), StartError("b")], Exit.NOT_STARTED),
        ([RefusedError("a")], Exit.REFUSED),
        ([DONE, Summary(exit=Exit.DEADLINE, reason="deadline")], Exit.DEADLINE),
    ],
)
def test_the_exit_code_says_what_went_wrong(nodes: list[Summary | TraceError], code: Exit) -> None:
    assert account(*nodes).exit == code


def test_a_node_that_began_and_is_lost_fails_the_trace() -> None:
    accountant = Accountant()
    for name in ("a", "b"):
        accountant.ready(name)
    accountant.summary("a", DONE)
    accountant.ended(Ended("a"))
    accountant.ended(Ended("b", error=TraceError("out of reach")))
    total = accountant.total()
    assert (total.exit, total.nodes["b"].reason) == (Exit.FAILED, "lost")


@pytest.mark.parametrize(
    "nodes",
    [
        [DONE, StartError("a")],
        [Summary(exit=0, reason="stopped", lost={"kernel buffer": 1})],
    ],
)
def test_strict_shows_whatever_is_lost_in_the_exit_code(nodes: list[Summary | TraceError]) -> None:
    assert account(*nodes, strict=True).exit == Exit.LOST
    assert account(*nodes).exit == Exit.DONE
    assert account(DONE, strict=True).exit == Exit.DONE
