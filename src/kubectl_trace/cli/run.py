"""`kubectl trace run`: a program on a target."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from kubectl_trace._version import __version__
from kubectl_trace.cli.arguments import FORMATS, duration, note, verb_parser
from kubectl_trace.errors import UsageError
from kubectl_trace.image import IMAGE

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
    add = result.add_argument
    add("targets", metavar="TARGET", nargs="*", help="where to trace; docs/targets.md")

    targets = result.add_argument_group("targets")
    add = targets.add_argument
    add("-l", "--selector", default=None, help="pods with these labels; after `nodes`: nodes")
    add("-A", "--all-namespaces", action="store_true", help="the selector's pods of all namespaces")
    add("--all-nodes", action="store_true", help="every node")
    add("-c", "--container", default="", help="container of the pods; default: docs/targets.md")
    add("--all-containers", action="store_true", help="all containers of the pods")
    add("--max-nodes", type=int, default=20, metavar="N", help="no more nodes unasked (20)")
    add("-y", "--yes", action="store_true", help="more nodes are fine")
    add("--require-all", action="store_true", help="fail if a node can't begin")

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
    add("--process-selector", default="", metavar="SELECTOR", help=_SELECTOR_HELP)
    add("--tracer", default="bpftrace", help="bpftrace is the one there is")

    running = result.add_argument_group("running")
    add = running.add_argument
    add("-a", "--attach", action="store_true", help="follow the trace; it ends with this command")
    add(
        *("-o", "--output"),
        default="text",
        choices=[*FORMATS, "stdout"],
        help="text, json, csv, yaml or folded; of a dry run yaml or json; docs/outputs.md",
    )
    add("--by", default="", choices=["node", "pod", "container"], help="maps split by these")
    add("--watch", action="store_true", help="a live view of the maps, on a terminal")
    add("--save", default="", metavar="FILE", help="keep the session for `kubectl trace replay`")
    add("--strict", action="store_true", help="exit code 8 if anything was lost")
    add("-q", "--quiet", action="store_true", help="no progress while starting")
    add("--deadline", type=duration, default=3600.0, metavar="TIME", help="stop after (1h)")
    add(
        "--deadline-grace-period",
        type=duration,
        default=120.0,
        metavar="TIME",
        help="how long bpftrace may take to detach and print its maps (2m)",
    )
    add("--timeout", type=duration, default=120.0, metavar="TIME", help="wait for the start (2m)")

    objects = result.add_argument_group("objects in the cluster")
    add = objects.add_argument
    add("--target-namespace", default="", help="the target's namespace; the Job goes to -n")
    add("--serviceaccount", default="default", help="the runner pod's service account")
    add("--imagename", default=IMAGE, metavar="IMAGE", help="the runner image (%(default)s)")
    add(
        "--init-imagename", default="", metavar="IMAGE", help="image of the headers' init container"
    )
    add("--image-pull-policy", default="IfNotPresent", choices=["Always", "IfNotPresent", "Never"])
    add("--image-pull-secret", default="", metavar="SECRET", help="secret of the image's registry")
    add("--fetch-headers", action="store_true", help="bring kernel headers for #include")
    add("--headers-mirror", default="", metavar="URL", help="headers for nodes that have none")
    add("--privileged", action="store_true", help="for kernels before 5.8, without CAP_BPF")
    add("--ttl", type=duration, default=3600.0, metavar="TIME", help="keep a finished trace (1h)")
    add("--patch", default="", metavar="FILE", help="a patch for the Job, YAML or JSON")
    add("--patch-type", default="", help="json, merge or strategic")
    add("--dry-run", default="none", choices=["none", "client"], help="client: create nothing")
    return result


_SELECTOR_HELP = (
    "which process $container_pid is: pid=N|first|last, exe=PATH, comm=NAME, cmdline=TEXT"
)


_REFRESH = 0.5  # seconds between two looks at the maps of a live view

_SCOPE_NEXT_HELP = "limit sched_switch to the task that gets the CPU, not the one that leaves it"


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb."""
    from kubectl_trace.kube import targets

    chosen = targets.parse(
        arguments.targets,
        selector=arguments.selector,
        all_nodes=arguments.all_nodes,
        all_namespaces=arguments.all_namespaces,
        container=arguments.container,
        all_containers=arguments.all_containers,
    )
    _check(arguments, chosen)
    _check_output(arguments, chosen)
    trace = _trace(arguments, chosen)
    if chosen.is_local:
        return _run_local(arguments, chosen, trace)
    from kubectl_trace.cli.cluster import Cluster
    from kubectl_trace.cli.launch import launch

    with Cluster(arguments) as cluster:
        return launch(arguments, cluster, chosen, trace)


