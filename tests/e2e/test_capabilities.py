"""What each capability of the runner is for: without it, that does not work, and says so.

docs/rights.md has the table; a test says that it has a row for each of these.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from kubectl_trace.kube.job import CAPABILITIES

from .command import trace

if TYPE_CHECKING:
    from .command import Result

DOCUMENT = Path(__file__).parents[2] / "docs" / "rights.md"
USER_FUNCTION = "uprobe:/usr/sbin/nginx:ngx_event_accept { @ = count(); } BEGIN { exit(); }"
KERNEL_STACK = "tracepoint:raw_syscalls:sys_enter { @[kstack(3)] = count(); exit(); }"


def run(target: str, program: str, tmp_path: Path, *capabilities: str) -> Result:
    """A trace whose runner has these capabilities only."""
    path = "/spec/template/spec/containers/0/securityContext/capabilities/add"
    patch = tmp_path / "patch.json"
    patch.write_text(json.dumps([{"op": "replace", "path": path, "value": list(capabilities)}]))
    return trace(
        *("run", target, "-a", "-e", program, "--patch", str(patch), "--patch-type", "json")
    )


def without(missing: str) -> list[str]:
    return [each for each in CAPABILITIES if each != missing]
