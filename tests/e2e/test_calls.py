"""`kubectl trace calls`: what it shows of a call is what the traced program itself has logged."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from . import known_calls
from .command import Command, kubectl, trace, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .cluster import Cluster, Pod
    from .command import Result
    from .known_calls import Call, Program

REPOSITORY = Path(__file__).parents[2]
LONG = ("--string-size", "400")
ROUNDS = 2

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="bpftrace needs root")


@pytest.fixture(scope="session")
def folder() -> Path:
    """The programs of known calls."""
    return known_calls.programs()


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with bpftrace 0.23, which attaches inside of functions."""
    return known_calls.other_bpftrace("0.23", tmp_path_factory.mktemp("bpftrace") / "0.23")


@pytest.fixture(scope="session")
def newest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same with bpftrace 0.27."""
    env = known_calls.other_bpftrace("0.27", tmp_path_factory.mktemp("bpftrace") / "0.27")
    if not env:
        pytest.skip("bpftrace 0.27 is not to be had any more")
    return env


@dataclass(frozen=True)
class Seen:
    """One trace of a program of known calls."""

    calls: list[Call]
    log: list[Call]
    result: Result

    def of(self, function: str) -> list[Call]:
        return [call for call in self.calls if call["function"] == function]

    def logged(self, function: str) -> list[Call]:
        return [call for call in self.log if call["function"] == function]


def see(
    file: Path, tmp_path: Path, env: Mapping[str, str], *words: str, rounds: int = ROUNDS
) -> Seen:
    """Traces a program from its first call to its last, by `-o json`."""
    with known_calls.running(file, str(rounds), log=tmp_path / "log") as program:
        command = known_calls.start("calls", program.target, "-o", "json", *words, env=env)
        known_calls.attached(command)
        log = program.finish()
        result = command.interrupt().finish()
    assert result.code == 0, result
    assert account(result)["lost"] == {}, result
    return Seen(known_calls.shown(result.stdout), log, result)


def account(result: Result) -> dict[str, Any]:
    (found,) = (each["data"] for each in known_calls.records(result.stdout) if is_account(each))
    assert isinstance(found, dict)
    return found


def is_account(record: dict[str, Any]) -> bool:
    return bool(record["type"] == "account")


def only_map(result: Result) -> dict[str, Any]:
    """The entries of the only map."""
    found = [each for each in known_calls.records(result.stdout) if each["type"] in ("map", "hist")]
    assert len(found) == 1, result
    (entries,) = found[0]["data"].values()
    assert isinstance(entries, dict)
    return entries


# Programs, from their first call to their last.


@dataclass(frozen=True)
class Case:
    """A program of known calls, and what of it can't be seen."""

    file: str
    functions: tuple[str, ...]
    """As they are in the log."""
    patterns: tuple[str, ...] = ()
    """What is asked for, where that is something else."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What functions are shown as, where that is another name than the log's."""
    unknown: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    apart: tuple[str, ...] = ()
    """Traced with the others, and compared in tests of their own."""
    left: tuple[str, ...] = ()
    """They are left by an exception, a panic or a `longjmp` in each round."""
    fib: str = ""


