"""The cluster owner's policy and the scope against programs that try to get round them.

The runner reads the policy where a pod has it mounted; here it is mounted for the command alone.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .command import BIN, Command, Result, kubectl, start, trace, wait_until
from .conftest import REPOSITORY
from .known_calls import other_bpftrace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .cluster import Cluster, Pod

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="bpftrace needs root")

FOLDER = Path("/policy")
SHARED = (
    "scope: required\nunsafe: false\nkernelMemory: false\ndeniedFunctions: [kstack]\n"
    "probes: [uprobe, 'tracepoint:syscalls:*']\n"
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    was_there = FOLDER.exists()
    FOLDER.mkdir(exist_ok=True)
    yield FOLDER
    if not was_there:
        FOLDER.rmdir()


@pytest.fixture(scope="module")
def opener() -> Iterator[int]:
    """A process that opens files all the time; another one does, too."""
    code = "import time\nwhile True:\n    open('/etc/hostname').close()\n    time.sleep(0.01)\n"
    with contextlib.ExitStack() as stack:
        each = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", code])) for _ in range(2)
        ]
        for process in each:
            stack.callback(process.kill)
        yield each[0].pid


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with the runner image's bpftrace, of which a policy knows what it reads."""
    return other_bpftrace("0.23", tmp_path_factory.mktemp("bpftrace") / "0.23")


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return other_bpftrace("0.27", tmp_path_factory.mktemp("bpftrace") / "0.27")


def under(
    policy: str, folder: Path, tmp_path: Path, *words: str, env: Mapping[str, str] | None = None
) -> Result:
    """Runs `kubectl-trace` where this policy is mounted."""
    (tmp_path / "policy.yaml").write_text(policy)
    mount = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    mounted = ("unshare", "-m", "sh", "-c", mount, "sh", str(tmp_path), str(folder))
    return Command(*mounted, str(BIN / "kubectl-trace"), *words, env=env).finish()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ('BEGIN {\n\tsystem("id");\n}', "(unsafe: false): stdin:2:2: system is unsafe"),
        ("iter:task { }", "(probes): stdin:1:1: not among the probes allowed"),
        ("interval:s:1 { print(comm); }", "(scope: required): stdin:1:22: comm in interval"),
        ("kprobe:vfs_read { }", "(probes): stdin:1:1: not among the probes allowed"),
        ("uprobe:libc:read { @ = curtask->pid; }", "(kernelMemory: false): stdin:1:24: curtask"),
        ("uprobe:libc:read { @[kstack] = count(); }", "(deniedFunctions): stdin:1:22: kstack"),
        ('#define S sys tem\nuprobe:libc:read { S("id"); }', "stdin:1:1: of directives only"),
        ('#include "/etc/shadow"\nBEGIN { }', "stdin:1:1: of directives only"),
    ],
)
def test_what_the_policy_does_not_allow_is_refused_at_its_place(
    folder: Path, tmp_path: Path, opener: int, program: str, said: str
) -> None:
    result = under(SHARED, folder, tmp_path, "run", f"local/{opener}", "-e", program)
    assert result.code == 4, result
    assert "not allowed by the cluster's policy" in result.stderr
    assert said in result.stderr
    assert result.stdout == ""
    assert "attached" not in result.stderr


def test_what_the_policy_allows_is_traced(
    folder: Path, tmp_path: Path, opener: int, newer: dict[str, str]
) -> None:
    program = (
        'tracepoint:syscalls:sys_enter_openat { printf("%d %s\\n", pid, str(args->filename)); '
        "exit(); }"
    )
    words = ("run", f"local/{opener}", "-e", program)
    result = under(SHARED, folder, tmp_path, *words, env=newer)
    assert (result.code, result.lines[:1]) == (0, [f"{opener} /etc/hostname"]), result


def test_a_bpftrace_that_reads_anything_promises_nothing(
    folder: Path, tmp_path: Path, opener: int
) -> None:
    words = ("run", f"local/{opener}", "-e", "BEGIN { exit(); }")
    result = under("kernelMemory: false\n", folder, tmp_path, *words)
    if "bpftrace 0.17" not in result.stderr:
        pytest.skip("this machine's bpftrace is a newer one")
    assert result.code == 4, result
    assert "follows any number as an address" in result.stderr


