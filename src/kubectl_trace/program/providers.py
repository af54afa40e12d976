"""The providers of bpftrace's attach points, and in whose context each fires.

Sources: PROBE_LIST in src/types.h (0.17) and src/probe_types.h (0.23 to 0.27).
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

# The name and its aliases.
_IN_TASK = {
    "kprobe": ("k",),
    "kretprobe": ("kr",),
    "uprobe": ("u",),
    "uretprobe": ("ur",),
    "usdt": ("U",),
    "tracepoint": ("t",),
    "rawtracepoint": ("rt",),
    "profile": ("p",),
    "software": ("s",),
    "hardware": ("h",),
    "watchpoint": ("w",),
    "asyncwatchpoint": ("aw",),
    "fentry": ("f", "kfunc"),
    "fexit": ("fr", "kretfunc"),
}
# These fire for the trace itself, or visit every task whatever the current one is.
_OUTSIDE = {
    "BEGIN": ("begin",),
    "END": ("end",),
    "interval": ("i",),
    "iter": ("it",),
    "self": (),
    "test": (),
    "bench": (),
}
_NAMES = {
    written: name for name, aliases in (_IN_TASK | _OUTSIDE).items() for written in (name, *aliases)
}


def expand(written: str) -> frozenset[str]:
    """The providers that a provider's name, alias or wildcard stands for; none if it is unknown.

    bpftrace expands a wildcard to fewer: BEGIN, say, is never meant by one.
    """
    if "*" in written:
        # bpftrace knows no other wildcard (wildcard_match).
        pattern = re.sub(r"[?\[]", r"[\g<0>]", written)
        return frozenset(name for name in _NAMES.values() if fnmatchcase(name, pattern))
    return frozenset({_NAMES[written]} if written in _NAMES else ())


def fires_in_a_task(written: str) -> bool:
    """Whether its probes belong to the current task, so that they can be limited to a scope.

    What is unknown does: up to 0.23 a macro of the C preprocessor may stand for a provider.
    """
    names = expand(written)
    return not names or not names <= _OUTSIDE.keys()


def is_begin(written: str) -> bool:
    """Whether its probe fires once, before all others are attached."""
    return _NAMES.get(written) == "BEGIN"


def attaches_to_file(written: str) -> bool:
    """Whether the part after the provider is a file: a program or a library."""
    return bool(expand(written) & {"uprobe", "uretprobe", "usdt"})
