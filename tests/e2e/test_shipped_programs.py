"""The tools that Debian ships with bpftrace load when rewritten, wherever they load as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.program import counting, prepare, scope, syntax

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_trace.program.scope import Scope
    from kubectl_trace.program.syntax import Program

REPOSITORY = Path(__file__).parents[2]
ENDS = "\ninterval:ms:100 { exit(); }\n"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="bpftrace needs root")


def in_testbed(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "testbed", *words],
        cwd=REPOSITORY,
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )


def limited(text: str, *, by_task: bool) -> str:
    source = prepare.placed(text, {}, [])
    program = syntax.parse(source.text)
    if not scope.is_limited(program):
        return counting.counted(source)[0].text
    limit = limit_of(program, by_task=by_task)
    return counting.counted(prepare.limited(source, limit), limit.variable)[0].text


def limit_of(program: Program, *, by_task: bool) -> Scope:
    return scope.by_task(program) if by_task else scope.by_namespace(program, scope.CGROUP2)


def merged(text: str, *, by_task: bool) -> str:
    """With all that merging can ask for."""
    source = prepare.placed(text, {}, [])
    program = syntax.parse(source.text)
    is_limited = scope.is_limited(program)
    merging = prepare.merging_of(
        source, (), token="1p", is_limited=is_limited, split=True, refresh=1
    )
    if not is_limited:
        return counting.counted(prepare.merged(source, merging))[0].text
    limit = limit_of(program, by_task=by_task)
    return counting.counted(prepare.limited(source, limit, merging), limit.variable)[0].text


def loads(version: str, text: str) -> subprocess.CompletedProcess[str]:
    return in_testbed("bpftrace", version, "--unsafe", "-f", "json", "-", stdin=text + ENDS)


@pytest.mark.parametrize(
    ("version", "rewritten", "by_task"),
    [
        # What is merged is limited, too.
        ("0.17", merged, False),
        ("0.23", limited, False),
        ("0.23", merged, True),
        ("0.27", merged, False),
    ],
)
def test_each_shipped_program_loads_rewritten_as_it_does_unchanged(
    version: str, rewritten: Callable[..., str], by_task: bool
) -> None:
    listed = in_testbed("bpftrace-programs", version)
    if "is asked for" in listed.stderr:
        pytest.skip(listed.stderr)  # Debian's unstable suite has moved on
    assert listed.returncode == 0, listed
    programs = [Path(line) for line in listed.stdout.splitlines()]
    assert len(programs) > 30

    def trouble(file: Path) -> str:
        text = file.read_text()
        done = loads(version, rewritten(text, by_task=by_task))
        if done.returncode == 0 or loads(version, text).returncode != 0:
            return ""
        return f"{file.name}: {done.stderr}"

    with ThreadPoolExecutor(2) as pool:
        assert not [said for said in pool.map(trouble, programs) if said]