def _check_output(arguments: argparse.Namespace, targets: Targets) -> None:
    """What is shown, and how.

    Raises:
        UsageError: flags that don't go together.
    """
    if arguments.output == "stdout":  # as the original calls it
        arguments.output = "text"
    if arguments.dry_run == "client":
        if arguments.output == "text":
            arguments.output = "yaml"
        if arguments.output not in ("yaml", "json"):
            raise UsageError(f"-o {arguments.output}: of a dry run there is yaml and json")
    follows = arguments.attach or arguments.explain or targets.is_local
    for name in ("by", "watch", "save", "strict"):
        if getattr(arguments, name) and not follows:
            raise UsageError(f"--{name} is for a trace that is followed: -a")
    if arguments.by in ("pod", "container") and (not targets.has_scope or arguments.no_scope):
        raise UsageError(f"--by {arguments.by}: {targets} has no containers to tell apart")
    if arguments.by and targets.is_local:
        raise UsageError(f"--by {arguments.by}: {targets} is one machine")
    if arguments.watch:
        if arguments.output != "text":
            raise UsageError(f"--watch is a view of its own: leave -o {arguments.output} away")
        from kubectl_trace.cli.live import check_terminal

        check_terminal()


def _check(arguments: argparse.Namespace, targets: Targets) -> None:
    if arguments.tracer != "bpftrace":
        raise UsageError(f"unknown tracer {arguments.tracer!r}; there is bpftrace")
    if bool(arguments.patch) != bool(arguments.patch_type):
        raise UsageError("--patch and --patch-type go together")
    if arguments.patch_type not in ("", "json", "merge", "strategic"):
        raise UsageError(f"--patch-type {arguments.patch_type}: json, merge or strategic")
    if arguments.deadline <= 0:
        raise UsageError("--deadline must be more than 0: a trace always ends")
    if arguments.max_nodes < 1:
        raise UsageError("--max-nodes must be 1 or more")
    has_containers = targets.has_scope and not targets.is_local
    if not has_containers and arguments.process_selector:
        raise UsageError(f"--process-selector chooses a process of a container; {targets} has none")
    if arguments.no_scope and arguments.scope_next:
        raise UsageError("--scope-next limits sched_switch to the scope; --no-scope has none")
    if not targets.has_scope and not targets.is_local and arguments.scope_next:
        raise UsageError(f"{targets} has no scope: all its tasks are seen")
    if targets.is_local:
        for name in ("patch", "fetch_headers", "target_namespace", "image_pull_secret"):
            if getattr(arguments, name):
                raise UsageError(f"--{name.replace('_', '-')} means nothing for {targets}")
    if arguments.process_selector:
        from kubectl_trace.runner.processes import parse_selector

        parse_selector(arguments.process_selector)


def _trace(arguments: argparse.Namespace, targets: Targets) -> Trace:
    from kubectl_trace.cli import program_input
    from kubectl_trace.program import attach
    from kubectl_trace.trace import PROTOCOL, Trace

    program, name = program_input.program(arguments)
    has_scope = targets.has_scope
    several = not targets.is_single or targets.all_containers
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
    return Trace(
        id=str(uuid.uuid4()),
        program=program,
        program_name=name,
        parameters=(*arguments.args, *parameters),
        bpftrace_options=tuple(options),
        environment=program_input.environment(arguments.env),
        pid=int(targets.each[0].name or 0) if targets.is_local else 0,
        process_selector=arguments.process_selector,
        scope=not arguments.no_scope,
        scope_next=arguments.scope_next,
        explain=arguments.explain,
        merge=several or arguments.watch or arguments.by in ("pod", "container"),
        split=several
        and has_scope
        and not arguments.no_scope
        and bool(arguments.by in ("pod", "container") or arguments.save),
        refresh=_REFRESH if arguments.watch else 0,
        deadline=arguments.deadline,
        grace=arguments.deadline_grace_period,
        attached=arguments.attach or arguments.explain or targets.is_local,
        protocol=PROTOCOL,
        client_version=__version__,
    )


def _run_local(arguments: argparse.Namespace, targets: Targets, trace: Trace) -> int:
    if arguments.dry_run == "client":
        raise UsageError(f"{targets} creates no objects")
    from kubectl_trace.cli.follow import Interrupts, follow
    from kubectl_trace.cli.launch import session, shown
    from kubectl_trace.runner.local import LocalRunner

    with Interrupts(owned=True) as interrupts:
        saved = session(arguments, targets, trace)
        note(f"trace {trace.id} created")
        runner = LocalRunner(trace)
        view = shown(arguments, interrupts, nodes=1, several=False, saved=saved)
        return follow(runner, view, interrupts, grace=trace.grace)
