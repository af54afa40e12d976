"""Programs whose every call is known, and what `calls -o json` showed compared with their own log.

The programs are the testbed's (testbed/README.md, "Programs whose every call is known"). A value
that is shown is right or says that it is not known; which ones may say so, a test names.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .command import BIN, Command, environment, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

REPOSITORY = Path(__file__).parents[2]

Call = dict[str, Any]
"""The data of a `call` record, or a line of a program's log."""

UNKNOWN = "<unknown:"
_WORD = (1 << 64) - 1
# Of these Go types an interface's value is shown, not only where it is.
_SHOWN_IN_INTERFACES = {"string", "int", "float64", "*errors.errorString", "*fmt.wrapError"}


class Program:
    """A program of known calls that waits until it is told to go."""

    def __init__(self, file: Path, *words: str, log: Path) -> None:
        self._log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [str(file), "--wait", *words], stdin=subprocess.PIPE, stdout=output
            )
        wait_until(lambda: "ready" in self.text(), f"{file.name} is ready", 20)

    @property
    def pid(self) -> int:
        """Its PID."""
        return self.process.pid

    @property
    def target(self) -> str:
        """It as a target of `kubectl trace`."""
        return f"local/{self.pid}"

    def text(self) -> str:
        """What it has logged so far."""
        return self._log.read_text()

    def go(self) -> None:
        """Lets it begin."""
        assert self.process.stdin is not None
        if not self.process.stdin.closed:
            self.process.stdin.write(b"\n")
            self.process.stdin.close()

    def finish(self) -> list[Call]:
        """Lets it begin if it has not, waits for its end; the calls that it has logged."""
        self.go()
        code = self.process.wait(60)
        assert code == 0, f"{self.process.args!r} ended with {code}"
        return logged(self.text())

    def close(self) -> None:
        """Ends it, whatever it does."""
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()


@contextlib.contextmanager
def running(file: Path, *words: str, log: Path) -> Iterator[Program]:
    """A program of known calls, as long as it is needed."""
    program = Program(file, *words, log=log)
    try:
        yield program
    finally:
        program.close()


def programs() -> Path:
    """The folder of the programs, built if they are not yet."""
    done = _testbed("programs")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def other_bpftrace(version: str, folder: Path) -> dict[str, str]:
    """An environment in which `bpftrace` is that version; empty: it is not to be had any more."""
    done = _testbed("bpftrace", version, "--version")
    if "is asked for" in done.stderr:
        return {}  # Debian's unstable suite has moved on
    assert done.returncode == 0, done
    folder.mkdir()
    script = folder / "bpftrace"
    python = f"PYTHONPATH={REPOSITORY} exec {sys.executable}"
    script.write_text(f'#!/bin/sh\n{python} -m testbed bpftrace {version} "$@"\n')
    script.chmod(0o755)
    return {"PATH": f"{folder}:{environment()['PATH']}"}


