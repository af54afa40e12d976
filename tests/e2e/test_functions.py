"""`kubectl trace functions`: what can be traced, as binutils and compilers know it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from . import known_calls
from .command import Result, kubectl, trace, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .cluster import Cluster

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="bpftrace needs root")


@pytest.fixture(scope="module")
def folder() -> Path:
    """The programs of known calls."""
    return known_calls.programs()


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with bpftrace 0.23, which attaches inside of functions."""
    return known_calls.other_bpftrace("0.23", tmp_path_factory.mktemp("bpftrace") / "0.23")


@pytest.fixture(scope="module")
def target(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], str]]:
    """A program that waits, as a target."""
    with contextlib.ExitStack() as stack:
        known: dict[str, known_calls.Program] = {}

        def started(file: str) -> str:
            if file not in known:
                if not (folder / file).exists():
                    pytest.skip(f"{file} is not to be had any more")
                log = tmp_path_factory.mktemp("waiting") / "log"
                program = known_calls.running(folder / file, log=log)
                known[file] = stack.enter_context(program)
            return known[file].target

        yield started


def listed(*words: str) -> list[dict[str, Any]]:
    """What `functions -o json` lists."""
    return lines(trace("functions", *words, "-o", "json"))


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.code == 0, result
    return [json.loads(line) for line in result.lines]


def output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def symbols(file: Path) -> set[tuple[str, int, int]]:
    """The functions in a file's symbol table, with their addresses and sizes, by readelf."""
    found = re.findall(
        r"^ *\d+: ([0-9a-f]+) +(\d+|0x[0-9a-f]+) FUNC +\w+ +\w+ +(?!UND)\S+ (\S+)$",
        output("readelf", "--symbols", "--wide", str(file)),
        re.MULTILINE,
    )
    return {(name, int(address, 16), int(size, 0)) for address, size, name in found}


@pytest.mark.parametrize(
    ("file", "language", "names"),
    [
        ("c-O2", "C", ["add", "hidden", "price"]),
        ("c-static", "C", ["add", "hidden", "price"]),
        ("cpp-O2", "C++", ["shop::Cart::add", "operator+", "(anonymous namespace)::secret"]),
        ("rust-O", "Rust", ["calls::add", "calls::shop::Account::deposit"]),
        ("rust-v0", "Rust", ["calls::add", "<calls::shop::Account>::deposit"]),
        ("go1.15", "Go", ["main.add", "main.(*Account).Deposit"]),
        ("go1.19", "Go", ["main.add", "main.(*Account).Deposit"]),
        ("go-newest", "Go", ["main.add", "main.(*Account).Deposit"]),
        ("go1.24-noopt", "Go", ["main.add", "main.(*Account).Deposit"]),
    ],
)
def test_names_places_and_sizes_are_those_of_the_symbol_table(
    folder: Path, target: Callable[[str], str], file: str, language: str, names: list[str]
) -> None:
    found = listed(target(file))
    known = symbols(folder / file)
    addresses = {each["address"] for each in found}
    assert len(addresses) > 20
    if language == "Go":  # what the linker adds has no place in Go's own table
        assert {at for name, at, _ in known if name.startswith("main.")} <= addresses
    else:
        assert {at for _, at, _ in known if at} == addresses
        by_symbol = {(each.get("symbol") or each["name"], each["address"]) for each in found}
        assert by_symbol <= {(name, at) for name, at, _ in known}
    assert set(names) <= {each["name"] for each in found}
    sizes = {(name, at): size for name, at, size in known}
    for each in listed(target(file), *names):
        assert each["language"] == language, each
        assert each["offset"] == offset(folder / file, each["address"])
        size = sizes[each.get("symbol") or each["name"], each["address"]]
        # Of Go's functions with what pads them.
        assert size <= each["size"] < size + (32 if language == "Go" else 1)


def offset(file: Path, address: int) -> int:
    """Where the byte at an address is in the file, by readelf."""
    loads = re.findall(
        r"^  LOAD +(0x\w+) (0x\w+) 0x\w+ (0x\w+)",
        output("readelf", "--program-headers", "--wide", str(file)),
        re.MULTILINE,
    )
    return next(
        address - int(at, 16) + int(start, 16)
        for start, at, size in loads
        if int(at, 16) <= address < int(at, 16) + int(size, 16)
    )


