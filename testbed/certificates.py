"""The cluster's own certificate authority, and kubeconfig files made with it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from .commands import run
from .settings import (
    API_SERVER,
    API_SERVICE_ADDRESS,
    CERTIFICATES,
    CONTEXT,
    CONTROL_ADDRESS,
    NODES,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

AUTHORITY = CERTIFICATES / "ca.crt"
_AUTHORITY_KEY = CERTIFICATES / "ca.key"
_DAYS = "3650"


def create() -> None:
    """Make every key and certificate of the cluster, anew."""
    CERTIFICATES.mkdir(parents=True, exist_ok=True)
    CERTIFICATES.chmod(0o700)
    _make("ca", "CN=kubectl-trace-testbed", "basicConstraints=critical,CA:TRUE", signed=False)
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
    _server(
        "apiserver",
        "CN=kube-apiserver",
        names=[*names, "kubernetes.default.svc.cluster.local"],
        addresses=["127.0.0.1", CONTROL_ADDRESS, API_SERVICE_ADDRESS],
    )
    _client("admin", "O=system:masters/CN=admin")
    _client("apiserver-kubelet", "O=system:masters/CN=kube-apiserver-kubelet-client")
    _client("kube-controller-manager", "CN=system:kube-controller-manager")
    _client("kube-scheduler", "CN=system:kube-scheduler")
    for node in NODES:
        _client(node.name, f"O=system:nodes/CN=system:node:{node.name}")
        _server(
            f"{node.name}-serving",
            f"O=system:nodes/CN=system:node:{node.name}",
            names=[node.name],
            addresses=[node.address],
        )
    # Service accounts' tokens are signed with a bare key.
    run(["openssl", "genrsa", "-out", key("service-accounts"), "2048"])


def certificate(name: str) -> Path:
    """The certificate made as `name`."""
    return CERTIFICATES / f"{name}.crt"


def key(name: str) -> Path:
    """The private key made as `name`."""
    return CERTIFICATES / f"{name}.key"


def kubeconfig(name: str) -> str:
    """The text of a kubeconfig for the client certificate `name` (JSON, which is YAML too)."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "clusters": [
            {
                "name": CONTEXT,
                "cluster": {"server": API_SERVER, "certificate-authority-data": _base64(AUTHORITY)},
            }
        ],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": _base64(certificate(name)),
                    "client-key-data": _base64(key(name)),
                },
            }
        ],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": name}}],
    }
    return json.dumps(config, indent=2) + "\n"


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def _server(name: str, subject: str, *, names: Sequence[str], addresses: Sequence[str]) -> None:
    others = [*(f"DNS:{host}" for host in names), *(f"IP:{address}" for address in addresses)]
    _make(name, subject, "extendedKeyUsage=serverAuth", f"subjectAltName={','.join(others)}")


def _client(name: str, subject: str) -> None:
    _make(name, subject, "extendedKeyUsage=clientAuth")


def _make(name: str, subject: str, *extensions: str, signed: bool = True) -> None:
    # Of its own, for the machine's may add extensions to every certificate.
    config = CERTIFICATES / "openssl.cnf"
    config.write_text("[req]\ndistinguished_name=dn\n[dn]\n")
    signer = ["-CA", str(AUTHORITY), "-CAkey", str(_AUTHORITY_KEY)] if signed else []
    run(
        [
            *("openssl", "req", "-x509", "-config", config, "-days", _DAYS, "-nodes"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-keyout", key(name), "-out", certificate(name), "-subj", f"/{subject}"),
            *(word for extension in extensions for word in ("-addext", extension)),
            *signer,
        ]
    )
