"""Patches to objects before they are created, made by kubectl itself and with no cluster."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, cast

import msgspec

from kubectl_trace.errors import UsageError
from kubectl_trace.kube.proxy import kubectl

if TYPE_CHECKING:
    from kubectl_trace.kube.client import Object


def patched(manifest: Object, patch: str, patch_type: str) -> Object:
    """The object with the patch applied: YAML or JSON; type `json`, `merge` or `strategic`.

    Raises:
        UsageError: kubectl can't apply the patch; the text is what it says.
    """
    done = subprocess.run(
        [
            kubectl(),
            "patch",
            "--local",
            "--filename=-",
            f"--type={patch_type}",
            f"--patch={patch}",
            "--output=json",
        ],
        input=msgspec.json.encode(manifest),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise UsageError(
            f"the patch does not apply: {done.stderr.decode(errors='replace').strip()}"
        )
    return cast("Object", msgspec.json.decode(done.stdout))