VALUES = (
    *("*(uint64 *)@n", "*(uint64 *){address}", "((struct x *)@n)->a", "((uint64 *)@n)[1]"),
    *("*uptr(@n)", "*(uint64 *)uptr(@n)", "*(arg0 - arg0 + @n)", "*(uint64 *)(pid - pid + @n)"),
    *("*(uint64 *)(arg0 + @n - arg0)", "**(uint64 **)uptr(@n)"),
    # Pointers to the kernel's memory that are in the process's.
    *("**(uint64 *)arg0", "*(uint64 *)*arg0", "*((uint64 *)arg0)[0]", "***(uint64 **)arg0"),
    *("*((struct x *)arg0)->a", "*(uint64 *)$1", "*(*(uint64 *)arg0 + 0)"),
)
BYTES = (
    *(
        "(uint8 *)@n",
        "(uint8 *){address}",
        "uptr(@n)",
        "arg0 - arg0 + @n",
        "(uint8 *)(pid - pid + @n)",
    ),
    *("(uint8 *)$n", "*(uint64 *)arg0", "(uint8 *)*arg0", "((struct x *)arg0)->a", "(uint8 *)$1"),
)
REFUSED = {
    **dict.fromkeys(("*@n", "**arg0", "*$1", '**reg("di")', "**uptr(arg0)"), "%lx"),
    **dict.fromkeys(("buf(*arg0, 8)", "buf($1, 8)"), "%r"),
}
"""What gives the kernel's own code, if `arg0` leads to its address and `$1` is it."""


@pytest.fixture(scope="module")
def address() -> str:
    """An address of the kernel's own code."""
    symbols = Path("/proc/kallsyms").read_text().splitlines()
    return "0x" + next(line.split()[0] for line in symbols if line.endswith(" _stext"))[:-3] + "100"


@pytest.fixture(scope="module")
def insider(address: str) -> Iterator[int]:
    """A process that passes where a pointer to the kernel's memory is, all the time."""
    code = (
        "import ctypes, time\n"
        "open64 = ctypes.CDLL(None).open64\n"
        f"third = ctypes.c_uint64({address})\n"
        "while True:\n    open64(ctypes.byref(third), 0)\n    time.sleep(0.01)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        yield process.pid
        process.kill()


@pytest.mark.parametrize("version", ["newer", "newest"])
def test_what_is_allowed_reads_none_of_the_kernels_memory(
    request: pytest.FixtureRequest,
    folder: Path,
    tmp_path: Path,
    insider: int,
    address: str,
    version: str,
) -> None:
    """The kernel's own code, at an address that the program and the process know."""
    env = request.getfixturevalue(version)
    if not env:
        pytest.skip("that version is not to be had any more")

    def run(policy: str, shown: str) -> Result:
        program = (
            f"struct x {{ uint64_t a; }}; BEGIN {{ @n = (uint64){address}; }} "
            f"uprobe:libc:open64 {{ $n = @n; {shown} exit(); }}"
        ).replace("{address}", address)
        words = ("run", f"local/{insider}", "--deadline", "20s", "-e", program, "--", address)
        return under(policy, folder, tmp_path, *words, env=env)

    shown = "".join(f'printf("%lx\\n", (uint64)({each}));' for each in VALUES)
    shown += "".join(f'printf("%r\\n", buf({each}, 8));' for each in BYTES)
    result = run("kernelMemory: false\n", shown)
    assert result.code == 0, result
    seen = result.lines[: len(VALUES) + len(BYTES)]
    assert set(seen) <= {"0", r"\x00" * 8}, result
    # There is something to read, and what is refused would have.
    refused = [f'printf("{how}\\n", {each});' for each, how in REFUSED.items()]
    for each in refused:
        assert run("kernelMemory: false\n", each).code == 4, each
    result = run("unsafe: true\n", "".join(refused))
    seen = result.lines[: len(refused)]
    assert not {"", "0", r"\x00" * 8}.intersection(seen), result


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "local", "-e", "BEGIN { }"), "(scope: required): a whole node"),
        (("run", "local/{pid}", "--no-scope", "-e", "BEGIN { }"), "(scope: required): --no-scope"),
        (("run", "local/{pid}", "--unsafe", "-e", "BEGIN { }"), "--unsafe"),
        (("run", "local/{pid}", "--env", "BPFTRACE_BTF=/x", "-e", "BEGIN { }"), "BPFTRACE_BTF"),
    ],
)
def test_no_flag_goes_round_the_policy(
    folder: Path, tmp_path: Path, opener: int, words: tuple[str, ...], said: str
) -> None:
    given = (word.format(pid=opener) if word.startswith("local/") else word for word in words)
    result = under(SHARED, folder, tmp_path, *given)
    assert result.code == 4, result
    assert said in result.stderr