C_FUNCTIONS = (
    *("add", "narrow", "wide", "length", "copy", "price", "pick", "sum", "paint", "negate"),
    *("pass_small", "pass_two", "pass_mixed", "pass_large", "pass_bits"),
    *("give_small", "give_two", "give_mixed", "give_large"),
    *(
        "blend",
        "halve",
        "cut",
        "nine",
        "total",
        "below",
        "note",
        "hidden",
        "forward",
        "fib",
        "leap",
    ),
)
C = Case(
    "c-O2",
    C_FUNCTIONS,
    unknown=frozenset(
        (
            *("blend.ratio", "blend=", "halve.x", "halve=", "give_mixed.ratio"),
            *("give_mixed=.ratio", "pass_mixed.value.ratio", "pass_mixed="),
            "cut.x",  # long double
        )
    ),
    addresses=frozenset(("sum.values",)),
    left=("leap",),
    fib="fib",
)
CPP = Case(
    "cpp-O2",
    (
        *("add", "shop::Cart::add", "shop::Cart::limit", "shop::Cart::count", "shop::Cart::label"),
        *("shop::Cart::cost", "shop::Discounted::cost", "shop::paint", "operator+"),
        *("twice(int, int)", "twice(int, double)", "twice(int, std::string const&)"),
        *("times<3>", "times<-7>", "biggest<int>", "biggest<double>", "take", "view", "total"),
        *("bump", "owns", "functions()::{lambda(int, int)#1}::operator()"),
        *("(anonymous namespace)::secret", "risky", "through"),
    ),
    patterns=(
        *("add", "shop::Cart::add", "shop::Cart::limit", "shop::Cart::count", "shop::Cart::label"),
        *("shop::*::cost", "shop::paint", "operator+", "twice", "times<*", "biggest<*"),
        *("take", "view", "total", "bump", "owns", "*lambda*::operator()", "*::secret"),
        *("risky", "through"),
    ),
    names={
        "twice(int, int)": "twice",
        "twice(int, double)": "twice",
        "twice(int, std::string const&)": "twice",
        "functions()::{lambda(int, int)#1}::operator()": (
            "functions()::'lambda'(int, int)::operator()"
        ),
    },
    unknown=frozenset(
        (
            *("shop::Cart::add.price", "twice.value", "twice="),
            *("biggest<double>.a", "biggest<double>.b", "biggest<double>="),
        )
    ),
    addresses=frozenset(("bump.value", "owns.owned")),
    left=("risky", "through"),
)
_RUST = (
    *("add", "pair", "narrow", "wide", "scale", "length", "greet", "total", "count", "borrow_two"),
    *("pass_two", "pass_three", "give_two", "give_three", "paint", "handle", "half", "check"),
    *("find", "swap", "nothing", "risky", "fib"),
    *("shop::Account::balance", "shop::Account::deposit", "shop::Account::create"),
)
RUST = Case(
    "rust-O",
    (
        *(f"calls::{name}" for name in _RUST),
        "calls::largest<i32>",
        "calls::largest<f64>",
        "<calls::Square as calls::Shape>::area",
    ),
    patterns=(
        *(f"calls::{name}" for name in _RUST),
        "calls::largest*",
        "<calls::Square as calls::Shape>::area",
    ),
    names={
        "calls::largest<i32>": "calls::largest",
        "calls::largest<f64>": "calls::largest",
    },
    unknown=frozenset(
        (
            *("<calls::Square as calls::Shape>::area=", "calls::find=", "calls::give_two="),
            *("calls::half=", "calls::largest.a", "calls::largest.b", "calls::largest="),
            *("calls::pair.flag", "calls::pair=", "calls::scale.x", "calls::scale.y"),
            *("calls::scale=", "calls::swap=", "calls::wide.value", "calls::wide="),
        )
    ),
    addresses=frozenset(("calls::nothing.seen",)),
    left=("calls::risky",),
    fib="calls::fib",
)
_GO = (
    *("main.add", "main.greet", "main.sum", "main.pair", "main.(*Account).Deposit"),
    *("main.Account.Summary", "main.describe", "main.scale", "main.narrow", "main.measure"),
    *("main.move", "main.wrap", "main.many", "main.Square.Area", "main.area", "main.lookup"),
    *("main.find", "main.makeAdder", "main.makeAdder.func1", "main.fib", "main.risky"),
    *("main.careful", "main.hop"),
)
_GO_FLOATS = frozenset(
    (
        *("main.Square.Area.s.Side", "main.Square.Area=", "main.area=", "main.measure.p.Weight"),
        *("main.measure=", "main.move.p.Weight", "main.move=.Weight", "main.narrow.x"),
        *("main.narrow=", "main.scale.x", "main.scale="),
    )
)
_GO_ADDRESSES = frozenset(
    ("main.(*Account).Deposit.a.Owner", "main.find=.Owner", "main.makeAdder=")
)
_GENERIC = ("main.largest[int]", "main.largest[float64]")
GO = Case(
    "go1.19",
    (*_GO, *_GENERIC),
    patterns=(*_GO, "main.largest*"),
    names=dict.fromkeys(_GENERIC, "main.largest[...]"),
    unknown=_GO_FLOATS | {"main.largest[...]="},
    addresses=_GO_ADDRESSES,
    left=("main.risky",),
    fib="main.fib",
)
# What differs between versions of Go: fewer functions, for the time that attaching takes.
_FEW = (
    *("main.add", "main.greet", "main.sum", "main.pair", "main.(*Account).Deposit"),
    *("main.describe", "main.measure", "main.move", "main.many", "main.fib", "main.risky"),
    *("main.careful", "main.hop"),
)
_FEW_FLOATS = frozenset(each for each in _GO_FLOATS if each.startswith(_FEW))
_FEW_ADDRESSES = frozenset(("main.(*Account).Deposit.a.Owner",))


def go(file: str, *more: str, unknown: frozenset[str] = _FEW_FLOATS) -> Case:
    return Case(
        file,
        (*_FEW, *more),
        unknown=unknown,
        addresses=_FEW_ADDRESSES,
        left=("main.risky",),
        fib="main.fib",
    )


def fewer_of(case: Case, file: str, *functions: str) -> Case:
    """Some functions of the same program, built in another way."""

    def kept(values: frozenset[str]) -> frozenset[str]:
        return frozenset(each for each in values if re.split(r"[.=]", each)[0] in functions)

    return Case(
        file,
        functions,
        unknown=kept(case.unknown),
        addresses=kept(case.addresses),
        left=tuple(each for each in case.left if each in functions),
        fib=case.fib if case.fib in functions else "",
    )


CASES = {
    each.file: each
    for each in (
        C,
        fewer_of(
            C,
            "c-O0",
            *("add", "narrow", "wide", "copy", "price", "pick", "pass_large", "pass_bits"),
            *("give_small", "nine", "total", "forward", "fib", "leap"),
        ),
        fewer_of(C, "c-split", "add", "price", "copy", "pass_large", "hidden", "leap"),
        CPP,
        RUST,
        fewer_of(RUST, "rust-v0", "calls::add", "calls::length", "calls::count", "calls::half"),
        GO,
        # The arguments are on the stack, where floating-point numbers can be read; what type is in
        # an interface is told by Go 1.16 and later only.
        go(
            "go1.15",
            unknown=frozenset(("main.sum=", "main.describe.value")),
        ),
        go("go1.24"),
        go("go1.24-noopt", "main.inlined"),
        go("go-newest"),
    )
}


