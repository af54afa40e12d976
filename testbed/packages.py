"""The Debian packages that the testbed stands on."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .commands import run, say
from .errors import TestbedError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Without their recommendations, so each is named.
NEEDED = (
    "buildah",
    "ca-certificates",
    "containerd",
    "containernetworking-plugins",
    "debian-archive-keyring",
    "dpkg-dev",
    "etcd-server",
    "gcc",
    "golang-go",
    "iproute2",
    "iptables",
    "jq",
    "libc6-dev",
    "make",
    "mmdebstrap",
    "openssl",
    "rsync",
    "runc",
    "util-linux",
)
POLICY = Path("/usr/sbin/policy-rc.d")
OUR_POLICY = (
    "#!/bin/sh\n# kubectl-trace's testbed, while it installs packages: start no service\nexit 101\n"
)


def ensure() -> None:
    """Install what is missing.

    Raises:
        TestbedError: this is no Debian, not root, or apt-get failed.
    """
    if os.geteuid() != 0:
        raise TestbedError("the testbed needs root: it makes namespaces, mounts and cgroups")
    if shutil.which("apt-get") is None:
        raise TestbedError("the testbed is built from Debian 12's packages, and here is no apt-get")
    missing = [name for name in NEEDED if not _installed(name)]
    # /usr/bin/kubectl may belong to another package than Debian's.
    if shutil.which("kubectl") is None:
        missing.append("kubernetes-client")
    if not missing:
        return
    say(f"installing {' '.join(missing)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with _no_services():
        run(["apt-get", "-qq", "update"], env=quiet)
        run(["apt-get", "-qq", "-y", "install", "--no-install-recommends", *missing], env=quiet)


def _installed(package: str) -> bool:
    # One file a package, named with or without its architecture.
    lists = Path("/var/lib/dpkg/info")
    return (lists / f"{package}.list").exists() or any(lists.glob(f"{package}:*.list"))


@contextmanager
def _no_services() -> Iterator[None]:
    """Keep packages from starting their services, by the file that Debian's scripts ask."""
    # A run that was killed may have left ours.
    ours = not POLICY.exists() or POLICY.read_text(errors="replace") == OUR_POLICY
    try:
        if ours:
            POLICY.write_text(OUR_POLICY)
            POLICY.chmod(0o755)
        yield
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)
