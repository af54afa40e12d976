"""What bpftrace says about the program that runs, as what the user should read about their own."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from kubectl_trace.program import counting
from kubectl_trace.program.messages import Messages
from kubectl_trace.results import dialect
from kubectl_trace.results.record import MAPS
from kubectl_trace.runner import floods, repeats
from kubectl_trace.runner.output import Given
from kubectl_trace.runner.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubectl_trace.program.merging import Merging
    from kubectl_trace.runner.bpftrace import ProgramFile
    from kubectl_trace.runner.calls import Reading
    from kubectl_trace.runner.output import Texts
    from kubectl_trace.runner.plan import Plan
    from kubectl_trace.runner.prints import Prints


class Translation:
    """Takes out what the rewrites put in: tags, markers, hidden maps and probes, paths, places."""

    def __init__(
        self,
        plan: Plan,
        file: ProgramFile,
        user_text: str,
        name: str,
        calls: Reading | None = None,
        room: int = 0,
    ) -> None:
        """Begins.

        Args:
            plan: The program as it runs.
            file: Where bpftrace reads it.
            user_text: The program as it was before.
            name: What the user calls it.
            calls: Reads the calls that a program of ours prints; None: it is the user's.
            room: A map with as many keys is full, of which bpftrace says nothing; 0: it does.
        """
        self._plan = plan
        self._calls = calls
        self._path = file.path
        self._name = name
        self._user_text = user_text
        self._messages = Messages(plan.program, user_text, file.path, name, plan.names)
        self._prints = _prints(plan.merging)
        self.tally = Tally(plan)
        self._room = room
        self.full: set[str] = set()
        """Maps that were full: some keys may be missing."""
        # The builtin `probe` prints an attach point as it runs.
        names = plan.names if "probe" in user_text else {}
        self._names = [(run.encode(), own.encode()) for run, own in names.items()]

    @property
    def hides_probes(self) -> bool:
        """Whether there are probes that the user did not write."""
        return self._hidden_probes > 0

    @property
    def _hidden_probes(self) -> int:
        if self._calls is None:
            return self._plan.hidden_probes
        from kubectl_trace.functions.writing import OWN_PROBES  # 15 ms that only `calls` needs

        return self._plan.hidden_probes + OWN_PROBES

    @property
    def hidden_errors(self) -> list[str]:
        """Errors in what the user did not write, seen so far."""
        return [text for text in self._messages.about_hidden if text.startswith("ERROR")]

    @cached_property
    def _kinds(self) -> dict[str, str]:
        """What the program makes of its maps."""
        from kubectl_trace.program import maps, syntax  # few maps have repeated entries

        found = maps.find(syntax.parse(self._user_text.replace("\r\n", "\n")))
        return {name: each.kind for name, each in found.items()}

    def message(self, line: bytes) -> list[str]:
        """The lines to show instead of one on bpftrace's stderr."""
        return self._messages.feed(line.decode(errors="replace"))

    def output(self, line: bytes) -> list[Given]:
        """The records to give instead of a line of bpftrace's stdout."""
        output = dialect.parse_line(self._renamed(line))
        if output is None:
            return []
        output = repeats.joined(output, self._kinds if output.repeated else {})
        data, probe = output.data, ""
        if output.type == "printf" and isinstance(data, str):
            return self._printf(data)
        if isinstance(data, dict):
            if output.type == "map" and self._plan.scope and self._plan.scope.map in data:
                return []
            if output.type == "map" and counting.MAP in data:
                self.tally.printed(data[counting.MAP])
                return []
            if output.type in ("map", "hist") and self._room:
                self.full |= {name for name, keys in data.items() if _keys(keys) >= self._room}
            if output.type in MAPS and len(data) == 1 and self._calls is not None:
                ((map_name, value),) = data.items()
                if (calls := self._calls.map(map_name, value)) is not None:
                    return calls
            if output.type in MAPS and len(data) == 1 and self._prints is not None:
                return self._prints.take(next(iter(data)), output)
            if output.type == "attached_probes":
                data = {"probes": data["probes"] - self._hidden_probes}
            elif data.get("filename") == self._path or "line" in data:
                if output.type == "helper_error":
                    place = self._messages.offset(data.get("line", 1), data.get("col", 1))
                    if counting.is_at(self._plan.program.text, place):
                        return []
                    probe = self._plan.probe_at(place)
                data = self._placed(data)
        given = Given(msgspec.structs.replace(output, data=data), probe=probe)
        if output.type == "lost_events" and self._prints is not None:
            return [given, *self._prints.lost()]
        return [given]

    def parts(self, block: bytes) -> Iterator[Texts | bytes]:
        """Whole lines of bpftrace's stdout: printed texts, and what `output` is to read by line."""
        if self._calls is not None:
            yield block
            return
        special = f"\\u001e{self._plan.merging.token}".encode() if self._plan.merging else b""
        for may_be_read, part in floods.split(block, special):
            printed = floods.read(self._renamed(part), self.tally.tags) if may_be_read else None
            yield part if printed is None else self.tally.many(printed)

    def _renamed(self, output: bytes) -> bytes:
        """With attach points as the user wrote them, where the program prints `probe`."""
        for run, own in self._names:
            output = output.replace(run, own)
        return output

    @property
    def has_ended_itself(self) -> bool:
        """Whether a program of `calls` has shown all that was wanted: no more is awaited."""
        return self._calls is not None and self._calls.is_enough

    @property
    def stopping_map(self) -> str:
        """The map by which the program is told to end; empty: it is to be interrupted."""
        if self._calls is None:
            return ""
        from kubectl_trace.functions.writing import STOPPING

        return STOPPING

    def attached(self) -> None:
        """All probes are there."""
        if self._calls is not None:
            self._calls.attached_at = time.time()

    def stopping(self) -> None:
        """The program is told to stop: from now on its probes go, one after the other."""
        if self._calls is not None:
            self._calls.stopped_at = time.time()

    def rest(self) -> list[Given]:
        """What is left when bpftrace has ended."""
        return self._prints.rest() if self._prints is not None else []

    @property
    def is_cut(self) -> bool:
        """Whether what bpftrace prints last has not come: the number of its texts is there."""
        return self.tally.is_cut and "print_maps_on_exit" not in self._user_text

    def _printf(self, text: str) -> list[Given]:
        probe, container, text = self.tally.one(text)
        merging = self._plan.merging
        if merging is not None and self._prints is not None and (number := merging.marked(text)):
            return self._prints.marked(number)
        if self._calls is not None and (calls := self._calls.text(text, container)) is not None:
            return calls
        return [Given(dialect.Output("printf", text), container, probe=probe)]

    def _placed(self, data: dict[str, object]) -> dict[str, object]:
        line, column = data.get("line"), data.get("col")
        result = dict(data)
        if isinstance(line, int) and isinstance(column, int):
            position = self._messages.position(line, column)
            result |= {"line": position.line, "col": position.column}
        if "filename" in data:
            result["filename"] = self._name
        return result


def _prints(merging: Merging | None) -> Prints | None:
    if merging is None:
        return None
    from kubectl_trace.runner.prints import Prints  # imported where maps are merged

    return Prints(merging)


def _keys(value: object) -> int:
    """How many keys a map has; 0: it is not by key."""
    return len(value) if isinstance(value, dict) else 0
