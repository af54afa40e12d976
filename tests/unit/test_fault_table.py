"""Each fault of docs/reliability.md is tried by a test that waits as long as its row says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.e2e import fault_table

E2E = Path(__file__).parents[1] / "e2e"


def _is_mark(node: ast.AST) -> bool:
    """Whether this is a call of `pytest.mark.reliability`, by its name or an alias of that name."""
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith("reliability")


def _faults(node: ast.AST) -> set[str]:
    return {
        argument.value
        for mark in ast.walk(node)
        if isinstance(mark, ast.Call) and _is_mark(mark)
        for argument in mark.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def tried(file: Path) -> dict[str, set[str]]:
    """The tests of a file, each with the rows that it names."""
    module = ast.parse(file.read_text())
    shared = {
        target.id: _faults(node.value)
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = {}
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            marks = [shared.get(ast.unparse(each), _faults(each)) for each in node.decorator_list]
            found[node.name] = set().union(*marks)
    return found


TABLE = fault_table.rows(fault_table.PAGE.read_text())
TRIED = {file.name: tried(file) for file in E2E.glob("test_*.py")}


def test_each_row_has_another_name() -> None:
    names = [row.fault for row in TABLE]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.fault)
def test_each_row_is_tried_in_the_files_that_it_names_and_in_no_other(
    row: fault_table.Row,
) -> None:
    where = {
        file
        for file, tests in TRIED.items()
        if any(row.fault in faults for faults in tests.values())
    }
    assert where == set(row.files)


def test_each_fault_that_a_test_names_has_a_row() -> None:
    named = {fault for tests in TRIED.values() for faults in tests.values() for fault in faults}
    assert named - {row.fault for row in TABLE} == set()


def test_each_test_of_faults_names_a_row() -> None:
    assert [name for name, faults in TRIED[fault_table.DEFAULT_FILE].items() if not faults] == []


PAGE = """
| fault | what you see | what is lost | nothing runs after |
|---|---|---|---|
| **the client** | | | |
| Ctrl-C at any moment | the maps | nothing | 1\u20133 s |
| `kill -9` (test_run.py, test_fan_out.py) | | nothing | at once |
| silence | | nothing | a minute |
| a slow disk (it is full) | | nothing | |
"""


def test_a_row_says_what_where_and_how_long() -> None:
    assert fault_table.rows(PAGE) == [
        fault_table.Row("Ctrl-C at any moment", ("test_faults.py",), 3),
        fault_table.Row("kill -9", ("test_run.py", "test_fan_out.py"), 1),
        fault_table.Row("silence", ("test_faults.py",), 60),
        fault_table.Row("a slow disk (it is full)", ("test_faults.py",), None),
    ]


@pytest.mark.parametrize(
    ("faults", "seconds"),
    [
        (["kill -9"], 7),
        (["kill -9", "silence"], 125),
        (["a slow disk (it is full)"], 11),  # it is ended by Ctrl-C
    ],
)
def test_a_test_waits_twice_as_long_as_its_row_says_and_five_seconds(
    faults: list[str], seconds: float
) -> None:
    assert fault_table.allowed(faults, fault_table.rows(PAGE)) == seconds


@pytest.mark.parametrize("time", ["soon", "when it is back", "1-3 s", "3 s or so"])
def test_a_time_that_is_none_is_refused(time: str) -> None:
    with pytest.raises(ValueError, match="no time"):
        fault_table.rows(PAGE.replace("at once", time))


def test_a_fault_without_a_row_has_no_time() -> None:
    with pytest.raises(KeyError):
        fault_table.allowed(["a flood"], fault_table.rows(PAGE))
