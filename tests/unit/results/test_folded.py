from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.results.dialect import parse_line
from kubectl_trace.results.folded import FoldedPrinter, key_parts
from kubectl_trace.results.result import Result

FIXTURES = sorted(Path(__file__).parent.glob("bpftrace-*.json"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show(
    data: Any,
    kind: str = "map",
    *,
    by: str = "",
    out: io.StringIO | None = None,
    **where: Any,
) -> tuple[list[str], list[str]]:
    """The lines on stdout, and the notes."""
    out = out or io.StringIO()
    notes: list[str] = []
    printer = FoldedPrinter(notes.append, by=by, out=out)
    for each in data if isinstance(data, list) else [data]:
        printer.show(Result(0.0, kind, each, **where))
    printer.close(None)
    return out.getvalue().splitlines(), notes


def lines(data: Any, kind: str = "map", **more: Any) -> list[str]:
    found, notes = show(data, kind, **more)
    assert not notes
    return found


def notes(data: Any, kind: str = "map") -> list[str]:
    found, said = show(data, kind)
    assert not found
    return said


def json_of(line: str) -> Any:
    """A line of bpftrace's, read as the runner reads it."""
    output = parse_line(line.encode())
    assert output is not None
    return output.data


def test_frames_are_root_first_without_offsets() -> None:
    data = {"@": {"\n    vfs_read+17\n    ksys_read+5\n    entry_SYSCALL_64+77\n": 3}}
    assert lines(data) == ["entry_SYSCALL_64;ksys_read;vfs_read 3"]


# The same program, @[comm, kstack(2), ustack(2)] = count(), in each version's JSON.
DIALECTS = {
    "0.17": r'"dd,\n    vfs_read+1\n    do_syscall_64+2\n,\n    read+17\n    0x7fb9\n"',
    "0.23": r'"dd,\\n        vfs_read+1\\n        do_syscall_64+2\\n,\\n        read+17\\n'
    r'        0x7fb9\\n"',
    "0.27": r'"dd,\nvfs_read+1\ndo_syscall_64+2\n,\nread+17\n0x7fb9\n"',
}


@pytest.mark.parametrize("key", DIALECTS.values(), ids=DIALECTS.keys())
def test_every_version_says_the_same(key: str) -> None:
    data = json_of(f'{{"type": "map", "data": {{"@": {{{key}: 5}}}}}}')
    assert lines(data) == ["dd;0x7fb9;read;do_syscall_64;vfs_read 5"]


PERF = {
    "0.17": r'"\n\t7fa730938350 read+17 (/usr/lib/libc.so.6)\n\t55a1f0c0de10 add(int, int)+3 (/x)\n'
    r'\t7364726f63657220 0x7364726f63657220 ([unknown])\n"',
    "0.27": r'"\n\t7fa730938350read+17(/usr/lib/libc.so.6)\n\t55a1f0c0de10add(int,int)+3(/x)\n'
    r'\t7364726f636572200x7364726f63657220([unknown])\n"',
}


@pytest.mark.parametrize("key", PERF.values(), ids=PERF.keys())
def test_frames_of_perf_mode_are_names_without_address_and_module(key: str) -> None:
    data = json_of(f'{{"type": "map", "data": {{"@": {{{key}: 5}}}}}}')
    (line,) = lines(data)
    assert line.replace(", ", ",") == "0x7364726f63657220;add(int,int);read 5"


def test_a_kernel_frame_of_perf_mode_without_spaces() -> None:
    assert lines({"@": {"\n\tffff000011112222bpf_prog+1\n": 1}}) == ["bpf_prog 1"]


def test_frames_of_raw_mode_are_addresses() -> None:
    assert lines({"@": {"\n7faf59008350\n401136\n,dd": 2}}) == ["dd;401136;7faf59008350 2"]


def test_places_in_source_files_are_cut() -> None:
    data = {"@": {"\n[inlined] add@/src/add.c:3\nmain+9@/src/main.c:12\n": 2}}
    assert lines(data) == ["main;[inlined] add 2"]


def test_a_versioned_symbol_is_a_name() -> None:
    assert lines({"@": {"\nmemcpy@@GLIBC_2.14+5\n": 1}}) == ["memcpy@@GLIBC_2.14 1"]


KERNEL = "\n    vfs_read+17\n    entry_SYSCALL_64_after_hwframe+118\n"
USER = "\n    read+17\n    main+5\n"


@pytest.mark.parametrize("key", [f"{KERNEL},{USER}", f"{USER},{KERNEL}"])
def test_the_kernels_stack_is_above_the_users_in_either_order(key: str) -> None:
    assert lines({"@": {key: 1}}) == ["main;read;entry_SYSCALL_64_after_hwframe;vfs_read 1"]


def test_two_stacks_of_which_nothing_is_known_are_kernel_then_user() -> None:
    assert lines({"@": {"\nk+1\n,\nu+1\n": 1}}) == ["u;k 1"]


@pytest.mark.parametrize("key", ["swapper/0,", "swapper/0,\n"])
def test_an_entry_without_frames_is_its_other_parts(key: str) -> None:
    data = {"@": {key: 56, "dd,\nread+1\n": 1}}
    assert lines(data) == ["swapper/0 56", "dd;read 1"]


def test_an_entry_without_anything_is_named_so_that_the_total_stays() -> None:
    assert lines({"@": {"\n": 3}}) == ["[no stack] 3"]


def test_parts_behind_the_stack_come_first_too() -> None:
    assert lines({"@": {"1204,\nread+1\n,dd": 1}}) == ["1204;dd;read 1"]


def test_separators_in_names_are_harmless() -> None:
    assert lines({"@": {"a;b c,\noperator;+1\n": 1}}) == ["a:b c;operator: 1"]


def test_a_number_at_the_end_of_the_frames_is_no_count() -> None:
    assert lines({"@": {"worker 7,\n": 5}}) == ["worker_7 5"]


def test_stats_count_with_their_total() -> None:
    data = {"@": {"\nread+1\n": {"count": 2, "average": 50, "total": 100}}}
    assert lines(data, "stats") == ["read 100"]


def test_a_histogram_counts_with_all_its_buckets() -> None:
    buckets = [{"min": 1, "max": 1, "count": 2}, {"min": 2, "max": 3, "count": 5}]
    assert lines({"@": {"\nread+1\n": buckets}}, "hist") == ["read 7"]


def test_an_average_is_not_shown_and_that_is_said_once() -> None:
    (said,) = notes([{"@": {"\nread+1\n": 50, "\nwrite+1\n": 2}}] * 2, "stats")
    assert "@ is not shown" in said
    assert "adds up" in said


def test_a_map_without_stacks_is_not_shown_and_that_is_said_once() -> None:
    said = notes([{"@a": {"nginx": 5}}, {"@b": 1}, {"@a": {"nginx": 6}}])
    assert [each.split(" is ")[0] for each in said] == ["@a", "@b"]


def test_printed_lines_are_not_shown_and_that_is_said_once() -> None:
    assert len(notes(["a", "b"], "printf")) == 1


@pytest.mark.parametrize("kind", ["start", "ready", "scope", "summary", "note", "lost_events"])
def test_what_is_about_the_run_is_left_to_others(kind: str) -> None:
    assert notes({"a": 1}, kind) == []


def test_nothing_is_no_flame_and_less_is_told() -> None:
    found, said = show({"@": {"\na+1\n": 0, "\nb+1\n": -2, "\nc+1\n": 1}})
    assert found == ["c 1"]
    assert "negative" in said[0]


@pytest.mark.parametrize(
    ("by", "first"), [("", ""), ("node", "n;"), ("pod", "p;"), ("container", "p;c;")]
)
def test_what_results_are_split_by_is_the_first_frame(by: str, first: str) -> None:
    found = lines({"@": {"\nread+1\n": 1}}, by=by, node="n", pod="p", container="c")
    assert found == [f"{first}read 1"]


def test_control_characters_are_escaped_on_a_terminal_only() -> None:
    data = {"@": {"a\x1b[31m,\nread+1\n": 1}}
    assert lines(data) == ["a\x1b[31m;read 1"]
    assert lines(data, out=Terminal()) == ["a\\x1b[31m;read 1"]


NAMES = st.text(st.characters(codec="ascii", exclude_characters=",\n\r\v\f\x1c\x1d\x1e")).filter(
    bool
)
FRAMES = st.text(
    st.characters(codec="ascii", exclude_characters=",\n\t\r\v\f\x1c\x1d\x1e"), min_size=1
)
KEYS = st.lists(st.lists(FRAMES, max_size=4) | NAMES, min_size=1, max_size=4)


@given(KEYS)
def test_the_parts_of_a_key_are_found(parts: list[str | list[str]]) -> None:
    key = ",".join(
        part if isinstance(part, str) else "\n" + "".join(f"{frame}\n" for frame in part)
        for part in parts
    )
    assert key_parts(key) == parts


@given(st.text(max_size=30), st.text(max_size=30), st.integers(1, 2**63))
def test_a_line_ends_with_its_count_whatever_the_names(name: str, frame: str, count: int) -> None:
    (line,) = lines({"@": {f"{name},\n{frame}\nmain+5\n,\nread+1\n": count}})
    stack, _, shown = line.rpartition(" ")
    assert int(shown) == count
    assert not stack.rpartition(" ")[2].replace(".", "").isdecimal() or " " not in stack


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.stem)
def test_stacks_of_real_bpftraces(fixture: Path) -> None:
    recorded = json.loads(fixture.read_text())

    def folded(name: str) -> list[str]:
        found: list[str] = []
        for line in recorded[name]["json"].splitlines():
            if (output := parse_line(line.encode("latin-1"))) and output.type == "map":
                found += lines(output.data)
        return found

    stack = "__bpf_prog_test_run_raw_tp;bpf_prog"
    assert folded("kstack-key") == [f"{stack} 1"]
    assert folded("kstack-keys") == [f"x;{stack} 1", f"x;{stack} 1"]
    assert folded("kstack-perf-key") == ["bpf_prog 1"]
