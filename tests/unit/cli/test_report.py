from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubectl_trace.cli.report import Report
from kubectl_trace.results.account import Account, NodeAccount
from kubectl_trace.results.result import Result

if TYPE_CHECKING:
    import pytest

START = {"version": "0.1.0", "bpftrace": "0.23.2", "kernel": "6.1"}


def begins(report: Report, node: str, probes: int = 1) -> None:
    """What a runner says until its probes are attached."""
    about(report, node, "start", START)
    about(report, node, "attached_probes", {"probes": probes})
    about(report, node, "ready")


def about(report: Report, node: str, kind: str, data: Any = None) -> None:
    report.knows(node)
    assert report.shows(Result(1.0, kind, data, node))


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    said = capsys.readouterr()
    assert said.out == "", "stdout is for results"
    return said.err.splitlines()


def test_nodes_that_begin_together_are_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(2)
    begins(report, "a", probes=2)
    assert lines(capsys) == []
    begins(report, "b", probes=2)
    assert lines(capsys) == ["attached 4 probes on 2 nodes (bpftrace 0.23.2, Linux 6.1)"]
    begins(report, "c")
    assert lines(capsys) == ["attached 1 probe on c (bpftrace 0.23.2, Linux 6.1)"]


def test_a_node_that_can_not_begin_is_named_and_holds_nobody_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = Report(2)
    begins(report, "a")
    report.knows("b")
    report.failed("b", NodeAccount(exit=5, reason="not started", message="ImagePullBackOff"))
    assert lines(capsys) == [
        "error: b: not started: ImagePullBackOff",
        "attached 1 probe on a (bpftrace 0.23.2, Linux 6.1)",
    ]


def test_what_all_nodes_say_alike_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(2)
    for node in ("a", "b"):
        about(report, node, "stderr", "WARNING: x")
    about(report, "b", "stderr", "WARNING: y")
    assert lines(capsys) == ["a: WARNING: x", "b: WARNING: y"]


def test_one_node_is_not_named(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    for _ in range(2):
        about(report, "a", "stderr", "again")
    assert lines(capsys) == ["again", "again"], "it says what bpftrace says"


def test_results_are_not_its_business() -> None:
    assert not Report().shows(Result(1.0, "map", {"@": 1}, "a"))


def test_the_account_says_what_was_lost_and_where(capsys: pytest.CaptureFixture[str]) -> None:
    whole = NodeAccount(0, "stopped", delivered=5)
    lossy = NodeAccount(0, "stopped", delivered=7, lost={"map full": 3, "transport": 1})
    total = Account(0, "stopped", 12, dict(lossy.lost), {"a": whole, "b": lossy})
    Report(2).account(total)
    assert lines(capsys) == [
        "stopped: 12 records from 2 nodes; lost: 3 by map full, 1 by transport",
        "b lost: 3 by map full, 1 by transport",
    ]


def test_an_output_limit_is_no_error_and_says_what_to_raise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = Report()
    about(report, "a", "stopping", {"reason": "output limit"})
    node = NodeAccount(
        exit=0, reason="output limit", message="raise --max-bytes", lost={"output limit": 3}
    )
    report.account(Account(0, "output limit", 5, {"output limit": 3}, {"a": node}))
    assert lines(capsys) == [
        "the output limit is reached, collecting maps",
        "raise --max-bytes",
        "output limit: 5 records; lost: 3 by output limit",
    ]


def test_losses_name_probes_and_containers_and_the_rest_is_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = Report()
    whole = {
        "cause": "kernel buffer",
        "events": 7,
        "seen": 9,
        "probe": "k:f",
        "namespace": "default",
        "pod": "web-1",
        "container": "nginx",
    }
    others = [{"cause": "map full", "events": 3, "probe": f"k:f{at}"} for at in range(6)]
    about(report, "a", "losses", {"losses": [whole, *others]})
    said = lines(capsys)
    assert said[:2] == [
        "lost 7 of 9 by kernel buffer: k:f, web-1/nginx",
        "lost 3 by map full: k:f0",
    ]
    assert said[5:] == ["lost: 2 more probes and containers (-o json has all)"]


def test_costs_are_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    probes = [
        {"probe": "tracepoint:a:b", "hits": 1200, "average_ns": 98.4, "share": 5.314},
        {"probe": "k:f", "hits": 0, "average_ns": 0.0, "share": 0.0},
    ]
    data = {
        "seconds": 2.04,
        "probes": probes,
        "share": 5.314,
        "runner_cpu": 0.113,
        "bpftrace_cpu": 0.5,
    }
    about(report, "a", "cost", data)
    assert lines(capsys) == [
        "PROBE                   HITS  AVERAGE NS       CPU",
        "tracepoint:a:b          1200          98     5.31%",
        "k:f                        0           0     0.00%",
        "all                                          5.31%",
        "probes attached for 2.0 s; CPU time of bpftrace 0.50 s, of the runner 0.11 s",
    ]
