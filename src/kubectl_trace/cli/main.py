"""`kubectl trace`: finds the verb and runs its module; no other verb's module is imported."""

from __future__ import annotations

import io
import sys
from importlib import import_module

from kubectl_trace.cli import arguments
from kubectl_trace.errors import Exit, TraceError, UsageError

TYPE_CHECKING = False  # typing itself would be a tenth of a short verb's time
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import TextIO

VERBS = {
    "run": "run a bpftrace program on nodes or in pods",
    "calls": "show functions' calls, with arguments and results",
    "functions": "list the functions that can be traced",
    "attach": "follow a running trace; Ctrl-C stops it",
    "logs": "print what a trace has put out, also after its end",
    "replay": "show a saved session again, in any view",
    "get": "list traces",
    "stop": "stop traces and collect their maps",
    "delete": "remove traces from the cluster",
    "auth": "say which rights a trace needs, and which are missing",
    "version": "print the versions of client, runner image and cluster",
    "completion": "print a shell's completion script",
}
ALIASES = {"log": "logs"}

_HELP = """\
Run bpftrace (eBPF) programs on the nodes and pods of a Kubernetes cluster, without changing them.

Usage:
  kubectl trace VERB [flags]

Verbs:
{verbs}

Examples:
  # calls of a function of a Go program: arguments, results, how long they took
  kubectl trace calls pod/functions -c go main.greet --max 5
  # each request that an nginx pod accepts
  kubectl trace run pod/nginx-0 -a -e 'uprobe:/proc/$container_pid/exe:ngx_event_accept {{ printf("new client request!\\n"); }}'
  # what all pods of a deployment read, in one map
  kubectl trace run deploy/nginx -a -e 'uprobe:/usr/sbin/nginx:ngx_unix_recv {{ @reads = count(); }}'
  # system calls of a node by program; Ctrl-C prints the map
  kubectl trace run node/node-a -a -e 'tracepoint:raw_syscalls:sys_enter {{ @[comm] = count(); }}'
  # the same on this machine, with no cluster
  sudo kubectl-trace run local -e 'tracepoint:raw_syscalls:sys_enter {{ @[comm] = count(); }}'

Exit codes:
  0 done; 1 failed; 2 usage; 3 target or trace not found; 4 not allowed; 5 could not be started;
  6 bpftrace refused the program; 7 cut short by the deadline without maps;
  8 something was lost (--strict); 9 its probes cost too much (--max-overhead);
  130 given up (Ctrl-C before the start, or twice)

`kubectl trace VERB --help` says more. All verbs take kubectl's connection flags (`kubectl options`).
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    sys.stdout = _buffered(sys.stdout)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _main(list(sys.argv[1:] if argv is None else argv))
    except TraceError as error:
        arguments.complain(str(error))
        return int(error.code)
    except BrokenPipeError:
        arguments.silence_stdout()
        return int(Exit.DONE)
    except OSError as error:
        arguments.complain(str(error))
        return int(Exit.FAILED)
    except KeyboardInterrupt:
        return int(Exit.GIVEN_UP)


def _buffered(stream: TextIO) -> TextIO:
    """A stream that writes all that it is given, whatever interrupts it.

    With PYTHONUNBUFFERED or -u Python's own writes once: of a write that a signal interrupts, such
    as Ctrl-C while a pipe is full, only the beginning is written.
    """
    raw = getattr(stream, "buffer", None)
    if stream is not sys.__stdout__ or not isinstance(raw, io.RawIOBase):
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, write_through=True
    )


def _main(argv: list[str]) -> int:
    verb, rest = arguments.split_verb(argv)
    if verb is None or verb == "help":
        if verb == "help" and rest and rest[0] in VERBS:
            return _main([rest[0], "--help"])
        unknown = [flag for flag in rest if flag not in ("-h", "--help")]
        if verb is None and unknown and "-h" not in rest and "--help" not in rest:
            raise UsageError(f"there is no verb; see kubectl trace --help (after {unknown[0]!r})")
        print(help_text(), end="")
        return Exit.DONE
    if verb == "--version":
        verb, rest = "version", []
    module = verb_module(verb)
    if module is None:
        from difflib import get_close_matches

        meant = "".join(f"; did you mean {name}?" for name in get_close_matches(verb, VERBS, 1))
        raise UsageError(f"unknown verb {verb!r}; the verbs are {', '.join(VERBS)}{meant}")
    parser = module.parser()
    before, after = arguments.split_at_dashes(rest)
    before = arguments.spell_out_switches(before)
    parsed = parser.parse_intermixed_args(before)
    parsed.after_dashes = after
    return int(module.run(parsed))


def verb_module(verb: str) -> ModuleType | None:
    """The module of a verb (with `parser` and `run`), or None for an unknown one."""
    name = ALIASES.get(verb, verb)
    return import_module(f"kubectl_trace.cli.{name}") if name in VERBS else None


def help_text() -> str:
    """What `kubectl trace --help` prints."""
    verbs = "\n".join(f"  {name:<12}{help_}" for name, help_ in VERBS.items())
    return _HELP.format(verbs=verbs)
