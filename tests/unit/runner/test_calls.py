from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.errors import NotFoundError, RefusedError, UsageError
from kubectl_trace.functions import patterns, reading, writing
from kubectl_trace.functions.writing import LEFT, RETURNED, Marks, Options
from kubectl_trace.program import scope, syntax
from kubectl_trace.runner import calls, files
from kubectl_trace.runner.calls import Reading
from kubectl_trace.trace import Calls, Functions, Trace
from tests.unit.binary.dwarf.programs import compiler
from tests.unit.functions.test_reading import context, printed
from tests.unit.functions.test_writing import GO, MARKS, traced
from tests.unit.runner.test_modules import built, running

if TYPE_CHECKING:
    from pathlib import Path

    from kubectl_trace.results.dialect import Output
    from kubectl_trace.runner.output import Given

__all__ = ["built"]

BEGUN = 1002.5
"""When the calls of `printed` began."""
KEY = f"0,{12 << 32 | 13},140000"


class Told(list[str]):
    """What the user is told."""

    def __call__(self, text: str) -> None:
        self.append(text)


def read(told: Told | None = None, **options: Any) -> Reading:
    """A reading of `traced` and `GO` whose program is attached, and has not been stopped."""
    wanted = Calls(Functions(("add",)), **options)
    found = context(show=wanted.show, returns=wanted.returns)
    return Reading(found, wanted, told if told is not None else Told(), attached_at=1000.0)


def outputs(given: list[Given] | None) -> list[Output]:
    assert given is not None
    return [each.output for each in given]


def returned() -> str:
    return printed(0, RETURNED, 1, 0x10, 7, texts=("x",))


# What is read of the program's output.


def test_a_call_is_given_with_its_container() -> None:
    (given,) = read().text(returned(), 3) or []
    assert given.container == 3
    assert given.output.type == "call"
    assert isinstance(given.output.data, dict)
    assert given.output.data["function"] == "add"
    assert given.output.data["time"] == BEGUN


@given(st.text())
def test_other_texts_are_none_of_ours(text: str) -> None:
    assert read().text(text, 1) is None
    assert read().text(f"\x1d{text}", 1) is None


def test_what_looks_like_our_rate_is_none_of_ours_without_our_mark() -> None:
    assert read().text("\x1drate,5", 1) is None


def test_a_rate_that_is_no_number_is_passed_over() -> None:
    for rest in ("", "x", "1,2"):
        read().text(f"{MARKS.begin}{writing.RATE_WORD}{rest}", 1)


@pytest.mark.parametrize(
    ("attached", "stopped", "is_shown"),
    [
        (BEGUN - 1, BEGUN + 1, True),
        (BEGUN - 1, float("inf"), True),
        # Its return may have been before the last probe was there, or after the first one was gone.
        (BEGUN + 1, BEGUN + 2, False),
        (BEGUN - 2, BEGUN - 1, False),
        (float("inf"), float("inf"), False),
    ],
)
def test_only_calls_whose_end_would_have_been_seen_are_said_to_have_none(
    attached: float, stopped: float, is_shown: bool
) -> None:
    def reading_then() -> Reading:
        found = read()
        found.attached_at, found.stopped_at = attached, stopped
        return found

    left = printed(0, LEFT, 1, 0x10, texts=("x",))
    assert bool(reading_then().text(left, 1)) == is_shown
    entries = {KEY: [2500000000, 1, 0x10, "x"]}
    name = read().context.layouts[0].map
    assert bool(reading_then().map(name, entries)) == is_shown
    # One whose return was seen was whole.
    assert reading_then().text(returned(), 1)


def test_no_more_calls_are_given_than_were_asked_for() -> None:
    found = read(most=2)
    given = [found.text(returned(), 1) for _ in range(4)]
    assert [len(each or []) for each in given] == [1, 1, 0, 0]
    assert found.map(found.context.layouts[0].map, {KEY: [2500000000, 1, 0, "x"]}) == []


def test_calls_that_are_not_shown_do_not_count() -> None:
    found = read(most=1)
    found.attached_at = BEGUN + 1
    assert found.text(printed(0, LEFT, 1, 0), 1) == []
    assert found.text(returned(), 1)


