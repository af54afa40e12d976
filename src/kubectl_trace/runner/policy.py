"""The policy that a cluster's owner mounts into the runner: what may be traced (docs/policy.md)."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from kubectl_trace.errors import ForbiddenError
from kubectl_trace.program import kernel_memory, options, policy, syntax
from kubectl_trace.program.policy import Rules
from kubectl_trace.program.tokens import ProgramError
from kubectl_trace.runner import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from kubectl_trace.runner.processes import Process
    from kubectl_trace.trace import Container, Functions, Trace

FILE = Path("/policy/policy.yaml")
NAMESPACE = "KUBECTL_TRACE_NAMESPACE"
"""The variable that has the namespace of the runner's pod."""
_NODE = "KUBECTL_TRACE_NODE"
PODS = Path("/var/log/pods")
"""Where the kubelet has a folder for every pod, NAMESPACE_NAME_UID (kubernetes
pkg/kubelet/kuberuntime/helpers.go: BuildPodLogsDirectory)."""

_LARGEST = 64 << 10  # bytes
_SHOWN = 5
_ID = re.compile(r"[0-9a-f]{64}")
# The kubelet's cgroup of a pod (pkg/kubelet/cm/pod_container_manager_linux.go); systemd's has _.
_POD = re.compile(r"pod(?P<uid>[0-9a-f]{8}(?:[-_]?[0-9a-f]{4}){3}[-_]?[0-9a-f]{12})(?:\.slice)?$")

_TYPES = frozenset(("BPFTRACE_BTF", "BPFTRACE_KERNEL_SOURCE", "BPFTRACE_KERNEL_BUILD"))
"""Variables by which bpftrace takes other types for the kernel's."""

_Word = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_]\w*$")]
_Namespace = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]


class Policy(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"
):
    """What a policy file says; what it does not say is allowed."""

    namespaces: Literal["own"] | tuple[_Namespace, ...] | None = None
    """Only containers of pods in these; `own`: in that of the trace."""
    scope: Literal["optional", "required"] = "optional"
    """`required`: nothing but the target's containers can be seen."""
    unsafe: bool = True
    kernel_memory: bool = True
    denied_functions: tuple[_Word, ...] = ()
    probes: tuple[str, ...] | None = None
    debuginfod: tuple[str, ...] | None = None
    """The servers of debug information that may be asked; None: any."""

    @property
    def scope_required(self) -> bool:
        """Whether nothing but the target's containers may be seen: of other namespaces neither."""
        return self.scope == "required" or self.namespaces is not None

    @property
    def rules(self) -> Rules:
        """What it says of programs."""
        return Rules(
            scope_required=self.scope_required,
            unsafe=self.unsafe,
            kernel_memory=self.kernel_memory,
            denied=frozenset(self.denied_functions),
            probes=self.probes,
        )