@pytest.fixture(scope="module")
def watch(
    folder: Path, newer: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Seen]]:
    """Traces the program of a case; once, for all the tests that look at it, and two at a time."""
    pool = ThreadPoolExecutor(2)

    def seen(file: str) -> Seen:
        case = CASES[file]
        words = (*(case.patterns or case.functions), *LONG)
        return see(folder / file, tmp_path_factory.mktemp("calls"), newer, *words)

    there = [file for file in CASES if (folder / file).exists()]
    known = {file: pool.submit(seen, file) for file in there}

    def watched(file: str) -> Seen:
        if file not in known:
            pytest.skip(f"{file} is not to be had any more")
        return known[file].result()

    yield watched
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("file", CASES)
def test_every_value_is_as_logged_or_said_to_be_unknown(
    watch: Callable[[str], Seen], file: str
) -> None:
    case, seen = CASES[file], watch(file)
    # Of calls that were left without a return another test tells.
    log = [each for each in seen.log if "left" not in each]
    calls = [each for each in seen.calls if each.get("ended") not in ("left", "running")]
    compared = known_calls.compare(calls, log, functions=case.functions, names=case.names)
    compared.check(unknown=case.unknown, addresses=case.addresses)
    assert sum(compared.right.values()) == sum(each["function"] in case.functions for each in log)


@pytest.mark.parametrize("file", [file for file, case in CASES.items() if case.fib])
def test_the_calls_of_a_recursion_are_paired_with_their_own_returns(
    watch: Callable[[str], Seen], file: str
) -> None:
    name, seen = CASES[file].fib, watch(file)
    pairs = Counter(
        (each["arguments"][1]["value"], each["results"][0]["value"]) for each in seen.of(name)
    )
    once = {(0, 0): 5, (1, 1): 8, (2, 1): 5, (3, 2): 3, (4, 3): 2, (5, 5): 1, (6, 8): 1}
    assert pairs == {pair: times * ROUNDS for pair, times in once.items()}
    whole = [each for each in seen.of(name) if each["arguments"][1]["value"] == 6]
    for outer in whole:
        inner = [
            each
            for each in seen.of(name)
            if each["arguments"][0]["value"] == outer["arguments"][0]["value"]
        ]
        assert len(inner) == 25
        assert outer["duration"] == max(each["duration"] for each in inner)
        assert outer["time"] == min(each["time"] for each in inner)


@pytest.mark.parametrize(
    ("file", "function"), [(file, name) for file, case in CASES.items() for name in case.left]
)
def test_a_call_left_without_a_return_is_told_to_have_been(
    watch: Callable[[str], Seen], file: str, function: str
) -> None:
    seen = watch(file)
    left = [each for each in seen.logged(function) if "left" in each]
    calls = [each for each in seen.of(function) if each["ended"] != "returned"]
    assert len(left) == ROUNDS
    assert {known_calls.identity(each) for each in calls} == {
        known_calls.identity(each) for each in left
    }
    # The last one's place on the stack has not been taken again.
    assert [each["ended"] for each in calls] == ["left"] * (ROUNDS - 1) + ["running"]
    known_calls.compare(calls, left).check()


@pytest.mark.parametrize("file", [file for file in CASES if file.startswith("go")])
def test_a_goroutine_is_followed_from_thread_to_thread(
    watch: Callable[[str], Seen], file: str
) -> None:
    hops = watch(file).of("main.hop")
    assert len(hops) == 20 * ROUNDS
    assert all(1_000_000 <= each["duration"] < 1_000_000_000 for each in hops)


def test_a_function_that_goes_on_in_another_has_its_result(watch: Callable[[str], Seen]) -> None:
    forwarded = watch("c-O2").of("forward")
    assert [each["ended"] for each in forwarded] == ["returned"] * ROUNDS
    assert all(
        each["results"][0]["value"] == each["arguments"][0]["value"] + 41 for each in forwarded
    )


def test_json_is_as_the_schema_says(watch: Callable[[str], Seen]) -> None:
    schema = json.loads((REPOSITORY / "docs" / "json.schema.json").read_text())
    assert "call" in {name.removeprefix("type-") for name in schema["$defs"]}
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    for file in ("c-O2", "go1.19"):
        for record in known_calls.records(watch(file).result.stdout):
            validator.validate(record)


# Without debug information.

_REGISTERS = {
    "main.add": {"id": "rax", "b": "rbx", "results": ["rax"]},
    "main.greet": {"id": "rax", "name": "rbx,rcx?", "results": ["rax,rbx?"]},
    "main.many": {"id": "rax", "b": "rbx", "c": "rcx", "d": "rdi", "e": "rsi", "results": ["rax"]},
    "main.fib": {"id": "rax", "n": "rbx", "results": ["rax"]},
}


@pytest.mark.parametrize("file", ["go1.19-stripped", "go1.24-pie-stripped", "go-newest-stripped"])
def test_a_stripped_go_program_shows_registers_and_guesses_that_say_so(
    folder: Path, newer: dict[str, str], tmp_path: Path, file: str
) -> None:
    seen = see(folder / file, tmp_path, newer, *_REGISTERS)
    assert {each["arguments"][0]["type"] for each in seen.calls} == {"not known: registers"}
    log = []
    for each in seen.log:
        if each["function"] not in _REGISTERS:
            continue
        places = _REGISTERS[each["function"]]
        name = each["arguments"].get("name", "fine")
        if not name or not name.isprintable() or len(name) > 40:
            continue  # of these there is no guess
        known = {key: value for key, value in each["arguments"].items() if key in places}
        log.append({**each, "arguments": known})
    kept = {known_calls.identity(each) for each in log}
    calls = known_calls.by_registers(seen.calls, _REGISTERS)
    calls = [each for each in calls if known_calls.identity(each) in kept]
    known_calls.compare(calls, log, functions=_REGISTERS).check()
    texts = [each["arguments"][0]["text"] for each in seen.of("main.greet")]
    assert sum('(string? "Ada")' in text for text in texts) == ROUNDS
    # The longest is cut, and says so.
    assert sum('long"…)' in text for text in texts) == ROUNDS


