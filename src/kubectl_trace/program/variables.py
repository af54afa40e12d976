"""`$container_pid`: kubectl trace's own variable in a program."""

from __future__ import annotations

import re

CONTAINER_PID = "$container_pid"

# The lexical elements in which a variable's name must be told apart: comments, where it means
# nothing, and everything else. A path of an attach point comes first, because `/*` and `//` in it
# start no comment (bpftrace: src/lexer.l, the rule for paths after a colon).
_TOKENS = re.compile(
    r"""
      (?P<path>:[\w./+\-*$#]+)
    | (?P<comment>//[^\n]* | /\*.*?(?:\*/|\Z))
    | (?P<string>"(?:\\.|[^"\\])*(?:"|\Z))
    | (?P<variable>\$\w+)
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(re.escape(CONTAINER_PID) + r"\b")


def uses_container_pid(program: str) -> bool:
    """Whether the program's code, strings or attach points name `$container_pid`."""
    return any(
        token.lastgroup != "comment" and _NAME.search(token.group())
        for token in _TOKENS.finditer(program)
    )


def replace_container_pid(program: str, pid: int) -> str:
    """The program with `$container_pid` replaced by a PID, everywhere but in comments."""

    def replaced(token: re.Match[str]) -> str:
        if token.lastgroup == "comment":
            return token.group()
        return _NAME.sub(str(pid), token.group())

    return _TOKENS.sub(replaced, program)


def lost_to_the_shell(program: str) -> bool:
    """Whether a shell seems to have eaten `$container_pid`: a path has `/proc//`."""
    return "/proc//" in program
