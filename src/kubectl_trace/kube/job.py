"""The objects of a trace: one Job on one node, and the ConfigMap that it owns. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from kubectl_trace.image import IMAGE
from kubectl_trace.kube import audit
from kubectl_trace.kube.quantity import quantity

if TYPE_CHECKING:
    from kubectl_trace.kube.client import Object
    from kubectl_trace.kube.placement import Placement
    from kubectl_trace.trace import Trace

NAME_PREFIX = "kubectl-trace-"
# Labels as iovisor/kubectl-trace sets them, so that its users' scripts find our traces.
LABEL = "iovisor.org/kubectl-trace"
LABEL_ID = "iovisor.org/kubectl-trace-id"
ANNOTATION_TARGET = "iovisor.org/kubectl-trace-target"
ANNOTATION_OWNER = "iovisor.org/kubectl-trace-owner"
ANNOTATION_TRACER = "iovisor.org/kubectl-trace-tracer"
ANNOTATION_PROGRAM_HASH = "iovisor.org/kubectl-trace-program-sha256"
ANNOTATION_PROGRAM = "iovisor.org/kubectl-trace-program"
ANNOTATION_REASON = "iovisor.org/kubectl-trace-reason"
ANNOTATION_NODE = "iovisor.org/kubectl-trace-node"
ANNOTATION_ATTACHED = "iovisor.org/kubectl-trace-attached"
ANNOTATION_TIMEOUT = "iovisor.org/kubectl-trace-timeout"

_ID_LENGTH = 36  # a UUID's characters

MEMORY, CPU = "1Gi", "1"
"""What a runner may use, if nobody says."""

CONTAINER = "kubectl-trace"
INIT_CONTAINER = "kubectl-trace-init"

_TRACE_FOLDER = "/trace"
_TRACE_FILE = "trace.json"
_HEADERS_FOLDER = "/headers"
POLICY = "kubectl-trace-policy"
"""The ConfigMap, in the traces' namespace, by which the cluster's owner limits what runs there."""
_POLICY_FOLDER = "/policy"

# What bpftrace 0.23 needs to attach, read /proc/PID/exe of other users' processes and name kernel
# symbols (capabilities(7); BPF and PERFMON: Linux 5.8).
CAPABILITIES = ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH", "SYSLOG"]

_NEEDED = {"cpu": "50m", "memory": "100Mi"}
"""What a node must have free for a runner; never more than its limits."""

# Far more than either needs: one that fills its node's disk is evicted.
_MOST_HEADERS = "5Gi"
"""An archive from a mirror and twice what it may unpack to (runner/headers.py)."""
_MOST_TEMPORARY = "8Gi"
"""16 of the largest debug files that a server may send (runner/modules.py)."""

_START_ALLOWANCE = 600
"""Seconds that the Job's own deadline, the last resort, allows for pulling the image."""


@dataclass(frozen=True)
class JobOptions:
    """What the user chose about the objects themselves."""

    namespace: str
    target: str
    owner: str = ""
    reason: str = ""
    """Why the user traces; annotated."""
    service_account: str = "default"
    image: str = IMAGE
    init_image: str = IMAGE
    image_pull_policy: str = "IfNotPresent"
    image_pull_secret: str = ""
    timeout: int = 120
    """Seconds for which an attached client waits for the start."""
    ttl: int = 3600
    """Seconds for which a finished trace stays readable."""
    fetch_headers: bool = False
    headers_mirror: str = ""
    privileged: bool = False
    statistics: bool = False
    """The runner may switch on the kernel's statistics of BPF programs (BPF_ENABLE_STATS), which
    takes CAP_SYS_ADMIN."""


def name_of(trace_id: str, node: str = "") -> str:
    """The name of a trace's Job and ConfigMap.

    `node`: of a trace that may run on several nodes, which of them: no name may be longer than 63
    characters, a node's may be 253.
    """
    name = NAME_PREFIX + trace_id
    import hashlib  # 4 ms, and not every trace has several nodes

    return f"{name}-{hashlib.sha256(node.encode()).hexdigest()[:8]}" if node else name