def test_a_program_without_any_symbols_says_so(
    folder: Path, waiting: Callable[[str], Program]
) -> None:
    result = trace("calls", waiting("c-stripped").target, "add")
    assert result.code == 3, result
    assert "has no symbols" in result.stderr


# Numbers instead of lines, and lines of another kind.


@pytest.mark.parametrize("file", ["go1.15", "go1.19", "go1.24-noopt", "go-newest-stripped"])
def test_a_call_that_makes_its_stack_grow_is_counted_once(
    folder: Path, newer: dict[str, str], tmp_path: Path, file: str
) -> None:
    if not (folder / file).exists():
        pytest.skip(f"{file} is not to be had any more")
    seen = see(folder / file, tmp_path, newer, "main.deep", "--count", rounds=1)
    assert only_map(seen.result) == {"main.deep": 2001}


def test_returns_counts_each_result(folder: Path, newer: dict[str, str], tmp_path: Path) -> None:
    seen = see(folder / "c-O2", tmp_path, newer, "negate", "fib", "--returns")
    expected = Counter(
        f"{each['function']},{int(each['results'][0])}"
        for each in seen.log
        if each["function"] in ("negate", "fib")
    )
    assert only_map(seen.result) == expected


def test_returns_of_several_kinds_are_counted_in_one_trace(
    folder: Path, newer: dict[str, str], tmp_path: Path
) -> None:
    seen = see(folder / "c-O2", tmp_path, newer, "negate", "copy", "--returns")
    assert '"negate' in seen.result.stdout
    assert "copy" in seen.result.stdout


def test_latency_is_a_histogram_of_durations(
    folder: Path, newer: dict[str, str], tmp_path: Path
) -> None:
    seen = see(folder / "go1.19", tmp_path, newer, "main.hop", "main.add", "--latency")
    buckets = only_map(seen.result)
    # Of calls that begin at once bpftrace's maps can miss one (docs/functions.md).
    assert 0 <= 20 * ROUNDS - sum(each["count"] for each in buckets["main.hop"]) <= ROUNDS
    assert sum(each["count"] for each in buckets["main.add"]) == 3 * ROUNDS
    # It sleeps for a millisecond.
    assert min(each["min"] for each in buckets["main.hop"]) >= 1 << 19


@pytest.mark.parametrize(
    ("file", "function", "frames"),
    [
        ("c-O0", "add", ["numbers", "main"]),
        # The caller itself is missing: the function does not begin with push %rbp.
        ("go1.19", "main.add", ["main.main", "runtime.main"]),
    ],
)
def test_a_stack_has_the_callers_the_innermost_first(
    folder: Path,
    newer: dict[str, str],
    tmp_path: Path,
    file: str,
    function: str,
    frames: list[str],
) -> None:
    with known_calls.running(folder / file, log=tmp_path / "log") as program:
        words = ("calls", program.target, function, "--stack", "-o", "json", "--max", "3")
        command = known_calls.attached(known_calls.start(*words, env=newer))
        program.go()
        result = command.finish()
    calls = known_calls.shown(result.stdout)
    assert len(calls) == 3
    for call in calls:
        names = [re.split(r"[+ ]", frame)[0] for frame in call["stack"]]
        names = names[1:] if names[0] == function else names
        assert names[: len(frames)] == frames, call["stack"]


def test_arguments_and_returns_can_be_left_out(
    folder: Path, newer: dict[str, str], tmp_path: Path
) -> None:
    functions = ("add", "paint", "length")
    seen = see(folder / "c-O2", tmp_path, newer, *functions, "--no-returns", *LONG)
    assert {each.get("ended", "") for each in seen.calls} == {""}
    known_calls.compare(seen.calls, seen.log, functions=functions, returns=False).check()
    seen = see(folder / "c-O2", tmp_path, newer, *functions, "--no-args")
    assert not any(each.get("arguments") for each in seen.calls)
    shown = [(each["function"], each["results"][0]["value"]) for each in seen.calls]
    assert shown == [
        (each["function"], each["results"][0]) for each in seen.log if each["function"] in functions
    ]


def test_a_long_text_is_cut_and_says_so(
    folder: Path, newer: dict[str, str], tmp_path: Path
) -> None:
    seen = see(folder / "c-O2", tmp_path, newer, "length", "--string-size", "20")
    known_calls.compare(seen.calls, seen.log, functions=["length"]).check()
    cut = [each["arguments"][1] for each in seen.calls if each["arguments"][1].get("is_cut")]
    assert [each["value"] for each in cut if each["value"].startswith("x")] == ["x" * 20] * ROUNDS


# Which calls are shown.


@dataclass(frozen=True)
class Filter:
    condition: str
    file: str
    functions: tuple[str, ...]
    fits: Callable[[dict[str, Any], Any], bool]
    """Of the logged arguments and results."""


