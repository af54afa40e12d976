"""The record: what travels from a runner to its client, one JSON object a line.

Types of the runner's own: `start` (versions, kernel, containers), `scope` (containers that came
and went), `ready` (all probes are attached), `stopping` (why), `stderr` (bpftrace's messages),
`program` (as it would run, with the reasons), `cost` (of each probe, with --stats), `losses` (by
probe and container) and `summary` (exit code, reason, loss account). All other types are
bpftrace's (`printf`, `map`, `hist`, ...), with its data.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kubectl_trace.results import shape
from kubectl_trace.results.timestamp import Moment  # noqa: TC001  (msgspec looks for it)

MAPS = frozenset({"map", "hist", "stats", "tseries"})
"""The types of records that are maps."""

ERRORS = frozenset({"lost_events", "helper_error", "runtime_error", "errorf", "warnf"})
"""The types that bpftrace prints on stderr."""

NO_RESULTS = ERRORS | {"attached_probes", "rate_limit"}
"""The types of bpftrace's, or of ours beside them, that are no results of the program."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One unit of output."""

    seq: int
    """Counts the records of one runner from 0: a gap is a record lost on the way."""
    time: Moment
    """When the runner read it."""
    type: str
    data: Any = None
    """For `printf` under load: a list of texts, one a call, joined to spare the log path, which
    costs per line. A `hist` that `decode` has read has `Bucket`s."""
    container: int | list[int] = 0
    """The number of the container that a `printf` is of, from 1; 0: none, or not known. Of joined
    texts that are of several, a list: one number a text. A map that is kept by container comes so,
    too: `data` is a list then, one map a container."""
    print: int = 0
    """Of a map: the number of its print among `Start.prints`, from 1; 0: bpftrace's own, at
    exit."""


class Bucket(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """A bucket of a histogram, as bpftrace's JSON has it; an open end is unset."""

    min: int | msgspec.UnsetType = msgspec.UNSET
    max: int | msgspec.UnsetType = msgspec.UNSET
    count: int


class Member(msgspec.Struct, frozen=True):
    """A container of the scope."""

    number: int
    namespace: str
    pod: str
    container: str
    container_id: str


class Map(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the program makes of one of its maps, and so how the maps of several nodes are one."""

    kind: str = ""
    """`count`, `sum`, `min`, `max`, `avg`, `stats`, `hist`, `lhist`, `tseries`, or `value`: what
    was assigned last. `sum` stands for `++`, `--`, `+=` and `-=`, too. Empty: it can't be told."""
    split: bool = False
    """It is kept by container."""
    whole: str = ""
    """Why it can't be kept by container though that was asked for."""
    function: str = ""
    """Of a `tseries`: what it makes of the values of an interval (`sum`, `min`, `max`, `avg`, or
    empty: the last one)."""


class Print(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place where the program prints a map."""

    map: str
    """Its name, with the `@`."""
    when: str = ""
    """`interval`, `begin`, `end`, or empty: at an event, at any time. `refresh`: we asked for
    it."""
    period: float = 0
    """Seconds between two of an `interval` or `refresh`; 0: not known."""
    top: int = 0
    """Only so many of the map's greatest entries are printed, each node's map comes whole; 0:
    all."""
    div: int = 0
    """What its values are divided by when they are shown, they come undivided; 0: by nothing."""


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
    merge: bool = False
    """Its maps are to be merged with other nodes': `maps` and `prints` say how."""
    maps: dict[str, Map] = {}
    """By name, with the `@`."""
    prints: tuple[Print, ...] = ()


class ScopeChange(msgspec.Struct, frozen=True):
    """The data of a `scope` record."""

    joined: tuple[Member, ...] = ()
    left: tuple[Member, ...] = ()


class ProbeCost(msgspec.Struct, frozen=True):
    """What one probe has cost its node."""

    probe: str
    """As the user wrote it; where that can't be told, those that it may be."""
    hits: int
    average_ns: float
    """Nanoseconds a hit, of the BPF program; what the kernel needs to get there is not in it."""
    share: float
    """Percent of one CPU."""


class Cost(msgspec.Struct, frozen=True):
    """The data of a `cost` record: what a trace has cost its node while its probes were there."""

    seconds: float
    probes: tuple[ProbeCost, ...]
    """The costliest first."""
    share: float
    """Percent of one CPU, all probes together."""
    runner_cpu: float
    """Seconds of CPU time that the runner took, attaching and detaching included."""
    bpftrace_cpu: float
    """The same of bpftrace."""


class Loss(msgspec.Struct, frozen=True, omit_defaults=True):
    """Events lost by one cause, of one probe and container, where these are known."""

    cause: str
    """As in `Summary.lost`."""
    events: int
    seen: int = 0
    """All such events, delivered ones included; 0: not known."""
    probe: str = ""
    """As the user wrote it; of `calls`, its function."""
    namespace: str = ""
    pod: str = ""
    container: str = ""


class Losses(msgspec.Struct, frozen=True):
    """The data of the `losses` record: what is known beyond the sums of the summary."""

    losses: tuple[Loss, ...]
    """Most events first."""


class Summary(msgspec.Struct, frozen=True):
    """The data of the `summary` record, a runner's last."""

    exit: int
    """The exit code of `kubectl trace`."""
    reason: str
    """Why it ended: `finished`, `stopped`, `deadline`, `client gone`, `terminated`, `killed`,
    `refused`, ..."""
    message: str = ""
    """What to tell the user, if there is something to tell."""
    delivered: int = 0
    """Records of bpftrace's own, each printf counted."""
    lost: dict[str, int] = {}
    """Lost events by cause: `kernel buffer`, `map full`, `rate limit`, `output limit`."""


class _Scope(msgspec.Struct):
    """A `ScopeChange` that has both."""

    joined: tuple[Member, ...]
    left: tuple[Member, ...]


_Histograms = dict[str, list[Bucket] | dict[str, list[Bucket]]]


class _HistogramRecord(Record, frozen=True, omit_defaults=True):
    """A record of type `hist`: many small buckets, which as structs come twice as fast as dicts."""

    data: _Histograms | list[_Histograms]


encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode
_decode_histograms = msgspec.json.Decoder(_HistogramRecord).decode

_SHAPES = {"start": Start, "scope": _Scope, "cost": Cost, "losses": Losses, "summary": Summary}

_HISTOGRAM = b'"type":"hist"'
# Number and time are before the type; a text that has the same behind it is only read twice.
_HEAD = 80


def decode(line: bytes) -> Record:
    """A line of the wire as a record.

    Raises:
        msgspec.MsgspecError: it is none, or its data is not as its type says.
        UnicodeDecodeError: nor is it text.
        RecursionError: it is too deep.
    """
    if _HISTOGRAM in line[:_HEAD]:
        try:
            histograms = _decode_histograms(line)
        except msgspec.ValidationError:
            pass  # What a traced program printed may look like one.
        else:
            if histograms.type == "hist":
                shape.check_containers("hist", histograms.data, histograms.container)
                return histograms
    record = _decode(line)
    shape.check(record.type, record.data, _SHAPES)
    shape.check_containers(record.type, record.data, record.container)
    return record
