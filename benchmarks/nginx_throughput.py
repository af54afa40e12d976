"""What a trace takes from a web server: requests per second of nginx in a pod, traced and not.

A second nginx of the same image, on the same node and under the same load, is not traced, but hits
the same probe: a uprobe is on the file, which they share.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import attached, cluster
from benchmarks.errors import BenchmarkError
from benchmarks.row import Row, spread

if TYPE_CHECKING:
    from collections.abc import Iterator

_IMAGE = "kubectl-trace-testbed/nginx:1"
_TRACED, _FOREIGN = "bench-nginx", "bench-nginx-foreign"
# Without its log, which would cost more than most traces.
_COMMAND = (
    "sh",
    "-c",
    "sed -i 's/access_log .*/access_log off;/' /etc/nginx/nginx.conf; exec nginx -g 'daemon off;'",
)
_PROBE = "uprobe:/usr/sbin/nginx:ngx_http_process_request"
_COUNTING = f"{_PROBE} {{ @requests = count(); }}"
_PRINTING = f'{_PROBE} {{ printf("%d %s\\n", pid, comm); }}'
_ROUNDS = 3
_SECONDS = 3
_CONNECTIONS = 8
_LEAST = 0.9
"""Of the requests without a trace."""

_PODS = {_TRACED: _COMMAND, _FOREIGN: _COMMAND}
_Rates = dict[str, list[float]]


def rows() -> Iterator[Row]:
    """With a counting uprobe, the foreign one meanwhile, and with a line a request."""
    if shutil.which("wrk") is None:
        raise BenchmarkError("wrk is not installed on this machine (Debian: apt install wrk)")
    free: _Rates = {pod: [] for pod in _PODS}
    counted: _Rates = {pod: [] for pod in _PODS}
    printed: _Rates = {pod: [] for pod in _PODS}
    with ExitStack() as stack:
        containers = stack.enter_context(cluster.pods(_PODS, _IMAGE))
        pids = {name: min(cluster.processes_of(found)) for name, found in containers.items()}
        output = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")), "output")
        _rates(pids)  # the first takes longer
        for _ in range(_ROUNDS):
            for program, rates in (("", free), (_COUNTING, counted), (_PRINTING, printed)):
                tracing = attached.trace(_TRACED, program, output) if program else nullcontext()
                with tracing:
                    for name, rate in _rates(pids).items():
                        rates[name].append(rate)
                if rates is counted:
                    _check(output.read_text(), rates[_TRACED][-1])
    name = "requests of nginx with a counting uprobe, foreign nginx noisy; floor: no trace"
    yield _row(name, free[_TRACED], counted[_TRACED], least=_LEAST)
    yield _row("… of the foreign nginx meanwhile", free[_FOREIGN], counted[_FOREIGN])
    yield _row("… with a line a request", free[_TRACED], printed[_TRACED])


def _rates(pids: dict[str, int]) -> dict[str, float]:
    """Requests per second of all of them, loaded at once from inside of their pods' networks."""
    loads = {
        name: subprocess.Popen(
            [
                *("nsenter", "--target", str(pid), "--net"),
                *("wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{_SECONDS}", "http://127.0.0.1/"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, pid in pids.items()
    }
    said = {name: load.communicate()[0] for name, load in loads.items()}
    found = {name: re.search(r"Requests/sec:\s*([\d.]+)", text) for name, text in said.items()}
    if not all(found.values()):
        raise BenchmarkError(f"wrk has no figure: {said}")
    return {name: float(match[1]) for name, match in found.items() if match}


def _check(output: str, rate: float) -> None:
    """Whether the trace has counted the traced nginx's requests and not both."""
    counted = re.search(r"^@requests: (\d+)$", output, re.MULTILINE)
    ratio = int(counted[1]) / (rate * _SECONDS) if counted else 0
    if not 0.9 < ratio < 1.1:
        raise BenchmarkError(f"the trace has counted {ratio:.2f} times the requests: {output}")


def _row(name: str, free: list[float], rates: list[float], least: float | None = None) -> Row:
    value, floor = statistics.median(rates), statistics.median(free)
    aim = f">= {least:g} x floor" if least else ""
    met = value >= least * floor if least else None
    return Row(name, value, "requests/s", floor, aim, met, spread(rates))
