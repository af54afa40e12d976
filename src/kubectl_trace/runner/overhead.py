"""Watches what a trace costs its node: BPF programs, and CPU time.

Of the programs the kernel gives an account, where we have the right to ask for it; for the budget
samples will do.
"""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

from kubectl_trace.results.record import Cost, ProbeCost
from kubectl_trace.runner import bpfprog, cost, sampling
from kubectl_trace.runner.output import to_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_trace.runner.cost import Count, Point, Share
    from kubectl_trace.runner.output import RecordWriter
    from kubectl_trace.runner.statistics import Statistics

REASON = "overhead"
"""Why a trace ends that costs too much."""

PERIOD = 1.0  # seconds between two readings


class Overhead:
    """What one run of a program costs, from the moment its probes are attached."""

    def __init__(
        self, statistics: Statistics, points: Sequence[Point], writer: RecordWriter
    ) -> None:
        self._limits = statistics.limits
        self._is_on = statistics.is_on
        self._is_sampled = statistics.is_sampled
        self._points = points
        self._writer = writer
        self._budget = cost.Budget(self._limits.overhead)
        self._programs: bpfprog.Programs | None = None
        self._samples: sampling.Samples | None = None
        self._names: dict[int, str] = {}
        self._first: dict[int, Count] = {}
        self._last: dict[int, Count] = {}
        self._begun = self._read_at = self._ended = 0.0
        self._own_before = _cpu_seconds()
        self.message = ""

    def begin(self, pid: int) -> bool:
        """The process's probes are attached; whether there is anything to watch."""
        if not self._is_on and not self._is_sampled:
            return False
        try:
            programs = bpfprog.Programs(pid)
        except OSError as error:
            self._writer.add("stderr", f"its cost can't be watched: {error.strerror}")
            return False
        if self._is_sampled:
            self._samples = _samples(programs)
            if self._samples is None:
                programs.close()
                return False
        self._programs = programs
        self._names = cost.by_point(programs.loaded, self._points)
        self._first = self._last = self._counts(programs)
        self._begun = self._read_at = time.monotonic()
        return True

    def is_too_much(self) -> bool:
        """Looks again, a second later; whether the trace is to be stopped."""
        if self._programs is None or not self._limits.overhead:
            return False
        counts, now = self._counts(self._programs), time.monotonic()
        found = cost.shares(self._last, counts, self._names, now - self._read_at)
        self._last, self._read_at = counts, now
        share = cost.percent(found)
        verdict = self._budget.take(share)
        if not verdict:
            return False
        about = "about " if self._samples is not None else ""
        says = (
            f"the probes take {about}{share:.0f} % of a CPU, more than --max-overhead "
            f"{self._limits.overhead:g}%: {cost.told(found)}"
        )
        if verdict == "stop":
            self.message = f"{says}; stopped"
            return True
        seconds = self._budget.STOPPED_AFTER - self._budget.WARNED_AFTER
        self._writer.add("stderr", f"{says}; in {seconds} s the trace is stopped")
        return False

    def _counts(self, programs: bpfprog.Programs) -> dict[int, Count]:
        return self._samples.counts() if self._samples is not None else programs.counts()

    def stopping(self) -> None:
        """From now on the probes are detached, which takes its time and costs nothing."""
        self._ended = self._ended or time.monotonic()

    def finish(self) -> None:
        """The process has ended: says what it cost, if that was asked for."""
        if self._programs is None:
            return
        counts = self._counts(self._programs)
        self._programs.close()
        if self._samples is not None:
            self._samples.close()
        if not self._limits.statistics:
            return
        self.stopping()
        seconds = self._ended - self._begun
        found = cost.shares(self._first, counts, self._names, seconds)
        own, child = (
            now - before for now, before in zip(_cpu_seconds(), self._own_before, strict=True)
        )
        data = Cost(
            seconds=round(seconds, 3),
            probes=tuple(map(_probe_cost, found)),
            share=round(cost.percent(found), 3),
            runner_cpu=round(own, 3),
            bpftrace_cpu=round(child, 3),
        )
        self._writer.add("cost", to_data(data))


def _samples(programs: bpfprog.Programs) -> sampling.Samples | None:
    """Samples of the programs, where they can be had."""
    try:
        places = programs.places()
        return sampling.Samples(places) if places else None
    except OSError:
        return None


def _probe_cost(share: Share) -> ProbeCost:
    return ProbeCost(
        probe=share.probe,
        hits=share.count.hits,
        average_ns=round(share.average_ns, 1),
        share=round(share.percent, 3),
    )


def _cpu_seconds() -> tuple[float, float]:
    """CPU time of this process, and of its children that have ended (getrusage(2))."""
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime, children.ru_utime + children.ru_stime
