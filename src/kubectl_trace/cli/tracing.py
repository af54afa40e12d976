"""What the verbs that trace share: targets, how a trace runs and is shown, and its start."""

from __future__ import annotations

import contextlib

from kubectl_trace._version import __version__
from kubectl_trace.cli import limits
from kubectl_trace.cli.arguments import FORMATS, duration, note
from kubectl_trace.errors import UsageError
from kubectl_trace.image import IMAGE

TYPE_CHECKING = False  # typing is imported once kubectl has been started
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from kubectl_trace.cli.arguments import Parser
    from kubectl_trace.cli.cluster import Cluster
    from kubectl_trace.cli.printer import Printer
    from kubectl_trace.kube.targets import Targets
    from kubectl_trace.trace import Trace

    Wrap = Callable[[Printer, Callable[[], None]], Printer]

_SELECTOR_HELP = (
    "which process $container_pid is: pid=N|first|last, exe=PATH, comm=NAME, cmdline=TEXT"
)
_REFRESH = 0.5  # seconds between two looks at the maps of a live view


def target_flags(parser: Parser, *, nodes: bool = True) -> None:
    """Adds what says where to trace, and how. `nodes`: also on nodes, not only in pods."""
    add = selection_flags(parser, nodes=nodes)
    add("--process-selector", default="", metavar="SELECTOR", help=_SELECTOR_HELP)
    add("--max-nodes", type=int, default=20, metavar="N", help="no more nodes unasked (20)")
    add("-y", "--yes", action="store_true", help="more nodes are fine")
    add("--require-all", action="store_true", help="fail if a node can't begin")


def selection_flags(parser: Parser, *, nodes: bool = True) -> Callable[..., argparse.Action]:
    """Adds what, beside the words, says which targets are meant; takes more flags of that group."""
    add = parser.add_argument_group("targets").add_argument
    select = "pods with these labels; after `nodes`: nodes" if nodes else "pods with these labels"
    add("-l", "--selector", default=None, help=select)
    add("-A", "--all-namespaces", action="store_true", help="the selector's pods of all namespaces")
    if nodes:
        add("--all-nodes", action="store_true", help="every node")
    else:
        parser.set_defaults(all_nodes=False)
    add("-c", "--container", default="", help="container of the pods; default: docs/targets.md")
    add("--all-containers", action="store_true", help="all containers of the pods")
    return add


def view_flags(parser: Parser) -> None:
    """Adds what says how results are shown."""
    add = parser.add_argument_group("results").add_argument
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


def running_flags(parser: Parser) -> None:
    """Adds how long a trace may take, and how much."""
    add = parser.add_argument_group("running").add_argument
    add("--deadline", type=duration, default=3600.0, metavar="TIME", help="stop after (1h)")
    add(
        "--deadline-grace-period",
        type=duration,
        default=120.0,
        metavar="TIME",
        help="how long bpftrace may take to detach and print its maps (2m)",
    )
    add("--timeout", type=duration, default=120.0, metavar="TIME", help="wait for the start (2m)")
    limits.flags(parser)


def object_flags(parser: Parser) -> None:
    """Adds what says what a trace's objects in the cluster are like."""
    add = parser.add_argument_group("objects in the cluster").add_argument
    add("--reason", default="", metavar="TEXT", help="why, for the record; docs/rights.md")
    add("--target-namespace", default="", help="the target's namespace; the Job goes to -n")
    add("--serviceaccount", default="default", help="the runner pod's service account")
    add("--imagename", default=IMAGE, metavar="IMAGE", help="the runner image (%(default)s)")
    add(
        "--init-imagename", default="", metavar="IMAGE", help="image of the headers' init container"
    )
    add("--image-pull-policy", default="IfNotPresent", choices=["Always", "IfNotPresent", "Never"])
    add("--image-pull-secret", default="", metavar="SECRET", help="secret of the image's registry")
    add("--fetch-headers", action="store_true", help="bring kernel headers for #include")
    mirror_flag(add)
    add("--privileged", action="store_true", help="for kernels before 5.8, without CAP_BPF")
    add("--ttl", type=duration, default=3600.0, metavar="TIME", help="keep a finished trace (1h)")
    add("--patch", default="", metavar="FILE", help="a patch for the Job, YAML or JSON")
    add("--patch-type", default="", help="json, merge or strategic")
    add("--dry-run", default="none", choices=["none", "client"], help="client: create nothing")


def mirror_flag(add: Callable[..., argparse.Action]) -> None:
    """Adds `--headers-mirror`."""
    add(
        "--headers-mirror",
        type=_mirror,
        default="",
        metavar="URL",
        help="headers for nodes that have none",
    )


def _mirror(url: str) -> str:
    # It is among the Job's arguments, which many read.
    if "@" in url:
        raise UsageError(
            "--headers-mirror takes a URL without a name and a password (an @ of its path is %40)"
        )
    if url and not url.lower().startswith(("http://", "https://")):
        raise UsageError(f"--headers-mirror {url}: no http or https URL")
    return url


@contextlib.contextmanager
def connection(arguments: argparse.Namespace) -> Iterator[Cluster | None]:
    """The cluster, whose connection comes up while the rest of the command line is read.

    None where the target is this machine.
    """
    if any(word.partition("/")[0] == "local" for word in arguments.targets):
        yield None
        return
    from kubectl_trace.cli.cluster import Cluster

    with Cluster(arguments) as cluster:
        yield cluster


