"""deploy/admission: our own runner is admitted, and whatever differs in what matters is not."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from kubectl_trace.image import IMAGE
from kubectl_trace.kube import job as jobs
from kubectl_trace.kube.job import JobOptions
from kubectl_trace.kube.placement import Placement
from kubectl_trace.trace import Trace

from .admission import FOLDER, Policy, pod_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_trace.kube.client import Object

POLICY = Policy(FOLDER / "policy.yaml")
TRACE = Trace(id="0b5e6c5a-6a0c-4e55-93ab-d5c0c8b57f10", program="BEGIN { exit(); }")
MIRROR = "https://headers.example"


def runner(trace: Trace = TRACE, **options: Any) -> Object:
    chosen = JobOptions(**{"namespace": "n", "target": "pod/web", "owner": "ada", **options})
    return pod_of(jobs.job(trace, Placement("node-a"), chosen))


def application() -> Object:
    container = {"name": "web", "image": "web:1", "volumeMounts": [], "env": [{"name": "A"}]}
    volumes: list[Object] = [{"name": "a", "configMap": {"name": "a"}}]
    return {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [container], "volumes": volumes},
    }


@pytest.mark.parametrize(
    "pod",
    [
        runner(),
        runner(Trace(id="0b5e", program="", attached=True, merge=True), ttl=1, reason="why"),
        runner(service_account="traces", image_pull_secret="s", image_pull_policy="Always"),
        runner(fetch_headers=True),
    ],
)
def test_every_runner_that_run_creates_is_admitted(pod: Object) -> None:
    assert POLICY.refuses(pod) == []


def test_a_privileged_runner_is_refused() -> None:
    assert "not privileged" in " ".join(POLICY.refuses(runner(privileged=True)))


def test_statistics_are_the_owners_to_allow() -> None:
    pod = runner(statistics=True)
    assert "capabilities" in " ".join(POLICY.refuses(pod))
    capabilities = str([*jobs.CAPABILITIES, "SYS_ADMIN"])
    assert POLICY.refuses(pod, variables={"capabilities": capabilities}) == []


FREE: dict[str, Callable[[Object], object]] = {
    "labels": lambda p: p["metadata"]["labels"].update(team="a"),
    "annotations": lambda p: p["metadata"].update(annotations={}),
    "resources": lambda p: container(p).update(resources={}),
    "scheduling": lambda p: p["spec"].update(
        nodeSelector={"a": "b"}, affinity={}, tolerations=[], priorityClassName="low"
    ),
    "the service account": lambda p: p["spec"].update(serviceAccountName="other"),
    "the image's secret": lambda p: p["spec"].update(imagePullSecrets=[{"name": "s"}]),
    "pulling": lambda p: container(p).update(imagePullPolicy="Always"),
    "times": lambda p: p["spec"].update(
        terminationGracePeriodSeconds=1, activeDeadlineSeconds=99999
    ),
}


@pytest.mark.parametrize("what", FREE)
def test_what_the_documents_call_free_is_admitted(what: str) -> None:
    """docs/rights.md: The namespace of the traces."""
    pod = runner()
    FREE[what](pod)
    assert POLICY.refuses(pod) == []


def test_headers_come_from_the_mirrors_that_the_policy_names() -> None:
    pod = runner(fetch_headers=True, headers_mirror=MIRROR)
    assert "mirror" in " ".join(POLICY.refuses(pod))
    assert POLICY.refuses(pod, variables={"mirrors": f"['{MIRROR}']"}) == []


def test_an_image_in_another_registry_is_the_owners_to_allow() -> None:
    pod = runner(image="r.example/runner@sha256:ab", init_image="r.example/runner@sha256:ab")
    assert POLICY.refuses(pod)
    assert POLICY.refuses(pod, variables={"image": "'r.example/runner@sha256:ab'"}) == []


def test_an_applications_pod_is_admitted_as_at_the_level_baseline() -> None:
    pod = application()
    assert POLICY.refuses(pod) == []
    pod["spec"]["containers"][0]["securityContext"] = {
        "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
        "privileged": False,
    }
    pod["metadata"]["annotations"] = {
        "container.apparmor.security.beta.kubernetes.io/web": "runtime/default",
        "note": "unconfined",
    }
    assert POLICY.refuses(pod) == []
    pod["spec"]["ephemeralContainers"] = [{"name": "debugger", "image": "busybox"}]
    assert POLICY.refuses(pod) == []


def container(pod: Object) -> Object:
    found: Object = pod["spec"]["containers"][0]
    return found


def named(items: list[Object], name: str) -> Object:
    return next(item for item in items if item["name"] == name)


def mount(pod: Object, name: str) -> Object:
    return named(container(pod)["volumeMounts"], name)


def volume(pod: Object, name: str) -> Object:
    return named(pod["spec"]["volumes"], name)


def variable(pod: Object, name: str) -> Object:
    return named(container(pod)["env"], name)


def security(pod: Object) -> Object:
    found: Object = container(pod)["securityContext"]
    return found


SECRET_VOLUME = {"name": "token", "secret": {"secretName": "admin"}}
HOST = {"name": "root", "hostPath": {"path": "/", "type": ""}}
ANOTHER = {"name": "sidecar", "image": "evil", "securityContext": {"privileged": True}}

# How a runner is made something else, and a part of what the refusal says.
MUTATIONS: dict[str, tuple[Callable[[Object], object], str]] = {
    "image": (lambda p: container(p).update(image="evil/runner:0.1.0"), "image"),
    "image's tag": (lambda p: container(p).update(image=IMAGE.replace("0.1", "0.2")), "image"),
    "name": (lambda p: container(p).update(name="shell"), "one container"),
    "arguments": (lambda p: container(p).update(args=["trace", "/tmp/x.json"]), "arguments"),
    "more arguments": (lambda p: container(p)["args"].append("--no-policy"), "arguments"),
    "no arguments": (lambda p: container(p).pop("args"), "arguments"),
    "a second container": (lambda p: p["spec"]["containers"].append(ANOTHER), "one container"),
    "a command": (lambda p: container(p).update(command=["sh"]), "no command"),
    "a hook": (
        lambda p: container(p).update(lifecycle={"postStart": {"exec": {"command": ["sh"]}}}),
        "hook",
    ),
    "a probe": (
        lambda p: container(p).update(livenessProbe={"exec": {"command": ["sh"]}}),
        "probe",
    ),
    "a start-up probe": (lambda p: container(p).update(startupProbe={"exec": {}}), "probe"),
    "a readiness probe": (lambda p: container(p).update(readinessProbe={"exec": {}}), "probe"),
    "a working directory": (lambda p: container(p).update(workingDir="/tmp"), "working directory"),
    "a device": (lambda p: container(p).update(volumeDevices=[{"name": "d"}]), "device"),
    "a port of the node": (lambda p: container(p).update(ports=[{"hostPort": 1}]), "probe"),
    "a message file over the policy": (
        lambda p: container(p).update(terminationMessagePath="/policy/policy.yaml"),
        "command",
    ),
    "privileged": (lambda p: security(p).update(privileged=True), "not privileged"),
    "a capability more": (
        lambda p: security(p)["capabilities"]["add"].append("SYS_ADMIN"),
        "capabilities",
    ),
    "all capabilities": (
        lambda p: security(p)["capabilities"].update(add=["ALL"]),
        "capabilities",
    ),
    "none dropped": (lambda p: security(p)["capabilities"].pop("drop"), "capabilities"),
    "a writable root": (lambda p: security(p).pop("readOnlyRootFilesystem"), "root file system"),
    "escalation": (lambda p: security(p).update(allowPrivilegeEscalation=True), "capabilities"),
    "an unmasked /proc": (lambda p: security(p).update(procMount="Unmasked"), "capabilities"),
    "no security context": (lambda p: container(p).pop("securityContext"), "capabilities"),
    "the node's network": (lambda p: p["spec"].update(hostNetwork=True), "nothing else"),
    "the node's IPC": (lambda p: p["spec"].update(hostIPC=True), "nothing else"),
    "a token": (lambda p: p["spec"].update(automountServiceAccountToken=True), "token"),
    "a token by default": (lambda p: p["spec"].pop("automountServiceAccountToken"), "token"),
    "another user": (lambda p: security(p).update(runAsUser=1000), "uid 0"),
    "no user": (lambda p: security(p).pop("runAsUser"), "uid 0"),
    "another group": (lambda p: security(p).update(runAsGroup=1000), "gid 0"),
    "another group of the pod": (
        lambda p: p["spec"]["securityContext"].update(runAsGroup=1000),
        "gid 0",
    ),
    "not root": (lambda p: security(p).update(runAsNonRoot=True), "uid 0"),
    "files' group": (lambda p: p["spec"]["securityContext"].update(fsGroup=1000), "groups"),
    "more groups": (
        lambda p: p["spec"]["securityContext"].update(supplementalGroups=[1000]),
        "groups",
    ),
    "a terminal": (lambda p: container(p).update(tty=True), "terminal"),
    "names of hosts": (
        lambda p: p["spec"].update(hostAliases=[{"ip": "10.0.0.1", "hostnames": ["debug"]}]),
        "names of hosts",
    ),
    "a name server": (
        lambda p: p["spec"].update(dnsPolicy="None", dnsConfig={"nameservers": ["10.0.0.1"]}),
        "names of hosts",
    ),
    "a search domain": (
        lambda p: p["spec"].update(dnsConfig={"searches": ["evil.example"]}),
        "names of hosts",
    ),
    "the node's name server": (lambda p: p["spec"].update(dnsPolicy="Default"), "names of hosts"),
    "another runtime": (lambda p: p["spec"].update(runtimeClassName="vm"), "node's containers"),
    "a user namespace": (lambda p: p["spec"].update(hostUsers=False), "node's containers"),
    "restarts": (lambda p: p["spec"].update(restartPolicy="Always"), "once"),
    "variables of services": (
        lambda p: p["spec"].update(enableServiceLinks=True),
        "variables of services",
    ),
    "variables of services by default": (
        lambda p: p["spec"].pop("enableServiceLinks"),
        "variables of services",
    ),
    "sysctls": (
        lambda p: p["spec"]["securityContext"].update(sysctls=[{"name": "kernel.msgmax"}]),
        "nothing else",
    ),
    "a device of a claim": (lambda p: p["spec"].update(resourceClaims=[{}]), "nothing else"),
    "a secret": (lambda p: p["spec"]["volumes"].append(SECRET_VOLUME), "volumes"),
    "the node's root": (lambda p: p["spec"]["volumes"].append(HOST), "volumes"),
    "the node's root under a name of ours": (
        lambda p: volume(p, "pod-logs")["hostPath"].update(path="/"),
        "volumes",
    ),
    "the node's root as for headers": (
        lambda p: p["spec"]["volumes"].append({**HOST, "name": "node"}),
        "volumes",
    ),
    "a path that is created": (
        lambda p: volume(p, "cgroup")["hostPath"].update(type="DirectoryOrCreate"),
        "volumes",
    ),
    "another policy": (
        lambda p: volume(p, "policy")["configMap"].update(name="mine"),
        "volumes",
    ),
    "another key of the policy": (
        lambda p: volume(p, "policy")["configMap"].update(
            items=[{"key": "x", "path": "policy.yaml"}]
        ),
        "volumes",
    ),
    "an empty policy": (
        lambda p: volume(p, "policy").update(emptyDir={}) or volume(p, "policy").pop("configMap"),
        "volumes",
    ),
    "another's program": (
        lambda p: volume(p, "trace")["configMap"].update(name="other"),
        "volumes",
    ),
    "no label": (lambda p: p["metadata"].pop("labels"), "volumes"),
    "another label": (
        lambda p: p["metadata"]["labels"].update({jobs.LABEL: "kubectl-trace-policy"}),
        "volumes",
    ),
    "no policy": (
        lambda p: container(p)["volumeMounts"].remove(mount(p, "policy")),
        "kubectl-trace-policy",
    ),
    "no pods' logs": (
        lambda p: container(p)["volumeMounts"].remove(mount(p, "pod-logs")),
        "pods' logs",
    ),
    "a policy elsewhere": (lambda p: mount(p, "policy").update(mountPath="/x"), "mounts"),
    "a writable policy": (lambda p: mount(p, "policy").pop("readOnly"), "read-only"),
    "writable logs": (lambda p: mount(p, "pod-logs").update(readOnly=False), "read-only"),
    "writable cgroups": (lambda p: mount(p, "cgroup").pop("readOnly"), "read-only"),
    "a part of a volume": (lambda p: mount(p, "policy").update(subPath="x"), "mounts"),
    "a part by an expression": (lambda p: mount(p, "tmp").update(subPathExpr="$(A)"), "mounts"),
    "mounts that spread": (
        lambda p: mount(p, "tmp").update(mountPropagation="Bidirectional"),
        "mounts",
    ),
    "a mount over the program": (
        lambda p: container(p)["volumeMounts"].append({"name": "tmp", "mountPath": "/usr"}),
        "mounts",
    ),
    "a library before all": (
        lambda p: container(p)["env"].append({"name": "LD_PRELOAD", "value": "/tmp/x.so"}),
        "environment",
    ),
    "environment from elsewhere": (
        lambda p: container(p).update(envFrom=[{"configMapRef": {"name": "mine"}}]),
        "environment",
    ),
    "another namespace": (
        lambda p: (
            variable(p, "KUBECTL_TRACE_NAMESPACE").update(value="b", valueFrom=None)
            or variable(p, "KUBECTL_TRACE_NAMESPACE").pop("valueFrom")
        ),
        "environment",
    ),
    "a namespace by an annotation": (
        lambda p: variable(p, "KUBECTL_TRACE_NAMESPACE")["valueFrom"]["fieldRef"].update(
            fieldPath="metadata.annotations['x']"
        ),
        "environment",
    ),
    "no namespace": (
        lambda p: container(p)["env"].remove(variable(p, "KUBECTL_TRACE_NAMESPACE")),
        "environment",
    ),
    "headers from elsewhere": (
        lambda p: container(p)["env"].append({"name": "BPFTRACE_KERNEL_BUILD", "value": "/tmp"}),
        "environment",
    ),
    "an init container": (
        lambda p: p["spec"].update(initContainers=[{**ANOTHER, "name": "kubectl-trace-init"}]),
        "init container",
    ),
    "an ephemeral container": (
        lambda p: p["spec"].update(ephemeralContainers=[{"name": "debugger", "image": "sh"}]),
        "ephemeral",
    ),
}


@pytest.mark.parametrize("how", MUTATIONS)
def test_what_is_no_runner_any_more_is_refused_with_the_reason(how: str) -> None:
    pod = runner()
    change, said = MUTATIONS[how]
    change(pod)
    assert any(said in message for message in POLICY.refuses(pod)), POLICY.refuses(pod)


INIT_MUTATIONS: dict[str, Callable[[Object], object]] = {
    "image": lambda c: c.update(image="evil"),
    "command": lambda c: c.update(command=["sh"]),
    "arguments": lambda c: c.update(args=["sh"]),
    "a mirror": lambda c: c["args"].extend(["--mirror", "http://evil.example"]),
    "privileged": lambda c: c.update(securityContext={"privileged": True}),
    "a writable node": lambda c: named(c["volumeMounts"], "node").pop("readOnly"),
    "the node elsewhere": lambda c: named(c["volumeMounts"], "node").update(mountPath="/headers"),
    "the program": lambda c: c["volumeMounts"].append({"name": "trace", "mountPath": "/trace"}),
    "a sidecar": lambda c: c.update(restartPolicy="Always"),
    "another user": lambda c: c["securityContext"].update(runAsUser=1000),
    "environment": lambda c: c.update(env=[{"name": "LD_PRELOAD", "value": "x"}]),
}


@pytest.mark.parametrize("how", INIT_MUTATIONS)
def test_what_is_not_the_headers_init_container_is_refused(how: str) -> None:
    pod = runner(fetch_headers=True)
    INIT_MUTATIONS[how](pod["spec"]["initContainers"][0])
    assert POLICY.refuses(pod)


def test_of_a_runner_with_headers_only_the_init_container_sees_the_nodes_files() -> None:
    pod = runner(fetch_headers=True)
    container(pod)["volumeMounts"].append({"name": "node", "mountPath": "/node", "readOnly": True})
    assert POLICY.refuses(pod)


POWERS: dict[str, Callable[[Object], object]] = {
    "hostPID": lambda p: p["spec"].update(hostPID=True),
    "hostIPC": lambda p: p["spec"].update(hostIPC=True),
    "hostNetwork": lambda p: p["spec"].update(hostNetwork=True),
    "hostPath": lambda p: p["spec"]["volumes"].append(HOST),
    "hostPort": lambda p: container(p).update(ports=[{"containerPort": 80, "hostPort": 80}]),
    "privileged": lambda p: container(p).update(securityContext={"privileged": True}),
    "capability": lambda p: container(p).update(securityContext={"capabilities": {"add": ["BPF"]}}),
    "seccomp": lambda p: container(p).update(
        securityContext={"seccompProfile": {"type": "Unconfined"}}
    ),
    "AppArmor": lambda p: container(p).update(
        securityContext={"appArmorProfile": {"type": "Unconfined"}}
    ),
    "AppArmor by annotation": lambda p: p["metadata"].update(
        annotations={"container.apparmor.security.beta.kubernetes.io/web": "unconfined"}
    ),
    "SELinux": lambda p: container(p).update(securityContext={"seLinuxOptions": {"type": "spc_t"}}),
    "SELinux of the pod": lambda p: p["spec"].update(
        securityContext={"seLinuxOptions": {"type": "spc_t"}}
    ),
    "seccomp of the pod": lambda p: p["spec"].update(
        securityContext={"seccompProfile": {"type": "Unconfined"}}
    ),
    "sysctls": lambda p: p["spec"].update(securityContext={"sysctls": [{"name": "x"}]}),
    "/proc": lambda p: container(p).update(securityContext={"procMount": "Unmasked"}),
    "an init container's": lambda p: p["spec"].update(initContainers=[ANOTHER]),
    "an ephemeral container's": lambda p: p["spec"].update(ephemeralContainers=[ANOTHER]),
}


@pytest.mark.parametrize("power", POWERS)
def test_an_application_does_not_get_the_powers_that_the_namespace_admits(power: str) -> None:
    pod = application()
    POWERS[power](pod)
    assert POLICY.refuses(pod)


def test_pods_from_before_the_policy_can_be_changed_but_for_what_they_run() -> None:
    old = application()
    POWERS["privileged"](old)
    new = copy.deepcopy(old)
    new["metadata"]["finalizers"] = []
    assert POLICY.refuses(new, old) == []
    container(new)["image"] = "other"
    assert POLICY.refuses(new, old)


def test_the_policy_names_our_image_and_capabilities() -> None:
    variables = {each["name"]: each["expression"] for each in POLICY.manifest["spec"]["variables"]}
    assert variables["image"] == f"'{IMAGE}'"
    assert variables["capabilities"] == str(jobs.CAPABILITIES)
    assert any(jobs.POLICY in each["expression"] for each in POLICY.manifest["spec"]["validations"])


def test_the_binding_and_the_namespace_agree_on_the_label() -> None:
    namespace = yaml.safe_load((FOLDER / "namespace.yaml").read_text())
    selector = POLICY.binding["spec"]["matchResources"]["namespaceSelector"]["matchLabels"]
    assert selector.items() <= namespace["metadata"]["labels"].items()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    assert POLICY.binding["spec"]["policyName"] == POLICY.manifest["metadata"]["name"]
    assert "Deny" in POLICY.binding["spec"]["validationActions"]


def test_what_the_policy_says_fits_into_an_answer_of_the_api_server() -> None:
    """k8s.io/api admissionregistration/v1: a message has no line break."""
    for each in POLICY.manifest["spec"]["validations"]:
        assert "\n" not in each["message"]
        assert len(each["message"]) < 1024