def id_of(text: str) -> str:
    """The trace ID in a trace's ID, its name or the name of one of its Jobs."""
    text = text.removeprefix(NAME_PREFIX)
    return text[:_ID_LENGTH] if len(text) == _ID_LENGTH + 9 else text


def job(trace: Trace, placement: Placement, options: JobOptions) -> Object:
    """The Job that runs the trace on its node."""
    name = name_of(trace.id, placement.node if trace.merge else "")
    metadata = _metadata(trace, name, placement.node, options)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {**metadata, "name": name, "namespace": options.namespace},
        "spec": {
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": options.ttl,
            # The runner keeps the deadline itself and collects the maps; where it can't, the Job
            # controller ends the pod.
            "activeDeadlineSeconds": int(trace.deadline + trace.grace) + _START_ALLOWANCE,
            "template": {
                "metadata": {
                    **metadata,
                    "annotations": {
                        **metadata["annotations"],
                        # The default AppArmor profile forbids reading other processes' /proc.
                        f"container.apparmor.security.beta.kubernetes.io/{CONTAINER}": "unconfined",
                    },
                },
                "spec": _pod_spec(trace, name, placement.node, options),
            },
        },
    }


def config_map(trace: Trace, job: Object) -> Object:
    """The ConfigMap with the trace's description, that its Job is to own (`owned`)."""
    metadata = job["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": metadata["labels"],
            "annotations": metadata["annotations"],
        },
        "data": {_TRACE_FILE: msgspec.json.encode(trace).decode()},
    }


def owned(config_map: Object, job: Object) -> Object:
    """The ConfigMap as owned by its Job, which is as the API server gave it: it goes with it."""
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
        "controller": True,
    }
    return {**config_map, "metadata": {**config_map["metadata"], "ownerReferences": [owner]}}


def _metadata(trace: Trace, name: str, node: str, options: JobOptions) -> Object:
    names = {LABEL: name, LABEL_ID: trace.id}
    return {
        "labels": names,
        "annotations": {
            **names,
            ANNOTATION_TARGET: options.target,
            ANNOTATION_OWNER: audit.bounded(options.owner, audit.MOST_OF_OWNER),
            ANNOTATION_REASON: audit.bounded(options.reason, audit.MOST_OF_REASON),
            ANNOTATION_TRACER: "bpftrace",
            ANNOTATION_NODE: node,
            ANNOTATION_ATTACHED: "true" if trace.attached else "false",
            ANNOTATION_TIMEOUT: str(options.timeout),
            ANNOTATION_PROGRAM: audit.bounded(audit.what(trace), audit.MOST_OF_PROGRAM),
            ANNOTATION_PROGRAM_HASH: audit.digest(trace),
        },
    }


