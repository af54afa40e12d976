"""A control plane of its own, on loopback, beside the testbed's: the same programs, other ports."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import BenchmarkError
from benchmarks.scale.http1 import Api
from testbed.commands import UNTIL_WE_END, last_lines
from testbed.health import answers
from testbed.settings import FEATURE_GATES, KUBERNETES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_ADDRESS = "127.0.0.1"
_TIMEOUT = 60.0

TRACER, KUBELETS = "tracer", "kubelets"
_CONTROLLERS, _SCHEDULER = "system:kube-controller-manager", "system:kube-scheduler"
_USERS: dict[str, list[str]] = {
    # Not of system:masters, whose requests no API server holds back.
    TRACER: [],
    KUBELETS: ["system:masters"],
    _CONTROLLERS: [],
    _SCHEDULER: [],
}
"""Users, and the groups that they are in. Their tokens are their names: all is on loopback."""

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata", "users": [TRACER]}, {"level": "None"}],
}

_PACE = ("--kube-api-qps=100", "--kube-api-burst=100")
"""What each controller, and the scheduler, may send a second, as Kubernetes' own tests of large
clusters set it (k8s.io/kubernetes cluster/gce/config-test.sh). By default 20 and 50: the Job
controller sends three calls a Job, so that 500 Jobs take it more than a minute."""


@dataclass(frozen=True)
class ControlPlane:
    """A control plane that runs."""

    folder: Path
    port: int
    """The API server's."""

    @property
    def authority(self) -> Path:
        """The certificate that the API server's is checked by."""
        return self.folder / "certificates" / "apiserver.crt"

    @property
    def audit_log(self) -> Path:
        """Each finished call of the tracer's, one JSON object a line."""
        return self.folder / "audit.log"

    def kubeconfig(self, user: str) -> Path:
        """A kubeconfig of one of the users."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "scale",
            "clusters": [
                {
                    "name": "scale",
                    "cluster": {
                        "server": f"https://{_ADDRESS}:{self.port}",
                        "certificate-authority": str(self.authority),
                    },
                }
            ],
            "users": [{"name": user, "user": {"token": user}}],
            "contexts": [{"name": "scale", "context": {"cluster": "scale", "user": user}}],
        }
        file = self.folder / f"{user.replace(':', '-')}.kubeconfig"
        file.write_text(json.dumps(config))
        return file

    def api(self, user: str) -> Api:
        """The API server as a user sees it."""
        tls = ssl.create_default_context(cafile=self.authority)
        return Api(self.port, user, tls, at_once=16)

    def kubectl(self, *words: str, given: str = "") -> str:
        """What kubectl writes, as an administrator."""
        done = subprocess.run(
            ["kubectl", f"--kubeconfig={self.kubeconfig(KUBELETS)}", *words],
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise BenchmarkError(done.stderr.strip())
        return done.stdout


@contextmanager
def running(*, by_default: bool = False) -> Iterator[ControlPlane]:
    """A control plane without nodes, which ends with this.

    Args:
        by_default: Controller manager and scheduler are as slow as they are by default.

    Raises:
        BenchmarkError: a program is missing, died, or was not ready in time.
    """
    if not (KUBERNETES / "kube-apiserver").exists():
        raise BenchmarkError("Kubernetes is not built on this machine: make cluster-up")
    # In memory, as the testbed's etcd is: no disk's fsync slows it.
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="kubectl-trace-scale-", dir=in_memory))
        _remove_at_end(folder, stack)
        plane = ControlPlane(folder, _free_port())
        (folder / "tokens.csv").write_text(
            "".join(f"{','.join([name] * 3 + groups)}\n" for name, groups in _USERS.items())
        )
        (folder / "audit-policy.json").write_text(json.dumps(_AUDIT_POLICY))
        openssl("genrsa", "-out", str(folder / "service-accounts.key"), "2048")

        etcd, health, peer = _free_port(), _free_port(), _free_port()
        start = _Starter(folder, stack)
        start("etcd", _etcd(folder, etcd, health, peer))
        start.wait("etcd", lambda: answers(f"http://{_ADDRESS}:{health}/health"))
        start("kube-apiserver", _api_server(plane, etcd))
        # Whose roles are not there yet would find that it may do nothing.
        start.wait("kube-apiserver", lambda: answers(f"https://{_ADDRESS}:{plane.port}/readyz"))
        pace = () if by_default else _PACE
        start("kube-controller-manager", [*_controllers(plane), *pace])
        start("kube-scheduler", [*_scheduler(plane), *pace])
        start.wait("kube-controller-manager", lambda: _has_service_account(plane))
        plane.kubectl(
            *("create", "clusterrolebinding", TRACER, "--clusterrole=cluster-admin"),
            f"--user={TRACER}",
        )
        yield plane


def _remove_at_end(folder: Path, stack: ExitStack) -> None:
    """Removes it when the stack ends, or this process by whatever kills it."""
    guard = subprocess.Popen(
        ["sh", "-c", 'cat; sleep 0.5; rm -rf -- "$1"', "sh", folder],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    assert guard.stdin is not None
    stack.callback(guard.wait)
    stack.callback(guard.stdin.close)


class _Starter:
    """Starts programs that end with the stack, or with this process."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __call__(self, name: str, argv: Sequence[str]) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*UNTIL_WE_END, *argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running[name] = process
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)

    def wait(self, name: str, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + _TIMEOUT
        while not condition():
            if self._running[name].poll() is not None or time.monotonic() > end:
                log = (self._folder / f"{name}.log").read_text(errors="replace")
                raise BenchmarkError(f"{name} is not ready; its log says\n{last_lines(log)}")
            time.sleep(0.1)


def _etcd(folder: Path, port: int, health: int, peer: int) -> list[str]:
    client, peers = f"http://{_ADDRESS}:{port}", f"http://{_ADDRESS}:{peer}"
    return [
        "etcd",
        "--name=scale",
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=scale={peers}",
        f"--listen-metrics-urls=http://{_ADDRESS}:{health}",
    ]


def _api_server(plane: ControlPlane, etcd: int) -> list[str]:
    folder = plane.folder
    key = folder / "service-accounts.key"
    return [
        str(KUBERNETES / "kube-apiserver"),
        f"--advertise-address={_ADDRESS}",
        f"--bind-address={_ADDRESS}",
        f"--secure-port={plane.port}",
        f"--etcd-servers=http://{_ADDRESS}:{etcd}",
        "--service-cluster-ip-range=10.213.112.0/24",
        "--authorization-mode=RBAC",
        # A taint a node would be taken away by the node controller, at some calls a second.
        "--disable-admission-plugins=TaintNodesByCondition",
        "--allow-privileged=true",
        f"--token-auth-file={folder / 'tokens.csv'}",
        f"--cert-dir={folder / 'certificates'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        f"--audit-policy-file={folder / 'audit-policy.json'}",
        f"--audit-log-path={plane.audit_log}",
        # No endpoints of the Service `kubernetes`, which may not be loopback.
        "--endpoint-reconciler-type=none",
        _gates(),
    ]


def _controllers(plane: ControlPlane) -> list[str]:
    return [
        str(KUBERNETES / "kube-controller-manager"),
        # ttl annotates every node of a cluster that grows.
        "--controllers=*,-ttl",
        f"--bind-address={_ADDRESS}",
        f"--secure-port={_free_port()}",
        "--port=0",
        f"--kubeconfig={plane.kubeconfig(_CONTROLLERS)}",
        "--leader-elect=false",
        f"--cert-dir={plane.folder / 'certificates'}",
        f"--flex-volume-plugin-dir={plane.folder / 'volume-plugins'}",
        f"--root-ca-file={plane.authority}",
        f"--service-account-private-key-file={plane.folder / 'service-accounts.key'}",
        "--use-service-account-credentials=true",
        _gates(),
    ]


def _scheduler(plane: ControlPlane) -> list[str]:
    return [
        str(KUBERNETES / "kube-scheduler"),
        f"--bind-address={_ADDRESS}",
        f"--secure-port={_free_port()}",
        "--port=0",
        f"--kubeconfig={plane.kubeconfig(_SCHEDULER)}",
        "--leader-elect=false",
        f"--cert-dir={plane.folder / 'certificates'}",
        _gates(),
    ]


def _gates() -> str:
    gates = ",".join(f"{name}={str(on).lower()}" for name, on in FEATURE_GATES.items())
    return f"--feature-gates={gates}"


def _has_service_account(plane: ControlPlane) -> bool:
    """Whether the controllers have begun: without this account no pod can be created."""
    return "default" in plane.kubectl("get", "serviceaccounts", "-o", "name")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((_ADDRESS, 0))
        return int(found.getsockname()[1])


def openssl(*words: str) -> None:
    """Makes keys and certificates.

    Raises:
        BenchmarkError: as openssl says.
    """
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"openssl: {done.stderr.strip()}")
