"""What bpftrace says about the program that runs, as what the user should read about their own."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from kubectl_trace.program import counting, maps, syntax, tags
from kubectl_trace.program.messages import Messages
from kubectl_trace.results import dialect
from kubectl_trace.results.record import MAPS
from kubectl_trace.runner import repeats
from kubectl_trace.runner.output import Given
from kubectl_trace.runner.prints import Prints

if TYPE_CHECKING:
    from kubectl_trace.runner.bpftrace import ProgramFile
    from kubectl_trace.runner.calls import Reading
    from kubectl_trace.runner.plan import Plan


@dataclass(frozen=True)
class LostTexts:
    """Texts of a probe and container that were printed, and did not come."""

    probe: str
    container: int
    lost: int
    seen: int


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
        self._prints = Prints(plan.merging) if plan.merging is not None else None
        self._texts: Counter[tuple[int, int]] = Counter()
        self._counted: Counter[tuple[int, int]] = Counter()
        """Texts that came, and that were printed, by probe and container."""
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
        found = maps.find(syntax.parse(self._user_text.replace("\r\n", "\n")))
        return {name: each.kind for name, each in found.items()}

    def message(self, line: bytes) -> list[str]:
        """The lines to show instead of one on bpftrace's stderr."""
        return self._messages.feed(line.decode(errors="replace"))

    def output(self, line: bytes) -> list[Given]:
        """The records to give instead of a line of bpftrace's stdout."""
        for run, own in self._names:
            line = line.replace(run, own)
        output = dialect.parse_line(line)
        if output is None:
            return []
        output = repeats.joined(output, self._kinds if output.repeated else {})
        data, probe = output.data, ""
        if output.type == "printf" and isinstance(data, str):
            return self._printf(data)
        if isinstance(data, dict):
            if output.type in ("map", "hist") and self._room:
                self.full |= {name for name, keys in data.items() if _keys(keys) >= self._room}
            if output.type == "map" and self._plan.scope and self._plan.scope.map in data:
                return []
            if output.type == "map" and counting.MAP in data:
                if self._plan.counting is not None:
                    self._counted = self._plan.counting.read(data[counting.MAP])
                return []
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
        prints = "print_maps_on_exit" not in self._user_text
        return bool(self._plan.counting and prints and self._texts and not self._counted)

    def lost_texts(self) -> list[LostTexts]:
        """The texts that were printed and did not come; none where nobody knows."""
        # A key that is not there had no room in the map.
        if self._texts.keys() - self._counted.keys():
            return []
        return [
            LostTexts(self._probe(probe), container, seen - self._texts[probe, container], seen)
            for (probe, container), seen in self._counted.items()
            if seen > self._texts[probe, container]
        ]

    def _probe(self, number: int) -> str:
        return "" if number == counting.UNKNOWN else self._plan.probes[number]

    def _printf(self, text: str) -> list[Given]:
        probe = counting.UNKNOWN
        if self._plan.counting is not None:
            probe, text = self._plan.counting.unmark(text)
        merging = self._plan.merging
        if merging is not None and self._prints is not None and (number := merging.marked(text)):
            self._texts[probe, 0] += 1
            return self._prints.marked(number)
        container = 0
        if self._plan.scope:
            container, text = tags.untag(text)
        self._texts[probe, container] += 1
        if self._calls is not None and (calls := self._calls.text(text, container)) is not None:
            return calls
        return [Given(dialect.Output("printf", text), container, probe=self._probe(probe))]

    def _placed(self, data: dict[str, object]) -> dict[str, object]:
        line, column = data.get("line"), data.get("col")
        result = dict(data)
        if isinstance(line, int) and isinstance(column, int):
            position = self._messages.position(line, column)
            result |= {"line": position.line, "col": position.column}
        if "filename" in data:
            result["filename"] = self._name
        return result


def _keys(value: object) -> int:
    """How many keys a map has; 0: it is not by key."""
    return len(value) if isinstance(value, dict) else 0
