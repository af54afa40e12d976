"""The result: what is shown of one record, or of several nodes' records merged into one."""

from __future__ import annotations

from typing import Any

import msgspec


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing to show. Empty fields mean: of several, or not known."""

    time: float
    """Seconds since 1970, UTC; of merged ones the latest."""
    type: str
    """As the record's: bpftrace's types, and the runner's own; and `note`, a text for the user."""
    data: Any = None
    """In the shape that bpftrace's JSON has. Of a `printf`: a text, or a list of consecutive texts
    of one container."""
    node: str = ""
    namespace: str = ""
    pod: str = ""
    container: str = ""
    missing: tuple[str, ...] = ()
    """The nodes whose part is not in it."""
