"""A kubectl plugin is run by hand many times: no verb imports what it does not need.

Modules are counted, not milliseconds: those differ from machine to machine.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "asyncio",
    "backports.zstd",
    "concurrent.futures",
    "importlib.metadata",
    "inspect",
    "rich",
    "ssl",
    "unittest",
    "websockets",
    "yaml",
)


def imported_by(*words: str) -> set[str]:
    script = (
        "import sys\n"
        "from kubectl_trace.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("run", "--help"),
        ("get", "--help"),
        ("auth", "--help"),
        ("logs", "--help"),
        ("replay", "--help"),
        ("version", "--client"),
        ("completion", "bash"),
    ],
)
def test_help_and_the_like_import_nothing_heavy(words: tuple[str, ...]) -> None:
    modules = imported_by(*words)
    assert not modules.intersection((*HEAVY, "msgspec", "http.client", "subprocess")), words


def test_the_runner_does_not_import_the_kubernetes_client() -> None:
    script = (
        "import sys, kubectl_trace.runner.session, kubectl_trace.runner.headers\n"
        "print('\\n'.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    ours = [name for name in done.stdout.split() if name.startswith("kubectl_trace")]
    assert not [
        name for name in ours if name.startswith(("kubectl_trace.kube", "kubectl_trace.cli"))
    ]
