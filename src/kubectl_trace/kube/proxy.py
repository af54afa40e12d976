"""`kubectl proxy` on a private Unix socket: the connection, with kubectl's own credentials.

No Python client follows all of kubectl's rules for kubeconfig, exec plugins, impersonation and
proxies; kubectl does, and a kubectl plugin always has it beside it.

A small shell stands between us and kubectl. It waits for the end of a pipe that only we hold, and
then ends kubectl and removes the socket's folder: that works whatever ends us, `kill -9` included.
Where we had no time to stop the runners that are ours, it tells them.

kubectl takes most of a short verb's time. So it is started before all else, and what is imported
here, before it, is little; the rest is imported while it starts.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import select
import subprocess
import threading
import time
from collections import deque

from kubectl_trace import executable
from kubectl_trace.errors import ForbiddenError, TraceError

TYPE_CHECKING = False  # typing is imported once kubectl has been started
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TIMEOUT = 20.0
"""Seconds for kubectl to open the socket. It reads the kubeconfig, but asks no server yet."""

FOLDERS = "kubectl-trace-"
"""How the names of the sockets' folders begin."""

SOCKET, RUNNERS = "s", "runners"
"""What is in them, at most."""

GUARD = "kubectl-trace"
"""What the shell's command line calls it; the folder is a word of it, too."""

_STOP = '{"type":"stop"}'
"""`trace.Stop` as JSON."""

_GARBAGE = {"GOGC": "400"}
"""Of the 60 ms that kubectl needs to start, Go collects garbage in 10, unless told to wait for more
garbage."""

_LAST = 5.0  # seconds for kubectl to end

_LOOK_AGAIN = 0.001  # seconds between two looks whether it listens
_FILES = 10_240
"""Files that we and kubectl may open: each runner takes some, and a shell's usual limit is 1024.
Python's and kubectl's sockets bear any number; macOS grants no process more (OPEN_MAX)."""

_KEPT_LINES = 50
_LOG_LINE = re.compile(r"[IWEF]\d{4} ")  # k8s.io/klog

_GUARD = r"""
kubectl=$1 folder=$2 stop=$3; shift 3
# By default kubectl proxy rejects exec and attach, and other hosts than localhost.
"$kubectl" proxy --unix-socket="$folder/s" '--reject-paths=^$' "$@" < /dev/null > /dev/null &
proxy=$!
exec 2> /dev/null
# Each line is a runner that is ours, NAMESPACE/POD, the last one `bye` if we end in order.
while read -r line; do
  case $line in
    bye) [ ! -e "$folder/runners" ] || rm -f -- "$folder/runners" ;;
    *) printf '%s\n' "$line" >> "$folder/runners" ;;
  esac
done
tell() {
  printf '%s\n' "$stop" | "$kubectl" attach "$@" --container=kubectl-trace --stdin &
  telling=$!
  { sleep 10; kill "$telling"; } &
  wait "$telling"
  kill $!
}
if [ -e "$folder/runners" ]; then
  count=0 told=
  while IFS=/ read -r namespace pod; do
    tell "$pod" "$@" --namespace="$namespace" < /dev/null &
    told="$told $!"
    count=$((count + 1))
    # Not hundreds at once; those that are late end by themselves, a minute after our last word.
    [ $((count % 20)) -ne 0 ] || wait $told
  done < "$folder/runners"
  wait $told
fi
kill "$proxy"
wait "$proxy"
rm -rf -- "$folder"
"""


class Proxy:
    """A running `kubectl proxy`; closing it ends it and removes its socket."""

    def __init__(self, connection_flags: Sequence[str], say: Callable[[str], None]) -> None:
        """Starts kubectl and returns at once: `socket_path` waits until it listens.

        `say` gets what kubectl and its credential plugins have to tell the user.

        Raises:
            TraceError: there is no kubectl on PATH.
        """
        binary = kubectl()
        _raise_file_limit()
        folder = os.path.join(temporary(), FOLDERS + os.urandom(8).hex())
        os.mkdir(folder, 0o700)
        self._path = os.path.join(folder, SOCKET)
        try:
            self._guard = subprocess.Popen(
                [
                    *("/bin/sh", "-c", _GUARD, GUARD),
                    binary,
                    folder,
                    _STOP,
                    *connection_flags,
                ],
                env={**_GARBAGE, **os.environ},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,  # closed when the shell ends
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except OSError:
            os.rmdir(folder)
            raise
        self._ready = False
        self._say = say
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)
        self._stderr_reader = threading.Thread(
            target=self._read_stderr, name="kubectl", daemon=True
        )
        self._stderr_reader.start()

    def socket_path(self) -> str:
        """The socket's path, once kubectl listens on it.

        Raises:
            TraceError: kubectl ended; the text is what it said.
        """
        if not self._ready:
            self._wait()
            self._ready = True
        elif not self._stderr_reader.is_alive():  # only kubectl holds the pipe that this reads
            raise TraceError("kubectl proxy has ended: the cluster can't be reached any more")
        return self._path

    def own(self, namespace: str, pod: str) -> None:
        """This runner is to be stopped if we end without having closed this."""
        self._tell(f"{namespace}/{pod}")

    def close(self, *, wait: bool = True) -> None:
        """Ends kubectl and removes the socket's folder; again: nothing.

        `wait`: until that is done, some 10 ms. It is done without us, too.
        """
        assert self._guard.stdin is not None
        if self._guard.stdin.closed:
            return
        self._tell("bye")
        self._guard.stdin.close()
        if not wait:
            return
        assert self._guard.stdout is not None
        # Popen.wait with a time-out would look in ever longer intervals.
        if select.select([self._guard.stdout], [], [], _LAST)[0]:
            self._guard.wait()
        self._guard.stdout.close()

    def _tell(self, line: str) -> None:
        assert self._guard.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._guard.stdin.write(f"{line}\n".encode())

    def _wait(self) -> None:
        end = time.monotonic() + _TIMEOUT
        while time.monotonic() < end and self._stderr_reader.is_alive():
            if listens(self._path):
                return
            self._stderr_reader.join(_LOOK_AGAIN)
        self.close()
        raise _failure("\n".join(self._said))

    def _read_stderr(self) -> None:
        """Reads on for as long as kubectl runs: it would stop at a full pipe."""
        assert self._guard.stderr is not None
        with io.TextIOWrapper(self._guard.stderr, errors="replace") as stderr:
            for line in stderr:
                self._said.append(line.rstrip())
                # What kubectl logs about a request is in the request's answer, too.
                if self._ready and not _LOG_LINE.match(line):
                    self._say(line.rstrip())


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def temporary() -> str:
    """Where the sockets' folders are (tempfile.gettempdir costs more than it gives here)."""
    return os.environ.get("TMPDIR") or "/tmp"


def listens(path: str) -> bool:
    """Whether anybody listens on a Unix socket."""
    import socket

    with socket.socket(socket.AF_UNIX) as attempt:
        try:
            attempt.connect(path)
        except OSError:
            return False
        return True


def kubectl() -> str:
    """The path of kubectl.

    Raises:
        TraceError: there is none on PATH.
    """
    path = executable.find("kubectl")
    if path is None:
        raise TraceError("kubectl is not on PATH; kubectl trace reaches the cluster through it")
    return path


def _failure(said: str) -> TraceError:
    text = said or f"kubectl proxy did not listen within {_TIMEOUT:g} s"
    kind = ForbiddenError if "forbidden" in text.lower() else TraceError
    return kind(f"kubectl can't connect: {text}")