def _pod_spec(trace: Trace, name: str, node: str, options: JobOptions) -> Object:
    volumes: list[Object] = [
        {"name": "trace", "configMap": {"name": name}},
        {"name": "tracefs", "hostPath": {"path": "/sys/kernel/tracing"}},
        {"name": "cgroup", "hostPath": {"path": "/sys/fs/cgroup"}},
        {"name": "pod-logs", "hostPath": {"path": "/var/log/pods"}},
        {"name": "policy", "configMap": {"name": POLICY, "optional": True}},
        {"name": "tmp", "emptyDir": {"sizeLimit": _MOST_TEMPORARY}},
    ]
    container: Object = {
        "name": CONTAINER,
        "image": options.image,
        "imagePullPolicy": options.image_pull_policy,
        "args": ["trace", f"{_TRACE_FOLDER}/{_TRACE_FILE}"],
        "env": [
            _from_field("KUBECTL_TRACE_NODE", "spec.nodeName"),
            _from_field("KUBECTL_TRACE_NAMESPACE", "metadata.namespace"),
        ],
        # The client's messages come this way. It stays open (stdinOnce) for a client that comes
        # back: its connections end whenever an API server or a kubelet does.
        "stdin": True,
        "resources": _resources(trace),
        "securityContext": _security_context(options),
        "volumeMounts": [
            {"name": "trace", "mountPath": _TRACE_FOLDER, "readOnly": True},
            # Writable: without CAP_SYS_ADMIN the kernel takes uprobes only by way of uprobe_events
            # (torvalds/linux kernel/events/core.c: perf_uprobe_event_init).
            {"name": "tracefs", "mountPath": "/sys/kernel/tracing"},
            # The node's, not only the runner's own: containers are told by theirs.
            {"name": "cgroup", "mountPath": "/sys/fs/cgroup", "readOnly": True},
            # Its folders are named NAMESPACE_POD_UID: the node's own word on whose a container is.
            {"name": "pod-logs", "mountPath": "/var/log/pods", "readOnly": True},
            {"name": "policy", "mountPath": _POLICY_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    spec: Object = {
        "restartPolicy": "Never",
        "hostPID": True,
        "serviceAccountName": options.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": int(trace.grace) + 10,
        "tolerations": [{"operator": "Exists"}],
        "affinity": _on_node(node),
        "containers": [container],
        "volumes": volumes,
    }
    if options.image_pull_secret:
        spec["imagePullSecrets"] = [{"name": options.image_pull_secret}]
    if options.fetch_headers:
        _add_headers(spec, container, options)
    return spec


def _from_field(name: str, path: str) -> Object:
    """A variable of the environment that the kubelet fills in, and the user can't."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _resources(trace: Trace) -> Object:
    limits = {"cpu": trace.limits.cpu or CPU, "memory": trace.limits.memory or MEMORY}
    requests = {name: min(_NEEDED[name], limits[name], key=quantity) for name in limits}
    return {"requests": requests, "limits": limits}


def _security_context(options: JobOptions) -> Object:
    if options.privileged:
        return {"privileged": True, "runAsUser": 0}
    return {
        "runAsUser": 0,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {
            "drop": ["ALL"],
            "add": [*CAPABILITIES, *(["SYS_ADMIN"] if options.statistics else [])],
        },
        # Where SELinux confines containers, a confined one may not use BPF.
        "seLinuxOptions": {"type": "spc_t"},
    }


def _on_node(node: str) -> Object:
    """By the node's name, as DaemonSets do: the label kubernetes.io/hostname may differ from it."""
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {
                        "matchFields": [
                            {"key": "metadata.name", "operator": "In", "values": [node]},
                        ]
                    }
                ]
            }
        }
    }


def _add_headers(spec: Object, container: Object, options: JobOptions) -> None:
    mount = {"name": "headers", "mountPath": _HEADERS_FOLDER}
    mirror = ["--mirror", options.headers_mirror] if options.headers_mirror else []
    spec["volumes"] += [
        {"name": "headers", "emptyDir": {"sizeLimit": _MOST_HEADERS}},
        # All of it: the links in /lib/modules lead to wherever the distribution has its headers.
        {"name": "node", "hostPath": {"path": "/"}},
    ]
    spec["initContainers"] = [
        {
            "name": INIT_CONTAINER,
            "image": options.init_image,
            "imagePullPolicy": options.image_pull_policy,
            "args": ["headers", _HEADERS_FOLDER, *mirror],
            "resources": container["resources"],
            "securityContext": container["securityContext"],
            "volumeMounts": [
                mount,
                {"name": "tmp", "mountPath": "/tmp"},
                {"name": "node", "mountPath": "/node", "readOnly": True},
            ],
        }
    ]
    container["volumeMounts"].append({**mount, "readOnly": True})
    container["env"] += [
        {"name": "BPFTRACE_KERNEL_SOURCE", "value": f"{_HEADERS_FOLDER}/source"},
        {"name": "BPFTRACE_KERNEL_BUILD", "value": f"{_HEADERS_FOLDER}/build"},
    ]
