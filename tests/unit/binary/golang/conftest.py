from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_SOURCE = Path(__file__).parent / "program.go"


@dataclass(frozen=True)
class Built:
    """A program that this machine's Go has built, with symbols and stripped."""

    whole: Path
    stripped: Path
    version: str

    def go(self, *argv: str) -> str:
        """What `go` says."""
        return _go(*argv)


def _go(*argv: str) -> str:
    # No -trimpath: it would compile Go's own library, which takes a minute.
    environment = {**os.environ, "GO111MODULE": "off", "GOFLAGS": "", "GOTOOLCHAIN": "local"}
    return subprocess.run(
        ["go", *argv], check=True, capture_output=True, text=True, env=environment
    ).stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    if not shutil.which("go"):
        pytest.skip("no Go here")
    folder = tmp_path_factory.mktemp("go")
    for name, flags in (("whole", ""), ("stripped", "-s -w")):
        _go("build", f"-ldflags={flags}", "-o", str(folder / name), str(_SOURCE))
    return Built(folder / "whole", folder / "stripped", _go("env", "GOVERSION").strip())
