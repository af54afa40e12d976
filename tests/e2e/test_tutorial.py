"""Every program of the tutorial, as its text has it, with its results."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .command import Command, start, trace, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from .cluster import Cluster, Pod

ACCEPT = """\
uprobe:/proc/$container_pid/exe:ngx_event_accept
{
	printf("new client request!\\n");
}
"""

READ_BYTES = """\
uretprobe:/proc/$container_pid/exe:ngx_unix_recv
{
	printf("read bytes: %d\\n", retval);
}
"""

READ_RATIO = """\
uretprobe:/proc/$container_pid/exe:ngx_unix_recv
{
	@val[retval] = count();
}
"""

SYSCALLS = """\
BEGIN
{
	printf("Counting syscalls... Hit Ctrl-C to end.\\n");
}

tracepoint:raw_syscalls:sys_enter
{
	@syscall[args.id] = count();
	@process[comm] = count();
}

END
{
	printf("\\nTop 10 syscalls IDs:\\n");
	print(@syscall, 10);
	clear(@syscall);

	printf("\\nTop 10 processes:\\n");
	print(@process, 10);
	clear(@process);
}
"""


def run(tmp_path: Path, program: str, *words: str) -> Command:
    """`kubectl trace run -f print.bt … -a`, as the tutorial types it."""
    file = tmp_path / "print.bt"
    file.write_text(program)
    return start("run", "-f", str(file), *words, "-a")


def test_prints_a_line_for_each_request_that_nginx_accepts(
    cluster: Cluster, nginx: Pod, tmp_path: Path
) -> None:
    command = run(tmp_path, ACCEPT, f"pod/{nginx.name}").wait_until_attached()
    cluster.request(nginx, times=7)
    wait_until(lambda: command.stdout().count("\n") >= 7, "seven lines")
    result = command.interrupt().finish()
    assert result.code == 0, result
    assert result.stdout == "new client request!\n" * 7
    assert result.stderr.startswith("trace "), "the ID comes first, and on stderr"


def test_prints_how_many_bytes_nginx_reads(cluster: Cluster, nginx: Pod, tmp_path: Path) -> None:
    command = run(tmp_path, READ_BYTES, f"pod/{nginx.name}").wait_until_attached()
    cluster.request(nginx, times=3)
    # A request of busybox's wget for http://IP/ with its header lines and blank line.
    size = len(
        f"GET / HTTP/1.1\r\nHost: {nginx.ip}\r\nUser-Agent: Wget\r\nConnection: close\r\n\r\n"
    )
    wait_until(lambda: command.stdout().count(f"read bytes: {size}\n") >= 3, "three requests")
    result = command.interrupt().finish()
    assert result.code == 0, result
    assert set(result.lines) <= {f"read bytes: {size}", "read bytes: 0"}, result


def test_counts_what_nginx_reads_and_prints_the_map_on_ctrl_c(
    cluster: Cluster, nginx: Pod, tmp_path: Path
) -> None:
    command = run(tmp_path, READ_RATIO, f"pod/{nginx.name}").wait_until_attached()
    cluster.request(nginx, times=25)
    result = command.interrupt().finish()
    assert result.code == 0, result
    counts = {int(size): int(n) for size, n in re.findall(r"@val\[(\d+)\]: (\d+)", result.stdout)}
    assert sum(n for size, n in counts.items() if size > 0) == 25, result
    assert list(counts.values()) == sorted(counts.values()), "bpftrace sorts by value"
    assert "stopping, collecting maps" in result.stderr


def test_counts_system_calls_of_a_node_and_prints_the_top_10(
    cluster: Cluster, node: str, tmp_path: Path
) -> None:
    command = run(tmp_path, SYSCALLS, "--fetch-headers", node).wait_until_attached()
    wait_until(lambda: "Counting syscalls... Hit Ctrl-C to end.\n" in command.stdout(), "BEGIN")
    cluster.request(cluster.pods("app=nginx")[0], times=5)
    result = command.interrupt().finish()
    assert result.code == 0, result
    assert "includes no headers" in result.stderr, "nothing to fetch, and it says so"
    match = re.fullmatch(
        r"Counting syscalls\.\.\. Hit Ctrl-C to end\.\n"
        r"\nTop 10 syscalls IDs:\n((?:@syscall\[\d+\]: \d+\n){10})\n*"
        r"\nTop 10 processes:\n((?:@process\[.+\]: \d+\n){10})\n*",
        result.stdout,
    )
    assert match, result
    for block in match.groups():
        values = [int(value) for value in re.findall(r": (\d+)\n", block)]
        assert values == sorted(values)


def test_names_the_files_that_programs_open(cluster: Cluster, node: str) -> None:
    program = (
        'tracepoint:syscalls:sys_enter_open { printf("%s %s\\n", comm, str(args->filename)); }'
    )
    command = start("run", node, "-a", "-e", program).wait_until_attached()
    # open(2) itself, which the C library no longer calls.
    opener = Command(
        "python3", "-c", "import ctypes; ctypes.CDLL(None).syscall(2, b'/etc/seen', 0)"
    )
    assert opener.finish().code == 0
    wait_until(lambda: "python3 /etc/seen\n" in command.stdout(), "the file's name")
    assert command.interrupt().finish().code == 0


def test_counts_system_calls_by_program(cluster: Cluster, node: str) -> None:
    program = "tracepoint:raw_syscalls:sys_enter { @[comm] = count(); }"
    command = start("run", node, "-a", "-e", program).wait_until_attached()
    cluster.request(cluster.pods("app=nginx")[0])
    result = command.interrupt().finish()
    assert result.code == 0, result
    assert re.search(r"^@\[nginx\]: \d+$", result.stdout, re.MULTILINE), result


def test_kubectl_finds_the_plugin_without_its_verb(cluster: Cluster) -> None:
    result = Command("kubectl", "trace").finish()
    assert result.code == 0
    assert "run" in result.stdout


def test_help_says_what_fetch_headers_does() -> None:
    result = trace("run", "--help")
    assert result.code == 0
    assert "--fetch-headers" in result.stdout