def test_under_a_policy_that_can_not_be_read_nothing_is_traced(
    folder: Path, tmp_path: Path
) -> None:
    result = under("scop: required\n", folder, tmp_path, "run", "local", "-e", "BEGIN { exit(); }")
    assert (result.code, result.stdout) == (4, ""), result
    assert "can't be read, so nothing is traced" in result.stderr
    assert "scop" in result.stderr


OPENED = 'printf("%d\\n", pid); @n++; if (@n > 30) { exit(); }'


@pytest.mark.parametrize(
    "program",
    [
        f"tracepoint:syscalls:sys_enter_openat /1 || 1/ {{ {OPENED} }}",
        f"tracepoint:syscalls:sys_enter_openat /1 // \n|| 1/ {{ {OPENED} }}",
        "#define M @ _scope\nBEGIN { clear(M); } "
        f"tracepoint:syscalls:sys_enter_openat {{ {OPENED} }}",
        "BEGIN { @_scope[(uint64)1] = (uint64)1; } "
        f"tracepoint:syscalls:sys_enter_openat {{ @_scope[(uint64)tid] = (uint64)1; {OPENED} }}",
        f"BEGIN, tracepoint:syscalls:sys_enter_openat /pid/ {{ {OPENED} }}",
        f"tracepoint:syscalls:sys_enter_open* {{ $_container = 1; {OPENED} }}",
    ],
)
def test_no_program_shows_events_of_another_process(opener: int, program: str) -> None:
    command = start("run", f"local/{opener}", "--deadline", "10s", "-e", program)
    result = command.finish()
    if result.code == 6:  # no map of its own has that name
        assert "Undefined map" in result.stderr, result
        return
    assert result.code == 0, result
    own = {line for line in result.lines if line.isdecimal()}
    if "BEGIN, " in program:  # BEGIN fires in bpftrace itself
        own = set(result.lines[1:]) & own
    assert own == {str(opener)}, result


@pytest.mark.parametrize("path", ["/proc/1/exe", "/proc/self/exe", "/proc/1/root/bin/sh"])
def test_a_file_of_the_node_is_not_attached_to(opener: int, path: str) -> None:
    result = trace("run", f"local/{opener}", "-e", f"uprobe:{path}:main {{ }}")
    assert result.code == 6, result
    assert "no file of the target's containers" in result.stderr
    assert "attached" not in result.stderr


def test_no_file_of_the_node_comes_into_a_message(opener: int) -> None:
    program = '#include "/etc/passwd"\nuprobe:libc:read { }'
    result = trace("run", f"local/{opener}", "-e", program)
    assert result.code == 2, result
    assert "root:" not in result.stderr


@pytest.fixture
def tenant(cluster: Cluster) -> Iterator[str]:
    """A namespace whose owner lets traces see its own pods only."""
    name = "tenant"
    kubectl("create", "namespace", name)
    policy = REPOSITORY / "deploy" / "policy" / "policy.yaml"
    done = kubectl(
        *("create", "configmap", "kubectl-trace-policy", "-n", name, f"--from-file={policy}")
    )
    assert done.code == 0, done
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "web",
                    "image": "docker.io/kubectl-trace-testbed/nginx:1",
                    "imagePullPolicy": "IfNotPresent",
                }
            ],
        },
    }
    wait_until(
        lambda: kubectl("get", "serviceaccount", "default", "-n", name).code == 0,
        "the namespace's service account",
    )
    assert cluster.apply(pod).code == 0
    assert kubectl("wait", "--for=condition=ready", "pod/web", "-n", name).code == 0
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def test_in_a_cluster_who_may_trace_in_one_namespace_sees_nothing_of_another(
    cluster: Cluster, tenant: str, nginx: Pod
) -> None:
    """Whatever the client says: the node tells which namespace a container is in."""
    accepted = "uprobe:/usr/sbin/nginx:ngx_event_accept { @requests = count(); }"
    own = start("run", "pod/web", "-n", tenant, "-a", "-e", accepted).wait_until_attached()
    cluster.request(nginx, 5)  # of the same image
    (web,) = cluster.get("pods", "-n", tenant, "--field-selector=metadata.name=web")["items"]
    cluster.request(replace(nginx, ip=web["status"]["podIP"]), 3)
    assert own.interrupt().finish().stdout == "@requests: 3\n"
    for words in (
        ("pod/" + nginx.name, "--target-namespace", "default"),
        (nginx.node,),
        ("pod/web", "--no-scope"),
    ):
        refused = trace("run", *words, "-n", tenant, "-a", "-e", accepted)
        assert refused.code == 4, refused
        assert "not allowed by the cluster's policy (namespaces: own)" in refused.stderr
