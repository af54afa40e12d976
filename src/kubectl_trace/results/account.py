"""The account at the end: what each node delivered, what was lost there and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kubectl_trace.errors import Exit

if TYPE_CHECKING:
    from kubectl_trace.results.events import Ended
    from kubectl_trace.results.record import Summary


class NodeAccount(msgspec.Struct, frozen=True):
    """What one node's runner came to."""

    exit: int
    reason: str
    """As in `record.Summary`; `not started`, or `lost`: its last records and maps did not come."""
    message: str = ""
    delivered: int = 0
    """Records of bpftrace's own, each printf counted."""
    lost: dict[str, int] = {}
    """Lost events by cause: as in `record.Summary`, and `transport`."""
    began: bool = True
    """Its probes were attached, or it ended well."""


class Account(msgspec.Struct, frozen=True):
    """What a whole trace came to."""

    exit: int
    """The exit code of `kubectl trace`."""
    reason: str
    """The nodes' reasons, if they are the same; else `ended`."""
    delivered: int
    lost: dict[str, int]
    """By cause, all nodes together."""
    nodes: dict[str, NodeAccount]

    @property
    def missing(self) -> list[str]:
        """The nodes that did not begin, or whose last records and maps did not come."""
        return [
            name for name, node in self.nodes.items() if not node.began or node.reason == "lost"
        ]

    @property
    def is_complete(self) -> bool:
        """Whether nothing was lost, and no node is missing."""
        return not any(self.lost.values()) and not self.missing

    def as_data(self) -> dict[str, Any]:
        """As JSON and YAML show it."""
        return dict(msgspec.to_builtins(self))


class Accountant:
    """Keeps the account while records come."""

    def __init__(self, *, strict: bool = False) -> None:
        """`strict`: whatever is lost shows in the exit code."""
        self._strict = strict
        self._ready: set[str] = set()
        self._seen: dict[str, int] = {}
        self._summaries: dict[str, Summary] = {}
        self._nodes: dict[str, NodeAccount] = {}

    def ready(self, node: str) -> None:
        """The node's probes are attached."""
        self._ready.add(node)

    def seen(self, node: str, records: int) -> None:
        """So many more of the program's records have come: all that is known without a summary."""
        self._seen[node] = self._seen.get(node, 0) + records

    def summary(self, node: str, summary: Summary) -> None:
        """The node's runner said its last."""
        self._summaries[node] = summary

    def ended(self, event: Ended) -> NodeAccount:
        """The node's stream is over; what it came to."""
        summary = self._summaries.get(event.node)
        lost = dict(summary.lost) if summary else {}
        seen = self._seen.get(event.node, 0)
        delivered = summary.delivered if summary else seen
        if event.lost:
            # A record that never came may have had many results in it, or none.
            lost["transport"] = delivered - seen or event.lost
            delivered = seen
        if summary is None or event.error is not None:
            error = event.error
            account = NodeAccount(
                exit=int(error.code if error else Exit.FAILED),
                reason="lost" if event.started else "not started",
                message=str(error or "the runner ended without a summary"),
                delivered=delivered,
                lost=lost,
                began=event.started and event.node in self._ready,
            )
        else:
            account = NodeAccount(
                exit=summary.exit,
                reason=summary.reason,
                message=summary.message,
                delivered=delivered,
                lost=lost,
                began=event.node in self._ready or summary.exit == Exit.DONE,
            )
        self._nodes[event.node] = account
        return account

    def total(self) -> Account:
        """The account of all nodes so far."""
        nodes = list(self._nodes.values())
        lost: dict[str, int] = {}
        for node in nodes:
            for cause, count in node.lost.items():
                lost[cause] = lost.get(cause, 0) + count
        # A node that could not begin is named, and does not make the others' answer fail.
        counted = [node for node in nodes if node.began] or nodes
        reasons = {node.reason for node in counted if node.reason != "lost"} or {"lost"}
        account = Account(
            exit=next((node.exit for node in counted if node.exit), int(Exit.DONE)),
            reason=reasons.pop() if len(reasons) == 1 else "ended",
            delivered=sum(node.delivered for node in nodes),
            lost=lost,
            nodes=dict(sorted(self._nodes.items())),
        )
        ended = account.exit in (Exit.DONE, Exit.FAILED)
        if self._strict and ended and not account.is_complete:
            return msgspec.structs.replace(account, exit=int(Exit.LOST))
        return account
