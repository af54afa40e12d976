"""Events of a trace, live or replayed, to what the user sees: results, report, account."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec

from kubectl_trace._version import __version__
from kubectl_trace.cli.report import NO_RESULTS
from kubectl_trace.errors import Exit, StartError
from kubectl_trace.results.account import Accountant
from kubectl_trace.results.events import Ended, Finished, Notice, Progress, Records
from kubectl_trace.results.merge import Merger
from kubectl_trace.results.record import Summary
from kubectl_trace.trace import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubectl_trace.cli.printer import Printer
    from kubectl_trace.cli.report import Report
    from kubectl_trace.errors import TraceError
    from kubectl_trace.results.account import Account, NodeAccount
    from kubectl_trace.results.events import Event
    from kubectl_trace.results.record import Record
    from kubectl_trace.results.result import Result
    from kubectl_trace.results.session import Writer


class View:
    """Takes the events of all runners and shows what they come to."""

    def __init__(
        self,
        printer: Printer,
        report: Report,
        *,
        by: str = "",
        strict: bool = False,
        session: Writer | None = None,
    ) -> None:
        """Begins with nothing to show.

        Args:
            printer: Shows the results.
            report: Is told everything else.
            by: `node`, `pod` or `container`: maps are not merged beyond these; empty: they are.
            strict: Whatever is lost shows in the exit code.
            session: Is given all events as they come.
        """
        self._printer = printer
        self._report = report
        self._merger = Merger(by)
        self._accountant = Accountant(strict=strict)
        self._session = session
        self._error: TraceError | None = None
        self.ended: dict[str, NodeAccount] = {}
        """What the nodes came to whose streams are over."""

    def expect(self, nodes: Iterable[str], now: float) -> None:
        """Waits for what these nodes have printed already, so that all of it is merged."""
        for node in nodes:
            self._merger.expect(node, now)

    def take(self, event: Event, now: float) -> None:
        """Shows what is new. `now`: monotonic seconds; 0 always, where time does not matter.

        Raises:
            StartError: the runner's version is not ours.
            BrokenPipeError: nobody reads stdout any more.
        """
        if self._session is not None:
            self._session.add(event)
        if not isinstance(event, Finished) and event.node:
            self._report.knows(event.node)
        if isinstance(event, Notice):
            self._report.notice(event.text, event.node)
        elif isinstance(event, Progress):
            self._report.progress(event.node, event.text)
        elif isinstance(event, Records):
            for record in event.records:
                self._look_at(event.node, record)
                self._show(self._merger.add(event.node, record, now))
            self._printer.flush()
        elif isinstance(event, Ended):
            self._on_end(event, now)

    def wait(self, now: float) -> float | None:
        """Seconds until `tick` has something to do; None: nothing."""
        return self._merger.wait(now)

    def tick(self, now: float) -> None:
        """Shows what has waited for other nodes long enough."""
        self._show(self._merger.tick(now))
        self._printer.flush()

    def finish(self) -> Account:
        """Shows the maps of the end and the account, and gives that.

        Raises:
            TraceError: there is one node only, and it failed.
        """
        self._show(self._merger.finish())
        if self._error is not None and len(self.ended) == 1:
            self._printer.close(None)
            raise self._error
        account = self._accountant.total()
        self._printer.close(account)
        self._report.account(account)
        return account

    def stop(self) -> None:
        """Ends where the trace goes on: what still waits for other nodes' parts is not shown."""
        self._printer.close(None)

    def close(self) -> None:
        """Lets go of everything, also where it did not come to an account: again, nothing."""
        with contextlib.suppress(BrokenPipeError):
            self._printer.close(None)
        if self._session is not None:
            self._session.close()

    def _look_at(self, node: str, record: Record) -> None:
        if record.type == "start" and record.data["protocol"] != PROTOCOL:
            raise StartError(
                f"version mismatch: the runner is {record.data['version']}, this client is "
                f"{__version__}; use a client of the runner's version, or a runner image of the "
                "client's (--imagename)"
            )
        if record.type == "ready":
            self._accountant.ready(node)
        elif record.type == "summary":
            self._accountant.summary(node, msgspec.convert(record.data, Summary))
        elif record.type in ("printf", "call", "functions") and isinstance(record.data, list):
            self._accountant.seen(node, len(record.data))
        elif record.type not in NO_RESULTS and record.data not in ({}, []):
            self._accountant.seen(node, 1)

    def _on_end(self, event: Ended, now: float) -> None:
        account = self.ended[event.node] = self._accountant.ended(event)
        self._error = self._error or event.error
        self._show(
            self._merger.ended(event.node, now, complete=account.exit in (Exit.DONE, Exit.OVERHEAD))
        )
        self._printer.flush()
        if account.exit != Exit.DONE:
            self._report.failed(event.node, account)

    def _show(self, results: Iterable[Result]) -> None:
        for result in results:
            self._printer.show(result)
