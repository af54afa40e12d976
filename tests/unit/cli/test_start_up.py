"""A kubectl plugin is run by hand many times: no verb imports what it does not need.

Modules are counted, not milliseconds: those differ from machine to machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.parametrize("words", [("--help",), ("version", "--client")])
def test_the_shortest_verbs_do_without_what_takes_milliseconds(words: tuple[str, ...]) -> None:
    modules = imported_by(*words)
    assert not modules.intersection(("shutil", "typing", "pathlib", "dataclasses", "datetime"))


RECORDING = """\
import subprocess, sys
started = []
class Popen:
    def __init__(self, words, *args, **kwargs):
        started.append((words[-1], set(sys.modules)))
        raise OSError("enough")
subprocess.Popen = Popen
from kubectl_trace.cli.main import main
main(sys.argv[1:])
print('\\n'.join(started[0][1]))
"""


LATE = (
    *("shutil", "socket", "tempfile", "yaml", "msgspec", "dataclasses", "datetime", "hashlib"),
    *("inspect", "platform", "typing", "uuid", "concurrent.futures"),
    *("kubectl_trace.kube.client", "kubectl_trace.kube.targets", "kubectl_trace.program.syntax"),
)
FIRST = {"cli", "cli.arguments", "cli.cluster", "cli.main", "errors", "executable"}
FIRST |= {"kube", "kube.proxy"}
TRACING = {"_version", "image", "cli.tracing", "cli.limits"}


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        (("get",), {"cli.get"}),
        (("run", "node/x", "-e", "BEGIN { exit(); }"), {*TRACING, "cli.run"}),
        (("run", "no target", "-e", "no program"), {*TRACING, "cli.run"}),
        (("calls", "pod/x", "main"), {*TRACING, "cli.calls"}),
        (("functions", "pod/x"), {*TRACING, "cli.calls", "cli.functions"}),
        (("auth", "can-i", "pod/x"), {*TRACING, "cli.auth"}),
    ],
)
def test_kubectl_is_started_before_what_is_only_needed_after_it(
    words: tuple[str, ...], ours: set[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RECORDING, *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert list(tmp_path.iterdir()) == [], "what can't be started leaves no folder"
    before = set(done.stdout.split())
    assert not before.intersection(LATE)
    prefix = "kubectl_trace."
    assert {name.removeprefix(prefix) for name in before if name.startswith(prefix)} == FIRST | ours


def ended(*words: str) -> tuple[int, str]:
    """A command's exit code, and what it printed."""
    script = "import sys\nfrom kubectl_trace.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "Node!", "-e", "BEGIN { exit(); }"), "'Node!' is no name of a node"),
        (("run", "node/x", "local", "-e", "BEGIN { exit(); }"), "local is this machine alone"),
        (("run", "node/x", "--watch", "-e", "BEGIN { exit(); }"), "--watch is for a trace"),
        (("run", "node/x", "-e", "this is no program"), "program"),
        (("calls", "pod/x", "main", "--max", "-1"), "--max must be 0 or more"),
        (("functions", "pod/x", "/(/"), "error: /(/: missing"),
    ],
)
@pytest.mark.parametrize("has_kubectl", [True, False])
def test_an_error_of_usage_leaves_nothing_behind(
    words: tuple[str, ...],
    said: str,
    has_kubectl: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though kubectl is started before the command line is understood."""
    temporary, path = tmp_path / "tmp", tmp_path / "bin"
    temporary.mkdir()
    path.mkdir()
    if has_kubectl:
        (path / "kubectl").write_text(ANSWERING)
        (path / "kubectl").chmod(0o755)
        monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    (path / "rm").symlink_to("/bin/rm")
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setenv("TMPDIR", str(temporary))
    code, output = ended(*words)
    assert code == 2
    assert output.startswith("error: ")
    assert said in output
    end = time.monotonic() + 20
    while list(temporary.iterdir()):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_without_kubectl_it_is_said_that_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for words in (("run", "node/x", "-e", "BEGIN { exit(); }"), ("get",), ("stop", "x")):
        code, output = ended(*words)
        assert code == 1
        assert output.startswith("error: kubectl is not on PATH")


def test_a_verb_that_speaks_to_the_cluster_does_without_what_http_and_yaml_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as an answer: kubectl is one that answers nothing but an empty list."""
    answers = tmp_path / "kubectl"
    answers.write_text(ANSWERING)
    answers.chmod(0o755)
    config = tmp_path / "config"
    context = {"name": "c", "context": {"namespace": "n"}}
    config.write_text(json.dumps({"current-context": "c", "contexts": [context]}))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("KUBECONFIG", str(config))
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    modules = imported_by("get")
    assert "kubectl_trace.kube.http" in modules
    unwanted = ("asyncio", "email", "hashlib", "http.client", "ssl", "urllib.parse", "yaml")
    assert not modules.intersection(unwanted)
    started = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[0] for line in started] == ["proxy", "GET"], "kubectl once, one call"


ANSWERING = f"""\
#!{sys.executable}
import os, socket, sys
path = next(word for word in sys.argv if word.startswith("--unix-socket=")).partition("=")[2]
log = open(os.environ["ASKED"], "a", buffering=1)
print(*sys.argv[1:], file=log)
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(path)
    listening.listen()
    while True:
        connection, _ = listening.accept()
        with connection:
            asked = connection.recv(65536).decode()
            if asked:
                print(asked.partition("\\r\\n")[0], file=log)
                head = b"HTTP/1.1 200 OK\\r\\nContent-Length: 12\\r\\n\\r\\n"
                connection.sendall(head + b'{{"items":[]}}')
"""


def test_the_runner_imports_for_a_program_only_what_programs_need() -> None:
    """Functions and calls need more; its root file system is read-only, its CPU is limited."""
    script = "import sys, kubectl_trace.runner.session\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.split())
    unwanted = ("shutil", "secrets", "traceback", "capstone", "kubectl_trace.functions.writing")
    assert not modules.intersection(unwanted)


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
