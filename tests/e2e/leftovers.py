"""What a trace has on the machine and in the cluster while it runs, and must not leave behind."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from .cluster import LABEL
from .command import Command, kubectl, wait_until


@dataclass(frozen=True)
class Footprint:
    """Everything of ours that there is at one moment, each with a name to tell it by."""

    things: frozenset[str]

    def beyond(self, other: Footprint) -> list[str]:
        """What is here and was not there."""
        return sorted(self.things - other.things)


def footprint() -> Footprint:
    """What there is now: processes, BPF programs and maps, objects, sockets and folders."""
    return Footprint(frozenset({*_processes(), *_bpf(), *_objects(), *folders()}))


def wait_until_clean(before: Footprint, seconds: float, *, but_objects: bool = False) -> None:
    """Waits until there is no more than there was before, objects in the cluster excepted."""

    def left() -> list[str]:
        things = footprint().beyond(before)
        return [each for each in things if not (but_objects and each.startswith("object "))]

    try:
        wait_until(lambda: not left(), "nothing is left", seconds)
    except AssertionError:
        raise AssertionError(f"left behind: {left()}") from None


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


def _objects() -> list[str]:
    done = kubectl(
        *("get", "jobs,pods,configmaps", "-A", "-l", LABEL, "--no-headers"),
        *("-o", "custom-columns=K:.kind,NS:.metadata.namespace,N:.metadata.name"),
    )
    return [f"object {' '.join(line.split())}" for line in done.lines]


def folders() -> set[str]:
    """The clients' folders, each with a socket in it."""
    return {str(path) for path in Path("/tmp").glob("kubectl-trace-*")}
