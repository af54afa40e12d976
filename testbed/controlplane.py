"""etcd, the API server, the controller manager and the scheduler, in the namespace `control`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from . import processes
from .certificates import AUTHORITY, certificate, key, kubeconfig
from .health import answers
from .namespaces import run_within, within
from .network import CONTROL
from .settings import (
    API_SERVER,
    CERTIFICATES,
    CONTROL_ADDRESS,
    FEATURE_GATES,
    KUBERNETES,
    SERVICE_NETWORK,
    STATE,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path

ETCD = "etcd"
API = "kube-apiserver"
CONTROLLERS = "kube-controller-manager"
SCHEDULER = "kube-scheduler"

_ETCD_CLIENT = "http://127.0.0.1:2379"
_ETCD_HEALTH = f"http://{CONTROL_ADDRESS}:2381"
_GATES = ",".join(f"{name}={str(on).lower()}" for name, on in FEATURE_GATES.items())

#: Whether each component is well, by name.
CHECKS: dict[str, Callable[[], bool]] = {
    ETCD: partial(answers, f"{_ETCD_HEALTH}/health"),
    API: partial(answers, f"{API_SERVER}/readyz"),
    CONTROLLERS: partial(answers, f"https://{CONTROL_ADDRESS}:10257/healthz"),
    SCHEDULER: partial(answers, f"https://{CONTROL_ADDRESS}:10259/healthz"),
}


def start() -> None:
    """Start the control plane and wait until the API server answers.

    Raises:
        TestbedError: a component died or was not ready in time.
    """
    _start_etcd()
    processes.wait_ready(ETCD, CHECKS[ETCD], 30)
    start_api_server()
    processes.wait_ready(API, CHECKS[API], 60)
    _start_controllers()
    _start_scheduler()


def _start(name: str, argv: Sequence[str | os.PathLike[str]]) -> None:
    processes.start(name, within(CONTROL, argv))


def _start_etcd() -> None:
    data = STATE / "etcd"
    data.mkdir(parents=True)
    # In memory: nothing of it outlives the cluster, and no disk's fsync slows it.
    run_within(CONTROL, ["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", data])
    _start(
        ETCD,
        [
            "/usr/bin/etcd",
            f"--name={ETCD}",
            f"--data-dir={data}",
            f"--listen-client-urls={_ETCD_CLIENT}",
            f"--advertise-client-urls={_ETCD_CLIENT}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            f"--initial-cluster={ETCD}=http://127.0.0.1:2380",
            f"--listen-metrics-urls={_ETCD_HEALTH}",
        ],
    )


def start_api_server() -> None:
    """Start the API server."""
    _start(
        API,
        [
            KUBERNETES / API,
            f"--advertise-address={CONTROL_ADDRESS}",
            "--bind-address=0.0.0.0",
            "--secure-port=443",
            f"--etcd-servers={_ETCD_CLIENT}",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--client-ca-file={AUTHORITY}",
            f"--tls-cert-file={certificate('apiserver')}",
            f"--tls-private-key-file={key('apiserver')}",
            f"--cert-dir={CERTIFICATES}",
            f"--kubelet-certificate-authority={AUTHORITY}",
            f"--kubelet-client-certificate={certificate('apiserver-kubelet')}",
            f"--kubelet-client-key={key('apiserver-kubelet')}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key('service-accounts')}",
            f"--service-account-signing-key-file={key('service-accounts')}",
            f"--feature-gates={_GATES}",
        ],
    )


def _start_controllers() -> None:
    _start(
        CONTROLLERS,
        [
            KUBERNETES / CONTROLLERS,
            f"--bind-address={CONTROL_ADDRESS}",
            f"--kubeconfig={_kubeconfig(CONTROLLERS)}",
            "--leader-elect=false",
            f"--cert-dir={CERTIFICATES}",
            # Its default is made in /usr.
            f"--flex-volume-plugin-dir={STATE}/volume-plugins",
            f"--root-ca-file={AUTHORITY}",
            f"--service-account-private-key-file={key('service-accounts')}",
            "--use-service-account-credentials=true",
            f"--feature-gates={_GATES}",
        ],
    )


def _start_scheduler() -> None:
    _start(
        SCHEDULER,
        [
            KUBERNETES / SCHEDULER,
            f"--bind-address={CONTROL_ADDRESS}",
            f"--kubeconfig={_kubeconfig(SCHEDULER)}",
            "--leader-elect=false",
            f"--cert-dir={CERTIFICATES}",
            f"--feature-gates={_GATES}",
        ],
    )


def _kubeconfig(name: str) -> Path:
    file = CERTIFICATES / f"{name}.kubeconfig"
    file.write_text(kubeconfig(name))
    return file
