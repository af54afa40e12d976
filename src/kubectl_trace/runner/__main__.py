"""The runner's command line: `python3 -m kubectl_trace.runner trace FILE` or `headers FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> int:
    """Runs what the arguments say; the exit code of `kubectl trace`."""
    match sys.argv[1:]:
        case ["trace", file] if not file.startswith("-"):
            # As each trace is started: argparse takes 4 ms to come to the same.
            return _trace(Path(file))
        case words:
            return _parsed(words)


def _parsed(words: list[str]) -> int:
    import argparse

    from kubectl_trace._version import __version__

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
    arguments = parser.parse_args(words)
    if arguments.command == "headers":
        from kubectl_trace.runner.headers import fetch

        return fetch(arguments.directory, arguments.mirror)
    return _trace(arguments.file)


def _trace(file: Path) -> int:
    import gc

    # What is imported stays: to look at all of it for garbage, again and again, takes 10 ms.
    gc.disable()
    from kubectl_trace.runner.session import run

    gc.freeze()
    gc.enable()
    return run(file.read_bytes(), stdout=sys.stdout.fileno(), stdin=sys.stdin.fileno())


if __name__ == "__main__":
    sys.exit(main())
