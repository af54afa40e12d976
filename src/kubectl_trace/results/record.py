"""The record: what travels from a runner to its client, one JSON object a line.

Types of the runner's own: `start` (versions, kernel, containers), `scope` (containers that came
and went), `ready` (all probes are attached), `stopping` (why), `stderr` (bpftrace's messages),
`program` (as it would run, with the reasons) and `summary` (exit code, reason, loss account). All
other types are bpftrace's (`printf`, `map`, `hist`, ...), with its data.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One unit of output."""

    seq: int
    """Counts the records of one runner from 0: a gap is a record lost on the way."""
    time: float
    """When the runner read it, in seconds since 1970, UTC."""
    type: str
    data: Any = None
    """For `printf` under load: a list of texts, one a call, joined to spare the log path, which
    costs per line."""
    container: int | list[int] = 0
    """The number of the container that a `printf` is of, from 1; 0: none, or not known. Of joined
    texts that are of several, a list: one number a text."""


class Member(msgspec.Struct, frozen=True):
    """A container of the scope."""

    number: int
    namespace: str
    pod: str
    container: str
    container_id: str


class Start(msgspec.Struct, frozen=True):
    """The data of the `start` record."""

    trace: str
    version: str
    protocol: int
    node: str
    kernel: str
    bpftrace: str
    container_pid: int = 0
    """The PID, on the node, that `$container_pid` stands for; 0: none."""
    containers: tuple[Member, ...] = ()


class ScopeChange(msgspec.Struct, frozen=True):
    """The data of a `scope` record."""

    joined: tuple[Member, ...] = ()
    left: tuple[Member, ...] = ()


class Summary(msgspec.Struct, frozen=True):
    """The data of the `summary` record, a runner's last."""

    exit: int
    """The exit code of `kubectl trace`."""
    reason: str
    """Why it ended: `finished`, `stopped`, `deadline`, `client gone`, `killed`, `refused`, ..."""
    message: str = ""
    """What to tell the user, if there is something to tell."""
    delivered: int = 0
    """Records of bpftrace's own, each printf counted."""
    lost: dict[str, int] = {}
    """Lost events by cause: `kernel buffer`."""


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Record).decode
