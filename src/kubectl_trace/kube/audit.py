"""What a trace's objects say of it to those who look after the cluster. Pure.

Never there: the program's positional parameters and `--env`. They may be secrets, and Events and
annotations are read and exported by many; the number of parameters is told.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kubectl_trace.results.terminal import escape

if TYPE_CHECKING:
    from kubectl_trace.kube.client import Object
    from kubectl_trace.trace import Calls, Functions, Trace

MOST_OF_REASON = 500
"""Characters of `--reason`."""
MOST_OF_PROGRAM = 1000
"""Characters of the program that annotations keep; its hash is of all of it."""
MOST_OF_OWNER = 100
_MOST_OF_MESSAGE = 1000  # characters; an Event's message is to be shorter than 1 kB (Event API)
_MOST_IN_MESSAGE = 300  # of those, the program's

EVENT_REASON = "Traced"
_COMPONENT = "kubectl-trace"


def bounded(text: str, most: int) -> str:
    """The text on one line, harmless to a terminal, and no longer than that."""
    line = escape(" ".join(text.split()))
    return line if len(line) <= most else line[: most - 1] + "…"


def what(trace: Trace) -> str:
    """What a trace runs: the program, or the verb that makes one, and with how many parameters."""
    if trace.listing is not None:
        return " ".join(["functions", *_named(trace.listing)])
    text = trace.program if trace.calls is None else _calls(trace.calls)
    return f"{text} ({len(trace.parameters)} parameters)" if trace.parameters else text


def digest(trace: Trace) -> str:
    """The SHA-256, in hexadecimal, of the program; of what makes one, its description's."""
    import hashlib

    text = trace.program if trace.calls is None and trace.listing is None else what(trace)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


def _calls(calls: Calls) -> str:
    words = ["calls", *_named(calls.functions)]
    words += [f"--filter {calls.condition!r}"] if calls.condition else []
    words += [f"--{calls.show}"] if calls.show != "calls" else []
    return " ".join(words)


def _named(functions: Functions) -> list[str]:
    """Which functions; not the server of debug information, whose URL may have a password in it."""
    return [*functions.patterns, *(f"--lib {library}" for library in functions.libraries)]


def pod_reference(namespace: str, name: str, uid: str) -> Object:
    """A pod as the object of an Event."""
    return {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": uid}


def node_reference(name: str) -> Object:
    """A node as the object of an Event; kubelets give its name as its UID."""
    return {"apiVersion": "v1", "kind": "Node", "name": name, "uid": name}


def event(
    trace: Trace, about: Object, namespace: str, *, owner: str, reason: str, traces_namespace: str
) -> Object:
    """An Event that tells a traced object's owner who traces it, with what and why.

    Args:
        trace: The trace.
        about: The reference to the object.
        namespace: The Event's own.
        owner: Who traces, as the client says.
        reason: Why, as the user says; may be empty.
        traces_namespace: Where the trace's objects are.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    why = f"; reason: {bounded(reason, MOST_OF_REASON)}" if reason else ""
    who = bounded(owner, MOST_OF_OWNER) or "unknown"
    message = (
        f"traced by {who}{why}; trace {trace.id} in namespace {traces_namespace}, "
        f"program sha256 {digest(trace)[:16]}: "
        f"{bounded(what(trace), _MOST_IN_MESSAGE)}"
    )
    import hashlib

    mark = hashlib.sha256(f"{about['name']} {about['uid']}".encode()).hexdigest()[:8]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"kubectl-trace-{trace.id}.{mark}", "namespace": namespace},
        "involvedObject": about,
        "reason": EVENT_REASON,
        "message": bounded(message, _MOST_OF_MESSAGE),
        "type": "Normal",
        "source": {"component": _COMPONENT},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
