"""What the user reads on stderr about a trace while it runs, and its account at the end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from kubectl_trace._version import __version__
from kubectl_trace.cli.arguments import complain, note
from kubectl_trace.errors import Exit
from kubectl_trace.results import record
from kubectl_trace.results.terminal import escape

if TYPE_CHECKING:
    from kubectl_trace.results.account import Account, NodeAccount
    from kubectl_trace.results.result import Result

_MANY_PROBES = 50
"""Probes from which on detaching takes seconds: an RCU grace period, some 70 ms, each."""

ABOUT = frozenset(
    {"start", "scope", "ready", "stopping", "stderr", "cost", "losses", "summary", "note"}
)
"""Types of results about the run rather than of the program."""

_STOPPING = {
    "deadline": "the deadline is over, collecting maps",
    "output limit": "the output limit is reached, collecting maps",
    "overhead": "the probes cost too much, collecting maps",
    "target ended": "the process has ended, collecting maps",
}

_REMEMBERED = 1000  # messages
_SHOWN_LOSSES = 5

NO_RESULTS = ABOUT | record.NO_RESULTS
"""Types that are no results of the program's own."""


class Report:
    """Says on stderr how a trace is getting on, each thing once."""

    def __init__(self, nodes: int = 1, *, quiet: bool = False) -> None:
        """`nodes`: how many are waited for. `quiet`: no progress."""
        self._expected = nodes
        self._nodes: set[str] = set()
        self._waiting: dict[str, str] = {}
        self._ready: set[str] = set()
        self._failed: set[str] = set()
        self._probes: dict[str, int] = {}
        self._where: dict[str, tuple[str, str]] = {}
        self._said: dict[str, str] = {}
        """What was said, and by which node first; the last of it."""
        self._shows_progress = sys.stderr.isatty() and not quiet
        self._line_is_open = False
        self._begun = False

    def shows(self, result: Result) -> bool:
        """Whether a result is one for stderr; then it has been shown there."""
        if result.type not in NO_RESULTS:
            return False
        self._show(result)
        return True

    def notice(self, text: str, node: str = "") -> None:
        """Something that the user should see; the same from several nodes is said once."""
        if text not in self._said:
            self._is_news(text, node)
            self.say(text, node)

    def say(self, text: str, node: str = "") -> None:
        """A line, with its node where there are several."""
        self._end_line()
        note(f"{node}: {text}" if node and self._several else text)

    def knows(self, node: str) -> None:
        """This node is one of the trace's; more may come than were waited for."""
        self._nodes.add(node)

    @property
    def _several(self) -> bool:
        return self._expected > 1 or len(self._nodes) > 1

    def progress(self, node: str, text: str) -> None:
        """What a node that has not begun is waiting for."""
        self._waiting[node] = text
        self._draw_progress()

    def failed(self, node: str, account: NodeAccount) -> None:
        """A node that will not begin, or whose runner is lost."""
        self._waiting.pop(node, None)
        self._failed.add(node)
        if self._several:
            self._end_line()
            complain(f"{node}: {account.reason}: {account.message}")
        self._say_begun()

    def account(self, account: Account) -> None:
        """The end: what was delivered, what was lost, and where."""
        self._end_line()
        several = len(account.nodes) > 1
        for name, node in account.nodes.items():
            if node.message and not (several and node.exit):  # those were told when they failed
                tell = complain if node.exit else note
                tell(f"{name}: {node.message}" if several else node.message)
        records = "1 record" if account.delivered == 1 else f"{account.delivered} records"
        nodes = f" from {len(account.nodes)} nodes" if several else ""
        missing = ", ".join(account.missing)
        note(
            f"{account.reason}: {records}{nodes}; lost: {_causes(account.lost)}"
            + (f"; not all of: {missing}" if missing and several else "")
        )
        for name, node in account.nodes.items():
            if several and any(node.lost.values()):
                note(f"{name} lost: {_causes(node.lost)}")
        if account.exit == Exit.LOST:
            note("--strict: not everything is in these results")

    def _show(self, result: Result) -> None:
        if result.type == "stderr":
            # What all nodes say alike is said for the first of them.
            if self._is_news(result.data, result.node):
                self.say(result.data, result.node)
        elif result.type == "note":
            self.notice(result.data, result.node)
        elif result.type == "attached_probes":
            self._probes[result.node] = result.data["probes"]
        elif result.type in record.ERRORS:
            self.say(error_text(result), result.node)
        elif result.type == "start":
            self._on_start(result)
        elif result.type == "ready":
            self._on_ready(result.node)
        elif result.type == "scope":
            self._on_scope(result)
        elif result.type == "stopping" and result.data["reason"] in _STOPPING:
            self.notice(_STOPPING[result.data["reason"]])
        elif result.type == "cost":
            self._on_cost(result)
        elif result.type == "losses":
            self._on_losses(result)

    def _is_news(self, text: str, node: str) -> bool:
        """Whether no other node has said it before."""
        if text in self._said:
            return self._said[text] == node
        self._said[text] = node
        if len(self._said) > _REMEMBERED:
            del self._said[next(iter(self._said))]
        return True

    def _on_start(self, result: Result) -> None:
        data = result.data
        if data["version"] != __version__:
            self.notice(f"the runner is version {data['version']}, this client {__version__}")
        self._where[result.node] = data["bpftrace"], data["kernel"]
        self.progress(result.node, "attaching")

    def _on_ready(self, node: str) -> None:
        self._waiting.pop(node, None)
        self._ready.add(node)
        if self._begun:
            self._say_attached([node])
        else:
            self._say_begun()

    def _say_begun(self) -> None:
        """How many probes matched is news; said once for all nodes that begin together."""
        if self._begun or len(self._ready | self._failed) < self._expected:
            self._draw_progress()
            return
        self._begun = True
        if self._ready:
            self._say_attached(sorted(self._ready))

    def _say_attached(self, nodes: list[str]) -> None:
        self._end_line()
        probes = sum(self._probes.get(node, 0) for node in nodes)
        plural = "" if probes == 1 else "s"
        where = nodes[0] if len(nodes) == 1 else f"{len(nodes)} nodes"
        versions = {self._where.get(node, ("unknown", "unknown")) for node in nodes}
        bpftrace = "/".join(sorted({version for version, _ in versions}))
        kernel = "/".join(sorted({version for _, version in versions}))
        note(f"attached {probes} probe{plural} on {where} (bpftrace {bpftrace}, Linux {kernel})")
        most = max(self._probes.get(node, 0) for node in nodes)
        if most >= _MANY_PROBES:
            self.notice(
                f"detaching {most} probes takes the kernel a while; one that sees the same, such "
                "as tracepoint:raw_syscalls:sys_enter, is quicker"
            )

    def _on_scope(self, result: Result) -> None:
        for happened, verb in (("joined", "joins"), ("left", "leaves")):
            for each in result.data[happened]:
                container = f"container {each['container']} of pod {each['pod']}"
                self.say(f"{container} {verb} the scope", result.node)

    def _on_cost(self, result: Result) -> None:
        from kubectl_trace.cli.cost_table import lines

        for line in lines(result.data):
            self.say(line, result.node)

    def _on_losses(self, result: Result) -> None:
        losses = result.data["losses"]
        for each in losses[:_SHOWN_LOSSES]:
            self.say(_loss(each), result.node)
        if (more := len(losses) - _SHOWN_LOSSES) > 0:
            self.say(f"lost: {more} more probes and containers (-o json has all)", result.node)

    def _draw_progress(self) -> None:
        if not self._shows_progress or self._begun or not self._waiting:
            return
        node, text = list(self._waiting.items())[-1]
        line = f"{len(self._ready)} of {self._expected} nodes running, {node}: {text}"
        sys.stderr.write(f"\r{escape(line)[:200]}\x1b[K")
        sys.stderr.flush()
        self._line_is_open = True

    def _end_line(self) -> None:
        """Takes the progress line away, before anything else is written."""
        if self._line_is_open:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._line_is_open = False


def error_text(result: Result) -> str:
    """What bpftrace says on stderr about lost events and errors while it runs."""
    data: dict[str, Any] = result.data
    if result.type == "lost_events":
        return f"Lost {data['events']} events"
    where = ":".join(str(data[key]) for key in ("filename", "line", "col") if key in data)
    said = data.get("msg") or f"return code {data.get('retcode')}"
    helper = (
        f" (helper {data['helper']}, retcode {data.get('retcode')})" if "helper" in data else ""
    )
    again = f", {data['events']} times more" if "events" in data else ""
    return f"{where}: {said}{helper}{again}" if where else f"{said}{helper}{again}"


def _loss(data: dict[str, Any]) -> str:
    """Which probe's events were lost, and in which container."""
    seen = f" of {data['seen']}" if data.get("seen") else ""
    pod = "/".join(filter(None, (data.get("pod", ""), data.get("container", ""))))
    where = ", ".join(filter(None, (data.get("probe", ""), pod)))
    return f"lost {data['events']}{seen} by {data['cause']}: {where}"


def _causes(lost: dict[str, int]) -> str:
    return ", ".join(f"{count} by {cause}" for cause, count in lost.items() if count) or "none"
