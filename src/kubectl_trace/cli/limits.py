"""What a trace may write, cost and use: the flags that limit it."""

from __future__ import annotations

from kubectl_trace.errors import UsageError

TYPE_CHECKING = False  # typing is imported once kubectl has been started
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import TypeVar

    from kubectl_trace.cli.arguments import Parser
    from kubectl_trace.trace import Limits

    _T = TypeVar("_T")

_MAX_BYTES = "256Mi"
"""Of results a node, unless somebody says: of a flood some six million lines, a minute's worth."""
_MAX_OVERHEAD = 20.0
"""Percent of one CPU, unless somebody says."""


def flags(parser: Parser) -> None:
    """Adds them."""
    add = parser.add_argument_group("limits, on each node; docs/limits.md").add_argument
    add("--max-records", type=int, default=0, metavar="N", help="stop after so many records")
    add(
        "--max-bytes",
        default=_MAX_BYTES,
        metavar="SIZE",
        help="stop after so much output; 0: any (%(default)s)",
    )
    add(
        "--max-overhead",
        default=None,
        metavar="PERCENT",
        help="stop where the probes take more of a CPU for 5 s; none: never (20%%; in pods estimated, "
        "unless said)",
    )
    add("--stats", action="store_true", help="at the end: what each probe has cost")
    add("--memory", default="", metavar="QUANTITY", help="the runner's limit (1Gi)")
    add("--cpu", default="", metavar="QUANTITY", help="the runner's limit (1)")


def limits(arguments: argparse.Namespace, *, is_local: bool) -> Limits:
    """What the flags say.

    Raises:
        UsageError: one of them means nothing.
    """
    from kubectl_trace.kube.quantity import size
    from kubectl_trace.trace import Limits

    if arguments.max_records < 0:
        raise UsageError("--max-records must be 0 or more")
    used = Limits() if is_local else resources(arguments)
    return Limits(
        records=arguments.max_records,
        bytes=_of("--max-bytes", arguments.max_bytes, size),
        overhead=percent(arguments.max_overhead),
        statistics=arguments.stats,
        needs_statistics=needs_statistics(arguments),
        memory=used.memory,
        cpu=used.cpu,
    )


def resources(arguments: argparse.Namespace) -> Limits:
    """What a runner in a pod may use; of the other limits nothing.

    Raises:
        UsageError: a quantity is none.
    """
    from kubectl_trace.kube import job
    from kubectl_trace.kube.quantity import amount
    from kubectl_trace.trace import Limits

    return Limits(
        memory=_of("--memory", arguments.memory or job.MEMORY, amount),
        cpu=_of("--cpu", arguments.cpu or job.CPU, amount),
    )


def needs_statistics(arguments: argparse.Namespace) -> bool:
    """Whether the user asked for what only the kernel's statistics of BPF programs can tell."""
    asked = arguments.max_overhead is not None and percent(arguments.max_overhead) > 0
    return bool(arguments.stats or asked)


def percent(text: str | None) -> float:
    """Percent of one CPU from `5%`, `5` or `none`; 0: any share.

    Raises:
        UsageError: the text is none of these.
    """
    if text is None:
        return _MAX_OVERHEAD
    if text == "none":
        return 0.0
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(f"--max-overhead {text}: write 5% (of one CPU), or none")
    return value


def _of(flag: str, text: str, read: Callable[[str], _T]) -> _T:
    try:
        return read(text)
    except UsageError as error:
        raise UsageError(f"{flag}: {error}") from error
