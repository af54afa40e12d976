from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import msgspec
import pytest

from kubectl_trace.errors import Exit
from kubectl_trace.runner import bpftrace, leftovers, policy, processes, session
from kubectl_trace.runner.policy import Policy
from kubectl_trace.runner.processes import Process
from kubectl_trace.trace import PROTOCOL, Container, Trace

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("selector", ["comm=nothing", "cmdline=vault --token s3cr"])
def test_what_runs_in_a_container_is_not_told_before_the_policy_allows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selector: str
) -> None:
    """Neither which processes there are, nor whether one has such arguments."""
    vault = Process(4242, 1, 5, 1, "vault", "/vault", "vault --token s3cr3t")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(policy, "read", lambda: Policy(namespaces=("shop",)))
    monkeypatch.setattr(leftovers, "remove_all", lambda: None)
    monkeypatch.setattr(bpftrace, "find", lambda: "/usr/bin/bpftrace")
    container = Container("bank", "vault-0", "app", "ab" * 32, "u")
    found = {container.container_id: [vault]}
    monkeypatch.setattr(processes, "of_containers", lambda *_: found)
    trace = Trace(
        "1", "BEGIN { }", protocol=PROTOCOL, containers=(container,), process_selector=selector
    )
    output = tmp_path / "output"
    with output.open("wb") as stdout:
        code = session.run(msgspec.json.encode(trace), stdout=stdout.fileno(), stdin=-1)
    text = output.read_text()
    assert code == Exit.FORBIDDEN
    assert "cluster's policy" in json.dumps([json.loads(line) for line in text.splitlines()])
    assert "vault --token" not in text
    assert "4242" not in text