def test_many_calls_a_second_are_told_of_once() -> None:
    told = Told()
    found = read(told)
    for rate in (5, 24_999, 250_000, 900_000):
        assert found.text(f"{MARKS.begin}{writing.RATE_WORD}{rate}", 1) == []
    assert len(told) == 1
    assert "250,000 times a second" in told[0]
    assert "--max-rate" in told[0]


def test_the_programs_own_maps_are_no_results() -> None:
    found = read()
    for name in writing.OWN_MAPS - {writing.SKIPPED}:
        assert found.map(name, 5) == []


def test_calls_passed_over_are_lost_events_of_their_functions() -> None:
    found = read()

    def told(value: object) -> list[tuple[str, Any, str, int | list[int]]]:
        return [
            (each.output.type, each.output.data, each.probe, each.container)
            for each in found.map(writing.SKIPPED, value) or ()
        ]

    assert told({"0": 7}) == [("rate_limit", {"events": 7}, "add", 0)]
    assert told({"0": 7}) == []
    assert told({"0": 9}) == [("rate_limit", {"events": 2}, "add", 0)]
    assert told({"3,0": 4}) == [("rate_limit", {"events": 4}, "add", 3)]


def test_results_are_left_alone() -> None:
    for name in ("@calls", "@latency_ns", "@returns", "@mine"):
        assert read().map(name, {"add": 5}) is None


def test_calls_under_way_are_given_when_the_program_ends() -> None:
    found = read()
    (output,) = outputs(found.map(found.context.layouts[0].map, {KEY: [2500000000, 1, 0, "x"]}))
    assert isinstance(output.data, dict)
    assert output.data["ended"] == "running"


def test_of_maps_instead_of_calls_none_are_under_way() -> None:
    layouts = writing.write([traced(), GO], Options(show="latency"), MARKS).layouts
    latency = reading.Context(layouts, MARKS, 0.0, lambda *_: "")
    found = Reading(latency, Calls(Functions(("add",)), show="latency"), Told(), attached_at=0.0)
    assert found.map(layouts[0].map, {"0,1,1": [5, 1]}) == []


# The trace that is made.


def prepared(path: Path, *names: str, told: Told | None = None, **options: Any) -> Any:
    libraries = options.pop("libraries", ())
    release = options.pop("release", "0.23.2")
    wanted = Calls(Functions(names, libraries), **options)
    with running(path) as (pid, _), contextlib.closing(files.Held()) as held:
        return calls.prepared(
            Trace(id="1", program="", calls=wanted, environment={"X": "y"}),
            [pid],
            release=release,
            has_types=True,
            held=held,
            complain=told if told is not None else Told(),
        )


def test_a_program_is_written_that_can_be_limited_to_its_target(built: Path) -> None:
    changed, found = prepared(built / "whole", "hidden", "main")
    program = syntax.parse(changed.program)
    scope.limit(program, scope.by_namespace(program))
    assert changed.program.count("// hidden") == changed.program.count("// main") == 1
    assert "--unsafe" in changed.bpftrace_options
    assert changed.environment["X"] == "y"
    assert changed.environment["BPFTRACE_MAX_STRLEN"] == "65"
    assert [layout.function.name for layout in found.context.layouts] == ["hidden", "main"]


def test_every_trace_has_marks_of_its_own(built: Path) -> None:
    marks = {prepared(built / "whole", "hidden")[1].context.marks for _ in range(3)}
    assert len(marks) == 3
    assert all(isinstance(each, Marks) and len(each.token) >= 16 for each in marks)


def test_a_program_for_people_names_files_as_the_container_has_them(built: Path) -> None:
    changed, found = prepared(built / "whole", "hidden", only_program=True)
    assert found is None
    assert f'uprobe:"{built}/whole":' in changed.program
    assert "/proc/" not in changed.program
    syntax.parse(changed.program)


def test_two_patterns_that_mean_one_function_trace_it_once(built: Path) -> None:
    told = Told()
    changed, _ = prepared(built / "whole", "hidden", "hidd*", told=told)
    assert changed.program.count("// hidden") == 1
    assert told == []


