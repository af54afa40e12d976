"""The target `local`: the same job on this machine, with its own bpftrace and no cluster."""

from __future__ import annotations

import array
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from .command import BIN, Command, start, trace, wait_until

REPOSITORY = Path(__file__).parents[2]
FOREVER = 'BEGIN { printf("begin\\n"); @started = 1; } interval:s:1 { @ticks = count(); }'

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="bpftrace needs root")


def test_it_needs_no_kubectl_and_no_cluster() -> None:
    command = Command(
        str(REPOSITORY / ".venv/bin/kubectl-trace"),
        *("run", "local", "-e", 'BEGIN { printf("here\\n"); exit(); }'),
        env={"PATH": "/usr/sbin:/sbin:/bin", "KUBECONFIG": "/dev/null"},
    )
    result = command.finish()
    assert (result.code, result.stdout) == (0, "here\n"), result


def test_a_process_is_container_pid() -> None:
    program = 'BEGIN { printf("%d\\n", $container_pid); exit(); }'
    assert trace("run", f"local/{os.getpid()}", "-e", program).stdout == f"{os.getpid()}\n"


def test_a_process_that_is_not_there_is_named() -> None:
    result = trace("run", "local/4194300", "-e", FOREVER)
    assert result.code == 3, result
    assert "4194300" in result.stderr


def test_modules_in_the_users_folder_are_not_imported(tmp_path: Path) -> None:
    (tmp_path / "msgspec.py").write_text("raise SystemExit('imported as root')")
    program = 'BEGIN { printf("fine\\n"); exit(); }'
    words = ["kubectl-trace", "run", "local", "-e", program]
    result = Command("bash", "-c", f'cd {tmp_path} && exec "$@"', "bash", *words).finish()
    assert (result.code, result.stdout) == (0, "fine\n"), result


def test_a_parameter_is_never_an_option_of_bpftrace() -> None:
    program = 'BEGIN { printf("%s\\n", str($1)); exit(); }'
    result = trace("run", "local", "-e", program, "--args=--unsafe")
    assert (result.code, result.stdout) == (0, "--unsafe\n"), result


@pytest.mark.reliability("a terminal or a pipe that stops reading")
def test_a_terminal_that_blocks_does_not_block_ctrl_c() -> None:
    program = 'tracepoint:raw_syscalls:sys_enter { printf("%s %d\\n", comm, args->id); }'
    reading, writing = os.pipe()
    with open(os.devnull) as nothing:
        child = subprocess.Popen(
            [str(BIN / "kubectl-trace"), "run", "local", "-e", program],
            stdin=nothing,
            stdout=writing,
            stderr=subprocess.PIPE,
        )
    os.close(writing)
    assert child.stderr is not None
    try:
        while b"attached" not in child.stderr.readline():
            assert child.poll() is None
        wait_until(lambda: _fills_up(reading), "nobody reads, and the pipe fills up")
        for expected in (b"stopping", b"giving up"):
            child.send_signal(signal.SIGINT)
            while expected not in (line := child.stderr.readline()):
                assert line
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
    finally:
        os.close(reading)
        child.kill()
        child.wait()
        child.stderr.close()


def _fills_up(fd: int) -> bool:
    """Whether half of a pipe's 64 KiB are taken; whole pages go to waste at a write's end."""
    waiting = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, waiting)
    return waiting[0] >= 32 << 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_collects_the_maps(number: signal.Signals) -> None:
    command = start("run", "local", "-e", FOREVER).wait_until_attached()
    command.signal(number)
    result = command.finish()
    assert result.code == 0, result
    assert "@started: 1" in result.stdout


def test_a_killed_client_leaves_no_bpftrace() -> None:
    command = start("run", "local", "-o", "json", "-e", FOREVER).wait_for('"ready"')
    trace_id = json.loads(command.stdout().splitlines()[0])["data"]["trace"]
    command.signal(signal.SIGKILL)
    command.finish()

    def traces() -> list[str]:
        found = subprocess.run(["pgrep", "-fa", "bpftrace -f json"], capture_output=True, text=True)
        return found.stdout.splitlines()

    assert trace_id
    wait_until(lambda: not traces(), "bpftrace has ended", 30)


def test_a_killed_runner_takes_its_bpftrace_with_it() -> None:
    command = start("run", "local", "-e", FOREVER).wait_until_attached()
    (runner,) = _children(command.pid)
    (bpftrace,) = _children(runner)
    os.kill(runner, signal.SIGKILL)
    result = command.finish()
    assert result.code == 1, result
    assert "without a summary" in result.stderr
    wait_until(lambda: not Path(f"/proc/{bpftrace}").exists(), "bpftrace has ended", 10)


