"""`kubectl trace calls`: with which arguments functions are called, and what they return."""

from __future__ import annotations

from kubectl_trace.cli import tracing
from kubectl_trace.cli.arguments import verb_parser
from kubectl_trace.errors import UsageError

TYPE_CHECKING = False  # typing is imported once kubectl has been started
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from kubectl_trace.cli.arguments import Parser
    from kubectl_trace.cli.cluster import Cluster
    from kubectl_trace.cli.printer import Printer
    from kubectl_trace.results.account import Account
    from kubectl_trace.results.result import Result
    from kubectl_trace.trace import Calls

_EXAMPLES = """\
  # each call of a function of nginx: its arguments, what it returned and how long it took
  kubectl trace calls pod/nginx-0 ngx_unix_recv
  # of all pods of a Deployment, on all their nodes; ten calls, then the end
  kubectl trace calls deploy/nginx ngx_unix_recv ngx_event_accept --max 10
  # which functions are there?
  kubectl trace functions pod/nginx-0 'ngx_http_*'
  # only calls that matter, chosen in the kernel; without debug information registers are the names
  kubectl trace calls deploy/nginx ngx_unix_recv --filter 'rdx > 100 && ret > 0'
  # how long calls take, how many there are, what they return: a map instead of lines
  kubectl trace calls deploy/nginx 'ngx_http_process_*' --latency
  kubectl trace calls deploy/nginx ngx_unix_recv --returns --by pod
  # a library's function, and from where it is called
  kubectl trace calls pod/nginx-0 --lib libc.so.6 getaddrinfo --stack
  # functions of Python, PHP, Java and Ruby, by their own names
  kubectl trace calls pod/runtimes -c php 'php:Account::*' --max 10
  # what that costs the node: hits, nanoseconds, share of a CPU; 2% of one at most
  kubectl trace calls pod/functions -c go main.greet --stats --max-overhead 2% --max 5
  # the bpftrace program that does it, to take further with `kubectl trace run`
  kubectl trace calls pod/nginx-0 ngx_unix_recv --show-program
"""


