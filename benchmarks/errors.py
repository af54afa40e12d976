"""What keeps a benchmark from being run."""

from __future__ import annotations


class BenchmarkError(Exception):
    """A figure can't be had here; the message says why."""
