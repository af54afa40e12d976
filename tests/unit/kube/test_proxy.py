from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.errors import TraceError
from kubectl_trace.kube.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable

KUBECTL = """#!/bin/sh
printf '%s\\0' "$@" > "{said}"
echo 'error: no server' >&2
exit 1
"""


@pytest.fixture
def arguments_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[str]], list[str]]:
    """What kubectl is called with where the user gives these connection flags."""
    said = tmp_path / "said"
    binary = tmp_path / "bin" / "kubectl"
    binary.parent.mkdir()
    binary.write_text(KUBECTL.format(said=said))
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{binary.parent}:{os.environ['PATH']}")

    def called(flags: list[str]) -> list[str]:
        proxy = Proxy(flags, lambda text: None)
        with pytest.raises(TraceError, match="no server"):
            proxy.socket_path()
        proxy.close()
        return said.read_bytes().decode(errors="surrogateescape").split("\0")[:-1]

    return called


@pytest.mark.parametrize(
    "value",
    [
        "$(touch {made})",
        "`touch {made}`",
        "; touch {made}; #",
        "'; touch {made}; '",
        '"; touch {made}; "',
        "a\ntouch {made}\n",
        "--unix-socket=/tmp/x",
        "\x1b]0;x\x07",
        "\udcff",
        "*",
        "",
    ],
)
def test_a_connection_flag_is_one_word_of_kubectls_and_never_a_shells(
    value: str, arguments_of: Callable[[list[str]], list[str]], tmp_path: Path
) -> None:
    made = tmp_path / "made"
    flag = f"--kubeconfig={value.format(made=made)}"
    assert arguments_of([flag])[-1] == flag
    assert not made.exists()
    assert not Path("/tmp/x").is_socket()