FILTERS = [
    Filter("b < 0", "c-O2", ("add",), lambda a, r: a["b"] < 0),
    Filter("ret < 0 || id == 1", "c-O2", ("add", "price"), lambda a, r: r[0] < 0 or a["id"] == 1),
    Filter('text == "Ada"', "c-O2", ("length",), lambda a, r: a["text"] == "Ada"),
    Filter("colour == GREEN", "c-O2", ("paint",), lambda a, r: a["colour"] == "GREEN"),
    Filter(
        "item->id == 7 && item != NULL",
        "c-O2",
        ("price",),
        lambda a, r: bool(a["item"]) and a["item"]["id"] == 7,
    ),
    Filter("value.second < 0", "c-O2", ("pass_two",), lambda a, r: True),
    Filter("flag", "c-O2", ("negate",), lambda a, r: a["flag"]),
    Filter("len(name) > 5", "go1.19", ("main.greet",), lambda a, r: len(a["name"].encode()) > 5),
    Filter("ret2 != nil", "go1.19", ("main.sum",), lambda a, r: r[1] is not None),
    Filter("duration >= 1000000", "go1.19", ("main.hop", "main.add"), lambda a, r: len(a) == 1),
    Filter("a.Balance > 100", "go1.19", ("main.(*Account).Deposit",), lambda a, r: r[0] > 110),
]


@pytest.mark.parametrize("each", FILTERS, ids=lambda each: each.condition)
def test_a_filter_lets_exactly_these_calls_through(
    folder: Path, newer: dict[str, str], tmp_path: Path, each: Filter
) -> None:
    words = (*each.functions, "--filter", each.condition)
    seen = see(folder / each.file, tmp_path, newer, *words)
    fitting = [
        known_calls.identity(call)
        for call in seen.log
        if call["function"] in each.functions and each.fits(call["arguments"], call["results"])
    ]
    assert fitting
    assert sorted(map(known_calls.identity, seen.calls), key=str) == sorted(fitting, key=str)


@pytest.fixture(scope="module")
def waiting(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Program]]:
    """Programs that wait, and are never told to go."""
    with contextlib.ExitStack() as stack:
        known: dict[str, Program] = {}

        def started(file: str) -> Program:
            if file not in known:
                log = tmp_path_factory.mktemp("waiting") / "log"
                known[file] = stack.enter_context(known_calls.running(folder / file, log=log))
            return known[file]

        yield started


