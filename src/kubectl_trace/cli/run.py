"""`kubectl trace run`: a program on a target."""

from __future__ import annotations

import os
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from kubectl_trace._version import __version__
from kubectl_trace.cli.arguments import duration, note, verb_parser
from kubectl_trace.errors import Exit, ForbiddenError, NotFoundError, TraceError, UsageError
from kubectl_trace.image import IMAGE

if TYPE_CHECKING:
    import argparse

    from kubectl_trace.cli.arguments import Parser
    from kubectl_trace.cli.cluster import Cluster
    from kubectl_trace.kube.client import Object
    from kubectl_trace.kube.job import JobOptions
    from kubectl_trace.kube.targets import Target
    from kubectl_trace.trace import Trace

_EXAMPLES = """\
  # print a line for each request that an nginx pod accepts; Ctrl-C ends it
  kubectl trace run pod/nginx-0 -a -e 'uprobe:/usr/sbin/nginx:ngx_event_accept { printf("new client request!\\n"); }'
  # count what nginx reads, in a program from a file; the map is printed at the end
  kubectl trace run deploy/nginx -a -f read.bt
  # ten busiest programs of a node, after half a minute
  kubectl trace run node/node-a -a --deadline 30s -e 'tracepoint:raw_syscalls:sys_enter { @[comm] = count(); }'
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
        "Run a bpftrace program on a target: NODE, node/NAME, pod/NAME, deploy/NAME (one of its\n"
        "ready pods), local (this machine) or local/PID. On a pod it sees the container's events and\n"
        "no others, and paths in attach points are the container's. $container_pid is the PID, on\n"
        "the node, of the container's first process.",
        _EXAMPLES,
        "TARGET [CONTAINER] (-e PROGRAM | -f FILE) [-a] [flags] [-- OPTIONS PARAMETERS]",
    )
    add = result.add_argument
    add("target", metavar="TARGET", help="where to trace")
    add("container_inline", metavar="CONTAINER", nargs="?", default="", help="the same as -c")
    add("-c", "--container", default="", help="container of the pod; default: see docs/targets.md")

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
        choices=["text", "json", "yaml", "stdout"],
        help="text or json; of a dry run yaml or json",
    )
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


_SCOPE_NEXT_HELP = "limit sched_switch to the task that gets the CPU, not the one that leaves it"


def run(arguments: argparse.Namespace) -> int:
    """Runs the verb."""
    from kubectl_trace.kube import targets

    target = targets.parse(arguments.target)
    container = _container(arguments, target)
    _check(arguments, target)
    trace = _trace(arguments, target)
    if target.kind == "local":
        return _run_local(arguments, target, trace)
    from kubectl_trace.cli.cluster import Cluster

    with Cluster(arguments) as cluster:
        return _run_in_cluster(arguments, cluster, target, container, trace)


def _container(arguments: argparse.Namespace, target: Target) -> str:
    if arguments.container and arguments.container_inline:
        raise UsageError("specify the container as an argument or with -c, not both")
    container = str(arguments.container or arguments.container_inline)
    if container and target.kind in ("node", "local"):
        raise UsageError(f"{target} has no containers: leave {container!r} away")
    return container


def _check(arguments: argparse.Namespace, target: Target) -> None:
    if arguments.tracer != "bpftrace":
        raise UsageError(f"unknown tracer {arguments.tracer!r}; there is bpftrace")
    if arguments.output == "stdout":  # as the original calls it
        arguments.output = "text"
    formats = ("yaml", "json") if arguments.dry_run == "client" else ("text", "json")
    if arguments.dry_run == "client" and arguments.output == "text":
        arguments.output = "yaml"
    if arguments.output not in formats:
        raise UsageError(f"-o {arguments.output}: there is {' and '.join(formats)}")
    if bool(arguments.patch) != bool(arguments.patch_type):
        raise UsageError("--patch and --patch-type go together")
    if arguments.patch_type not in ("", "json", "merge", "strategic"):
        raise UsageError(f"--patch-type {arguments.patch_type}: json, merge or strategic")
    if arguments.deadline <= 0:
        raise UsageError("--deadline must be more than 0: a trace always ends")
    if target.kind in ("node", "local") and arguments.process_selector:
        raise UsageError(f"--process-selector chooses a process of a container; {target} has none")
    if arguments.no_scope and arguments.scope_next:
        raise UsageError("--scope-next limits sched_switch to the scope; --no-scope has none")
    if target.kind == "node" and arguments.scope_next:
        raise UsageError(f"{target} has no scope: all its tasks are seen")
    if target.kind == "local":
        for name in ("patch", "fetch_headers", "target_namespace", "image_pull_secret"):
            if getattr(arguments, name):
                raise UsageError(f"--{name.replace('_', '-')} means nothing for {target}")
    if arguments.process_selector:
        from kubectl_trace.runner.processes import parse_selector

        parse_selector(arguments.process_selector)


def _trace(arguments: argparse.Namespace, target: Target) -> Trace:
    from kubectl_trace.cli import program_input
    from kubectl_trace.program import attach
    from kubectl_trace.trace import PROTOCOL, Trace

    program, name = program_input.program(arguments)
    has_scope = target.kind != "node" and bool(target.name)  # `local` has no name
    parts = program_input.checked(program, name, limited=has_scope and not arguments.no_scope)
    if not has_scope and attach.uses_container_pid(parts):
        raise UsageError(
            f"$container_pid has no meaning for {target}; trace a pod (pod/NAME) or a process "
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
        pid=int(target.name) if target.kind == "local" and target.name else 0,
        process_selector=arguments.process_selector,
        scope=not arguments.no_scope,
        scope_next=arguments.scope_next,
        explain=arguments.explain,
        deadline=arguments.deadline,
        grace=arguments.deadline_grace_period,
        attached=arguments.attach or arguments.explain or target.kind == "local",
        protocol=PROTOCOL,
        client_version=__version__,
    )


def _run_local(arguments: argparse.Namespace, target: Target, trace: Trace) -> int:
    if arguments.dry_run == "client":
        raise UsageError(f"{target} creates no objects")
    from kubectl_trace.cli.follow import Interrupts, follow
    from kubectl_trace.cli.printer import printer
    from kubectl_trace.runner.local import LocalRunner

    with Interrupts(owned=True) as interrupts:
        note(f"trace {trace.id} created")
        shown = printer(arguments.output)
        return follow(LocalRunner(trace), shown, interrupts, grace=trace.grace)


def _run_in_cluster(
    arguments: argparse.Namespace,
    cluster: Cluster,
    target: Target,
    container: str,
    trace: Trace,
) -> int:
    import msgspec

    from kubectl_trace.kube import job as jobs
    from kubectl_trace.kube import targets, traces

    namespace = cluster.namespace
    placement = targets.resolve(
        cluster.client, target, arguments.target_namespace or namespace, container
    )
    if placement.note:
        note(placement.note)
    if arguments.fetch_headers and "#include" not in trace.program:
        note("the program includes no headers: BTF says all that it needs, nothing is fetched")
        arguments.fetch_headers = False
    trace = msgspec.structs.replace(trace, containers=placement.containers)
    manifest = jobs.job(trace, placement, _job_options(arguments, cluster, target))
    if arguments.patch:
        from kubectl_trace.kube.patch import patched

        manifest = patched(manifest, _patch_text(arguments.patch), arguments.patch_type)
    if arguments.dry_run == "client":
        _print_objects([manifest, jobs.config_map(trace, manifest)], arguments.output)
        return Exit.DONE
    if trace.attached:
        return _create_and_follow(arguments, cluster, trace, manifest)
    traces.create(cluster.client, trace, manifest)
    print(f"trace {trace.id} created")
    return Exit.DONE


def _create_and_follow(
    arguments: argparse.Namespace, cluster: Cluster, trace: Trace, manifest: Object
) -> int:
    from kubectl_trace.cli.follow import Interrupts, NeverStarted, follow
    from kubectl_trace.cli.printer import printer
    from kubectl_trace.kube import traces
    from kubectl_trace.kube.stream import TraceStream

    shown = printer(arguments.output)
    stream = TraceStream(
        cluster.client, cluster.namespace, trace.id, timeout=arguments.timeout, owned=True
    )
    with Interrupts(owned=True) as interrupts:
        traces.create(cluster.client, trace, manifest)
        note(f"trace {trace.id} created")
        try:
            code = follow(stream, shown, interrupts, grace=trace.grace)
        except (TraceError, KeyboardInterrupt) as error:
            if not stream.started or isinstance(error, NeverStarted | ForbiddenError):
                # It never ran, or runs without a client to stop it: nothing worth reading later.
                _take_back(cluster, manifest)
            raise
    if trace.explain:
        _take_back(cluster, manifest)
    return code


def _take_back(cluster: Cluster, manifest: Object) -> None:
    from kubectl_trace.kube import traces

    try:
        traces.delete(cluster.client, cluster.namespace, manifest["metadata"]["name"], now=True)
    except NotFoundError:
        return
    except TraceError as error:
        note(f"the trace's objects are still there: {error}")


def _job_options(arguments: argparse.Namespace, cluster: Cluster, target: Target) -> JobOptions:
    from kubectl_trace.kube.job import JobOptions

    return JobOptions(
        namespace=cluster.namespace,
        target=str(target),
        owner=cluster.user or os.environ.get("USER", ""),
        service_account=arguments.serviceaccount,
        image=arguments.imagename,
        init_image=arguments.init_imagename or arguments.imagename,
        image_pull_policy=arguments.image_pull_policy,
        image_pull_secret=arguments.image_pull_secret,
        ttl=int(arguments.ttl),
        fetch_headers=arguments.fetch_headers,
        headers_mirror=arguments.headers_mirror,
        privileged=arguments.privileged,
    )


def _patch_text(file: str) -> str:
    try:
        return Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--patch {file}: {error}") from error


def _print_objects(objects: list[Object], output_format: str) -> None:
    if output_format == "json":
        import msgspec

        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        print(msgspec.json.format(msgspec.json.encode(listed), indent=4).decode())
        return
    import yaml

    yaml.safe_dump_all(objects, sys.stdout, sort_keys=False)
