"""What a trace has on the machine and in the cluster while it runs, and must not leave behind."""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .cluster import LABEL
from .command import Command, kubectl, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRACEFS = Path("/sys/kernel/tracing")


@dataclass(frozen=True)
class Footprint:
    """Everything of ours that there is at one moment, each with a name to tell it by."""

    runs: frozenset[str]
    """Processes, and the kernel's BPF programs and maps."""
    files: frozenset[str]
    """Definitions of probes in tracefs, and the clients' folders with their sockets."""
    objects: frozenset[str]
    """What the cluster has: it stays for `--ttl`, or until it is deleted."""


def footprint(*, objects: bool) -> Footprint:
    """What there is now; `objects`: the cluster's, too."""
    return Footprint(
        frozenset({*_processes(), *_bpf()}),
        frozenset({*_definitions(), *folders()}),
        frozenset(_objects() if objects else ()),
    )


class Aftermath:
    """What a test leaves, compared with what there was before, and how long it may be there."""

    def __init__(self, seconds: float, *, objects: bool) -> None:
        self.seconds = seconds
        self._objects = objects
        self._before = footprint(objects=objects)

    @contextmanager
    def in_time(self) -> Iterator[None]:
        """The fault happens within: so many seconds from here on, nothing runs any more."""
        began = time.monotonic()
        yield
        took = time.monotonic() - began
        assert took < self.seconds, f"the client ended {took:.1f} s after the fault"
        self._wait(self.seconds - took, lambda now: now.runs - self._before.runs)

    def ends(self) -> None:
        """Waits until there is nothing but objects: the test has ended."""
        self._wait(
            self.seconds,
            lambda now: (now.runs | now.files) - self._before.runs - self._before.files,
        )

    def is_deleted(self, seconds: float) -> None:
        """Waits until there is nothing at all."""
        self._wait(seconds, lambda now: now.objects - self._before.objects, objects=self._objects)

    def _wait(
        self,
        seconds: float,
        left: Callable[[Footprint], frozenset[str]],
        *,
        objects: bool = False,
    ) -> None:
        found: frozenset[str] = frozenset()

        def nothing() -> bool:
            nonlocal found
            found = left(footprint(objects=objects))
            return not found

        try:
            wait_until(nothing, "nothing is left", seconds)
        except AssertionError:
            raise AssertionError(f"left behind after {seconds:g} s: {sorted(found)}") from None


def _processes() -> list[str]:
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        text = b" ".join(words).decode(errors="replace")
        name = os.path.basename(words[0].decode(errors="replace"))
        if name == "bpftrace" or "kubectl_trace.runner" in text or "proxy --unix-socket" in text:
            found.append(f"process {entry}: {text[:100]}")
    return found


def _bpf() -> list[str]:
    found = []
    for kind in ("prog", "map"):
        done = Command("bpftool", "--json", kind, "list").finish()
        assert done.code == 0, done
        # Those of cgroups are the container runtime's and systemd's.
        found += [
            f"BPF {kind} {each['id']}"
            for each in json.loads(done.stdout)
            if not each.get("type", "").startswith("cgroup_")
        ]
    return found


def _definitions() -> list[str]:
    found = []
    for file in (TRACEFS / "uprobe_events", TRACEFS / "kprobe_events"):
        if file.exists():  # a kernel may be without either
            found += [f"{file.name}: {line}" for line in file.read_text().splitlines()]
    return found


def _objects() -> list[str]:
    done = kubectl(
        *("get", "jobs,pods,configmaps", "-A", "-l", LABEL, "--no-headers"),
        *("-o", "custom-columns=K:.kind,NS:.metadata.namespace,N:.metadata.name"),
    )
    return [f"object {' '.join(line.split())}" for line in done.lines]


def folders() -> set[str]:
    """The clients' folders, each with a socket in it."""
    return {str(path) for path in Path("/tmp").glob("kubectl-trace-*")}