@pytest.mark.parametrize(
    ("file", "words", "code", "message"),
    [
        ("c-O2", ("ad",), 3, "no function matches ad in .*/c-O2; did you mean add?"),
        ("c-O2", ("inlined",), 3, r"inlined of .*/c-O2 was inlined .* into controls \(calls\.c:"),
        ("go1.19", ("main.inlined",), 3, r"main\.inlined .* was inlined .* into main\.round"),
        ("go1.19-stripped", ("main.inlined",), 3, r"main\.inlined .* inlined .*main\.round"),
        ("rust-O", ("calls::inlined",), 3, "inlined of .* was inlined .* into calls::"),
        ("go1.19", ("runtime.*",), 2, r"\d+ functions match, .* more than --max-probes 1000"),
        ("go1.19", ("main.*", "--max-probes", "5"), 2, "more than --max-probes 5"),
        ("c-O2", ("add", "--filter", "size > 1"), 6, "add has no size; there are id, b, ret"),
        ("c-O2", ("price", "--filter", "item->x > 1"), 6, "no member x; there are id, name"),
        ("c-O2", ("halve", "--filter", "x > 1"), 6, "x is a floating-point number|x can't be"),
        ("c-O2", ("price", "--filter", "item->id > 1 &&"), 2, "something is missing at its end"),
        ("c-O2", ("add", "--filter", "id b"), 2, "'b' is out of place"),
        ("c-O2", ("add", "--filter", 'system("x")'), 2, "--filter"),
        ("c-O2", ("add", "--count", "--max", "3"), 2, "--max is for lines, --count shows a map"),
        ("c-O2", ("/(/",), 2, r"/\(/"),
        ("c-O2", ("--lib", "libnosuch.so", "f"), 3, "libnosuch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_can_not_be_traced_is_told(
    waiting: Callable[[str], Program],
    newer: dict[str, str],
    file: str,
    words: Sequence[str],
    code: int,
    message: str,
) -> None:
    result = known_calls.start("calls", waiting(file).target, *words, env=newer).finish()
    assert result.code == code, result
    assert re.search(message, result.stderr), result
    assert "Traceback" not in result.stderr


def test_a_function_that_is_not_there_is_no_hindrance_to_others(
    folder: Path, newer: dict[str, str], tmp_path: Path
) -> None:
    seen = see(folder / "c-O2", tmp_path, newer, "add", "inlined", "nosuch", rounds=1)
    assert len(seen.calls) == len(seen.logged("add"))
    assert "inlined of" in seen.result.stderr
    assert "no function matches nosuch" in seen.result.stderr


def test_max_ends_the_trace_after_exactly_so_many_calls(
    folder: Path, newer: dict[str, str], tmp_path: Path
) -> None:
    with known_calls.running(folder / "c-O2", log=tmp_path / "log") as program:
        command = known_calls.start(
            *("calls", program.target, "add", "fib", "-o", "json", "--max", "7"), env=newer
        )
        known_calls.attached(command)
        program.go()
        result = command.finish()
        calls = known_calls.shown(result.stdout)
        assert result.code == 0, result
        assert len(calls) == 7
        assert "7 records; lost: none" in result.stderr
        # It logs a round at its end.
        wait_until(lambda: '"leap"' in program.text(), "the first round is logged")
        log = known_calls.logged(program.text())
    compared = known_calls.compare(calls, log)
    assert not compared.wrong
    assert [each["function"] for each in calls] == ["add"] * 4 + ["fib"] * 3


def test_a_rate_limit_accounts_for_each_call_that_it_passes_over(
    folder: Path, newer: dict[str, str], tmp_path: Path
) -> None:
    with known_calls.running(folder / "c-O2", "--fast", "200000", log=tmp_path / "log") as program:
        words = ("calls", program.target, "add", "-o", "json", "--max-rate", "50")
        command = known_calls.attached(known_calls.start(*words, env=newer))
        program.finish()
        took = json.loads(program.text().splitlines()[-1])["nanoseconds"]
        result = command.interrupt().finish()
    shown, skipped = known_calls.shown(result.stdout), account(result)["lost"]
    assert list(skipped) == ["rate limit"], result
    assert 50 <= len(shown) <= 50 * (took // 1_000_000_000 + 2)
    assert len(shown) + skipped["rate limit"] == 200_000
    assert all(each["results"][0]["value"] == each["arguments"][0]["value"] + 1 for each in shown)


# What comes of a trace.


def test_the_program_that_is_shown_runs_as_a_users_own(
    folder: Path, newer: dict[str, str], tmp_path: Path
) -> None:
    with known_calls.running(folder / "go1.19", "1", log=tmp_path / "log") as program:
        functions = ("main.add", "main.fib")
        words = ("calls", program.target, *functions, "--show-program")
        shown = known_calls.start(*words, env=newer).finish()
        assert shown.code == 0, shown
        assert "// main.add" in shown.stdout
        file = tmp_path / "mine.bt"
        file.write_text(shown.stdout)
        words = ("run", program.target, "--unsafe", "-f", str(file))
        command = known_calls.start(*words, env=newer).wait_until_attached()
        log = program.finish()
        result = command.interrupt().finish()
    assert result.code == 0, result
    line = r"^\d+/\d+ (\S+)\(id=(\w+), \w+=(\w+)\) =.*?(\w+) <\d+ ns>$"
    found = [
        (name, *(int(number, 16) for number in numbers))
        for name, *numbers in re.findall(line, result.stdout, re.MULTILINE)
    ]
    wanted = [
        (each["function"], each["arguments"]["id"], each["arguments"][second], *each["results"])
        for each in log
        for second in ("b", "n")
        if each["function"] in functions and second in each["arguments"]
    ]
    word = (1 << 64) - 1
    assert sorted(found) == sorted(
        (name, *(number & word for number in numbers)) for name, *numbers in wanted
    )


def test_a_saved_trace_is_shown_again_in_any_format(
    folder: Path, newer: dict[str, str], tmp_path: Path
) -> None:
    session = str(tmp_path / "calls.session")
    with known_calls.running(folder / "c-O2", "1", log=tmp_path / "log") as program:
        words = ("calls", program.target, "add", "price", "--save", session)
        command = known_calls.start(*words, env=newer).wait_until_attached()
        log = program.finish()
        result = command.interrupt().finish()
    assert result.code == 0, result
    again = trace("replay", session)
    assert again.code == 0, again
    assert again.stdout == result.stdout
    assert "price(id=" in result.stdout
    assert 'item=&{id=7, name="lamp", colour=GREEN, ratio=0.25}) = 70 <' in result.stdout
    calls = known_calls.shown(trace("replay", session, "-o", "json").stdout)
    known_calls.compare(calls, log, functions=["add", "price"]).check()
    rows = list(csv.DictReader(io.StringIO(trace("replay", session, "-o", "csv").stdout)))
    for kind, place in (("argument", "arguments"), ("result", "results")):
        found = [each["value"] for each in rows if (each["map"], each["field"]) == ("add", kind)]
        logged = [each[place] for each in log if each["function"] == "add"]
        wanted = [list(each.values()) if isinstance(each, dict) else each for each in logged]
        assert found == [str(value) for values in wanted for value in values]


@pytest.mark.parametrize("version", ["0.17", "0.27"])
def test_other_bpftraces_show_the_same(
    folder: Path, tmp_path: Path, version: str, request: pytest.FixtureRequest
) -> None:
    env = request.getfixturevalue("newest") if version == "0.27" else {}
    functions = ("add", "price", "fib", "forward", "pass_two", "paint", "sum")
    seen = see(folder / "c-O2", tmp_path, env, *functions)
    compared = known_calls.compare(seen.calls, seen.log, functions=functions)
    # The old one has no room for what pointers point to.
    by_address = {"sum.values"} | ({"price.item"} if version == "0.17" else set())
    compared.check(addresses=by_address)
    if version == "0.27":
        few = ("main.add", "main.greet", "main.sum", "main.fib", "main.hop")
        seen = see(folder / "go1.24", tmp_path, env, *few, *LONG)
        known_calls.compare(seen.calls, seen.log, functions=few).check()


def test_an_old_bpftrace_shows_entries_of_go_or_says_what_it_needs(
    folder: Path, tmp_path: Path
) -> None:
    with known_calls.running(folder / "go1.19", "1", log=tmp_path / "log") as program:
        words = ("calls", program.target, "main.add", "main.greet", "-o", "json")
        command = known_calls.start(*words)
        wait_until_attached_or_over(command)
        log = program.finish()
        result = command.interrupt().finish()
    if result.code:
        assert result.code == 6, result
        assert "bpftrace" in result.stderr
    else:
        calls = known_calls.shown(result.stdout)
        assert {each.get("ended", "") for each in calls} == {""}
        functions = ("main.add", "main.greet")
        known_calls.compare(calls, log, functions=functions, returns=False).check()


# What it does to the traced program.


def wait_until_attached_or_over(command: Command) -> None:
    def is_so() -> bool:
        said = command.stdout()
        return '"ready"' in said or '"account"' in said or "error: " in command.stderr()

    wait_until(is_so, "it begins, or ends")


def test_go_programs_survive_calls_attached_and_detached_again_and_again(
    folder: Path, newer: dict[str, str], tmp_path: Path
) -> None:
    functions = ("main.add", "main.fib", "main.hop", "main.risky", "main.careful", "main.deep")
    with contextlib.ExitStack() as stack:
        programs = [
            stack.enter_context(
                known_calls.running(folder / file, "--stress", "20", log=tmp_path / file)
            )
            for file in ("go1.19", "go-newest")
        ]
        for program in programs:
            program.go()
        times = 0
        while any(program.process.poll() is None for program in programs):
            commands = [
                known_calls.start(
                    *("calls", program.target, *functions, "-o", "json", *flags), env=newer
                )
                for program, flags in zip(
                    programs,
                    (("--max-rate", "500"), ("--latency",))[:: 1 - times % 2 * 2],
                    strict=True,
                )
                if program.process.poll() is None
            ]
            for command in commands:
                wait_until_attached_or_over(command)
            for command in commands:
                command.interrupt()
            codes = [command.finish().code for command in commands]
            ended = any(program.process.poll() is not None for program in programs)
            assert ended or codes == [0, 0]
            times += 1
        assert times >= 2
        for program in programs:
            assert program.process.wait(30) == 0, program.text()
            said = json.loads(program.text().splitlines()[-1])
            assert said["wrong"] == 0
            assert said["calls"] > 1000


def test_a_uretprobe_of_a_users_own_program_is_put_where_a_go_function_returns(
    folder: Path, newer: dict[str, str], tmp_path: Path
) -> None:
    file = folder / "go1.19"
    program = (
        f'uretprobe:{file}:main.add {{ printf("add %lld\\n", retval); }} '
        f'uretprobe:{file}:"main.(*Account).Deposit" {{ printf("deposit %lld\\n", retval); }}'
    )
    with known_calls.running(file, "1", log=tmp_path / "log") as traced:
        command = known_calls.start("run", traced.target, "-e", program, env=newer)
        command.wait_until_attached()
        log = traced.finish()
        result = command.interrupt().finish()
    assert result.code == 0, result
    assert "Go" in result.stderr
    assert "retval" in result.stderr or "return" in result.stderr, result
    names = {"main.add": "add", "main.(*Account).Deposit": "deposit"}
    assert result.lines == [
        f"{names[each['function']]} {each['results'][0]}"
        for each in log
        if each["function"] in names
    ]


def test_a_uretprobe_of_a_go_function_is_refused_where_it_can_not_be_rewritten(
    folder: Path, waiting: Callable[[str], Program]
) -> None:
    file = folder / "go1.19"
    program = f"uretprobe:{file}:main.add {{ @ = count(); }}"
    result = trace("run", waiting("go1.19").target, "-e", program)  # with 0.17
    assert result.code == 6, result
    assert "is a Go program" in result.stderr


# In a cluster.


@contextlib.contextmanager
def container_log(pod: str, container: str) -> Iterator[Command]:
    """What a container writes from now on."""
    words = ("kubectl", "logs", "-f", f"pod/{pod}", "-c", container, "--tail=1")
    command = Command(*words)
    try:
        yield command
    finally:
        command.interrupt().finish()


def in_log(log: Command, calls: Sequence[Call]) -> list[Call]:
    """The log, once all of these calls are in it."""
    last = max((known_calls.identity(each) or 0 for each in calls), default=0)

    def is_there() -> bool:
        found = known_calls.logged(log.stdout())
        return any((known_calls.identity(each) or 0) > last for each in found)

    wait_until(is_there, f"the container logs call {last} and more", 30)
    return known_calls.logged(log.stdout())


CONTAINERS = {
    "go": ("main.add", "main.greet", "main.fib"),
    "go-stripped": ("main.add", "main.fib"),
    "go-newest": ("main.add", "main.fib"),
    "c": ("add", "price", "fib"),
    "c-split": ("add", "price", "fib"),
    "cpp": ("add",),
    "rust": ("calls::add", "calls::length"),
}


def test_the_calls_of_all_containers_are_those_of_their_own_logs(cluster: Cluster) -> None:
    functions = sorted({name for names in CONTAINERS.values() for name in names})
    with contextlib.ExitStack() as stack:
        logs = {name: stack.enter_context(container_log("functions", name)) for name in CONTAINERS}
        for log in logs.values():
            log.wait_for("function")
        command = known_calls.start(
            *("calls", "pod/functions", "--all-containers", *functions, "-o", "json", *LONG)
        )
        known_calls.attached(command)

        def has_all() -> bool:
            records = known_calls.records(command.stdout().rpartition("\n")[0])
            seen = Counter(
                (each["container"], each["data"]["function"])
                for each in records
                if each["type"] == "call"
            )
            # Of three rounds at least: one that is seen whole is between others.
            return all(
                seen[name, function] >= (100 if function.endswith("fib") else 6)
                for name, names in CONTAINERS.items()
                for function in names
            )

        wait_until(has_all, "calls of all containers", 60)
        result = command.interrupt().finish()
        assert result.code == 0, result
        records = [each for each in known_calls.records(result.stdout) if each["type"] == "call"]
        assert {each["pod"] for each in records} == {"functions"}
        for name, names in CONTAINERS.items():
            calls = [each["data"] for each in records if each["container"] == name]
            if name in ("go-stripped", "go-newest"):
                calls = known_calls.by_registers(calls, _REGISTERS)
            written = in_log(logs[name], calls)
            compared = known_calls.compare(calls, written, functions=names)
            assert not compared.wrong, (name, compared.wrong[:5])
            assert not compared.unknown, (name, compared.unknown)
            assert set(compared.right) >= set(names), (name, compared.right)
            for function in names:
                all_seen_between_first_and_last(function, calls, written)


def all_seen_between_first_and_last(
    function: str, calls: Sequence[Call], log: Sequence[Call]
) -> None:
    """Probes are attached one after the other."""
    seen = [
        known_calls.identity(each) or 0
        for each in calls
        if each["function"] == function and each["ended"] == "returned"
    ]
    between = [
        number
        for each in log
        if each["function"] == function
        and min(seen) < (number := known_calls.identity(each) or 0) < max(seen)
    ]
    assert between
    assert Counter(between) == Counter(each for each in seen if min(seen) < each < max(seen))


@pytest.fixture(scope="module")
def other_pod(cluster: Cluster) -> Iterator[Pod]:
    """A pod of the same image as pod `functions`, on the same node."""
    node = cluster.pods("app=functions")[0].node
    container = {
        "name": "c",
        "image": "kubectl-trace-testbed/programs:1",
        "imagePullPolicy": "IfNotPresent",
        "command": ["/programs/c-O2"],
    }
    done = cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "functions-other", "labels": {"app": "functions-other"}},
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 1,
                "containers": [container],
            },
        }
    )
    assert done.code == 0, done
    done = kubectl("wait", "--for=condition=ready", "pod/functions-other", "--timeout=60s")
    assert done.code == 0, done
    yield cluster.pods("app=functions-other")[0]
    kubectl("delete", "pod", "functions-other", "--now", "--wait=false")


