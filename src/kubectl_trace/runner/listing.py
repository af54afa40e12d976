"""The functions of the target's processes, listed: no bpftrace runs."""

from __future__ import annotations

import time
from itertools import chain, islice
from typing import TYPE_CHECKING

from kubectl_trace.binary import elf, returns, symbols
from kubectl_trace.errors import Exit, NotFoundError
from kubectl_trace.functions import catalog, patterns, runtimes, signatures
from kubectl_trace.results.function import Function
from kubectl_trace.results.record import Summary
from kubectl_trace.runner import modules

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kubectl_trace.functions.catalog import Binary
    from kubectl_trace.functions.patterns import Pattern
    from kubectl_trace.runner.modules import Module
    from kubectl_trace.runner.output import RecordWriter
    from kubectl_trace.trace import Functions

_A_RECORD = 500
_PATIENCE = 0.5
"""Seconds for what takes long: signatures and return sites."""


def run(wanted: Functions, pids: Sequence[int], writer: RecordWriter) -> Summary:
    """Writes records of the functions that are meant; the summary.

    Raises:
        NotFoundError: there is none.
    """
    parsed = [patterns.parse(text) for text in wanted.patterns]
    found = 0
    has_symbols = False
    looked: list[str] = []
    with modules.Opened(wanted.debuginfod) as opened:
        each = (
            modules.libraries(pids, wanted.libraries)
            if wanted.libraries
            else modules.executables(pids)
        )
        for module in each:
            binary = opened.binary(module)
            if binary is None:
                continue
            looked.append(module.shown)
            before = found
            listed = chain(_functions(module, binary, parsed), _probes(module, binary, parsed))
            # The client reads a part while the next one is made.
            while part := list(islice(listed, _A_RECORD)):
                found += len(part)
                writer.add("functions", part)
                writer.flush()
            has_symbols = has_symbols or found > before or bool(binary.functions([]))
        for note in (*opened.notes, *_notes(pids)):
            writer.add("stderr", note)
    if not found:
        what = " ".join(wanted.patterns) or "any"
        where = ", ".join(looked) or "the processes of the target"
        hint = f"; {modules.NO_SYMBOLS}" if looked and not has_symbols else ""
        raise NotFoundError(f"no function matches {what} in {where}{hint}")
    return Summary(exit=Exit.DONE, reason="listed", delivered=found)


def _notes(pids: Sequence[int]) -> Iterator[str]:
    """Where the processes run programs of a runtime that tells of their functions."""
    for runtime in runtimes.RUNTIMES:
        names = {pair[1] for pair in runtime.probes}
        if modules.with_probes(pids, runtime.provider, names):
            yield (
                f"these are the functions of the runtime; those of the {runtime.name} program: "
                f"kubectl trace functions TARGET '{runtime.name}:*'"
            )


def _functions(module: Module, binary: Binary, wanted: Sequence[Pattern]) -> Iterator[Function]:
    found = binary.functions(wanted)
    end = time.monotonic() + _PATIENCE
    described = {}
    # What was asked for by name, of everything only what time allows.
    if wanted:
        described = binary.described([each.address for each in found], 1)
    inlined = binary.inlined(wanted) if wanted and not found else []
    code = [segment for segment in binary.segments if symbols.is_code(segment)]
    for each in found:
        known = described.get(each.address)
        sites = _sites(binary, each) if wanted and time.monotonic() < end else None
        offset = symbols.file_offset(code, each.address)
        yield Function(
            name=each.name,
            file=module.shown,
            address=each.address,
            offset=offset if offset is not None else each.address,
            size=each.size,
            language=each.language or (known.language if known else ""),
            signature=signatures.signature(known) if known else "",
            return_sites=sites,
            symbol=each.symbol if each.symbol != each.name else "",
        )
    for inline in inlined:
        yield Function(
            name=inline.name,
            file=module.shown,
            kind="inlined",
            signature=", ".join(
                f"in {place.function} ({place.file.rpartition('/')[2]}:{place.line})"
                for place in inline.places[:8]
            ),
        )


def _sites(binary: Binary, function: catalog.Function) -> int | None:
    """How many places it returns at; None: not known."""
    code = binary.code(function)
    if not code:
        return None
    try:
        return len(returns.returns(code, function.address, binary.header.machine).sites)
    except elf.MalformedError:
        return None


def _probes(module: Module, binary: Binary, wanted: Sequence[Pattern]) -> Iterator[Function]:
    for each in binary.probes():
        name = f"{each.provider}:{each.name}"
        if wanted and not patterns.matching(wanted, (name, each.name)):
            continue
        yield Function(
            name=name,
            file=module.shown,
            kind="usdt",
            address=each.address,
            offset=symbols.file_offset(binary.segments, each.address) or each.address,
            signature=", ".join(
                f"{'float' if one.is_float else 'int' if one.is_signed else 'uint'}{one.size * 8}"
                for one in each.arguments
            ),
        )
