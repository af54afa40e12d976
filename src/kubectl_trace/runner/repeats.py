"""Entries of a map whose keys read the same, folded into one entry.

Bpftrace has stacks, symbols and times in keys as numbers, and prints two entries where two numbers
read the same: two places in one function, one function in two processes. People, and JSON, know a
key by its text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from kubectl_trace.results.dialect import Output
from kubectl_trace.results.record import Map, Record, decode, encode

if TYPE_CHECKING:
    from collections.abc import Mapping


def joined(output: Output, kinds: Mapping[str, str]) -> Output:
    """The record with one entry a key.

    Entries that can't be one, such as values of which the last one counts, stay apart, with ` (2)`
    and so on behind their keys.

    Args:
        output: A map by key, perhaps with repeated entries.
        kinds: What the program makes of its maps, as in `record.Map.kind`.
    """
    if not output.repeated or not isinstance(output.data, dict):
        return output
    layers: list[dict[str, Any]] = [output.data, *output.repeated]
    data = {
        name: _one(output.type, kinds.get(name, ""), [layer.get(name, {}) for layer in layers])
        for name in output.data
    }
    return Output(output.type, data)


def _one(kind: str, made_by: str, layers: list[dict[str, Any]]) -> dict[str, Any]:
    from kubectl_trace.results.fold import Parts, form  # few maps have repeated entries

    first = layers[0]
    # An average's count is to stay: other nodes' parts may come to it.
    facts = Map("stats" if made_by == "avg" else made_by)
    result: dict[str, Any] = {}
    for key in first:
        values = [layer[key] for layer in layers if key in layer]
        parts: Parts[int] = Parts(form(kind, {key: values[0]}), facts)
        for number, value in enumerate(values):
            parts.add(number, _as_sent(kind, {key: value}))
        merged = parts.merged()
        if merged is None or parts.aside():
            names = [key, *(f"{key} ({number})" for number in range(2, len(values) + 1))]
            result |= dict(zip(names, values, strict=True))
        else:
            result[key] = msgspec.to_builtins(merged[key])
    return result


def _as_sent(kind: str, value: dict[str, Any]) -> Any:
    """A map's value as folding knows it: as a client reads it from the wire."""
    return decode(encode(Record(0, 0.0, kind, {"@": value}))).data["@"]