@pytest.mark.parametrize("file", ["go1.19-stripped", "go1.24-pie-stripped", "go-newest-stripped"])
def test_a_stripped_go_program_has_all_its_functions(
    folder: Path, target: Callable[[str], str], file: str
) -> None:
    whole = file.removesuffix("-stripped")
    found = {each["name"] for each in listed(target(file), "main.*")}
    assert {"main.add", "main.(*Account).Deposit", "main.makeAdder.func1"} <= found
    if whole in ("go1.19", "go-newest"):
        known = symbols(folder / whole)
        # What is generic is `main.largest[...]` in Go's table.
        named = {name for name, _, _ in known if name.startswith("main.") and "[" not in name}
        assert named <= found


@pytest.mark.parametrize("file", ["c-O2", "c-O0", "cpp-O2", "go1.19", "rust-O"])
def test_return_sites_are_the_return_instructions(
    folder: Path, target: Callable[[str], str], file: str
) -> None:
    patterns = {
        "c": ["add", "fib", "total", "price", "leap", "forward", "sum", "controls"],
        "cpp": ["add", "risky", "take", "shop::paint"],
        "go": ["main.add", "main.fib", "main.sum", "main.describe", "main.find", "main.round"],
        "rust": ["calls::add", "calls::find", "calls::half", "calls::fib"],
    }[re.split(r"[-1]", file)[0]]
    for each in listed(target(file), *patterns):
        end = each["address"] + each["size"]
        code = output(
            *("objdump", "--disassemble", "--no-show-raw-insn"),
            *(f"--start-address={each['address']}", f"--stop-address={end}"),
            str(folder / file),
        )
        assert each["return_sites"] == len(re.findall(r"\t(?:rep[nz ]+)?retq?\b", code)), each


@pytest.mark.parametrize(
    ("file", "function", "signature"),
    [
        ("c-O2", "price", "int (int id, const struct item *item)"),
        ("c-split", "price", "int (int id, const struct item *item)"),
        ("cpp-O2", "shop::Cart::add", "int (int id, const std::string &name, double price)"),
        ("rust-O", "calls::length", "(id: u64, text: &str) -> usize"),
        ("go1.19", "main.sum", "(id int, values []int) (int, error)"),
        ("go-newest", "main.(*Account).Deposit", "(a *main.Account, id int, amount int64) int64"),
    ],
)
def test_signatures_are_the_sources(
    target: Callable[[str], str], file: str, function: str, signature: str
) -> None:
    (found,) = listed(target(file), function)
    shown = found["signature"].replace("const item *", "const struct item *")
    assert shown == signature


def test_patterns_are_globs_or_regular_expressions(target: Callable[[str], str]) -> None:
    def names(*patterns: str) -> set[str]:
        return {each["name"] for each in listed(target("c-O2"), *patterns)}

    assert names("pass_*") == {"pass_small", "pass_two", "pass_mixed", "pass_large", "pass_bits"}
    assert names("ad?", "fi[ab]") == {"add", "fib"}
    assert names("/^(give|pass)_two$/") == {"give_two", "pass_two"}
    assert {each["name"] for each in listed(target("go1.19"), "main.(*Account).*")} == {
        "main.(*Account).Deposit"
    }
    result = trace("functions", target("c-O2"), "nosuch*")
    assert result.code == 3, result
    assert "no function matches nosuch*" in result.stderr
    assert trace("functions", target("c-O2"), "/(/").code == 2


def test_an_inlined_function_is_listed_with_where_it_was_inlined(
    target: Callable[[str], str],
) -> None:
    (found,) = listed(target("c-O2"), "inlined")
    assert (found["kind"], found["name"]) == ("inlined", "inlined")
    assert re.fullmatch(r"in controls \(calls\.c:\d+\)", found["signature"]), found


def test_the_table_for_people_has_a_row_a_function(target: Callable[[str], str]) -> None:
    result = trace("functions", target("c-O2"), "add", "fib", "-o", "wide")
    assert result.code == 0, result
    head, *rows = [re.split(r" {2,}", line) for line in result.lines]
    assert head == ["NAME", "FILE", "OFFSET", "LANGUAGE", "SIZE", "RETURNS", "SIGNATURE"]
    assert [(row[0], row[3], row[5], row[6]) for row in rows] == [
        ("add", "C", "1", "int (int id, int b)"),
        ("fib", "C", "1", "int (int id, int n)"),
    ]
    assert "of the python program" not in result.stderr, "it is a program in C"
    text = trace("functions", target("c-O2"), "add")
    assert text.lines[0].split() == ["NAME", "FILE", "OFFSET", "LANGUAGE", "SIGNATURE"]


