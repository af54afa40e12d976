"""What the runner has done when it starts bpftrace: nothing that bpftrace does not wait for.

Modules and looks at /proc are counted, not milliseconds: those differ from machine to machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kubectl_trace.trace import PROTOCOL

if TYPE_CHECKING:
    from pathlib import Path

ID, OTHER = "ab" * 32, "cd" * 32
CONTAINER = {"namespace": "shop", "pod": "cart", "container": "app", "container_id": ID}

# Bpftrace is a script; all processes seem to be this one, in a container inside another.
PRELUDE = f"""
import contextlib, json, os, subprocess, sys
from kubectl_trace.runner import processes
looks, started = [], []
def memberships(proc):
    looks.append(proc)
    yield os.getpid(), b"0::/kubepods/{OTHER}/kubepods/{ID}"
processes._memberships = memberships
os.geteuid = lambda: 0
class Popen(subprocess.Popen):
    def __init__(self, words, *args, **options):
        started.append((self, set(sys.modules), len(looks)))
        super().__init__(words, *args, **{{**options, "preexec_fn": None}})
subprocess.Popen = Popen
"""
SHOWING = """
sys.argv[1:] = ["trace", sys.argv[1]]
from kubectl_trace.runner.__main__ import main
with contextlib.redirect_stdout(os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")):
    main()
((_, modules, seen),) = started
print(json.dumps({"modules": sorted(modules), "looks": seen, "all": sorted(sys.modules)}))
"""


def run(script: str, folder: Path, trace: dict[str, Any], bpftrace: str = "exit 1") -> str:
    """What the script prints, with the description of a trace as its argument."""
    binary = folder / "bpftrace"
    binary.write_text(f"#!/bin/sh\n{bpftrace}\n")
    binary.chmod(0o755)
    said = folder / "bpftrace.version"
    said.write_text(f"{binary.stat().st_size} bpftrace v0.23.2\n")
    description = folder / "trace.json"
    description.write_text(json.dumps({"id": "1", "protocol": PROTOCOL, "deadline": 30, **trace}))
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, str(description)],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
    )
    return done.stdout


TRACE = {"program": "kprobe:f { @ = count(); }", "containers": [CONTAINER]}


def test_proc_is_read_once_before_bpftrace_is_started(tmp_path: Path) -> None:
    other = {**CONTAINER, "pod": "other", "container_id": OTHER}
    trace = {**TRACE, "containers": [CONTAINER, other]}
    assert json.loads(run(SHOWING, tmp_path, trace))["looks"] == 1


@pytest.mark.parametrize("trace", [TRACE, {**TRACE, "containers": [], "pid": os.getpid()}])
def test_what_follows_bpftrace_is_imported_when_it_has_been_started(
    tmp_path: Path, trace: dict[str, Any]
) -> None:
    told = json.loads(run(SHOWING, tmp_path, trace))
    modules = set(told["modules"])
    assert "kubectl_trace.runner.plan" in modules
    late = ("bites", "cost", "foreign", "losses", "members", "supervisor", "tally", "translation")
    assert not modules.intersection(f"kubectl_trace.runner.{name}" for name in late)
    assert not modules.intersection(
        ("argparse", "kubectl_trace.program.merging", "kubectl_trace.results.dialect")
    )
    unneeded = ("kubectl_trace.results.fold", "kubectl_trace.runner.prints")
    assert not set(unneeded).intersection(told["all"]), "its maps are not merged"


FAILING = """
from kubectl_trace.runner import members, session
def fail(*args, **options):
    raise OSError("no more files")
members.Members.__init__ = fail
reading, writing = os.pipe()
with open(sys.argv[1], "rb") as file:
    session.run(file.read(), stdout=writing, stdin=0)
((child, _, _),) = started
summary = os.read(reading, 65536).splitlines()[-1]
print(json.dumps({"ended": child.returncode, "summary": json.loads(summary)["data"]}))
"""


def test_nothing_is_left_of_bpftrace_where_its_scope_can_not_be_found_out(tmp_path: Path) -> None:
    told = json.loads(run(FAILING, tmp_path, TRACE, "exec sleep 60"))
    assert told["ended"] == -9
    assert "no more files" in told["summary"]["message"]


def test_a_wrong_command_line_is_explained() -> None:
    for words in ([], ["trace"], ["trace", "--file"], ["trace", "a", "b"]):
        done = subprocess.run(
            [sys.executable, "-m", "kubectl_trace.runner", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert "usage: kubectl-trace-runner" in done.stderr


COUNTING = """
from pathlib import Path
from kubectl_trace.runner import plan, session
plan._BTF = Path(sys.argv[1])  # as if this kernel had types
reading, writing = os.pipe()
with open(sys.argv[1], "rb") as file:
    session.run(file.read(), stdout=writing, stdin=0)
records = [json.loads(line) for line in os.read(reading, 65536).splitlines()]
said = [each["data"] for each in records if each["type"] == "stderr"]
print(json.dumps({"started": len(started), "said": said, "summary": records[-1]["data"]}))
"""


@pytest.mark.parametrize(("column", "ways"), [(12, 2), (1, 1)])
def test_another_way_is_tried_where_bpftrace_refuses_what_the_user_did_not_write(
    tmp_path: Path, column: int, ways: int
) -> None:
    refusing = f'echo "$4:1:{column}-{column + 1}: ERROR: no such thing" >&2; exit 1'
    told = json.loads(run(COUNTING, tmp_path, TRACE, refusing))
    assert (told["started"], told["summary"]["reason"]) == (ways, "refused"), told
    assert len([text for text in told["said"] if "no such thing" in text]) == 1, told
