"""usage: python3 -m testbed up | down | status | image | programs | stop … | enter … | …."""

from __future__ import annotations

import os
import sys

from . import cluster
from .errors import TestbedError
from .namespaces import within

_USAGE = """\
usage: python3 -m testbed COMMAND

  up       start the cluster, or bring a running one up to date
  down     remove it and everything it made, but the caches
  status   say how each part is; exit status 1 unless all is well
  image    build the runner's image and print its archive's path
  stop|start|pause|resume COMPONENT
           end a component (`status` has their names) and start it again, or halt it for a while
  cut|join|crash NODE
           cut the wire of node-a or node-b, mend it, or end all that runs there at once
  enter PLACE [COMMAND...]
           run a command (default: a shell) in the namespaces of control, node-a or node-b
  bpftrace VERSION [ARGUMENTS...]
           run bpftrace 0.17, 0.23 or 0.27 on this machine's kernel; needs no cluster
  bpftrace-programs VERSION
           print the paths of the programs (*.bt) that Debian ships with that version
  programs build the programs whose every call is known, and print their folder's path
"""


def main(argv: list[str]) -> int:
    """Run the command that the user gave; give the exit status."""
    match argv:
        case ["up"]:
            cluster.up()
        case ["down"]:
            cluster.down()
        case ["status"]:
            return _status()
        case ["image"]:
            print(cluster.image())
        case ["enter", place, *command]:
            inside = within(place, command or [os.environ.get("SHELL", "/bin/sh")])
            os.execvp(inside[0], inside)
        # Imported here alone: what `up` imports is the code that made the running cluster.
        case [("stop" | "start" | "pause" | "resume" | "cut" | "join" | "crash") as fault, name]:
            from . import faults

            getattr(faults, fault)(name)
        case ["bpftrace", version, *arguments]:
            from . import bpftraces

            bpftraces.execute(version, arguments)
        case ["bpftrace-programs", version]:
            from . import bpftraces

            print(*bpftraces.programs(version), sep="\n")
        case ["programs"]:
            from . import programs

            print(programs.ensure())
        case ["help" | "-h" | "--help"]:
            print(_USAGE, end="")
        case _:
            print(_USAGE, end="", file=sys.stderr)
            return 2
    return 0


def _status() -> int:
    parts = cluster.status()
    for name, trouble in parts.items():
        print(f"{name:28}{trouble or 'ok'}")
    return 1 if any(parts.values()) else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except TestbedError as error:
        print(f"testbed: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
