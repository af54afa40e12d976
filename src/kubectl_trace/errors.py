"""What can go wrong, by what the user can do about it; each kind has its exit code.

TraceError                1  failed
├── UsageError            2  the command line or the program can't mean anything
├── NotFoundError         3  no such target or trace
├── ForbiddenError        4  the user, or the runner, may not
├── StartError            5  the trace could not be started
├── RefusedError          6  bpftrace refused the program
└── DeadlineError         7  cut short by the deadline, without maps

With --strict, 8: something was lost. 9: the probes cost more than --max-overhead. By Ctrl-C, 130:
the trace, or its maps, were given up.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of `kubectl trace`, and of the runner, so that a Job shows the same result."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    FORBIDDEN = 4
    NOT_STARTED = 5
    REFUSED = 6
    DEADLINE = 7
    LOST = 8
    OVERHEAD = 9
    GIVEN_UP = 130  # 128 + SIGINT, as shells say it


class TraceError(Exception):
    """A failure whose text says what happened and, where possible, what to do."""

    code = Exit.FAILED


class UsageError(TraceError):
    """The command line or the program can't mean anything."""

    code = Exit.USAGE


class NotFoundError(TraceError):
    """There is no such target or trace."""

    code = Exit.NOT_FOUND


class ForbiddenError(TraceError):
    """The API server, or the node's kernel, does not allow it."""

    code = Exit.FORBIDDEN


class StartError(TraceError):
    """The trace could not be started: quota, admission, scheduling, image pull, a crash."""

    code = Exit.NOT_STARTED


class RefusedError(TraceError):
    """Bpftrace refused the program; its own message has been shown."""

    code = Exit.REFUSED


class DeadlineError(TraceError):
    """The deadline ended the trace before its maps were collected."""

    code = Exit.DEADLINE
