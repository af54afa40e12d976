"""Other Debian suites than this machine's own: their mirrors, and packages of them in the cache.

Nothing that is unpacked is configured, and nothing of this machine's is replaced: whoever unpacks
it knows how to run it (bpftraces.py, programs.py).
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .commands import UNTIL_WE_END, run
from .errors import TestbedError
from .settings import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """Give a path to make a folder at, which is put in place when all has gone well.

    Who calls this holds a lock on what is beside `folder`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    # What a command that was killed has left.
    for left in folder.parent.glob("*.new-*"):
        shutil.rmtree(left, ignore_errors=True)
    # What is interrupted may still write while it is removed.
    with TemporaryDirectory(
        prefix=f"{folder.name}.new-", dir=folder.parent, ignore_cleanup_errors=True
    ) as making:
        new = Path(making) / "whole"
        yield new
        new.rename(folder)


def unpack(suite: str, packages: str, root: Path) -> None:
    """Unpack packages of a suite (`one,other`), and all that they depend on, to `root`.

    Raises:
        TestbedError: the suite or a package is not to be had.
    """
    install("debian-archive-keyring", "mmdebstrap")
    run(
        [
            *UNTIL_WE_END,
            *("mmdebstrap", "--variant=extract", f"--include={packages}", "--format=directory"),
            *("--quiet", f"--keyring={KEYRING}"),
            # Sid's signed index is valid for a week only, and a mirror may stand still.
            '--aptopt=Acquire::Check-Valid-Until "false"',
            # The first line is the suite itself; sid has no -updates and no -security.
            *(suite, root, apt_sources(suite)[0]),
        ]
    )


def install(*packages: str) -> None:
    """Install packages of this machine's own suite, where they are missing.

    Raises:
        TestbedError: apt-get failed.
    """
    done = subprocess.run(
        [CHECKOUT / "hack" / "apt-install", *packages], stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode != 0:
        raise TestbedError(f"{', '.join(packages)}: not all installed; apt-get says why above")


def apt_sources(release: str) -> list[str]:
    """Lines for sources.list, from the mirrors that this machine's apt uses for its own release."""
    mirrors = _mirrors()
    if "" not in mirrors:
        # A machine's image may come without apt's lists.
        run(["apt-get", "-qq", "update"])
        mirrors = _mirrors()
    if "" not in mirrors:
        raise TestbedError("this machine's apt has no mirror of its own Debian release")
    return [f"deb {uri} {release}{suite} main" for suite, uri in sorted(mirrors.items())]


def _mirrors() -> dict[str, str]:
    """This machine's Debian mirrors, by what follows the release's name: "", "-security", …."""
    host = platform.freedesktop_os_release()["VERSION_CODENAME"]
    suites = {f"{host}{suffix}": suffix for suffix in ("", "-updates", "-security")}
    answer = run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"]
    )
    targets = (line.partition(" ") for line in answer.splitlines())
    return {suites[suite]: uri for uri, _, suite in targets if suite in suites}
