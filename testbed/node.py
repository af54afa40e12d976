"""A node: containerd and a kubelet in namespaces of their own, with folders of their own.

Both run with their usual paths (/var/lib/kubelet, /run/containerd, …), because the node's mount
namespace has the node's own folders there. The kernel and the process numbers are shared by all.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from . import cgroups, layout, processes
from .certificates import AUTHORITY, certificate, key, kubeconfig
from .commands import last_lines, run, say
from .errors import TestbedError
from .health import answers
from .images import PAUSE
from .namespaces import run_within, within
from .settings import CERTIFICATES, CLUSTER_DNS_ADDRESS, FEATURE_GATES, KUBERNETES, STATE, Node

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from .layout import Built

#: What a node has of its own, and what the host lends as places to mount on.
_OWN_FOLDERS = (
    "/run/containerd",
    "/run/netns",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
)
_SOCKET = "/run/containerd/containerd.sock"
_MADE_MOUNT_POINTS = STATE / "mount-points"


def containerd_name(node: Node) -> str:
    """The name of the node's containerd among the components."""
    return f"{node.name}-containerd"


def kubelet_name(node: Node) -> str:
    """The name of the node's kubelet among the components."""
    return f"{node.name}-kubelet"


def make_mount_points() -> None:
    """Make the empty folders that nodes mount theirs on; note which this machine did not have."""
    STATE.mkdir(parents=True, exist_ok=True)
    missing = [folder for folder in _OWN_FOLDERS if not Path(folder).exists()]
    # Noted first: a run that is killed in between leaves no folder unknown.
    _MADE_MOUNT_POINTS.write_text("\n".join(missing))
    for folder in missing:
        Path(folder).mkdir(parents=True)


def remove_mount_points() -> list[str]:
    """Remove the folders that `make_mount_points` made; give those that can't be removed."""
    if not _MADE_MOUNT_POINTS.exists():
        return []
    left = []
    for folder in map(Path, _MADE_MOUNT_POINTS.read_text().split()):
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            left.append(f"folder {folder} ({error.strerror})")
    return left


def furnish(node: Node) -> None:
    """Mount the node's own folders and tracefs in its namespace, before anything runs there."""
    cgroups.make(node.cgroup)
    # This namespace's copies of others' pod networks would keep them alive.
    run_within(node.name, ["sh", "-c", "umount --recursive /run/netns 2>/dev/null || :"])
    for folder in _OWN_FOLDERS:
        own = Path(f"{node.disk}{folder}")
        own.mkdir(parents=True)
        run_within(node.name, ["mount", "--bind", own, folder])
    # Nothing outside can be reached, and a name server that refuses says so at once.
    resolver = node.disk / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\n")
    run_within(node.name, ["mount", "--bind", resolver, Path("/etc/resolv.conf").resolve()])
    tracing = "/sys/kernel/tracing"
    mount = f"mountpoint -q {tracing} || mount -t tracefs tracefs {tracing}"
    run_within(node.name, ["sh", "-c", mount])
    # Pods' mounts may propagate within the node, and from it to nowhere.
    run_within(node.name, ["mount", "--make-rshared", "/"])


def start_containerd(node: Node) -> None:
    """Start the node's containerd and wait until it answers."""
    network = node.disk / "cni"
    network.mkdir(exist_ok=True)
    (network / "10-bridge.conflist").write_text(_network_config(node))
    config = node.disk / "containerd.toml"
    config.write_text(_containerd_config(network))
    name = containerd_name(node)
    processes.start(name, within(node.name, ["/usr/bin/containerd", "--config", config]))
    processes.wait_ready(name, partial(containerd_answers, node), 30)


def start_kubelet(node: Node) -> None:
    """Start the node's kubelet."""
    client = CERTIFICATES / f"{node.name}.kubeconfig"
    client.write_text(kubeconfig(node.name))
    config = node.disk / "kubelet.json"
    config.write_text(json.dumps(_kubelet_config(node), indent=2))
    processes.start(
        kubelet_name(node),
        within(
            node.name,
            [
                # It asks clouds for registry credentials first, for ten seconds.
                *("/usr/bin/env", "AWS_EC2_METADATA_DISABLED=true"),
                KUBERNETES / "kubelet",
                f"--config={config}",
                f"--kubeconfig={client}",
                "--container-runtime=remote",
                f"--container-runtime-endpoint=unix://{_SOCKET}",
                f"--hostname-override={node.name}",
                f"--node-ip={node.address}",
                # Its default is made in /usr.
                f"--volume-plugin-dir={node.disk}/volume-plugins",
            ],
        ),
    )


def containerd_answers(node: Node) -> bool:
    """Whether the node's containerd answers."""
    try:
        run(within(node.name, ["ctr", "--connect-timeout=1s", "version"]), timeout=5)
    except TestbedError:
        return False
    return True


def kubelet_answers(node: Node) -> bool:
    """Whether the node's kubelet is well."""
    return answers(f"http://{node.address}:10248/healthz")


def load(node: Node, images: Sequence[Built]) -> None:
    """Load images into the node, only what it does not have yet.

    Raises:
        TestbedError: containerd refused them.
    """
    notes = node.disk / "images"
    notes.mkdir(exist_ok=True)
    had = {note.name: json.loads(note.read_text()) for note in notes.iterdir()}
    new = [image for image in images if had.get(_note(image), [None])[0] != image.manifest]
    if not new:
        return
    try:
        _import(node, new, {digest for blobs in had.values() for digest in blobs})
    except TestbedError:
        # Someone may have removed by hand what the notes say is there.
        _import(node, new, ())
    for image in new:
        (notes / _note(image)).write_text(json.dumps(image.blobs))
        say(f"{node.name}: loaded {image.reference}")


def _note(image: Built) -> str:
    return image.reference.replace("/", "_")


def _import(node: Node, images: Sequence[Built], without: Collection[str]) -> None:
    command = within(node.name, ["ctr", "--namespace=k8s.io", "images", "import", "-"])
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
        )
        assert process.stdin
        # A reader that gives up says why itself.
        with suppress(BrokenPipeError), process.stdin:
            layout.write_archive(images, process.stdin, without)
        if process.wait() != 0:
            output.seek(0)
            tail = last_lines(output.read().decode(errors="replace"))
            raise TestbedError(f"{node.name}'s containerd did not load images; ctr says\n{tail}")


def _network_config(node: Node) -> str:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": str(node.pod_network)}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    config = {"cniVersion": "0.4.0", "name": "testbed", "plugins": [bridge]}
    return json.dumps(config, indent=2)


def _containerd_config(network: Path) -> str:
    # restrict_oom_score_adj: without it and without CAP_SYS_RESOURCE every sandbox dies.
    return f"""\
version = 2
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE.reference}"
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{network}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
"""


def _kubelet_config(node: Node) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "healthzBindAddress": node.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(AUTHORITY)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certificate(f"{node.name}-serving")),
        "tlsPrivateKeyFile": str(key(f"{node.name}-serving")),
        # None answers there, and says so at once.
        "clusterDNS": [CLUSTER_DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        # Sent only when something has changed; the default of 10 s makes each start so much longer.
        "nodeStatusUpdateFrequency": "1s",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.cgroup}",
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "featureGates": FEATURE_GATES,
        # Services have no kube-proxy here, so nothing uses the kubelet's packet filter chains.
        "makeIPTablesUtilChains": False,
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 5,
        # A developer's disk is often fuller than a node's may be.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
    }
