"""Names of functions as users write them: exact, with wildcards, or `/regular expressions/`."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST = 1000


class PatternError(ValueError):
    """The pattern can't be read."""


@dataclass(frozen=True)
class Pattern:
    """What a user wrote, and what it matches."""

    text: str
    expression: re.Pattern[str]
    is_exact: bool
    """Without wildcards: what it does not match may still be told to exist, inlined."""

    def matches(self, name: str) -> bool:
        """Whether it means this name; the exact text does always, also with brackets in it."""
        return name == self.text or self.expression.search(name) is not None


def parse(text: str) -> Pattern:
    """The pattern that a text is: `/…/` a regular expression found anywhere, else as in glob(7).

    Raises:
        PatternError: it can't be read.
    """
    if not text or len(text) > _LONGEST or not text.isprintable():
        raise PatternError(f"{text[:80]!r} is no pattern of functions")
    if len(text) > 1 and text.startswith("/") and text.endswith("/"):
        try:
            return Pattern(text, re.compile(text[1:-1]), is_exact=False)
        except (re.error, OverflowError, RecursionError) as error:
            raise PatternError(f"{text}: {error}") from error
    # Names of Go methods have a star and generic ones brackets of their own: main.(*T).F[...].
    is_exact = not re.search(r"[*?\[]", re.sub(r"\(\*|\[\.\.\.\]", "", text))
    escaped = re.sub(r"\[(?=\]|\.\.\.\])", "[[]", re.sub(r"\(\*(?=\w)", "([*]", text))
    return Pattern(text, re.compile(r"\A" + fnmatch.translate(escaped)), is_exact)


def matching(patterns: Iterable[Pattern], names: Iterable[str]) -> bool:
    """Whether any of the patterns means any of the names."""
    every = [name for name in names if name]
    return any(pattern.matches(name) for pattern in patterns for name in every)
