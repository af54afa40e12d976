"""The runner's command line: `python3 -m kubectl_trace.runner trace FILE` or `headers FOLDER`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kubectl_trace._version import __version__


def main() -> int:
    """Runs what the arguments say; the exit code of `kubectl trace`."""
    parser = argparse.ArgumentParser(
        prog="kubectl-trace-runner",
        description="The part of kubectl trace that runs on a node. `kubectl trace run` starts it.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    trace = commands.add_parser("trace", help="run the trace described in FILE; records on stdout")
    trace.add_argument("file", type=Path)
    headers = commands.add_parser("headers", help="put the kernel's headers into DIRECTORY")
    headers.add_argument("directory", type=Path)
    headers.add_argument("--mirror", default="", help="URL below which header archives are")
    arguments = parser.parse_args()
    if arguments.command == "headers":
        from kubectl_trace.runner.headers import fetch

        return fetch(arguments.directory, arguments.mirror)
    from kubectl_trace.runner.session import run

    return run(arguments.file.read_bytes(), stdout=sys.stdout.fileno(), stdin=sys.stdin.fileno())


if __name__ == "__main__":
    sys.exit(main())
