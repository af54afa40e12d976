"""How long the program front end takes for a text far larger than any that people write."""

from __future__ import annotations

import re
import statistics
import time
from typing import TYPE_CHECKING

from benchmarks.row import Row, at_most, spread
from kubectl_trace.program import prepare, scope, syntax
from kubectl_trace.program.rewrite import Rewritten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SIZE = 1_000_000
_LIMIT = 0.2
_REPETITIONS = 9

_PIECE = r"""
// Requests of one worker: "quoted" text, and a brace { in a comment
struct request_%d { uint64_t start; char name[16]; };
uprobe:/usr/sbin/nginx:ngx_http_process_request,
usdt:/usr/sbin/nginx:request__start
/pid == $1 && (arg0 / 2 > 10 || comm == "nginx: w}")/
{
    $name = str(arg1);
    @start[tid] = nsecs; /* a comment
    over lines */
    if (@count[$name] > %d) { printf("%%s \"%%d\" {\n", $name, arg0 >> 1); }
    @count[$name, ustack(3)] = count();
}
kretprobe:vfs_read /@start[tid]/ { @ns = hist(nsecs - @start[tid]); delete(@start[tid]); }
"""


def rows() -> Iterator[Row]:
    """Parsing, beside one regular expression that only finds the words; and rewriting."""
    text = _text()
    floors: list[float] = []
    values: list[float] = []
    rewrites: list[float] = []
    for _ in range(_REPETITIONS):
        floors.append(_seconds(lambda: re.findall(r"\w+|\s+|.", text)))
        values.append(_seconds(lambda: syntax.parse(text)))
        rewrites.append(_seconds(lambda: _limited(text)))
    yield at_most("parsing 1 MB", values, unit="s", limit=_LIMIT, floor=statistics.median(floors))
    yield Row("limiting 1 MB to a scope", statistics.median(rewrites), "s", spread=spread(rewrites))


def _text() -> str:
    count = _SIZE // len(_PIECE % (0, 0)) + 1
    return "".join(_PIECE % (number, number) for number in range(count))


def _limited(text: str) -> None:
    limit = scope.by_namespace(syntax.parse(text), scope.CGROUP2)
    prepare.limited(Rewritten.of(text), limit)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