def _testbed(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "testbed", *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def start(*words: str, env: Mapping[str, str] | None = None) -> Command:
    """Starts `kubectl-trace` with these words, perhaps with another bpftrace."""
    return Command(str(BIN / "kubectl-trace"), *words, env=env)


def attached(command: Command, *, nodes: int = 1) -> Command:
    """Waits until a trace that writes JSON has attached its probes on so many nodes."""
    command.wait_for('"ready"')
    wait_until(lambda: command.stdout().count('"ready"') == nodes, f"{nodes} nodes are ready")
    return command


def logged(text: str) -> list[Call]:
    """The calls in a program's log; of a line that is still being written nothing."""
    whole = text[: text.rfind("\n") + 1]
    return [each for line in whole.splitlines() if "function" in (each := _object(line))]


def records(stdout: str) -> list[dict[str, Any]]:
    """All records of `-o json`."""
    return [json.loads(line) for line in stdout.splitlines()]


def shown(stdout: str) -> list[Call]:
    """The calls that were shown."""
    return [record["data"] for record in records(stdout) if record["type"] == "call"]


def _object(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def identity(call: Call) -> int | None:
    """The `id` by which one call is told from all others of its function."""
    arguments = call.get("arguments", {})
    if isinstance(arguments, dict):
        found = next((arguments[name] for name in ("id", "x", "a") if name in arguments), None)
    else:
        values = {each["name"]: each["value"] for each in arguments}
        found = next((values[name] for name in ("id", "x", "a") if name in values), None)
    if isinstance(found, dict):  # operator+ has it in its first argument
        found = found.get("id")
    return found if isinstance(found, int) else None


@dataclass
class Comparison:
    """What came of comparing."""

    right: Counter[str] = field(default_factory=Counter)
    """Calls by function that were shown as logged."""
    wrong: list[str] = field(default_factory=list)
    """What was shown and was not so."""
    missing: list[str] = field(default_factory=list)
    """What was logged and not shown."""
    unknown: set[str] = field(default_factory=set)
    """The values said to be unknown: `price.item.ratio`, `halve=` for the result."""
    addresses: set[str] = field(default_factory=set)
    """The values of which only the address was shown."""
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Calls by function and how they ended."""

    def check(self, *, unknown: Iterable[str] = (), addresses: Iterable[str] = ()) -> None:
        """All is right, and just these values are said to be unknown, or by address."""
        assert not self.wrong, "\n".join(self.wrong[:20])
        assert not self.missing, "\n".join(self.missing[:20])
        for kind, found, wanted in (
            ("unknown", self.unknown, set(unknown)),
            ("shown by address", self.addresses, set(addresses)),
        ):
            assert found <= wanted, f"not to be {kind}: {sorted(found - wanted)}"
            assert found >= wanted, f"no longer {kind}: {sorted(wanted - found)}"


def compare(
    calls: Iterable[Call],
    log: Iterable[Call],
    *,
    functions: Iterable[str] | None = None,
    names: Mapping[str, str] | None = None,
    tails: Iterable[str] = (),
    returns: bool = True,
) -> Comparison:
    """Compares the calls that were shown with those that were logged, one by one.

    Args:
        calls: Those shown.
        log: Those logged.
        functions: Only these were traced, by the names in the log; else all that were logged.
        names: What is shown in place of a name in the log, where it is another.
        tails: Functions that go on in another one: their results are not seen.
        returns: Returns were traced.
    """
    names, tails = names or {}, set(tails)
    wanted = None if functions is None else set(functions)
    left: dict[tuple[str, int | None], list[Call]] = defaultdict(list)
    for each in log:
        if wanted is None or each["function"] in wanted:
            name = names.get(each["function"], each["function"])
            left[name, identity(each)].append(each)
    traced = {name for name, _ in left}
    result = Comparison()
    for call in calls:
        if call["function"] not in traced:
            continue
        candidates = left[call["function"], identity(call)]
        if not candidates:
            result.wrong.append(f"never happened, or was shown before: {call}")
            continue
        tries = [(_differences(call, each, tails, returns=returns), each) for each in candidates]
        notes, found = min(tries, key=lambda one: len(one[0].wrong))
        candidates.remove(found)
        if notes.wrong:
            result.wrong += [f"{call['function']}: {text}" for text in notes.wrong]
        else:
            result.right[call["function"]] += 1
        result.unknown |= notes.unknown
        result.addresses |= notes.addresses
        result.ends[call["function"], call.get("ended", "")] += 1
    result.missing = [f"not shown: {each}" for rest in left.values() for each in rest]
    return result


def _differences(call: Call, want: Call, tails: set[str], *, returns: bool) -> Comparison:
    notes = Comparison()
    name = call["function"]
    values = {each["name"]: each for each in call.get("arguments", ())}
    for argument, wanted in want["arguments"].items():
        if argument not in values:
            notes.wrong.append(f"no argument {argument} in {call}")
        else:
            _value(notes, f"{name}.{argument}", values[argument], wanted)
    ended, results = call.get("ended", ""), call.get("results", [])
    if not returns:
        expected: set[str] = {""}
    elif "left" in want:
        expected = {"left", "running"}
    else:
        expected = {"tail call"} if name in tails else {"returned"}
    if ended not in expected:
        notes.wrong.append(f"ended {ended!r}, not {expected}: {call}")
    elif ended == "returned":
        if call.get("duration", 0) <= 0:
            notes.wrong.append(f"took no time: {call}")
        if len(results) != len(want.get("results", [])):
            notes.wrong.append(f"results {results}, not {want.get('results')}")
        for one, wanted in zip(results, want.get("results", []), strict=False):
            _value(notes, f"{name}=", one, wanted)
    elif results:
        notes.wrong.append(f"results of a call that has not returned: {call}")
    return notes


def _value(notes: Comparison, path: str, given: dict[str, Any], wanted: Any) -> None:
    text, value = given["text"], given["value"]
    if text.startswith(UNKNOWN):
        assert value is None, given
        notes.unknown.add(path)
        return
    if given.get("is_cut") and isinstance(value, str):
        is_start = isinstance(wanted, str) and wanted != value and wanted.startswith(value)
        if not is_start or "…" not in text:
            notes.wrong.append(f"{path} {value!r} is no beginning of {wanted!r}")
        return
    _part(notes, path, value, wanted, text)


def _part(notes: Comparison, path: str, value: Any, wanted: Any, text: str) -> None:
    """`text`: as a person reads the whole of which the value is a part."""
    is_address = isinstance(value, str) and value.startswith("0x")
    if is_address and (not isinstance(wanted, str) or wanted == "func") and wanted is not None:
        notes.addresses.add(path)
    elif value is None and wanted is not None and UNKNOWN in text:
        notes.unknown.add(path)
    elif isinstance(wanted, dict):
        _object_part(notes, path, value, wanted, text)
    elif isinstance(value, dict) and isinstance(wanted, list) and "length" in value:
        first = value.get("first", [])
        if value["length"] != len(wanted) or len(first) > len(wanted):
            notes.wrong.append(f"{path} {value!r}, not {wanted!r}")
        for one, other in zip(first, wanted, strict=False):
            _part(notes, path, one, other, text)
    elif isinstance(value, list) and isinstance(wanted, list) and len(value) == len(wanted):
        for one, other in zip(value, wanted, strict=True):
            _part(notes, path, one, other, text)
    elif value == [] and wanted is None:  # Go's slices that are nil
        pass
    elif value != wanted or isinstance(value, bool) != isinstance(wanted, bool):
        notes.wrong.append(f"{path} {value!r}, not {wanted!r}")


def _object_part(
    notes: Comparison, path: str, value: Any, wanted: dict[str, Any], text: str
) -> None:
    if not isinstance(value, dict):
        notes.wrong.append(f"{path} {value!r}, not {wanted!r}")
    elif set(value) == {"length"}:  # of a map only that
        if value["length"] != len(wanted):
            notes.wrong.append(f"{path} {value!r}, not {wanted!r}")
    elif set(wanted) == {"type", "value"} and "<type at 0x" in text:
        notes.unknown.add(path)  # before Go 1.16
    elif set(wanted) == {"type", "value"}:  # an interface
        is_shown = wanted["type"] in _SHOWN_IN_INTERFACES
        if value.get("type") != wanted["type"] or is_shown != ("value" in value):
            notes.wrong.append(f"{path} {value!r}, not {wanted!r}")
        elif is_shown:
            _part(notes, path, value["value"], wanted["value"], text)
    else:
        for name, other in wanted.items():
            if name not in value:
                notes.wrong.append(f"{path} has no {name}: {value!r}")
            else:
                _part(notes, f"{path}.{name}", value[name], other, text)


def by_registers(calls: Iterable[Call], places: Mapping[str, Mapping[str, Any]]) -> list[Call]:
    """Calls of which only registers are known, with these as the arguments that they hold.

    Args:
        calls: Calls with one argument and one result, both registers.
        places: By function the register, or the guess, of each argument, and in `results` those
            of the results; a number is signed.
    """
    found = []
    for call in calls:
        where = places.get(call["function"])
        if where is None:
            continue
        given = _registers(call.get("arguments", ()))
        results = _registers(call.get("results", ()))
        found.append(
            {
                **call,
                "arguments": [
                    {"name": name, **_held(given, place)}
                    for name, place in where.items()
                    if name != "results"
                ],
                "results": [{"name": "", **_held(results, place)} for place in where["results"]]
                if call.get("ended") == "returned"
                else [],
            }
        )
    return found


def _registers(values: Iterable[dict[str, Any]]) -> dict[str, Any]:
    (one,) = [*values] or [{"value": {}}]
    value: dict[str, Any] = one["value"]
    return value


def _held(registers: Mapping[str, Any], place: str) -> dict[str, Any]:
    raw = registers.get(place)
    if not place.endswith("?") and raw is not None:
        number = int(raw, 16)
        raw = number - (_WORD + 1) if number >> 63 else number
    return {"value": raw, "text": str(raw)}