def test_of_two_pods_of_one_image_only_the_targets_calls_are_shown(
    cluster: Cluster, other_pod: Pod
) -> None:
    with container_log(other_pod.name, "c") as log:
        log.wait_for("function")
        words = ("calls", f"pod/{other_pod.name}", "add", "fib", "-o", "json", "--max", "100")
        result = known_calls.start(*words).finish()
        calls = known_calls.shown(result.stdout)
        assert result.code == 0, result
        assert len(calls) == 100
        assert len({each["pid"] for each in calls}) == 1
        compared = known_calls.compare(calls, in_log(log, calls))
    assert not compared.wrong
    assert sum(compared.right.values()) == 100


def test_a_library_of_a_container_is_traced_for_that_container_only(cluster: Cluster) -> None:
    words = ("calls", "pod/functions", "-c", "c-stripped", "--lib", "libc.so.6", "nanosleep")
    result = trace(*words, "-o", "json", "--max", "3")
    assert result.code == 0, result
    calls = known_calls.shown(result.stdout)
    assert len(calls) == 3
    assert len({each["pid"] for each in calls}) == 1, "each container has such a program"
    for call in calls:
        assert 500_000_000 <= call["duration"] < 5_000_000_000
        assert "0x0" in json.dumps(call["arguments"]) or "NULL" in json.dumps(call["arguments"])