def _children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def test_text_is_what_bpftrace_itself_prints() -> None:
    program = (
        'BEGIN { printf("%d\\n", 5); @a["x"] = 3; @a["y"] = 1; @h = hist(5); @h = hist(900); '
        "@l = lhist(7, 0, 100, 10); print(@a, 1); exit(); }"
    )
    ours = trace("run", "local", "-e", program)
    assert ours.code == 0, ours
    said = subprocess.run(["bpftrace", "-e", program], capture_output=True, text=True, check=True)
    theirs = said.stdout.partition("\n")[2]  # after «Attaching 1 probe...»
    assert _squeezed(ours.stdout) == _squeezed(theirs)


def _squeezed(text: str) -> list[str]:
    """The lines without blank ones, and without the space that only 0.17 has after `@h:`."""
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def test_the_program_is_named_as_the_user_names_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.bt"
    file.write_text("BEGIN {\n  nonsense\n}\n")
    result = trace("run", "local", "-f", str(file))
    assert result.code == 6, result
    assert re.search(r"^mine\.bt:2:\d", result.stderr, re.MULTILINE), result


def test_the_demo_shows_the_main_job_and_tidies_up() -> None:
    command = Command(
        str(REPOSITORY / ".venv/bin/python"),
        "-m",
        "testbed.demo",
        env={"PYTHONPATH": str(REPOSITORY)},
    )
    result = command.finish()
    assert result.code == 0, result
    assert result.stdout.count("new client request!\n") == 3
    assert len(re.findall(r"^read bytes: [1-9]\d*$", result.stdout, re.MULTILINE)) == 3
    assert re.search(r"^@val\[\d+\]: 200$", result.stdout, re.MULTILINE), result
    left = subprocess.run(["pgrep", "-f", "kubectl-trace-demo"], capture_output=True)
    assert left.returncode == 1, "nothing of it runs on"


def test_a_process_and_what_it_starts_is_all_that_its_trace_shows() -> None:
    script = "read _; for i in 1 2 3; do /bin/true; done; exec sleep 60"
    shell = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE)
    assert shell.stdin is not None
    program = 'tracepoint:sched:sched_process_exec { printf("%s %d\\n", comm, pid); }'
    command = start("run", f"local/{shell.pid}", "-e", program).wait_until_attached()
    subprocess.run(["/bin/true"], check=True)
    shell.stdin.close()
    command.wait_for("sleep ")
    result = command.interrupt().finish()
    shell.kill()
    shell.wait()
    assert [line.split()[0] for line in result.lines] == ["true", "true", "true", "sleep"], result


def test_a_trace_of_a_process_ends_with_it_and_shows_all() -> None:
    shell = subprocess.Popen(["sh", "-c", "read _; cd /; cd /; cd /"], stdin=subprocess.PIPE)
    assert shell.stdin is not None
    program = "tracepoint:syscalls:sys_enter_chdir { @calls = count(); }"
    command = start("run", f"local/{shell.pid}", "-e", program).wait_until_attached()
    shell.communicate()
    result = command.finish()
    assert result.code == 0, result
    assert result.stdout == "@calls: 3\n"
    assert "the process has ended, collecting maps" in result.stderr
    assert "lost: none" in result.stderr


def test_a_uretprobe_is_never_attached_to_a_go_program() -> None:
    containerd = Path("/usr/bin/containerd")
    if not containerd.exists():
        pytest.skip("no Go program here")
    program = f"uretprobe:{containerd}:main.main {{ @ = count(); }}"
    result = trace("run", "local", "-e", program)
    assert result.code == 6, result
    assert f"stdin:1:1: {containerd} is a Go program" in result.stderr
    assert "^" * len(f"uretprobe:{containerd}:main.main") in result.stderr


def test_a_program_of_which_nothing_is_attached_is_refused() -> None:
    program = "uprobe:libc:no_such_function* { @ = count(); }"
    result = trace("run", f"local/{os.getpid()}", "-e", program)
    assert result.code == 6, result
    assert "No probes to attach" in result.stderr


def test_a_process_of_many_threads_is_in_scope_whole() -> None:
    script = (
        "import sys, threading, time\n"
        "go = threading.Event()\n"
        "def work():\n    go.wait()\n    open('/dev/null').close()\n"
        "threads = [threading.Thread(target=work) for _ in range(1000)]\n"
        "[t.start() for t in threads]\n"
        "sys.stdin.readline()\ngo.set()\n[t.join() for t in threads]\n"
        "print('done', flush=True)\ntime.sleep(60)\n"
    )
    many = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert many.stdin is not None
    assert many.stdout is not None
    program = (
        "tracepoint:syscalls:sys_enter_openat "
        '/str(args->filename) == "/dev/null"/ { @opened = count(); }'
    )
    with many:
        command = start("run", f"local/{many.pid}", "-e", program).wait_until_attached()
        many.stdin.write("\n")
        many.stdin.flush()
        many.stdout.readline()
        result = command.interrupt().finish()
        many.kill()
    assert result.stdout == "@opened: 1000\n", result


def test_lookups_are_not_to_be_reported_in_a_scope() -> None:
    result = trace("run", f"local/{os.getpid()}", "-e", "kprobe:f { }", "--", "-k")
    assert result.code == 2, result
    assert "--no-scope" in result.stderr
