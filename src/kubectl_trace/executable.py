"""Programs on PATH. shutil.which does it, too, but shutil imports three compressors: 4 ms."""

from __future__ import annotations

import os


def find(name: str) -> str | None:
    """The path of a program, or None if it is not on PATH."""
    for folder in os.get_exec_path():
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None