def read(path: Path = FILE) -> Policy:
    """The policy; without a file everything is allowed, if its folder is empty or not there.

    Raises:
        ForbiddenError: it can't be read, says what is not known here, or other files are there in
            its place.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        _refuse_others(path)
        return Policy()
    except OSError as error:
        raise _unreadable(path, error.strerror) from error
    if len(text) > _LARGEST:
        raise _unreadable(path, f"larger than {_LARGEST >> 10} KiB")
    try:
        found = msgspec.convert(_yaml(text), Policy)
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, str(error)) from error
    for pattern in found.probes or ():
        if not policy.is_pattern(pattern):
            raise _unreadable(path, f"probes: {pattern!r} is no pattern of attach points")
    return found


def _refuse_others(path: Path) -> None:
    """Refuses a folder whose files are no policy: its owner meant one of them to be.

    A ConfigMap that is not there (`optional`) is an empty folder. The kubelet's own names begin
    with two dots (kubernetes pkg/volume/util/atomic_writer.go).
    """
    try:
        found = sorted(name for name in os.listdir(path.parent) if not name.startswith(".."))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _unreadable(path, error.strerror) from error
    if found:
        names = ", ".join(ascii(name) for name in found[:_SHOWN])
        raise _unreadable(
            path,
            f"the ConfigMap has no key {path.name}, but {names} (--from-file={path.name}=FILE)",
        )


def _unreadable(path: Path, why: str | None) -> ForbiddenError:
    return ForbiddenError(
        f"the cluster's policy ({path}) can't be read, so nothing is traced: {why}; its owner can "
        "mend it (docs/policy.md)"
    )


def _yaml(text: bytes) -> object:
    """The content of a YAML text that is one mapping.

    Raises:
        ValueError: it is none.
    """
    try:
        import yaml
    except ImportError as error:
        raise ValueError("there is no YAML reader here (PyYAML)") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode):
            raise ValueError("it is no mapping of keys to values")
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:  # the last one would win
                raise ValueError(f"{key} is given twice")
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def check(trace: Trace, known: Policy, *, pods: Path = PODS) -> None:
    """Refuses a trace that the policy does not allow, as its user asked for it.

    Raises:
        ForbiddenError: which rule it breaks and where.
    """
    if known.scope_required:
        _check_target(trace, known)
    if why := next(filter(None, outside(trace.containers, known, pods=pods)), ""):
        raise _forbidden(_namespaces(known), why)
    for functions in (trace.listing, trace.calls.functions if trace.calls else None):
        if functions is not None:
            _check_server(functions, known)
    found = policy.check_options(trace.bpftrace_options, trace.environment, known.rules)
    if found:
        raise ForbiddenError(f"not allowed by the cluster's policy: {'; '.join(found)}")
    if trace.listing is None and trace.calls is None:
        check_program(trace, known)


def check_program(trace: Trace, known: Policy) -> None:
    """Refuses a program that the policy does not allow.

    Raises:
        ForbiddenError: which rule it breaks and where.
    """
    text = trace.program.replace("\r\n", "\n")
    try:
        refusals = policy.check(syntax.parse(text), known.rules)
    except ProgramError:
        return  # what follows says what is wrong with it
    if refusals:
        shown = [
            f"not allowed by the cluster's policy ({each.rule}): "
            + syntax.pointed(each.message, text, each.span, trace.program_name)
            for each in refusals[:_SHOWN]
        ]
        more = len(refusals) - len(shown)
        raise ForbiddenError("\n".join([*shown, *([f"and {more} more"] if more else [])]))


def check_version(known: Policy, release: str) -> None:
    """Refuses a bpftrace of which it is not known what its pointers mean.

    Raises:
        ForbiddenError: the policy needs that to be known.
    """
    if known.kernel_memory:
        return
    found = re.match(r"0\.(\d+)", release)
    if found is None or int(found[1]) < kernel_memory.SINCE:
        raise _forbidden(
            policy.KERNEL_MEMORY,
            f"bpftrace {release} follows any number as an address; 0.{kernel_memory.SINCE} or "
            "later is needed, as the runner's image has it",
        )


def check_exact(known: Policy, *, is_exact: bool) -> None:
    """Refuses the scope's way for when the kernel's types can't be used.

    Raises:
        ForbiddenError: the policy wants to have an exact one.
    """
    if known.scope_required and not is_exact:
        raise _forbidden(
            policy.SCOPE,
            "tasks could be told by their IDs only here, which the kernel gives out again (no BTF, "
            "or the program brings types of its own)",
        )


def outside(
    containers: Sequence[Container],
    known: Policy,
    *,
    pods: Path = PODS,
    proc: Path = processes.PROC,
) -> list[str]:
    """Why each container is none of the namespaces that the policy allows; empty: it is one.

    The node is asked, not the client: by the cgroups of the container's processes, and the folder
    that the kubelet made for their pod.
    """
    if known.namespaces is None:
        return [""] * len(containers)
    allowed, namespaces = _allowed(known.namespaces), _namespaces_of_pods(pods)
    found = processes.of_containers([each.container_id for each in containers], proc)
    return [_outside(each, allowed, namespaces, found, pods, proc) for each in containers]


def _outside(
    container: Container,
    allowed: frozenset[str],
    namespaces: Mapping[str, str],
    found: Mapping[str, Sequence[Process]],
    pods: Path,
    proc: Path,
) -> str:
    shown = f"container {container.container} of pod {container.pod}"
    uids = {container.pod_uid} if container.pod_uid else set()
    if container.container_id:
        if not _ID.fullmatch(container.container_id):
            return f"{container.container_id!r} is no container's ID"
        there = found.get(container.container_id, ())
        if not there:
            return f"{shown} has no process on this node"
        told = [_pod_uid(proc / str(each.pid), container.container_id) for each in there]
        uids |= {uid for uid in told if uid is not None}
    if not uids:
        return f"{shown}: its pod is not known"
    for uid in uids:
        namespace = namespaces.get(_plain(uid), "")
        if not namespace:
            return f"{shown}: the kubelet has no pod of the UID {uid or 'of its cgroup'} in {pods}"
        if namespace not in allowed:
            return f"{shown} is in the namespace {namespace}, not in {', '.join(sorted(allowed))}"
    return ""


def allowed(
    containers: Iterable[Container], known: Policy, complain: Callable[[str], None]
) -> tuple[Container, ...]:
    """Those of the containers that the policy allows; about the others it complains."""
    asked, found = tuple(containers), []
    for container, why in zip(asked, outside(asked, known), strict=True):
        if why:
            complain(f"not allowed by the cluster's policy ({_namespaces(known)}): {why}")
        else:
            found.append(container)
    return tuple(found)


def _check_target(trace: Trace, known: Policy) -> None:
    rule = policy.SCOPE if known.namespaces is None else _namespaces(known)
    # With the target local/PID, on one's own machine, the process is what was chosen.
    if not trace.containers and not (trace.pid and known.namespaces is None):
        what = "a process of the node" if trace.pid else "a whole node"
        raise _forbidden(rule, f"{what} can't be traced, only containers of pods")
    if not trace.scope:
        raise _forbidden(rule, "--no-scope")
    if trace.scope_next:
        raise _forbidden(rule, "--scope-next: the current task is the one that leaves, of anybody")


def _check_server(functions: Functions, known: Policy) -> None:
    server = functions.debuginfod.rstrip("/")
    servers = known.debuginfod
    if server and servers is not None and server not in [each.rstrip("/") for each in servers]:
        listed = ", ".join(servers) or "none"
        from kubectl_trace.runner import download

        said = f"the server {download.shown(server)}; there may be asked: {listed}"
        raise _forbidden("debuginfod", said)


def _forbidden(rule: str, message: str) -> ForbiddenError:
    return ForbiddenError(f"not allowed by the cluster's policy ({rule}): {message}")


def _namespaces(known: Policy) -> str:
    listed = known.namespaces
    return f"namespaces: {listed if listed == 'own' else ', '.join(listed or ())}"


def _allowed(namespaces: str | Sequence[str]) -> frozenset[str]:
    if namespaces != "own":
        return frozenset(namespaces)
    own = os.environ.get(NAMESPACE, "")
    if not own:
        raise _forbidden("namespaces: own", f"the runner does not know its namespace ({NAMESPACE})")
    return frozenset((own,))


def _pod_uid(process: Path, container_id: str) -> str | None:
    """The UID of the pod whose cgroup has that of the container, for one of its processes.

    Empty: it can't be told; None: the process has ended. A container may make cgroups below its
    own, so that only the folder right above the container's counts, and every cgroup that has the
    ID must agree.
    """
    try:
        lines = (process / "cgroup").read_text(errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError:
        return ""
    found = set()
    for line in lines:
        _, _, path = line.partition(":")[2].partition(":")
        parts = path.split("/")
        for above, part in itertools.pairwise(parts):
            if container_id in part:
                pod = _POD.search(above)
                found.add(pod["uid"] if pod else "")
    return found.pop() if len(found) == 1 else ""


def _namespaces_of_pods(pods: Path) -> dict[str, str]:
    """The namespaces of the node's pods, by their UIDs."""
    try:
        names = os.listdir(pods)
    except OSError:
        return {}
    # Neither a namespace's name nor a UID has an underscore.
    each = [name.split("_") for name in names]
    return {_plain(parts[-1]): parts[0] for parts in each if len(parts) == 3}


def _plain(uid: str) -> str:
    return re.sub("[-_]", "", uid)


def check_always(trace: Trace) -> None:
    """Refuses what no client of ours sends: options and variables that have no place in a trace.

    Raises:
        ForbiddenError: there is one.
    """
    try:
        given = options.names(trace.bpftrace_options)
        options.check_variables(trace.environment)
    except options.OptionError as error:
        raise ForbiddenError(str(error)) from error
    if trace.pid and (trace.containers or os.environ.get(NAMESPACE) or os.environ.get(_NODE)):
        raise ForbiddenError("a process is a target on one's own machine only (local/PID)")
    has_scope = trace.scope and bool(trace.containers or trace.pid)
    if has_scope and (files := options.READS_FILES.intersection(given)):
        raise ForbiddenError(
            f"{min(files)} may bring any file of the node into the program, and types that change "
            "the scope: put what is needed into the program, or use --no-scope"
        )
    own_types = sorted(
        name
        for name in _TYPES & trace.environment.keys()
        if trace.environment[name] != os.devnull  # none at all
    )
    if trace.scope and trace.containers and own_types:
        raise ForbiddenError(
            f"{own_types[0]} would say by which types tasks are told to be in scope; use --no-scope"
        )