def parser() -> Parser:
    """The verb's command line."""
    result = verb_parser(
        "calls",
        "Show the calls of functions in running programs: a line a call with its arguments by name and\n"
        "type, what it returned and how long it took. For C, C++, Rust and Go; names and types come from\n"
        "debug information, in the program or apart from it. Without it arguments are shown as the\n"
        "registers they are in. A FUNCTION may have wildcards, or be a /regular expression/. Functions of\n"
        "Python, PHP, Java and Ruby are python:NAME, php:CLASS::NAME, java:CLASS.NAME, ruby:CLASS#NAME.",
        _EXAMPLES,
        "TARGET FUNCTION... [flags]",
    )
    add = result.add_argument
    add(
        "targets",
        metavar="TARGET",
        nargs="?",
        help="a pod or workload, or local/PID; docs/targets.md",
    )
    add("functions", metavar="FUNCTION", nargs="*", help="which functions; docs/functions.md")
    tracing.target_flags(result, nodes=False)

    shown = result.add_argument_group("what is shown of a call")
    add = shown.add_argument
    add(
        "--lib",
        action="append",
        default=[],
        metavar="FILE",
        help="a library instead of the program",
    )
    add("--args", action="store_true", default=True, help="arguments (the default)")
    add("--no-args", dest="args", action="store_false", help="no arguments")
    add("--no-returns", action="store_true", help="calls as they begin; cheaper")
    add("--stack", action="store_true", help="from where it was called")
    add("--filter", default="", metavar="CONDITION", help="such as 'len > 100 && ret < 0'")
    add("--max", type=int, default=0, metavar="N", help="end after so many calls")
    add("--max-rate", type=int, default=0, metavar="N", help="so many calls a second on each node")
    add("--max-probes", type=int, default=1000, metavar="N", help="no more probes (1000)")
    add("--deep", type=int, default=1, metavar="N", help="follow pointers into structures (1)")
    add("--string-size", type=int, default=64, metavar="BYTES", help="of a text (64)")
    add("--debuginfod", default="", metavar="URL", help="a server of debug information")
    add("--show-program", action="store_true", help="print the bpftrace program, and trace nothing")

    instead = result.add_argument_group("a map instead of lines").add_mutually_exclusive_group()
    instead.add_argument("--latency", action="store_true", help="a histogram of their durations")
    instead.add_argument("--count", action="store_true", help="how many calls")
    instead.add_argument(
        "--returns", action="store_true", help="how often each result was returned"
    )

    tracing.view_flags(result)
    tracing.running_flags(result)
    tracing.object_flags(result)
    return result


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb."""
    split_target(arguments)
    with tracing.connection(arguments) as cluster:
        return _run(arguments, cluster)


def _run(arguments: argparse.Namespace, cluster: Cluster | None) -> int:
    wanted = _calls(arguments)
    targets = tracing.targets(arguments)
    if not targets.has_scope:
        raise UsageError(
            f"{targets} has no process whose functions these are: name a pod or local/PID"
        )
    tracing.check(arguments, targets)
    tracing.check_output(arguments, targets, follows=True, has_scope=True)
    import msgspec

    trace = msgspec.structs.replace(
        tracing.trace(arguments, targets, scope=True, attached=True), calls=wanted
    )
    if not arguments.max or wanted.show != "calls":
        return tracing.begin(arguments, cluster, targets, trace)
    return tracing.begin(
        *(arguments, cluster, targets, trace),
        lambda inner, stop: _Most(inner, arguments.max, stop),
    )


def split_target(arguments: argparse.Namespace) -> None:
    """The first word is the target, unless labels choose the pods; all others are functions.

    Raises:
        UsageError: there is no target.
    """
    first = arguments.targets
    if arguments.selector is not None:
        arguments.functions[:0] = [first] if first else []
        arguments.targets = []
    elif first is None:
        raise UsageError("a target is needed: pod/NAME, deploy/NAME, -l SELECTOR, local/PID")
    else:
        arguments.targets = [first]


def _calls(arguments: argparse.Namespace) -> Calls:
    from kubectl_trace.functions import filters, patterns, runtimes
    from kubectl_trace.trace import Calls, Functions

    if not arguments.functions:
        raise UsageError("a function is needed; `kubectl trace functions TARGET` lists them")
    for name, least in (("max", 0), ("max_rate", 0), ("max_probes", 1), ("deep", 0)):
        if getattr(arguments, name) < least:
            raise UsageError(f"--{name.replace('_', '-')} must be {least} or more")
    if not 1 <= arguments.string_size <= 1000:
        raise UsageError("--string-size must be from 1 to 1000")
    show = next((name for name in ("latency", "count", "returns") if getattr(arguments, name)), "")
    if arguments.watch and not show:
        raise UsageError("--watch is a view of maps: --latency, --count or --returns")
    for flag in ("max", "stack", "no_returns"):
        if show and getattr(arguments, flag):
            raise UsageError(f"--{flag.replace('_', '-')} is for lines, --{show} shows a map")
    if arguments.after_dashes:
        raise UsageError("bpftrace's options have no place here; see --show-program")
    try:
        if arguments.filter:
            filters.parse(arguments.filter)
        for text in arguments.functions:
            runtimes.parse(text)
            patterns.parse(text)
    except (filters.FilterError, patterns.PatternError) as error:
        raise UsageError(str(error)) from error
    return Calls(
        Functions(tuple(arguments.functions), tuple(arguments.lib), arguments.debuginfod),
        show=show or "calls",
        arguments=arguments.args,
        returns=not arguments.no_returns,
        stack=arguments.stack,
        condition=arguments.filter,
        most=arguments.max,
        max_rate=arguments.max_rate,
        max_probes=arguments.max_probes,
        deep=arguments.deep,
        string_size=arguments.string_size,
        only_program=arguments.show_program,
    )


class _Most:
    """Shows so many calls, then stops the trace."""

    def __init__(self, inner: Printer, most: int, stop: Callable[[], None]) -> None:
        self._inner = inner
        self._left = most
        self._stop = stop

    def show(self, result: Result) -> None:
        if result.type == "call":
            if not self._left:
                return
            self._left -= 1
            self._inner.show(result)
            if not self._left:
                self._stop()
            return
        self._inner.show(result)

    def flush(self) -> None:
        self._inner.flush()

    def close(self, account: Account | None) -> None:
        self._inner.close(account)
