"""Functions of Python, PHP, Java and Ruby in a pod, by their own names and places."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from .command import trace

if TYPE_CHECKING:
    from .cluster import Cluster

# The programs call these again and again (testbed/programs); beside them only what they log with.
KNOWN = {
    "php": {"add", "greet", "fib", "Account::deposit", "risky"},
    "java": {"Calls.add", "Calls.greet", "Calls.fib", "Calls$Account.deposit", "Calls.risky"},
    "ruby": {"Calls#add", "Calls#greet", "Calls#fib", "Calls#risky"},
    "python": {"add", "greet", "fib", "deposit", "risky"},
}
SILENT = "its probes tell no arguments and no results"


@pytest.mark.parametrize("runtime", KNOWN)
def test_calls_have_the_functions_own_names_and_places(cluster: Cluster, runtime: str) -> None:
    patterns = [f"{runtime}:{name}" for name in KNOWN[runtime]]
    words = ("calls", "pod/runtimes", "-c", runtime, *patterns, "-o", "json", "--max", "120")
    result = trace(*words)
    assert result.code == 0, result
    calls = [each["data"] for each in map(json.loads, result.lines) if each["type"] == "call"]
    assert len(calls) == 120
    assert {each["function"] for each in calls} == KNOWN[runtime]
    assert all(each["ended"] == "returned" and "arguments" not in each for each in calls)
    if runtime == "java":
        assert {each["place"] for each in calls} == {"java"}
    else:
        assert all(each["place"].startswith("/programs/calls.") for each in calls)
    assert SILENT in result.stderr
    # CPython 3.11 tells of returns only.
    timed = [each for each in calls if each.get("duration")]
    assert (not timed) if runtime == "python" else len(timed) > 100


@pytest.mark.parametrize("runtime", KNOWN)
def test_functions_lists_those_that_are_called_just_now(cluster: Cluster, runtime: str) -> None:
    result = trace("functions", "pod/runtimes", "-c", runtime, f"{runtime}:*", "-o", "json")
    assert result.code == 0, result
    listed = {each["name"] for each in map(json.loads, result.lines)}
    assert listed >= KNOWN[runtime], listed


def test_a_runtime_that_is_not_there_is_not_found(cluster: Cluster) -> None:
    result = trace("calls", "pod/runtimes", "-c", "redis", "php:add")
    assert result.code == 3, result
    assert "no process of the target has php's USDT probes of functions" in result.stderr


def test_what_a_runtime_does_not_tell_is_refused(cluster: Cluster) -> None:
    result = trace("calls", "pod/runtimes", "-c", "php", "php:add", "--filter", "id > 5")
    assert result.code == 6, result
    assert SILENT in result.stderr


def test_a_c_server_that_nobody_here_built_shows_its_exported_functions(cluster: Cluster) -> None:
    words = ("calls", "pod/runtimes", "-c", "redis", "serverCron", "-o", "json", "--max", "3")
    result = trace(*words)
    assert result.code == 0, result
    calls = [each["data"] for each in map(json.loads, result.lines) if each["type"] == "call"]
    assert [each["function"] for each in calls] == ["serverCron"] * 3
    # It returns the milliseconds until it is to be called again: 1000 / hz.
    results = {each["results"][0]["value"]["rax"] for each in calls}
    assert results == {f"{1000 // 10:#x}"}
