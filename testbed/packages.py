"""The Debian packages that the testbed stands on."""

from __future__ import annotations

import os
import shutil
import subprocess

from .errors import TestbedError
from .settings import CHECKOUT

#: Without their recommendations, so each is named.
NEEDED = (
    "binutils",
    "buildah",
    "ca-certificates",
    "containerd",
    "containernetworking-plugins",
    "debian-archive-keyring",
    "dpkg-dev",
    "etcd-server",
    "g++",
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
    "rustc",
    "util-linux",
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
    # /usr/bin/kubectl may belong to another package than Debian's.
    kubectl = () if shutil.which("kubectl") else ("kubernetes-client",)
    done = subprocess.run([CHECKOUT / "hack" / "apt-install", *NEEDED, *kubectl], check=False)
    if done.returncode != 0:
        raise TestbedError("not all of the packages could be installed; apt-get says why above")