def test_a_library_is_looked_into_instead_of_the_program(target: Callable[[str], str]) -> None:
    (found,) = (
        each
        for each in listed(target("c-O2"), "--lib", "libc.so.6", "nanosleep")
        if each["name"] == "nanosleep"
    )
    assert Path(found["file"]).name == "libc.so.6"
    result = trace("functions", target("c-O2"), "--lib", "libnosuch.so.1")
    assert result.code == 3, result


def test_a_program_that_was_deleted_is_still_listed_and_traced(
    folder: Path, newer: dict[str, str], tmp_path: Path
) -> None:
    for file, function in (("c-O2", "add"), ("go1.19-stripped", "main.add")):
        copy = tmp_path / file
        shutil.copy(folder / file, copy)
        with known_calls.running(copy, "1", log=tmp_path / "log") as program:
            copy.unlink()
            copy.write_text("something else")
            (found,) = listed(program.target, function)
            assert found["name"] == function
            words = ("calls", program.target, function, "-o", "json")
            command = known_calls.attached(known_calls.start(*words, env=newer))
            log = program.finish()
            result = command.interrupt().finish()
        calls = known_calls.shown(result.stdout)
        if "stripped" in file:
            places = {"main.add": {"id": "rax", "b": "rbx", "results": ["rax"]}}
            calls = known_calls.by_registers(calls, places)
        assert len(calls) >= 3
        known_calls.compare(calls, log, functions=[function]).check()


# What nobody here built.


def test_a_write_to_the_cluster_is_seen_in_its_own_stripped_etcd(
    cluster: Cluster, newer: dict[str, str]
) -> None:
    found = subprocess.run(["pgrep", "-x", "etcd"], capture_output=True, text=True, check=False)
    pids = [
        pid
        for pid in found.stdout.split()
        if "kubectl-trace-testbed" in Path(f"/proc/{pid}/cmdline").read_text()
    ]
    if not pids:
        pytest.skip("the cluster's etcd is not on this machine")
    target = f"local/{pids[0]}"
    function = "go.etcd.io/etcd/mvcc.(*storeTxnWrite).put"
    (known,) = listed(target, function)
    assert known["language"] == "Go"
    assert known["return_sites"] >= 1
    words = ("calls", target, function, "-o", "json", "--string-size", "100")
    command = known_calls.attached(known_calls.start(*words, env=newer))
    kubectl("delete", "configmap", "seen-in-etcd", "--ignore-not-found")
    done = kubectl("create", "configmap", "seen-in-etcd", "--from-literal=a=b")
    assert done.code == 0, done
    try:
        key = "/registry/configmaps/default/seen-in-etcd"
        wait_until(lambda: key in command.stdout(), "the write", 20)
    finally:
        kubectl("delete", "configmap", "seen-in-etcd")
    result = command.interrupt().finish()
    assert result.code == 0, result
    calls = known_calls.shown(result.stdout)
    values = [each["arguments"][0]["value"] for each in calls]
    (ours,) = [each for each in values if each.get("rbx,rcx?") == key]
    assert int(ours["rcx"], 16) == len(key)


def test_functions_of_a_container_are_those_of_its_own_image(cluster: Cluster) -> None:
    (found,) = listed("pod/functions", "-c", "c-split", "price")
    assert found["file"] == "/programs/c-split"
    assert found["signature"].startswith("int (int id, ")
    names = {each["name"] for each in listed("deploy/nginx", "ngx_unix_re*")}
    assert "ngx_unix_recv" in names


def test_usdt_probes_are_listed_with_their_arguments(cluster: Cluster) -> None:
    result = trace("functions", "pod/runtimes", "-c", "python", "*function__*", "-o", "json")
    found = {each["name"]: each for each in lines(result)}
    assert set(found) == {"python:function__entry", "python:function__return"}
    assert {each["kind"] for each in found.values()} == {"usdt"}
    assert "ruby" not in result.stderr, "it runs in another container"
