from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubectl_trace.errors import ForbiddenError
from kubectl_trace.runner import policy, processes
from kubectl_trace.runner.policy import Policy
from kubectl_trace.trace import Calls, Container, Functions, Trace
from tests.unit.runner.test_processes import ID, proc_entry

if TYPE_CHECKING:
    from collections.abc import Callable

UID = "01234567-89ab-cdef-0123-456789abcdef"
OTHER_UID = "11111111-2222-3333-4444-555555555555"
STATIC_UID = "fedcba9876543210fedcba9876543210"
OTHER_ID = "9e" * 32
EXAMPLE = Path(__file__).parents[3] / "deploy" / "policy" / "policy.yaml"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def written(text: str) -> Path:
        path = tmp_path / "policy.yaml"
        path.write_text(text)
        return path

    return written


def test_without_a_file_everything_is_allowed(tmp_path: Path) -> None:
    known = policy.read(tmp_path / "none" / "policy.yaml")
    assert known == Policy()
    trace = Trace("1", 'iter:task { system("x"); }', bpftrace_options=("--unsafe",), scope=False)
    policy.check(trace, known)


@pytest.mark.parametrize("names", [["mine.yaml"], ["..data", "policy.yml"], ["policy.yaml.old"]])
def test_a_wrong_key_lets_nothing_be_traced(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("scope: required\n")
    with pytest.raises(ForbiddenError, match=r"no key policy\.yaml.*--from-file=policy\.yaml="):
        policy.read(tmp_path / "policy.yaml")


def test_a_config_map_that_is_not_there_allows_everything(tmp_path: Path) -> None:
    """As the kubelet mounts an optional one that is missing: its own names and no file."""
    (tmp_path / "..2026_11_26_00_00_00.1").mkdir()
    (tmp_path / "..data").symlink_to("..2026_11_26_00_00_00.1")
    assert policy.read(tmp_path / "policy.yaml") == Policy()


def test_a_policy_that_leads_nowhere_lets_nothing_be_traced(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").symlink_to("..data/policy.yaml")
    with pytest.raises(ForbiddenError):
        policy.read(tmp_path / "policy.yaml")


def test_a_file_says_it_by_its_documented_keys(write: Callable[[str], Path]) -> None:
    known = policy.read(
        write(
            "namespaces: own\nscope: required\nunsafe: false\nkernelMemory: false\n"
            "deniedFunctions: [kstack, cat]\nprobes: [uprobe, 'tracepoint:syscalls:*']\n"
            "debuginfod: ['https://debuginfod.example']\n"
        )
    )
    assert known == Policy(
        namespaces="own",
        scope="required",
        unsafe=False,
        kernel_memory=False,
        denied_functions=("kstack", "cat"),
        probes=("uprobe", "tracepoint:syscalls:*"),
        debuginfod=("https://debuginfod.example",),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no mapping"),
        ("scope", "no mapping"),
        ("scop: required\n", "scop"),
        ("scope: yes\n", "scope"),
        ("scope: requirred\n", "scope"),
        ("unsafe: 'false'\n", "unsafe"),
        ("unsafe: 0\n", "unsafe"),
        ("kernel_memory: false\n", "kernel_memory"),
        ("namespaces: mine\n", "namespaces"),
        ("namespaces: [A/B]\n", "namespaces"),
        ("deniedFunctions: system\n", "deniedFunctions"),
        ("deniedFunctions: ['a b']\n", "deniedFunctions"),
        ("probes: [u*]\n", "u*"),
        ("unsafe: false\nunsafe: true\n", "twice"),
        ("unsafe: [\n", "policy.yaml"),
        ("unsafe: !!python/object/apply:os.system ['id']\n", "python"),
        ("unsafe: false\n--- \nunsafe: true\n", "single document"),
        ("#" * ((64 << 10) + 1), "KiB"),
        ("\0", "policy.yaml"),
    ],
)
def test_a_file_that_says_something_else_lets_nothing_be_traced(
    write: Callable[[str], Path], text: str, said: str
) -> None:
    with pytest.raises(ForbiddenError, match="nothing is traced") as error:
        policy.read(write(text))
    assert said in str(error.value)


def test_a_file_that_can_not_be_read_lets_nothing_be_traced(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").mkdir()
    with pytest.raises(ForbiddenError, match="nothing is traced"):
        policy.read(tmp_path / "policy.yaml")


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(":-[]{}&*!? \nascope", max_size=60).map(str.encode))
def test_whatever_is_in_a_file_it_is_read_or_refused(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file, contextlib.suppress(ForbiddenError):
        file.write(content)
        file.flush()
        assert isinstance(policy.read(Path(file.name)), Policy)


# Targets.


def container(**fields: str) -> Container:
    whole = {"namespace": "shop", "pod": "cart", "container": "app", "container_id": ID}
    return Container(**{**whole, **fields})


def outside(tmp_path: Path, cgroup: str, namespaces: tuple[str, ...], **fields: str) -> str:
    proc = tmp_path / "proc"
    proc.mkdir()
    proc_entry(proc, 10, cgroup)
    pods = tmp_path / "pods"
    for name in (f"shop_cart_{UID}", f"bank_vault_{OTHER_UID}", f"kube-system_etcd_{STATIC_UID}"):
        (pods / name).mkdir(parents=True)
    known = Policy(namespaces=namespaces)
    (why,) = policy.outside([container(**fields)], known, pods=pods, proc=proc)
    return why


IN_SYSTEMD = f"kubepods-burstable-pod{UID.replace('-', '_')}.slice"


@pytest.mark.parametrize(
    "cgroup",
    [
        f"0::/kubepods/burstable/pod{UID}/{ID}\n",
        f"0::/kubepods.slice/kubepods-burstable.slice/{IN_SYSTEMD}/cri-containerd-{ID}.scope\n",
        f"0::/kubepods.slice/{IN_SYSTEMD}/crio-{ID}.scope/container\n",
        f"5:cpu:/kubepods/pod{UID}/{ID}\n1:name=systemd:/kubepods/pod{UID}/{ID}\n0::/\n",
        f"0::/../../pod{UID}/{ID}/own/cgroups\n",
    ],
)
def test_a_containers_namespace_is_that_of_the_folder_of_its_pod(
    tmp_path: Path, cgroup: str
) -> None:
    assert outside(tmp_path, cgroup, ("shop",), pod_uid=UID) == ""


def test_a_static_pods_folder_has_the_kubelets_own_uid(tmp_path: Path) -> None:
    cgroup = f"0::/kubepods/pod{STATIC_UID}/{ID}\n"
    assert outside(tmp_path, cgroup, ("kube-system",), pod_uid=STATIC_UID) == ""


@pytest.mark.parametrize(
    ("cgroup", "fields", "said"),
    [
        # The client says shop, the node bank.
        (f"0::/kubepods/pod{OTHER_UID}/{ID}\n", {}, "namespace bank, not in shop"),
        (f"0::/kubepods/pod{UID}/{ID}\n", {"pod_uid": OTHER_UID}, "namespace bank"),
        (f"0::/kubepods/pod{UID}/{ID}\n", {"pod_uid": UID[:-1] + "0"}, "no pod of the UID"),
        (f"0::/system.slice/docker-{ID}.scope\n", {}, "no pod of the UID"),
        # Cgroups that a container has made itself, to look like one of another's.
        (f"0::/kubepods/pod{OTHER_UID}/{ID}/pod{UID}/{ID}\n", {}, "no pod of the UID"),
        (f"1:cpu:/kubepods/pod{OTHER_UID}/{ID}\n0::/pod{UID}/{ID}\n", {}, "no pod of the UID"),
        (f"0::/kubepods/pod{UID}/{OTHER_ID}\n", {}, "no process"),
        # What would be part of everybody's cgroup.
        (f"0::/kubepods/pod{UID}/{ID}\n", {"container_id": "kubepods"}, "no container's ID"),
        (f"0::/kubepods/pod{UID}/{ID}\n", {"container_id": ID[:12]}, "no container's ID"),
        (f"0::/kubepods/pod{UID}/{ID}\n", {"container_id": ""}, "not known"),
    ],
)
def test_what_the_client_says_of_a_container_is_not_taken_for_true(
    tmp_path: Path, cgroup: str, fields: dict[str, str], said: str
) -> None:
    assert said in outside(tmp_path, cgroup, ("shop",), **fields)


def test_every_process_with_the_containers_id_must_be_of_the_namespace(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    proc.mkdir()
    proc_entry(proc, 10, f"0::/kubepods/pod{OTHER_UID}/{ID}\n")
    proc_entry(proc, 11, f"0::/kubepods/pod{UID}/{OTHER_ID}/pod{UID}/{ID}\n")
    pods = tmp_path / "pods"
    (pods / f"shop_cart_{UID}").mkdir(parents=True)
    (pods / f"bank_vault_{OTHER_UID}").mkdir()
    known = Policy(namespaces=("shop",))
    assert policy.outside([container(pod_uid=UID)], known, pods=pods, proc=proc) != [""]


def test_own_is_the_namespace_of_the_runners_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Policy(namespaces="own")
    monkeypatch.delenv(policy.NAMESPACE, raising=False)
    with pytest.raises(ForbiddenError, match="does not know its namespace"):
        policy.outside([container()], known)
    monkeypatch.setenv(policy.NAMESPACE, "shop")
    (why,) = policy.outside([container(container_id="ab" * 32)], known)
    assert "no process" in why


def test_proc_is_read_once_for_all_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def of_containers(ids: list[str], proc: Path) -> dict[str, list[processes.Process]]:
        asked.append(ids)
        return {}

    monkeypatch.setattr(processes, "of_containers", of_containers)
    others = [container(), container(container_id=OTHER_ID)]
    assert all(policy.outside(others, Policy(namespaces=("shop",)), pods=tmp_path))
    assert asked == [[ID, OTHER_ID]]


def test_containers_that_come_later_are_checked_too() -> None:
    told: list[str] = []
    known = Policy(namespaces=("shop",))
    assert policy.allowed([container(container_id="x")], known, told.append) == ()
    assert "namespaces: shop" in told[0]
    assert policy.allowed([container()], Policy(), told.append) == (container(),)


PROGRAM = "uprobe:/x:f { }"


@pytest.mark.parametrize(
    ("trace", "known", "said"),
    [
        (Trace("1", PROGRAM), Policy(scope="required"), "whole node"),
        (Trace("1", PROGRAM), Policy(namespaces="own"), "whole node"),
        (Trace("1", PROGRAM, pid=1), Policy(namespaces="own"), "process of the node"),
        (
            Trace("1", PROGRAM, containers=(container(),), scope=False),
            Policy(scope="required"),
            "--no-scope",
        ),
        (
            Trace("1", PROGRAM, containers=(container(),), scope_next=True),
            Policy(scope="required"),
            "--scope-next",
        ),
        (
            Trace("1", PROGRAM, bpftrace_options=("--unsafe",)),
            Policy(unsafe=False),
            "unsafe: false",
        ),
        (Trace("1", PROGRAM), Policy(probes=("usdt",)), "probes"),
        (
            Trace("1", "", listing=Functions(debuginfod="http://10.0.0.1/")),
            Policy(debuginfod=("https://debuginfod.example",)),
            "http://10.0.0.1",
        ),
        (
            Trace("1", "", calls=Calls(Functions(debuginfod="https://ada:s3cret@x"))),
            Policy(debuginfod=()),
            "the server https://x;",
        ),
    ],
)
def test_a_trace_that_is_not_allowed_is_refused_by_the_rules_name(
    trace: Trace, known: Policy, said: str
) -> None:
    with pytest.raises(ForbiddenError, match="not allowed by the cluster's policy") as error:
        policy.check(trace, known)
    assert said in str(error.value)
    policy.check(trace, Policy())


def test_a_refusal_names_the_place() -> None:
    program = 'uprobe:/x:f\n{\n\tsystem("x");\n}'
    trace = Trace("1", program, program_name="mine.bt")
    with pytest.raises(ForbiddenError) as error:
        policy.check(trace, Policy(unsafe=False))
    assert str(error.value).splitlines() == [
        "not allowed by the cluster's policy (unsafe: false): mine.bt:3:2: system is unsafe",
        '\tsystem("x");',
        "\t^^^^^^",
    ]


def test_a_server_that_is_listed_may_be_asked() -> None:
    known = Policy(debuginfod=("https://debuginfod.example/",))
    wanted = Functions(debuginfod="https://debuginfod.example")
    policy.check(Trace("1", "", listing=wanted), known)


@pytest.mark.parametrize("release", ["0.17.0", "0.22.1", "unknown", ""])
def test_without_a_bpftrace_whose_pointers_are_known_no_kernel_memory_is_promised(
    release: str,
) -> None:
    with pytest.raises(ForbiddenError, match="follows any number"):
        policy.check_version(Policy(kernel_memory=False), release)
    policy.check_version(Policy(kernel_memory=False), "0.23.2")
    policy.check_version(Policy(), release)


def test_a_scope_by_thread_ids_is_not_exact_enough() -> None:
    with pytest.raises(ForbiddenError, match="no BTF"):
        policy.check_exact(Policy(scope="required"), is_exact=False)
    policy.check_exact(Policy(scope="required"), is_exact=True)
    policy.check_exact(Policy(), is_exact=False)


@pytest.mark.parametrize(
    "fields",
    [
        {"bpftrace_options": ("-e", "iter:task { }")},
        {"bpftrace_options": ("-c", "id")},
        {"bpftrace_options": ("-o", "/x")},
        {"bpftrace_options": ("-f", "text")},
        {"bpftrace_options": ("other.bt",)},
        {"bpftrace_options": ("--", "other.bt")},
        {"bpftrace_options": ("-B",)},
        {"environment": {"LD_PRELOAD": "/proc/9/root/x.so"}},
        {"environment": {"PATH": "/x"}},
        {"pid": 1, "bpftrace_options": ("--include", "/etc/shadow")},
        {"pid": 1, "bpftrace_options": ("-I=/x",)},
    ],
)
def test_what_no_client_of_ours_sends_is_refused_without_a_policy_too(fields: object) -> None:
    trace = msgspec.convert({"id": "1", "program": PROGRAM, **fields}, Trace)  # type: ignore[dict-item]
    with pytest.raises(ForbiddenError):
        policy.check_always(trace)


@pytest.mark.parametrize("name", ["BPFTRACE_BTF", "BPFTRACE_KERNEL_SOURCE"])
def test_other_types_than_the_kernels_do_not_say_who_is_in_scope(name: str) -> None:
    trace = Trace("1", PROGRAM, containers=(container(),), environment={name: "/tmp/own"})
    with pytest.raises(ForbiddenError, match=name):
        policy.check_always(trace)
    policy.check_always(msgspec.structs.replace(trace, scope=False))
    policy.check_always(msgspec.structs.replace(trace, environment={name: "/dev/null"}))


@pytest.mark.parametrize("name", ["KUBECTL_TRACE_NODE", "KUBECTL_TRACE_NAMESPACE"])
def test_in_a_pod_no_process_of_the_node_is_a_target(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    trace = Trace("1", PROGRAM, pid=1)
    policy.check_always(trace)
    policy.check(trace, Policy(scope="required"))
    monkeypatch.setenv(name, "x")
    with pytest.raises(ForbiddenError, match="one's own machine only"):
        policy.check_always(trace)


def test_no_process_is_a_target_beside_containers() -> None:
    """It alone would be the scope, and 1 is the whole node."""
    with pytest.raises(ForbiddenError, match="one's own machine only"):
        policy.check_always(Trace("1", PROGRAM, containers=(container(),), pid=1))


def test_the_example_that_is_shipped_is_a_policy_that_forbids_what_it_says() -> None:
    known = policy.read(EXAMPLE)
    assert known.namespaces == "own"
    assert known.scope == "required"
    assert not known.unsafe
    assert not known.kernel_memory
    assert known.probes is not None
