from __future__ import annotations

from typing import Any

import msgspec

from kubectl_trace.image import IMAGE
from kubectl_trace.kube import job as jobs
from kubectl_trace.kube.job import JobOptions
from kubectl_trace.kube.placement import Placement
from kubectl_trace.kube.quantity import quantity
from kubectl_trace.runner import headers, modules
from kubectl_trace.trace import Calls, Functions, Limits, Trace

TRACE = Trace(id="0b5e", program="BEGIN { exit(); }", deadline=60, grace=20)
OPTIONS = JobOptions(namespace="n", target="pod/web", owner="ada")


def a_job(trace: Trace = TRACE, **options: Any) -> dict[str, Any]:
    chosen = JobOptions(**{"namespace": "n", "target": "pod/web", "owner": "ada", **options})
    return jobs.job(trace, Placement("node-a"), chosen)


def pod_spec(job: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = job["spec"]["template"]["spec"]
    return spec


def test_a_job_never_runs_its_program_twice_and_always_ends() -> None:
    spec = a_job()["spec"]
    assert spec["backoffLimit"] == 0
    assert pod_spec(a_job())["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] > 60 + 20, "the runner's own deadline comes first"
    assert spec["ttlSecondsAfterFinished"] == 3600


def test_a_pod_may_take_its_grace_period_to_detach() -> None:
    assert pod_spec(a_job())["terminationGracePeriodSeconds"] > 20


def test_a_pod_is_pinned_by_the_nodes_name_and_tolerates_everything() -> None:
    spec = pod_spec(a_job())
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term == {
        "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-a"]}]
    }
    assert spec["tolerations"] == [{"operator": "Exists"}]


def test_a_runner_has_capabilities_and_is_not_privileged_unless_told_so() -> None:
    (container,) = pod_spec(a_job())["containers"]
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert "privileged" not in container["securityContext"]
    (container,) = pod_spec(a_job(privileged=True))["containers"]
    assert container["securityContext"]["privileged"] is True


def resources(memory: str = "", cpu: str = "") -> dict[str, Any]:
    trace = msgspec.structs.replace(TRACE, limits=Limits(memory=memory, cpu=cpu))
    (container,) = pod_spec(a_job(trace))["containers"]
    found: dict[str, Any] = container["resources"]
    return found