def targets(arguments: argparse.Namespace) -> Targets:
    """The targets of the command line.

    Raises:
        UsageError: they are none, or don't go together.
    """
    from kubectl_trace.kube import targets

    return targets.parse(
        arguments.targets,
        selector=arguments.selector,
        all_nodes=arguments.all_nodes,
        all_namespaces=arguments.all_namespaces,
        container=arguments.container,
        all_containers=arguments.all_containers,
    )


def check(arguments: argparse.Namespace, targets: Targets) -> None:
    """Refuses flags that don't fit each other or the targets.

    Raises:
        UsageError: which, and why.
    """
    if bool(arguments.patch) != bool(arguments.patch_type):
        raise UsageError("--patch and --patch-type go together")
    if arguments.patch_type not in ("", "json", "merge", "strategic"):
        raise UsageError(f"--patch-type {arguments.patch_type}: json, merge or strategic")
    if arguments.deadline <= 0:
        raise UsageError("--deadline must be more than 0: a trace always ends")
    if arguments.max_nodes < 1:
        raise UsageError("--max-nodes must be 1 or more")
    if arguments.reason:
        from kubectl_trace.kube import audit

        if len(arguments.reason) > audit.MOST_OF_REASON:
            raise UsageError(f"--reason is longer than {audit.MOST_OF_REASON} characters")
    has_containers = targets.has_scope and not targets.is_local
    if not has_containers and arguments.process_selector:
        raise UsageError(f"--process-selector chooses a process of a container; {targets} has none")
    if targets.is_local:
        for name in (
            *("reason", "patch", "fetch_headers", "target_namespace", "image_pull_secret"),
            *("memory", "cpu"),
        ):
            if getattr(arguments, name):
                raise UsageError(f"--{name.replace('_', '-')} means nothing for {targets}")
    if arguments.process_selector:
        from kubectl_trace.runner.processes import parse_selector

        parse_selector(arguments.process_selector)


def check_output(
    arguments: argparse.Namespace, targets: Targets, *, follows: bool, has_scope: bool
) -> None:
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
    for name in ("by", "watch", "save", "strict"):
        if getattr(arguments, name) and not follows:
            raise UsageError(f"--{name} is for a trace that is followed: -a")
    if arguments.by in ("pod", "container") and not has_scope:
        raise UsageError(f"--by {arguments.by}: {targets} has no containers to tell apart")
    if arguments.by and targets.is_local:
        raise UsageError(f"--by {arguments.by}: {targets} is one machine")
    if arguments.watch:
        if arguments.output != "text":
            raise UsageError(f"--watch is a view of its own: leave -o {arguments.output} away")
        from kubectl_trace.cli.live import check_terminal

        check_terminal()


def trace(arguments: argparse.Namespace, targets: Targets, *, scope: bool, attached: bool) -> Trace:
    """A trace with everything but what it is to see.

    Args:
        arguments: The command line.
        targets: Its targets.
        scope: It is limited to the target's containers.
        attached: It ends with this command.
    """
    import uuid

    from kubectl_trace.trace import PROTOCOL, SILENCE, Trace

    several = not targets.is_single or targets.all_containers
    by_container = arguments.by in ("pod", "container")
    return Trace(
        id=str(uuid.uuid4()),
        program="",
        pid=int(targets.each[0].name or 0) if targets.is_local else 0,
        process_selector=arguments.process_selector,
        scope=scope,
        merge=several or arguments.watch or by_container,
        split=several and targets.has_scope and scope and bool(by_container or arguments.save),
        refresh=_REFRESH if arguments.watch else 0,
        deadline=arguments.deadline,
        grace=arguments.deadline_grace_period,
        limits=limits.limits(arguments, is_local=targets.is_local),
        attached=attached,
        silence=SILENCE if attached and not targets.is_local else 0,
        protocol=PROTOCOL,
        client_version=__version__,
    )


def begin(
    arguments: argparse.Namespace,
    cluster: Cluster | None,
    targets: Targets,
    trace: Trace,
    wrap: Wrap | None = None,
) -> int:
    """Runs a trace in the cluster or on this machine; the exit code.

    Args:
        arguments: The command line.
        cluster: As `connection` gives it.
        targets: Where.
        trace: What.
        wrap: Makes the printer of its results another one; it is given what stops the trace.

    Raises:
        TraceError: it could not be started, or failed.
    """
    _check_is_text(trace)
    if cluster is not None:
        from kubectl_trace.cli.launch import launch

        return launch(arguments, cluster, targets, trace, wrap)
    if arguments.dry_run == "client":
        raise UsageError(f"{targets} creates no objects")
    from kubectl_trace.cli.follow import Interrupts, follow
    from kubectl_trace.cli.launch import session, shown
    from kubectl_trace.runner.local import LocalRunner

    with Interrupts(owned=True) as interrupts:
        saved = session(arguments, targets, trace)
        note(f"trace {trace.id} created")
        runner = LocalRunner(trace)
        view = shown(arguments, interrupts, nodes=1, several=False, saved=saved, wrap=wrap)
        return follow(runner, view, interrupts, grace=trace.grace)


def _check_is_text(trace: Trace) -> None:
    """Refuses what no runner could be told.

    Raises:
        UsageError: a word of the command line is no text.
    """
    import msgspec

    try:
        msgspec.json.encode(trace)
    except UnicodeEncodeError as error:
        raise UsageError(f"{str(error.object)[:80]!a} is no text in UTF-8") from error