def test_max_is_exact_over_pods_on_several_nodes(cluster: Cluster) -> None:
    words = ("calls", "deploy/nginx", "ngx_unix_recv", "ngx_event_accept", "--max", "10")
    command = known_calls.start(*words, "-o", "json")
    pods = cluster.pods("app=nginx")
    known_calls.attached(command, nodes=len({pod.node for pod in pods}))
    for pod in pods:
        cluster.request(pod, 5)
    result = command.finish()
    assert result.code == 0, result
    records = [each for each in known_calls.records(result.stdout) if each["type"] == "call"]
    assert len(records) == 10
    assert "10 records from 2 nodes; lost: none" in result.stderr
    assert {each["pod"] for each in records} <= {pod.name for pod in pods}


def test_a_stripped_servers_calls_are_shown_by_registers_and_counted_by_pod(
    cluster: Cluster,
) -> None:
    pods = cluster.pods("app=nginx")
    words = ("calls", "deploy/nginx", "ngx_http_create_request", "--count", "--by", "pod")
    counted = known_calls.start(*words, "-o", "json")
    shown = known_calls.start(
        *("calls", f"pod/{pods[0].name}", "ngx_unix_recv", "-o", "json"),
        *("--filter", "rdx > 100 && ret > 0"),
    )
    known_calls.attached(counted, nodes=len({pod.node for pod in pods}))
    known_calls.attached(shown)
    cluster.request(pods[0], 3)
    cluster.request(pods[1], 5)
    result = counted.interrupt().finish()
    assert result.code == 0, result
    maps = [each for each in known_calls.records(result.stdout) if each["type"] == "map"]
    assert {each["pod"]: [*each["data"]["@calls"].values()] for each in maps} == {
        pods[0].name: [3],
        pods[1].name: [5],
    }
    result = shown.interrupt().finish()
    calls = known_calls.shown(result.stdout)
    assert len(calls) == 3, result
    for call in calls:
        (arguments,), (results,) = call["arguments"], call["results"]
        assert arguments["type"] == "not known: registers"
        # The size of its buffer, and how long the request is.
        assert int(arguments["value"]["rdx"], 16) == 1024
        assert 0 < int(results["value"]["rax"], 16) < 1024