def test_a_runner_is_limited_and_never_asks_for_more_than_its_limits() -> None:
    assert resources() == {
        "requests": {"cpu": "50m", "memory": "100Mi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
    }
    assert resources(memory="64Mi", cpu="0.02") == {
        "requests": {"cpu": "0.02", "memory": "64Mi"},
        "limits": {"cpu": "0.02", "memory": "64Mi"},
    }
    assert resources(memory="2G", cpu="2")["requests"] == {"cpu": "50m", "memory": "100Mi"}


def test_only_who_asks_for_statistics_gets_the_capability_for_them() -> None:
    (container,) = pod_spec(a_job())["containers"]
    assert "SYS_ADMIN" not in container["securityContext"]["capabilities"]["add"]
    (container,) = pod_spec(a_job(statistics=True))["containers"]
    assert "SYS_ADMIN" in container["securityContext"]["capabilities"]["add"]


def test_a_runner_has_no_token_of_the_cluster() -> None:
    assert pod_spec(a_job())["automountServiceAccountToken"] is False


def test_the_owners_policy_and_the_nodes_word_on_namespaces_are_mounted_read_only() -> None:
    spec = pod_spec(a_job())
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounts = {each["name"]: each for each in spec["containers"][0]["volumeMounts"]}
    assert volumes["policy"]["configMap"] == {"name": "kubectl-trace-policy", "optional": True}
    assert volumes["pod-logs"]["hostPath"] == {"path": "/var/log/pods"}
    assert mounts["policy"] == {"name": "policy", "mountPath": "/policy", "readOnly": True}
    assert mounts["pod-logs"]["readOnly"] is True
    (namespace,) = (
        each for each in spec["containers"][0]["env"] if each["name"] == "KUBECTL_TRACE_NAMESPACE"
    )
    assert namespace["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}


def test_a_runners_standard_input_stays_open_for_a_client_that_comes_back() -> None:
    (container,) = pod_spec(a_job(msgspec.structs.replace(TRACE, attached=True)))["containers"]
    assert container["stdin"] is True
    assert "stdinOnce" not in container


def test_labels_are_the_originals_and_annotations_say_who_and_what() -> None:
    metadata = a_job()["metadata"]
    names = {
        "iovisor.org/kubectl-trace": "kubectl-trace-0b5e",
        "iovisor.org/kubectl-trace-id": "0b5e",
    }
    assert metadata["labels"] == names
    assert names.items() <= metadata["annotations"].items()
    assert metadata["annotations"][jobs.ANNOTATION_OWNER] == "ada"
    assert metadata["annotations"][jobs.ANNOTATION_TARGET] == "pod/web"
    assert len(metadata["annotations"][jobs.ANNOTATION_PROGRAM_HASH]) == 64


def test_of_what_is_traced_with_only_the_program_is_in_the_job() -> None:
    """The rest may hold passwords: whoever lists Jobs and pods must not read it there."""
    secret = "s3cr3t"
    trace = Trace(
        id="0b5e",
        program="BEGIN { exit(); }",
        program_name=f"{secret}.bt",
        parameters=(secret,),
        bpftrace_options=("-I", secret),
        environment={"BPFTRACE_X": secret},
        calls=Calls(Functions(("f",), debuginfod=f"https://me:{secret}@host")),
    )
    job = a_job(trace)
    assert secret not in msgspec.json.encode(job).decode()
    config_map = jobs.config_map(trace, job)
    assert secret not in msgspec.json.encode(config_map["metadata"]).decode()
    assert secret in config_map["data"]["trace.json"]


def test_the_container_has_a_fixed_name_and_resources() -> None:
    (container,) = pod_spec(a_job())["containers"]
    assert container["name"] == "kubectl-trace"
    assert container["image"] == IMAGE
    assert container["resources"]["requests"]
    assert container["resources"]["limits"]


def test_the_config_map_is_owned_by_the_job_and_holds_the_trace() -> None:
    stored = a_job()
    stored["metadata"]["uid"] = "u"
    config_map = jobs.owned(jobs.config_map(TRACE, stored), stored)
    (owner,) = config_map["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Job", "kubectl-trace-0b5e", "u")
    assert config_map["metadata"]["labels"] == stored["metadata"]["labels"]
    assert msgspec.json.decode(config_map["data"]["trace.json"], type=Trace) == TRACE


def test_headers_come_through_an_init_container_of_the_chosen_image() -> None:
    spec = pod_spec(a_job(fetch_headers=True, init_image="headers:1", headers_mirror="http://m"))
    (init,) = spec["initContainers"]
    assert init["image"] == "headers:1"
    assert init["args"] == ["headers", "/headers", "--mirror", "http://m"]
    (container,) = spec["containers"]
    names = {variable["name"] for variable in container["env"]}
    assert {"BPFTRACE_KERNEL_SOURCE", "BPFTRACE_KERNEL_BUILD"} <= names


def test_the_node_keeps_its_disk() -> None:
    spec = pod_spec(a_job(fetch_headers=True))
    folders = {each["name"]: each["emptyDir"] for each in spec["volumes"] if "emptyDir" in each}
    assert folders.keys() == {"tmp", "headers"}
    largest = headers._LARGEST_ARCHIVE + 2 * headers._LARGEST_UNPACKED
    assert largest < quantity(folders["headers"]["sizeLimit"])
    assert quantity(folders["tmp"]["sizeLimit"]) > 8 * modules._LONGEST_DOWNLOAD


def test_a_pull_secret_is_the_pods() -> None:
    assert pod_spec(a_job(image_pull_secret="s"))["imagePullSecrets"] == [{"name": "s"}]
    assert "imagePullSecrets" not in pod_spec(a_job())


def test_the_id_the_name_and_the_name_of_a_nodes_job_all_name_a_trace() -> None:
    trace_id = "0b5e6c5a-6a0c-4e55-93ab-d5c0c8b57f10"
    names = (trace_id, jobs.name_of(trace_id), jobs.name_of(trace_id, "node-a"))
    assert {jobs.id_of(name) for name in names} == {trace_id}


def test_the_jobs_of_a_trace_on_several_nodes_differ_and_their_names_are_labels() -> None:
    trace_id = "0b5e6c5a-6a0c-4e55-93ab-d5c0c8b57f10"
    names = {jobs.name_of(trace_id, node) for node in ("a", "b", "n" * 253)}
    assert len(names) == 3
    assert all(len(name) <= 63 for name in names)
