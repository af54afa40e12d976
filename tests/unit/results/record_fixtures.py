r"""Records what real bpftraces print, as JSON and as text, into bpftrace-VERSION.json here.

How to (as root, a kernel with BPF, tracefs mounted on /sys/kernel/tracing)::

    python tests/unit/results/record_fixtures.py "bpftrace" \
        "chroot /var/cache/kubectl-trace/bpftrace/trixie bpftrace" \
        "chroot /var/cache/kubectl-trace/bpftrace/sid bpftrace"

Each argument is a command that runs one bpftrace; a root folder for it is made by
``mmdebstrap --variant=minbase --include=bpftrace trixie DIR MIRROR`` with proc and sys mounted in.
The versions in the names of the files come from ``--version``.

Each program runs twice, with ``-f json`` and without; both outputs are kept as they came. A
program that one version doesn't accept is left out for that version. Every program ends with an
END probe that prints "end\n": what comes after it is printed at exit. Programs are deterministic
but for ties, which bpftrace prints in the order of a hash table, so no program has a tie.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

MILLION = "1000000"

# Name, and what BEGIN does. Constant integers that get sorted are great or cast: 0.27 makes small
# ones one byte wide, and then doesn't sort them.
PROGRAMS = {
    "printf": r'printf("a %d \"quoted\" back\\slash\ttab\n", 5); printf("no newline");',
    "printf-utf8": r'printf("caf\303\251 \342\202\254\n");',
    "printf-not-utf8": r'printf("ab\377\303\n");',
    "printf-control": r'printf("\001\033[31m\177\r\n");',
    "print-int": "print(-5); print((uint64)18446744073709551615); print(0);",
    "print-int64-min": "print((int64)-9223372036854775807);",
    "print-str": r'print("a \"b\", {c}\n");',
    "print-tuple": r'print((1, "a, b", (2, -3)));',
    "print-bool": "print((1 == 1, 2));",
    "print-value-of-map": r"@[1] = 5; print(@[1]); clear(@);",
    "map-int": "@a = 5; @b = -5; @c = (uint64)18446744073709551615;",
    "map-str": r'@s = "text";',
    "map-tuple": r'@t = (1, 2, "x"); @n = (1, (2, "y"));',
    "map-keyed": f'@["a"] = (int64){MILLION}; @["b"] = (int64)-2; @["c"] = (int64)30000;',
    "map-u64-sorted": "@[1] = (uint64)18446744073709551615; @[2] = (uint64)1;",
    "map-int-keys": '@[1] = "one"; @[20] = "twenty"; @[3] = "three";',
    "map-negative-keys": '@[-2] = "x";',
    "map-keys": r'@[1, "x"] = count(); @[2, "y"] = count(); @[2, "y"] = count();',
    "map-key-spaces": r'@["a b"] = 1;',
    "map-key-comma-space": r'@["a, b"] = 1;',
    "map-key-comma": r'@["a,b"] = 1;',
    "map-key-comma-among-plain": r'@["a,b"] = count(); @["c"] = count(); @["c"] = count();',
    "map-key-escapes": r'@["q\"b\\s\n\t\001"] = 1;',
    "map-key-backslash-n": r'@["a\\n"] = 1;',
    "map-key-utf8": r'@["caf\303\251"] = 1;',
    "map-key-not-utf8": r'@["ab\377"] = 1;',
    "map-key-parentheses": r'@["(sd-pam)"] = 1;',
    "map-key-nested": r"@[1, (2, 3)] = 1;",
    "map-key-nested-str": r'@[1, (2, "p")] = 1;',
    "count-keyed": '@["a"] = count(); @["b"] = count(); @["b"] = count(); @n = count();',
    "sum-keyed": "@[1] = sum(5); @[2] = sum(3); @[2] = sum(-9); @t = sum(70000);",
    "min-max": "@lo = min(3); @lo = min(2); @hi = max(3); @hi = max(7);",
    "min-keyed": '@["a"] = min(9); @["a"] = min(4); @["b"] = min(6);',
    "max-negative": "@[1] = max(-1); @[2] = max(6);",
    "avg": "@ = avg(3); @ = avg(8);",
    "avg-keyed": '@["a"] = avg(8); @["b"] = avg(3);',
    "stats": "@ = stats(3); @ = stats(8);",
    "stats-keyed": '@["a", 1] = stats(8); @["b", 2] = stats(3); @["b", 2] = stats(-5);',
    "hist": "@ = hist(-1); @ = hist(0); @ = hist(1); @ = hist(2); @ = hist(3); @ = hist(9);",
    "hist-bars": "@ = hist(2); @ = hist(2); @ = hist(2); @ = hist(9); @ = hist(40); @ = hist(41);",
    "hist-kilo": "@ = hist(300); @ = hist(1500); @ = hist(70000); @ = hist(70000);",
    "hist-mega": "@ = hist(3000000); @ = hist(900000);",
    "hist-giga": "@ = hist(500000000); @ = hist(5000000000); @ = hist(3000000000000);",
    "hist-giga-only": "@ = hist(3000000000);",
    "hist-over-32-bits-only": "@ = hist(5000000000);",
    "hist-negative-only": "@ = hist(-7);",
    "hist-one": "@ = hist(1000);",
    "hist-zero-one": "@ = hist(0); @ = hist(1);",
    "hist-keyed": '@["a"] = hist(3); @["b"] = hist(1); @["b"] = hist(70);',
    "hist-two-keys": '@["a", 1] = hist(3);',
    "hist-bits": "@ = hist(0, 2); @ = hist(3, 2); @ = hist(9, 2); @ = hist(70000, 2);",
    "hist-bits-kilo": "@ = hist(1000, 3); @ = hist(20000, 3);",
    "hist-bits-one": "@ = hist(1000, 3);",
    "hist-div": "@ = hist(3); @ = hist(3); @ = hist(3); @ = hist(70); print(@, 0, 2); clear(@);",
    "lhist": "@ = lhist(-5, 0, 100, 10); @ = lhist(5, 0, 100, 10); @ = lhist(35, 0, 100, 10);"
    "@ = lhist(35, 0, 100, 10); @ = lhist(500, 0, 100, 10);",
    "lhist-below": "@ = lhist(-5, 0, 100, 10);",
    "lhist-above": "@ = lhist(500, 0, 100, 10);",
    "lhist-one": "@ = lhist(25, 0, 100, 10);",
    "lhist-step-one": "@ = lhist(5, 0, 10, 1); @ = lhist(7, 0, 10, 1);",
    "lhist-kilo": "@ = lhist(2000, 0, 8192, 1024); @ = lhist(5000, 0, 8192, 1024);"
    "@ = lhist(9000, 0, 8192, 1024);",
    "lhist-mega": "@ = lhist(500000, 0, 2097152, 524288); @ = lhist(1800000, 0, 2097152, 524288);",
    "lhist-keyed": '@["a"] = lhist(3, 0, 8, 2); @["b"] = lhist(5, 0, 8, 2);'
    '@["b"] = lhist(1, 0, 8, 2);',
    "print-top": '@["a"] = sum(70000); @["b"] = sum(90000); @["c"] = sum(80000);'
    "print(@, 2); clear(@);",
    "print-top-div": '@["a"] = sum(70000); @["b"] = sum(90000); @["c"] = sum(80000);'
    "print(@, 2, 1000); clear(@);",
    "print-twice": "@ = sum(70000); print(@); print(@);",
    "print-stats-div": '@["a"] = stats(800); print(@, 1, 10); clear(@);',
    "clear": '@["a"] = count(); clear(@); @b = 1;',
    "zero": '@["a"] = count(); zero(@); print(@);',
    "delete": "@[1] = 1; delete(@[1]); @b = 1;",
    "several-maps": '@a = 1; @b["x"] = count(); @c = hist(3); @d = stats(4); @e["y"] = avg(5);'
    "@f = count();",
    "print-mixed": '@a = 1; print(@a); printf("between "); print("x"); @h = hist(1); print(@h);',
    "strftime": '@t = strftime("%H:%M:%S", 0); @k[strftime("%H:%M:%S", 0)] = 1;',
    "strftime-print": 'print(strftime("%d, %H:%M", 0)); print((1, strftime("%H:%M", 0)));',
    "time": r'time("%Y\n"); time("%%");',
    "cat": 'cat("/proc/sys/kernel/ostype");',
    "system": r'system("echo a; echo b"); system("printf c");',
    "ntop": "@ = ntop(0x0100007f);",
    "ntop-keyed": "@[1] = ntop(0x0100007f); @[2] = ntop(0x0200007f);",
    "ntop-key": "@[ntop(0x0100007f)] = 1;",
    "buf": r'@b = buf("ab\001c", 4);',
    "buf-key": r'@k[buf("ab\001", 3)] = 1;',
    "ksym": '@ = ksym(kaddr("do_exit")); @k[ksym(kaddr("do_exit"))] = 1;',
    "kstack-key": "@[kstack(2)] = 1;",
    "kstack-keys": '@[kstack(2), "x"] = 1; @y["x", kstack(2)] = 1;',
    "kstack-value": "@[1] = kstack(2);",
    "kstack-values": "@[1] = kstack(2); @[2] = kstack(2);",
    "kstack-perf-key": "@[kstack(perf, 1)] = 1;",
    "pointer": "@p = (void*)0x1234;",
    "strerror": "print(strerror(2));",
    "struct": "print(*(struct pair *)0);",
    "tseries": "@ = tseries(5, 3600s, 3);",
}

PRELUDES = {"struct": "struct pair { int a; int b; }; "}

# Programs that are no BEGIN, with the options they need.
WHOLE_PROGRAMS = {
    "join": (
        "tracepoint:syscalls:sys_enter_execve /pid == cpid/"
        ' { join(args->argv); join(args->argv, ","); }',
        ["-c", '/bin/true a "b'],
    ),
}

# A program's name and place, an address, another function's place.
UNSTEADY = re.compile(
    r"(?:bpf_prog_[0-9a-f]{16}_\w+|_einittext)\+\d+|ffff[0-9a-f]{12}|(?<=_tp\+)\d+"
)
STEADY = {"b": "bpf_prog+1", "_": "bpf_prog+1", "f": "ffff000011112222"}


def run(command: list[str], program: str, *options: str) -> tuple[int, str]:
    """The exit code and standard output of one run, as Latin-1, so that every byte is kept."""
    done = subprocess.run(
        [*command, "--unsafe", *options, "-e", program],
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, steady(done.stdout.decode("latin-1"))


def program_of(name: str) -> tuple[str, list[str]]:
    """A program as bpftrace is given it, and the options for it."""
    program, options = WHOLE_PROGRAMS.get(name) or (
        f"{PRELUDES.get(name, '')}BEGIN {{ {PROGRAMS[name]} exit(); }}",
        [],
    )
    return program + r' END { printf("end\n"); }', options


def steady(output: str) -> str:
    """The output without what changes from run to run: names of programs and addresses."""
    return UNSTEADY.sub(lambda found: STEADY.get(found[0][0], "2"), output)


def record(command: list[str]) -> None:
    version = subprocess.run(
        [*command, "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[-1]
    pairs = {}
    for name in [*PROGRAMS, *WHOLE_PROGRAMS]:
        program, options = program_of(name)
        json_code, as_json = run(command, program, *options, "-f", "json")
        text_code, as_text = run(command, program, *options)
        if json_code or text_code:
            print(f"{version}: {name} is not for it", file=sys.stderr)
            continue
        pairs[name] = {"program": program, "json": as_json, "text": as_text}
    path = Path(__file__).with_name(f"bpftrace-{version.lstrip('v')}.json")
    path.write_text(json.dumps(pairs, indent=1) + "\n")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        record(shlex.split(argument))
