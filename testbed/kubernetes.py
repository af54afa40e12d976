"""Kubernetes' server programs, built once a machine."""

from __future__ import annotations

import subprocess

from .commands import last_lines, say
from .errors import TestbedError
from .settings import CACHE, FOLDER, KUBERNETES, KUBERNETES_VERSION

PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")


def ensure() -> None:
    """Build the programs unless they are in the cache.

    Raises:
        TestbedError: the build failed; the message has its log's last lines.
    """
    if all((KUBERNETES / program).exists() for program in PROGRAMS):
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    log = CACHE / "kubernetes-build.log"
    say(f"building Kubernetes {KUBERNETES_VERSION}, 11 minutes on 2 cores (log: {log})")
    with log.open("wb") as output:
        done = subprocess.run(
            [FOLDER / "build-kubernetes", CACHE],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        tail = last_lines(log.read_text(errors="replace"))
        raise TestbedError(f"building Kubernetes failed; {log} says\n{tail}")