def test_more_probes_than_allowed_are_refused(built: Path) -> None:
    with pytest.raises(UsageError, match=r"--max-probes 1\b"):
        prepared(built / "whole", "hidden", max_probes=1)


def test_a_function_that_is_not_there_is_named_with_those_like_it(built: Path) -> None:
    with pytest.raises(NotFoundError, match=r"hiden in .*/whole; did you mean hidden\?"):
        prepared(built / "whole", "hiden")
    with pytest.raises(NotFoundError, match="it has no symbols"):
        prepared(built / "stripped", "hidden")


def test_of_several_patterns_those_that_mean_nothing_are_told(built: Path) -> None:
    told = Told()
    changed, _ = prepared(built / "whole", "absent", "hidden", told=told)
    assert "// hidden" in changed.program
    assert len(told) == 1
    assert told[0].startswith("no function matches absent")
    with pytest.raises(NotFoundError):
        prepared(built / "whole", "absent", "nowhere")


def test_a_condition_that_does_not_fit_is_refused(built: Path) -> None:
    with pytest.raises(RefusedError, match="--filter: hidden has no nothere; there are n, ret"):
        prepared(built / "whole", "hidden", condition="nothere > 1")


def test_functions_of_a_library_are_traced_in_its_file(built: Path) -> None:
    changed, found = prepared(built / "user", "answer", libraries=("libanswer.so.1",))
    assert 'uprobe:"/proc/self/fd/' in changed.program
    assert list(found.files) == [f"{built}/libanswer.so.1"]


def test_an_old_bpftrace_sees_less_and_the_user_is_told(built: Path) -> None:
    told = Told()
    changed, _ = prepared(built / "whole", "hidden", release="0.17.0", told=told)
    assert any("0.17.0" in each for each in told)
    entries = [
        point.parts[2].text
        for probe in syntax.parse(changed.program).probes
        for point in probe.attach_points
        if "uprobe" in point.provider or "uretprobe" in point.provider
    ]
    assert len(set(entries)) == 1


CPP = """
struct cart { int total; int add(int n); };
__attribute__((noinline)) int cart::add(int n) { return total += n; }
static inline __attribute__((always_inline)) int tiny(cart &c) { return c.total * 7; }
#include <unistd.h>
#include <stdio.h>
int main(int count, char **arguments) {
  cart c{count};
  printf("0\\n"); fflush(stdout); read(0, arguments[0], 1);
  return c.add(count) + tiny(c);
}
"""


@pytest.fixture(scope="module")
def cpp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calls")
    (folder / "p.cc").write_text(CPP)
    command = [compiler("g++"), "-O2", "-g", "-w", "p.cc", "-o", "p"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    return folder / "p"


def test_a_function_that_was_inlined_is_said_to_be(cpp: Path) -> None:
    with pytest.raises(NotFoundError, match=r"tiny of .* was inlined .* into main \(p\.cc:\d+\)"):
        prepared(cpp, "tiny")


@pytest.mark.parametrize("name", ["cart::add", "_ZN4cart3addEi", "cart::add(int)", "cart::*"])
def test_a_function_may_be_named_in_every_way(cpp: Path, name: str) -> None:
    told = Told()
    changed, _ = prepared(cpp, name, told=told)
    assert "// cart::add" in changed.program
    assert told == []


def test_parts_that_the_compiler_split_off_are_no_functions() -> None:
    from kubectl_trace.functions.catalog import Function

    def is_fragment(symbol: str) -> bool:
        return calls._is_fragment(Function(symbol, symbol, 1, 1, ""))

    assert is_fragment("f.cold")
    assert is_fragment("f.cold.3")
    assert is_fragment("f.part.0.cold")
    assert not is_fragment("f.isra.0")
    assert not is_fragment("f.coldest")
    assert not is_fragment("cold")


def test_a_pattern_means_a_function_by_either_name() -> None:
    from kubectl_trace.functions.catalog import Function

    one = Function("cart::add", "_ZN4cart3addEi", 1, 1, "C++")
    assert calls._means(patterns.parse("cart::*"), one)
    assert calls._means(patterns.parse("_ZN4cart3addEi"), one)
    assert not calls._means(patterns.parse("add"), one)
