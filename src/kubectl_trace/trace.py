"""The trace as data: what a client asks of a runner, and what each says to the other.

The client writes a `Trace` as JSON for the runner. While it runs, the client sends `Control`
messages, one JSON object a line, to the runner's standard input.
"""

from __future__ import annotations

import msgspec

PROTOCOL = 6
"""Changes when a client and a runner of different versions would misunderstand each other."""

HEARTBEAT = 5.0
"""Seconds between two hellos of a client that owns a trace in a cluster."""

SILENCE = 60.0
"""Seconds without a word after which it is taken for gone: an API server may be away for half a
minute while it is upgraded."""


class Container(msgspec.Struct, frozen=True, omit_defaults=True):
    """A container of the placement, as the API server names it."""

    namespace: str
    pod: str
    container: str
    container_id: str
    """The runtime's ID, without its `containerd://`."""
    pod_uid: str = ""
    """As the kubelet knows it: a static pod's is in an annotation."""


class Functions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Functions of the target's processes, as a user names them."""

    patterns: tuple[str, ...] = ()
    """As `functions.patterns`; of a listing, none means all."""
    libraries: tuple[str, ...] = ()
    """Libraries or files to look into; none: the processes' own executables."""
    debuginfod: str = ""
    """A server of debug information, asked for what the files don't have."""


class Calls(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to be seen of functions' calls: the runner writes the program for it."""

    functions: Functions
    show: str = "calls"
    """`calls`, or instead of them a map: `latency`, `count`, `returns`."""
    arguments: bool = True
    returns: bool = True
    stack: bool = False
    condition: str = ""
    """As `functions.filters`."""
    most: int = 0
    """Calls after which the trace ends; 0: it goes on."""
    max_rate: int = 0
    """Calls a second on each node beyond which they are passed over; 0: none."""
    max_probes: int = 1000
    deep: int = 1
    """How many pointers are followed into structures."""
    string_size: int = 64
    """Bytes of a text that are read."""
    only_program: bool = False
    """Nothing is traced: the program is shown, as a person would run it."""


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a runner keeps within, and what it says of that."""

    records: int = 0
    """Records of the program's that are written; 0: any number."""
    bytes: int = 0
    """Bytes of results that are written; 0: any number."""
    overhead: float = 0
    """Percent of one CPU that the program's probes may take; 0: any share."""
    statistics: bool = False
    """What each probe has cost is told at the end."""
    needs_statistics: bool = False
    """The user asked for what takes the kernel's statistics: without them nothing begins."""
    memory: str = ""
    """What the runner's container may use, as a quantity of Kubernetes; empty: not limited."""
    cpu: str = ""


class Trace(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run of a program, as a runner needs to know it."""

    id: str
    program: str
    program_name: str = "program.bt"
    """What bpftrace's messages call the program: the user's file name."""
    parameters: tuple[str, ...] = ()
    bpftrace_options: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    containers: tuple[Container, ...] = ()
    pid: int = 0
    """The target `local/PID`; 0: none."""
    process_selector: str = ""
    calls: Calls | None = None
    """Instead of a program."""
    listing: Functions | None = None
    """Nothing is traced: these functions are listed."""
    scope: bool = True
    """Only events of the containers, or of the process, are seen."""
    scope_next: bool = False
    """`sched_switch` is for the task that gets the CPU, not for the one that leaves it."""
    explain: bool = False
    """The program is not run: what would run is shown, with the reasons."""
    merge: bool = False
    """Its maps are merged with other nodes': bpftrace is asked for what that needs."""
    split: bool = False
    """Its maps are kept by container, where the program lets them."""
    refresh: float = 0
    """Seconds between two prints of the maps that the program itself prints only at its exit; 0:
    none."""
    deadline: float = 3600
    """Seconds after which the runner stops the program and collects its maps."""
    grace: float = 120
    """Seconds that the program gets to detach and print its maps once it was told to stop."""
    limits: Limits = Limits()
    attached: bool = False
    """The trace belongs to a client, and ends with it."""
    silence: float = 0
    """Seconds in which an attached client must have said something; 0: it is gone when the
    runner's standard input ends."""
    protocol: int = 0
    client_version: str = ""

    @property
    def only_shows_program(self) -> bool:
        """Nothing is traced: the program is shown."""
        return self.explain or (self.calls is not None and self.calls.only_program)

    @property
    def traces(self) -> bool:
        """A program runs, and its objects stay until somebody deletes them."""
        return self.listing is None and not self.only_shows_program


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The client is here, still."""


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Stop the program and collect its maps."""


class Kill(msgspec.Struct, frozen=True, tag="kill"):
    """Stop the program at once and give up its maps."""


class Scope(msgspec.Struct, frozen=True, tag="scope"):
    """The target's containers on this node are these now."""

    containers: tuple[Container, ...]


Control = Hello | Stop | Kill | Scope
