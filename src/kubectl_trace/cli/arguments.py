"""What every verb's command line shares: kubectl's connection flags, durations, messages."""

from __future__ import annotations

import argparse
import os
import re
import sys

from kubectl_trace.errors import UsageError

TYPE_CHECKING = False  # typing itself would be a tenth of a short verb's time
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

# kubectl's connection flags (`kubectl options`), passed on to it as they are.
_WITH_VALUE = (
    "as",
    "as-group",
    "as-uid",
    "cache-dir",
    "certificate-authority",
    "client-certificate",
    "client-key",
    "cluster",
    "context",
    "kubeconfig",
    "password",
    "server",
    "tls-server-name",
    "token",
    "user",
    "username",
)
_SWITCHES = ("insecure-skip-tls-verify", "match-server-version", "disable-compression")
_SHORT = {"server": "-s"}
_OURS = {"namespace": "-n", "request-timeout": None}

FORMATS = ("text", "json", "csv", "yaml", "folded")
"""What `-o` takes where a trace's results are shown."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|$)")
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}


class Parser(argparse.ArgumentParser):
    """An argument parser that raises, so that all errors leave by one door."""

    def error(self, message: str) -> NoReturn:
        """Raises what argparse found.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{message}\nSee '{self.prog} --help' for usage.")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """argparse's own, but that would import shutil, and with it three compressors, for the width."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    """The terminal's width, by the rules of shutil.get_terminal_size."""
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said) > 0:
        return int(said)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return 80


def verb_parser(
    verb: str, description: str, examples: str, usage: str, *, connection: bool = True
) -> Parser:
    """A verb's parser, with kubectl's connection flags in it if it speaks to a cluster."""
    parser = Parser(
        prog=f"kubectl trace {verb}",
        usage=f"kubectl trace {verb} {usage}",
        description=description,
        epilog="Examples:\n" + examples,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    if connection:
        _connection_flags(parser)
    return parser


def _connection_flags(parser: Parser) -> None:
    group = parser.add_argument_group("connection", "kubectl's own flags; see 'kubectl options'")
    group.add_argument("-n", "--namespace", default="", help="namespace of the request")
    group.add_argument(
        "--request-timeout",
        type=duration,
        default=0.0,
        metavar="TIME",
        help="how long one answer of the API server may take; 0: any time",
    )
    parser.set_defaults(connection_flags=[])
    for name in _WITH_VALUE:
        shown = name in ("context", "kubeconfig", "as")
        group.add_argument(
            *filter(None, (_SHORT.get(name), f"--{name}")),
            action=_PassOn,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help="passed on to kubectl" if shown else argparse.SUPPRESS,
        )
    for name in _SWITCHES:
        group.add_argument(
            f"--{name}",
            action=_PassOn,
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
        )


def view_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say how a trace's results are shown."""
    parser.add_argument("-o", "--output", default="text", choices=FORMATS, help="docs/outputs.md")
    parser.add_argument(
        "--by", default="", choices=["node", "pod", "container"], help="maps split by these"
    )


class _PassOn(argparse.Action):
    """Collects a flag for kubectl, in the order given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        flag = f"--{self.dest.replace('_', '-')}={values}"
        namespace.connection_flags = [*namespace.connection_flags, flag]


def takes_value(flag: str) -> bool:
    """Whether this is a connection flag whose value is the next word."""
    names = {f"--{name}" for name in (*_WITH_VALUE, *_OURS)}
    shorts = {short for short in (*_SHORT.values(), *_OURS.values()) if short}
    return flag in names | shorts


def split_verb(argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """The verb, and all other words; connection flags may stand before it."""
    skip = False
    for index, word in enumerate(argv):
        if skip:
            skip = False
        elif word == "--version":
            return word, []
        elif takes_value(word):
            skip = True
        elif not word.startswith("-"):
            return word, [*argv[:index], *argv[index + 1 :]]
    return None, list(argv)


def split_at_dashes(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before and after the first `--`."""
    words = list(argv)
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


def spell_out_switches(argv: Sequence[str]) -> list[str]:
    """`--flag` as `--flag=VALUE` for the flags that take a value only with `=`, as kubectl's do."""
    values = {f"--{name}": "true" for name in _SWITCHES} | {"--dry-run": "client"}
    return [f"{word}={values[word]}" if word in values else word for word in argv]


def duration(text: str) -> float:
    """Seconds from `90`, `90s`, `1h30m`, as kubectl writes durations.

    Raises:
        UsageError: the text is no duration.
    """
    position, seconds = 0, 0.0
    while position < len(text):
        part = _DURATION.match(text, position)
        if part is None:
            raise UsageError(f"{text!r} is no duration; write 90, 90s, 5m or 1h30m")
        seconds += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    if not text:
        raise UsageError("an empty duration; write 90, 90s, 5m or 1h30m")
    return seconds


def complain(text: str) -> None:
    """An error for the user, on stderr."""
    note(f"error: {text}")


def note(text: str) -> None:
    """Something for the user that is no result, on stderr; harmless to a terminal."""
    if sys.stderr.isatty():
        from kubectl_trace.results.terminal import escape

        text = escape(text)
    print(text, file=sys.stderr, flush=True)


def silence_stdout() -> None:
    """After a broken pipe: lets the interpreter flush stdout into nothing, without a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
