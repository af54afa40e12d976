from __future__ import annotations

import pytest

from kubectl_trace.program import contexts, syntax


def notes(text: str, *, next_task: bool = False) -> list[str]:
    return list(contexts.notes(syntax.parse(text), next_task=next_task))


@pytest.mark.parametrize(
    "point",
    [
        "tracepoint:sched:sched_switch",
        "t:sched:sched_wakeup",
        "rt:sched:sched_waking",
        "rt:sched_waking",
        "rawtracepoint:vmlinux:sched_switch",
        "rt:softirq_entry",
        "rt:netif_receive_skb",
        "k:vmlinux:tcp_v4_rcv",
        "k:tcp_v4_rcv+4",
        "t:irq:softirq_entry",
        "tracepoint:block:block_rq_complete",
        "k:blk_mq_end_request",
        "kr:tcp_v4_rcv",
        "mine=t:sched:sched_switch",
    ],
)
def test_what_often_fires_in_another_task_is_said(point: str) -> None:
    assert len(notes(point + " {}")) == 1


@pytest.mark.parametrize(
    "point", ["t:syscalls:sys_enter_openat", "rt:sys_enter", "k:vfs_read", "BEGIN", "i:s:1"]
)
def test_what_fires_in_its_own_task_needs_no_note(point: str) -> None:
    assert notes(point + " {}") == []


def test_an_attach_point_is_noted_once() -> None:
    assert len(notes("t:sched:sched_switch {} tracepoint:sched:sched_switch, k:f {}")) == 1


def test_the_next_task_needs_no_note_where_it_is_asked_for() -> None:
    text = "t:sched:sched_switch {} t:sched:sched_wakeup {}"
    assert [note.split()[0] for note in notes(text, next_task=True)] == [
        "tracepoint:sched:sched_wakeup"
    ]
