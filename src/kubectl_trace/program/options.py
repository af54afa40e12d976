"""Bpftrace's options and environment, as far as they have a place in a trace.

Source: src/main.cpp of 0.17 to 0.27.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Options that change what a program sees. The others would take the records away from the runner
# (-f, -o, -d), run another program or command (-e, -c), or none at all (-l, --info).
SWITCHES = frozenset(
    (
        *("-k", "-kk", "--warnings", "--no-warnings", "-q", "--quiet", "-v", "--verbose"),
        *("--unsafe", "--usdt-file-activation"),
    )
)
WITH_VALUE = frozenset(("-B", "-p", "--pid", "-I", "--include", "--no-feature", "--probe-filter"))

READS_FILES = frozenset(("-I", "--include"))
"""Options by which files come into the program."""

_VARIABLE = re.compile(r"BPFTRACE_[A-Z0-9_]+", re.ASCII)


class OptionError(ValueError):
    """An option or a variable that has no place in a trace."""


def split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Bpftrace's options with their values, and what comes after them.

    Raises:
        OptionError: an option that has no place here.
    """
    options: list[str] = []
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-" and not rest[0][1:].isdigit():
        if rest[0] == "--":
            return options, rest[1:]
        count = _length(rest)
        options += rest[:count]
        rest = rest[count:]
    return options, rest


def names(options: Sequence[str]) -> list[str]:
    """The options without their values.

    Raises:
        OptionError: something is no option that has a place in a trace.
    """
    found = []
    rest = list(options)
    while rest:
        found.append(rest[0].partition("=")[0])
        rest = rest[_length(rest) :]
    return found


def _length(words: Sequence[str]) -> int:
    """How many words an option at their beginning is."""
    word = words[0]
    if word in SWITCHES or (word.partition("=")[0] in WITH_VALUE and "=" in word):
        return 1
    if word not in WITH_VALUE:
        known = " ".join(sorted(SWITCHES | WITH_VALUE))
        raise OptionError(f"{word} has no place here; of bpftrace's options there are {known}")
    if len(words) == 1:
        raise OptionError(f"bpftrace's option {word} needs a value")
    return 2


def check_variables(variables: Iterable[str]) -> None:
    """Refuses variables of the environment that are not bpftrace's own.

    LD_PRELOAD and the like would run what they name with bpftrace's rights.

    Raises:
        OptionError: there is one.
    """
    for name in variables:
        if not _VARIABLE.fullmatch(name):
            raise OptionError(f"{name} is none of bpftrace's variables (BPFTRACE_…)")
