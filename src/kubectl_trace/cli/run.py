"""`kubectl trace run`: a program on a target."""

from __future__ import annotations

from kubectl_trace.cli import tracing
from kubectl_trace.cli.arguments import verb_parser
from kubectl_trace.errors import UsageError

TYPE_CHECKING = False  # typing is imported once kubectl has been started
if TYPE_CHECKING:
    import argparse

    from kubectl_trace.cli.arguments import Parser
    from kubectl_trace.kube.targets import Targets
    from kubectl_trace.trace import Trace

_EXAMPLES = """\
  # print a line for each request that an nginx pod accepts; Ctrl-C ends it
  kubectl trace run pod/nginx-0 -a -e 'uprobe:/usr/sbin/nginx:ngx_event_accept { printf("new client request!\\n"); }'
  # count what all pods of a Deployment read, on all their nodes; one map is printed at the end
  kubectl trace run deploy/nginx -a -f read.bt
  # the same by pod, and each second as it grows
  kubectl trace run deploy/nginx -a --by pod -f read.bt
  kubectl trace run deploy/nginx -a --watch -f read.bt
  # pods by their labels; the whole session is kept for `kubectl trace replay`
  kubectl trace run -l app=nginx -a --save nginx.session -e 'uprobe:/usr/sbin/nginx:ngx_unix_recv { @[pid] = count(); }'
  # busiest programs of all nodes, after half a minute
  kubectl trace run --all-nodes -a --deadline 30s -e 'tracepoint:raw_syscalls:sys_enter { @[comm] = count(); }'
  # in the background: note the ID, look later
  kubectl trace run node/node-a -f opens.bt
  # positional parameters and bpftrace's own options come after --
  kubectl trace run node/node-a -a -e 'interval:s:1 { printf("%d\\n", $1); exit(); }' -- -v 42
  # no more than so many lines; at the end, what each probe has cost the node
  kubectl trace run node/node-a -a --max-records 100 --stats -e 'tracepoint:raw_syscalls:sys_enter { printf("%s %d\\n", comm, args->id); }'
  # how the program is changed to run there, without running it
  kubectl trace run deploy/nginx --explain -e 'uprobe:/usr/sbin/nginx:ngx_unix_recv { @[pid] = count(); }'
  # what would be created
  kubectl trace run node/node-a -f opens.bt --dry-run=client -o yaml
  # on this machine, with no cluster
  sudo kubectl-trace run local -e 'tracepoint:raw_syscalls:sys_enter { @[comm] = count(); }'
"""


def parser() -> Parser:
    """The verb's command line."""
    result = verb_parser(
        "run",
        "Run a bpftrace program on targets: pod/NAME, deploy/, sts/, ds/, rs/, job/ or svc/NAME (all\n"
        "their pods, also those that come later), -l SELECTOR, NODE or node/NAME, --all-nodes, local\n"
        "(this machine) or local/PID. Of pods it sees the containers' events and no others, and paths\n"
        "in attach points are the containers'. Maps of several nodes are merged into one.\n"
        "$container_pid is the PID, on the node, of the container's first process.",
        _EXAMPLES,
        "TARGET... [CONTAINER] (-e PROGRAM | -f FILE) [-a] [flags] [-- OPTIONS PARAMETERS]",
    )
    result.add_argument(
        "targets", metavar="TARGET", nargs="*", help="where to trace; docs/targets.md"
    )
    tracing.target_flags(result)

    program = result.add_argument_group("program (one of)")
    add = program.add_argument
    add("-e", "--eval", metavar="PROGRAM", help="the program's text")
    add("-f", "--filename", metavar="FILE", help="a file or URL with the program; -: stdin")
    add("--program", metavar="PROGRAM", help="the program's text, as for -e")
    add("--args", action="append", default=[], metavar="ARG", help="a positional parameter; repeat")
    add("--env", action="append", default=[], metavar="NAME=VALUE", help="bpftrace's environment")
    add("--no-scope", action="store_true", help="see all tasks of the node, not only the target's")
    add("--scope-next", action="store_true", help=_SCOPE_NEXT_HELP)
    add("--explain", action="store_true", help="show the program as it would run there, and why")
    add("--unsafe", action="store_true", help="allow system(), signal() and the like")
    add("--tracer", default="bpftrace", help="bpftrace is the one there is")

    add("-a", "--attach", action="store_true", help="follow the trace; it ends with this command")

    tracing.view_flags(result)
    tracing.running_flags(result)
    tracing.object_flags(result)
    return result


_SCOPE_NEXT_HELP = "limit sched_switch to the task that gets the CPU, not the one that leaves it"


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb."""
    with tracing.connection(arguments) as cluster:
        targets = tracing.targets(arguments)
        _check(arguments, targets)
        tracing.check(arguments, targets)
        tracing.check_output(
            arguments,
            targets,
            follows=arguments.attach or arguments.explain or targets.is_local,
            has_scope=targets.has_scope and not arguments.no_scope,
        )
        return tracing.begin(arguments, cluster, targets, _trace(arguments, targets))


def _check(arguments: argparse.Namespace, targets: Targets) -> None:
    if arguments.tracer != "bpftrace":
        raise UsageError(f"unknown tracer {arguments.tracer!r}; there is bpftrace")
    if arguments.no_scope and arguments.scope_next:
        raise UsageError("--scope-next limits sched_switch to the scope; --no-scope has none")
    if not targets.has_scope and not targets.is_local and arguments.scope_next:
        raise UsageError(f"{targets} has no scope: all its tasks are seen")


def _trace(arguments: argparse.Namespace, targets: Targets) -> Trace:
    import msgspec

    from kubectl_trace.cli import program_input
    from kubectl_trace.program import attach

    program, name = program_input.program(arguments)
    has_scope = targets.has_scope
    parts = program_input.checked(program, name, limited=has_scope and not arguments.no_scope)
    if not has_scope and attach.uses_container_pid(parts):
        raise UsageError(
            f"$container_pid has no meaning for {targets}; trace a pod (pod/NAME) or a process "
            "(local/PID)"
        )
    if "/proc//" in program:
        raise UsageError(
            "the program has a path with /proc//: did the shell take $container_pid away? Put the "
            "program between single quotes"
        )
    options, parameters = program_input.after_dashes(arguments.after_dashes)
    if has_scope and not arguments.no_scope and {"-k", "-kk"} & set(options):
        raise UsageError(
            "-k reports each look at the scope that finds nothing, and so each task outside: use "
            "--no-scope with it"
        )
    if arguments.unsafe:
        options.append("--unsafe")
    attached = arguments.attach or arguments.explain or targets.is_local
    return msgspec.structs.replace(
        tracing.trace(arguments, targets, scope=not arguments.no_scope, attached=attached),
        program=program,
        program_name=name,
        parameters=(*arguments.args, *parameters),
        bpftrace_options=tuple(options),
        environment=program_input.environment(arguments.env),
        scope_next=arguments.scope_next,
        explain=arguments.explain,
    )
