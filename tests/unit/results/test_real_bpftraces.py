"""The text made from a bpftrace's JSON is the text that bpftrace itself prints.

``bpftrace-VERSION.json`` holds what real bpftraces printed both ways (see ``record_fixtures``).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kubectl_trace.results.dialect import parse_line
from kubectl_trace.results.text import render

VERSIONS = ["0.17.0", "0.23.2", "0.27.1"]
NEWEST = VERSIONS[-1]
# What bpftrace prints when a program has ended, before its maps; 0.24+'s JSON has no sign of it.
BEFORE_EXIT_MAPS = "\n\n"
RECORDED: dict[str, dict[str, dict[str, str]]] = {
    version: json.loads(Path(__file__).with_name(f"bpftrace-{version}.json").read_text())
    for version in VERSIONS
}

# Programs whose text is not the same in all versions: every version's JSON is shown with the look
# of the newest. What it is that looks different is said in text.py.
NEW_LOOK = {
    "avg": "no blank line after avg",
    "avg-keyed": "no blank line after avg",
    "stats": "stats as a struct, no blank line",
    "stats-keyed": "stats as a struct, no blank line",
    "print-stats-div": "stats as a struct, no blank line",
    "several-maps": "stats as a struct, no blank line",
    "lhist-step-one": "buckets one wide",
    "hist-div": "bars are drawn after the division",
    "ntop-keyed": "one entry a line",
    "kstack-values": "a blank line between stacks",
    "clear": "no line for an empty map",
    "delete": "no line for an empty map",
    "print-value-of-map": "no line for an empty map",
    "print-top": "no line for an empty map",
    "print-top-div": "no line for an empty map",
}

# What JSON has lost, by version: why, what bpftrace prints, and what is shown.
LOST = {
    (None, "map-key-comma"): ("a comma in a key is a separator", "@[a,b]", "@[a, b]"),
    (None, "pointer"): ("a pointer is a number", "0x1234", "4660"),
    ("0.27.1", "buf"): ("a buffer is a list", r"ab\x01c", "(97, 98, 1, 99)"),
    ("0.27.1", "map-key-spaces"): ("no spaces in keys", "@[a b]", "@[ab]"),
    ("0.27.1", "map-key-backslash-n"): ("read as 0.23's escape", r"@[a\n]", "@[a\n]"),
    ("0.17.0", "map-key-backslash-n"): ("read as 0.23's escape", r"@[a\n]", "@[a\n]"),
    ("0.27.1", "kstack-perf-key"): ("no spaces in keys", "2222 bpf", "2222bpf"),
    ("0.27.1", "system"): ("one newline is enough", "b\n\nc\n", "b\nc"),
    ("0.17.0", "print-stats-div"): ("0.17 doesn't divide averages", "= 80,", "= 800,"),
}


def as_bytes(recorded: str) -> bytes:
    return recorded.encode("latin-1")


def bpftrace_text(version: str, name: str) -> str:
    """What bpftrace printed, without what newer ones print on standard error."""
    text = as_bytes(RECORDED[version][name]["text"]).decode("utf-8", "backslashreplace")
    return text.partition("\n")[2] if text.startswith("Attaching ") else text


def shown(version: str, name: str) -> str:
    """What we show for the same program's JSON."""
    texts = []
    for line in as_bytes(RECORDED[version][name]["json"]).splitlines(keepends=True):
        output = parse_line(line)
        # Up to 0.23, the two newlines before the maps at exit are there in JSON too.
        texts.append(render(output) if output else "\n")
        if version == NEWEST and output and output.data == "end\n":
            texts.append(BEFORE_EXIT_MAPS)
    return "".join(texts)


def test_the_list_of_differences_names_recorded_programs() -> None:
    names = {name for version in VERSIONS for name in RECORDED[version]}
    assert names >= {name for _, name in LOST} | set(NEW_LOOK)


@pytest.mark.parametrize(
    ("version", "name"), [(version, name) for version in VERSIONS for name in RECORDED[version]]
)
def test_the_text_is_the_one_bpftrace_prints(version: str, name: str) -> None:
    expected = bpftrace_text(NEWEST if name in NEW_LOOK else version, name)
    if version == "0.17.0":
        expected = expected.replace(": \n[", ":\n[").replace(": \n(", ":\n(")
    lost = LOST.get((version, name)) or LOST.get((None, name))
    if lost:
        _, printed, ours = lost
        assert printed in expected
        expected = expected.replace(printed, ours)
    assert shown(version, name) == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_every_line_is_a_record_or_blank(version: str) -> None:
    for pair in RECORDED[version].values():
        for line in as_bytes(pair["json"]).splitlines():
            output = parse_line(line)
            assert output is None or output.type != "raw"
