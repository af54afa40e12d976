"""`make demo`: the tutorial's main job on this machine, with no cluster.

Real nginx runs in two containers' worth of namespaces (network, mount, PID), real requests come to
it, and `kubectl-trace run local/PID` shows what its functions are called with and return.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .commands import run, say
from .errors import TestbedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BIN = Path(sys.executable).parent
_TRACEFS = Path("/sys/kernel/tracing")
_TIMEOUT = 30.0  # seconds for anything here to happen

_CONFIGURATION = """\
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen 80; location / {{ return 200 "hello from {name}\\n"; }} }}
}}
"""


@dataclass(frozen=True)
class Container:
    """An nginx in namespaces of its own."""

    name: str
    pid: int
    """Of nginx's master process."""


@dataclass(frozen=True)
class Act:
    """One of the tutorial's programs, and what brings it to speak."""

    title: str
    program: str
    requests: int


_ACTS = (
    Act(
        "A line for each request that nginx accepts",
        'uprobe:/proc/$container_pid/exe:ngx_event_accept { printf("new client request!\\n"); }',
        3,
    ),
    Act(
        "How many bytes nginx reads: a function's return value",
        'uretprobe:/proc/$container_pid/exe:ngx_unix_recv { printf("read bytes: %d\\n", retval); }',
        3,
    ),
    Act(
        "The same as a map; web-1 runs the same file, and is in no count",
        "uretprobe:/proc/$container_pid/exe:ngx_unix_recv { @val[retval] = count(); }",
        200,
    ),
)


def main() -> None:
    """Plays the acts.

    Raises:
        TestbedError: this machine can't, or something went wrong.
    """
    if os.geteuid() != 0:
        raise TestbedError("the demo makes namespaces and runs bpftrace: it needs root")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_tracefs())
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="kubectl-trace-demo-"))
        )
        containers = [stack.enter_context(_nginx(folder, name)) for name in ("web-0", "web-1")]
        for container in containers:
            say(f"{container.name}: nginx, PID {container.pid}, in namespaces of its own")
        for act in _ACTS:
            _play(act, containers)
    say("\nThe same on a real cluster: make cluster-up (README.md)")


def _play(act: Act, containers: list[Container]) -> None:
    """Traces the first container while all of them work."""
    container = containers[0]
    command = ["kubectl-trace", "run", f"local/{container.pid}", "-e", act.program]
    say(f"\n# {act.title}\n$ {shlex.join(command)}")
    with tempfile.TemporaryFile() as messages:
        tracing = subprocess.Popen(
            [str(_BIN / command[0]), *command[1:]], stdin=subprocess.DEVNULL, stderr=messages
        )
        _wait_for(
            lambda: b"attached " in _content(messages) or tracing.poll() is not None,
            f"{act.program} to be attached",
        )
        if tracing.poll() is None:
            for each in containers:
                _request(each, act.requests)
            tracing.send_signal(signal.SIGINT)
        code = tracing.wait(_TIMEOUT)
        say(_content(messages).decode(errors="replace").rstrip())
    if code != 0:
        raise TestbedError(f"{shlex.join(command)}: exit status {code}")


def _request(container: Container, times: int) -> None:
    """Requests nginx's page, a connection each, from inside its network namespace."""
    say(f"  ({times} requests to {container.name})")
    urls = ["http://127.0.0.1/"] * times
    headers = ["--header", "Connection: close"]
    run(
        ["nsenter", f"--target={container.pid}", "--net", "curl", "-sS", *headers, *urls],
        timeout=_TIMEOUT,
    )


@contextlib.contextmanager
def _nginx(folder: Path, name: str) -> Iterator[Container]:
    own = folder / name
    own.mkdir()
    configuration = own / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(folder=own, name=name))
    script = 'ip link set lo up && exec nginx -e "$1/error.log" -c "$1/nginx.conf"'
    child = subprocess.Popen(
        [
            *("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc"),
            *("--kill-child", "sh", "-c", script, "sh", str(own)),
        ],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(lambda: (own / "pid").exists() or child.poll() is not None, f"{name} to start")
        if child.poll() is not None:
            raise TestbedError(f"{name}: nginx did not start\n{_text(own / 'error.log')}")
        (first,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        yield Container(name, int(first))
    finally:
        child.kill()  # unshare ignores a plain SIGTERM; nginx, PID 1 in there, ends with it
        child.wait(_TIMEOUT)


@contextlib.contextmanager
def _tracefs() -> Iterator[None]:
    """Has tracefs mounted, and takes it away again if it wasn't."""
    if (_TRACEFS / "events").is_dir():
        yield
        return
    run(["mount", "-t", "tracefs", "none", str(_TRACEFS)])
    try:
        yield
    finally:
        run(["umount", str(_TRACEFS)])


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _TIMEOUT
    while not condition():
        if time.monotonic() > end:
            raise TestbedError(f"waited {_TIMEOUT:g} s in vain for {what}")
        time.sleep(0.02)


def _content(file: object) -> bytes:
    descriptor = file.fileno()  # type: ignore[attr-defined]
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""


if __name__ == "__main__":
    for program in ("nginx", "bpftrace", "curl", "unshare"):
        if shutil.which(program) is None:
            sys.exit(f"demo: {program} is missing: use `make demo`, which installs it")
    try:
        main()
    except TestbedError as error:
        sys.exit(f"demo: {error}")
