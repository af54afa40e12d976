"""The one exception a user of the testbed sees as a message rather than as a traceback."""

from __future__ import annotations


class TestbedError(Exception):
    """What went wrong and, where a program failed, the last lines it wrote."""

    __test__ = False  # pytest would take the name for a test class
