"""What each capability of the runner is for: without it, that does not work, and says so.

The table in docs/rights.md has a row for each.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.kube.job import CAPABILITIES

from .command import kubectl, trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .cluster import Cluster, Pod
    from .command import Result

DOCUMENT = Path(__file__).parents[2] / "docs" / "rights.md"
COUNT = "{ @ = count(); } interval:ms:100 { exit(); }"
STACK = "tracepoint:raw_syscalls:sys_enter { @[kstack(3)] = count(); exit(); }"
NAME = re.compile(r"^\s+[a-z_]\w+\+\d+$", re.MULTILINE)


def run_without(missing: str, target: str, program: str, folder: Path, *words: str) -> Result:
    """A trace whose runner lacks a capability."""
    path = "/spec/template/spec/containers/0/securityContext/capabilities/add"
    left = [each for each in CAPABILITIES if each != missing]
    patch = folder / "patch.json"
    patch.write_text(json.dumps([{"op": "replace", "path": path, "value": left}]))
    patched = ("--patch", str(patch), "--patch-type", "json")
    return trace("run", target, "-a", "-e", program, *patched, *words)


@pytest.fixture
def private(nginx: Pod) -> Iterator[str]:
    """A program in the container that only another user than root may read."""
    script = "mkdir -p /own && cp /usr/sbin/nginx /own/ && chown -R 33 /own && chmod -R go= /own"
    done = kubectl("exec", nginx.name, "--", "sh", "-c", script)
    assert done.code == 0, done
    yield f"uprobe:/own/nginx:ngx_event_accept {COUNT}"
    kubectl("exec", nginx.name, "--", "rm", "-r", "/own")


def test_the_table_has_a_row_for_each_capability() -> None:
    rows = set(re.findall(r"^\| ([A-Z_]+) \|", DOCUMENT.read_text(), re.MULTILINE))
    assert rows == {*CAPABILITIES, "SYS_ADMIN"}


def test_with_all_of_them_everything_works(
    cluster: Cluster, nginx: Pod, private: str, tmp_path: Path
) -> None:
    assert run_without("", f"pod/{nginx.name}", private, tmp_path).stdout == "@: 0\n"
    stack = run_without("", nginx.node, STACK, tmp_path)
    assert NAME.search(stack.stdout), stack


@pytest.mark.parametrize("missing", ["BPF", "PERFMON"])
def test_without_bpf_or_perfmon_the_program_is_refused(
    cluster: Cluster, node: str, tmp_path: Path, missing: str
) -> None:
    result = run_without(missing, node, STACK, tmp_path)
    assert result.code == 6, result
    assert f"the runner has no CAP_{missing}" in result.stderr


@pytest.mark.parametrize("missing", ["SYS_PTRACE", "DAC_READ_SEARCH"])
def test_without_sys_ptrace_or_dac_read_search_files_of_others_can_not_be_opened(
    cluster: Cluster, nginx: Pod, private: str, tmp_path: Path, missing: str
) -> None:
    result = run_without(missing, f"pod/{nginx.name}", private, tmp_path)
    assert result.code in (4, 5), result
    assert "Permission denied" in result.stderr


def test_without_syslog_kernel_stacks_have_addresses_and_no_names(
    cluster: Cluster, node: str, tmp_path: Path
) -> None:
    result = run_without("SYSLOG", node, STACK, tmp_path)
    assert result.code == 0, result
    assert "0xffffffff" in result.stdout
    assert not NAME.search(result.stdout)


def test_without_sys_admin_statistics_are_refused_before_anything_is_attached(
    cluster: Cluster, node: str, tmp_path: Path
) -> None:
    result = run_without("SYS_ADMIN", node, STACK, tmp_path, "--stats")
    assert result.code == 4, result
    assert "the kernel gives no statistics of BPF programs here" in result.stderr
    assert "attached" not in result.stderr
