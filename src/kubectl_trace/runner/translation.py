"""What bpftrace says about the program that runs, as what the user should read about their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kubectl_trace.program import tags
from kubectl_trace.program.messages import Messages
from kubectl_trace.results import dialect

if TYPE_CHECKING:
    from kubectl_trace.runner.bpftrace import ProgramFile
    from kubectl_trace.runner.plan import Plan


class Translation:
    """Takes out what the rewrites put in: tags, hidden maps and probes, paths, other positions."""

    def __init__(self, plan: Plan, file: ProgramFile, user_text: str, name: str) -> None:
        """`name`: what the user calls the program."""
        self._plan = plan
        self._path = file.path
        self._name = name
        self._messages = Messages(plan.program, user_text, file.path, name, plan.names)
        # The builtin `probe` prints an attach point as it runs.
        names = plan.names if "probe" in user_text else {}
        self._names = [(run.encode(), own.encode()) for run, own in names.items()]

    @property
    def hidden_errors(self) -> list[str]:
        """Errors in what the user did not write, seen so far."""
        return [text for text in self._messages.about_hidden if text.startswith("ERROR")]

    def message(self, line: bytes) -> list[str]:
        """The lines to show instead of one on bpftrace's stderr."""
        return self._messages.feed(line.decode(errors="replace"))

    def output(self, line: bytes) -> tuple[dialect.Output, int] | None:
        """A line of bpftrace's stdout as a record and its container's number; None: nothing."""
        for run, own in self._names:
            line = line.replace(run, own)
        output = dialect.parse_line(line)
        if output is None:
            return None
        data = output.data
        if output.type == "printf" and self._plan.scope and isinstance(data, str):
            container, text = tags.untag(data)
            return dialect.Output("printf", text), container
        if isinstance(data, dict):
            if output.type == "map" and self._plan.scope and self._plan.scope.map in data:
                return None
            if output.type == "attached_probes":
                data = {"probes": data["probes"] - self._plan.hidden_probes}
            elif data.get("filename") == self._path or "line" in data:
                data = self._placed(data)
        return msgspec.structs.replace(output, data=data), 0

    def _placed(self, data: dict[str, object]) -> dict[str, object]:
        line, column = data.get("line"), data.get("col")
        result = dict(data)
        if isinstance(line, int) and isinstance(column, int):
            position = self._messages.position(line, column)
            result |= {"line": position.line, "col": position.column}
        if "filename" in data:
            result["filename"] = self._name
        return result
