"""usage: python3 -m benchmarks [NAME…]: the table of all benchmarks, or of these modules."""

from __future__ import annotations

import datetime
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import machine
from benchmarks.errors import BenchmarkError
from benchmarks.row import of_module, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.row import Row

MODULES = (
    "parse_time",
    "merge_cost",
    "replay_time",
    "scope_start",
    "scope_cost",
    "foreign_noise",
    "throughput",
    "nginx_throughput",
    "call_cost",
    "function_lookup",
    "start_up",
    "first_event",
    "after_ctrl_c",
    "runner_size",
    "fan_out",
)
"""Each has a function `rows`."""

_RESULTS = Path(__file__).with_name("results.json")


def main(names: Sequence[str]) -> int:
    """Runs them; the exit status is 0 if every figure was had, whether its aim was met or not."""
    if unknown := set(names) - set(MODULES):
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(MODULES)}", file=sys.stderr)
        return 2
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    before = machine.Load.now()
    rows: list[Row] = []
    failed = False
    for name in names or MODULES:
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            rows += _alone(name)
        except BenchmarkError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = True
    noise = machine.noise(before, machine.Load.now())
    print(f"{machine.describe()}; {date}; {noise}\n\n{table(rows)}")
    if not names and not failed:
        results = {
            "machine": machine.describe(),
            "date": date,
            "noise": noise,
            "rows": [row.as_data() for row in rows],
        }
        _RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    return 1 if failed else 0


def _alone(name: str) -> list[Row]:
    """A module's rows, had in a process of its own.

    What a process starts counts the memory of its own as its own (ru_maxrss of getrusage(2), from
    before it executes another program), so that process must be small.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(of_module, name).result()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
