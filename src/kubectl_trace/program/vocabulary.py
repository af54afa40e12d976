"""The words of bpftrace's language, by what they can do. A word that is in none is not known.

Sources: src/ast/passes/semantic_analyser.cpp of 0.17 and 0.23, src/stdlib of 0.27 and
docs/language.adoc.
"""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


KEYWORDS = _words(
    "if else while for unroll return break continue let as true false comptime sizeof offsetof "
    "struct union enum"
)
TYPES = _words(
    "int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool char short int long unsigned signed "
    "void string"
)
HARMLESS_FUNCTIONS = _words(
    "printf print clear zero delete has_key exit time strftime count sum min max avg stats hist "
    "lhist tseries len kstack ustack ksym usym func uaddr cgroupid cgroup_path ntop pton bswap "
    "strerror nsecs errorf warnf strncmp strcontains usermode uptr reg"
)
"""They read no memory by address."""
MEMORY_FUNCTIONS = _words("str buf join macaddr")
"""They read what a pointer leads to."""
KERNEL_WORDS = _words("curtask ctx kaddr kptr percpu_kaddr kstr path")
"""They lead to the kernel's memory, wherever they are used."""
HARMLESS_WORDS = _words(
    "nsecs elapsed cpu ncpus rand probe jiffies numaid sw_tai boot monotonic tai bpftrace perf "
    "raw build_id"
)
"""Builtins and their arguments that say nothing of the current task."""
TASK_WORDS = _words(
    "pid tid ppid comm pcomm uid gid username cgroup ustack kstack usym uaddr func reg args "
    "retval uptr usermode init curr_ns"
)
"""They say something of the current task."""
OF_KERNEL = _words("args retval reg func")
"""What a probe in the kernel has of it; a pointer among it is one into the kernel's memory."""
UNSAFE = _words("system signal signal_thread override")
OUTSIDE = _words("cat system skboutput cgroupid cgroup_path")
"""They read or write files, or run commands, beside the runner: on the node. Cgroups are files,
whose paths name the pods and containers of all."""

FUNCTIONS = HARMLESS_FUNCTIONS | MEMORY_FUNCTIONS | KERNEL_WORDS | UNSAFE | OUTSIDE

CONSTANT = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)
"""A name that no builtin has."""
_ARGUMENT = re.compile(r"s?arg[0-9]+", re.ASCII)


def is_argument(word: str) -> bool:
    """Whether it is `arg0` or `sarg0` or the like."""
    return _ARGUMENT.fullmatch(word) is not None


def of_task(word: str) -> bool:
    """Whether it says something of the current task."""
    return word in TASK_WORDS or word in KERNEL_WORDS or is_argument(word)


def is_builtin(word: str) -> bool:
    """Whether it names a function or builtin."""
    return word in FUNCTIONS or word in HARMLESS_WORDS or of_task(word)
