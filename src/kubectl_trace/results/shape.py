"""Whether a record's data has the shape that its type says: whoever may write a log chooses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Stopping(msgspec.Struct):
    reason: str


class _Probes(msgspec.Struct):
    probes: int


class _Lost(msgspec.Struct):
    events: int


class _Change(msgspec.Struct):
    line: int
    column: int
    reason: str


class _Program(msgspec.Struct):
    text: str
    changes: list[_Change]


_Object = dict[str, Any]

_SHAPES: Mapping[str, Any] = {
    "stopping": _Stopping,
    "stderr": str,
    "note": str,
    "program": _Program,
    "attached_probes": _Probes,
    "lost_events": _Lost,
    "printf": str | list[str],
    "functions": list[Any],
    **dict.fromkeys(("helper_error", "runtime_error", "errorf", "warnf"), _Object),
    **dict.fromkeys(("map", "hist", "stats", "tseries"), _Object | list[_Object]),
}

_OF_CONTAINERS = frozenset({"printf", "call", "map", "hist", "stats", "tseries"})


def check(kind: str, data: Any, shapes: Mapping[str, Any]) -> None:
    """Refuses data that has another shape.

    Args:
        kind: The record's type.
        data: Its data.
        shapes: Those of types that are not known here.

    Raises:
        msgspec.ValidationError: it has.
    """
    shape = _SHAPES.get(kind) or shapes.get(kind)
    if shape is not None:
        msgspec.convert(data, shape)


def check_containers(kind: str, data: Any, numbers: int | list[int]) -> None:
    """Refuses results of several containers that are not one for each.

    Args:
        kind: The record's type.
        data: Its data.
        numbers: Those of its containers.

    Raises:
        msgspec.ValidationError: they are not.
    """
    if kind not in _OF_CONTAINERS or isinstance(numbers, int):
        return
    if not isinstance(data, list) or len(data) != len(numbers):
        raise msgspec.ValidationError("not as much data as containers")
