"""Attach points rewritten: files as the target's containers see them, and `$container_pid`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kubectl_trace.program import syntax
from kubectl_trace.program.providers import attaches_to_file, expand
from kubectl_trace.program.rewrite import Edit
from kubectl_trace.program.tokens import ProgramError, Span, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kubectl_trace.program.syntax import AttachPoint, Part, Program

CONTAINER_PID = "$container_pid"
_CONTAINER_PID = re.compile(re.escape(CONTAINER_PID) + r"\b")
_PROC = "/proc/"
_OF_PROCESS = re.compile(
    r"/proc/(?P<pid>\$container_pid|[1-9][0-9]{0,9})/(?:exe|root(?P<path>/.+))", re.DOTALL
)
_POSITIONAL = re.compile(r"\$([0-9]+)")
_FILE_AND_FUNCTION = 3
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
# What tells a program the address, or the name, of its probe.
_PLACES = re.compile(r"(?:__builtin_)?(?:probe|func|ustack|usym|uaddr|reg|sarg\d+)")

# What bpftrace up to 0.23 reads as a path without quotes (src/lexer.l: path).
_PLAIN_PATH = re.compile(r"[-\w./]+", re.ASCII)


def files(program: Program) -> tuple[str, ...]:
    """The names of the files that probes attach to, as the program has them, each once."""
    return tuple(dict.fromkeys(part.text for _, part in _file_parts(program)))


def return_probes(program: Program) -> Iterator[tuple[AttachPoint, str]]:
    """The uretprobes, and the names of the files they attach to."""
    for point, part in _file_parts(program):
        if "uretprobe" in expand(point.provider):
            yield point, part.text


def entry_probes(program: Program) -> Iterator[tuple[str, str]]:
    """Files and functions of uprobes that could as well be a few bytes behind the start.

    Both are as the program has them. None where the program asks where it is.
    """
    words = {
        token.text
        for block in (
            each
            for probe in program.probes
            for each in (probe.predicate, probe.block)
            if each is not None
        )
        for token in tokens(program.text, block)
        if token.kind == "word"
    }
    has_code_of_its_own = len(program.items) > len(program.probes)
    if has_code_of_its_own or any(map(_PLACES.fullmatch, words)):
        return
    for point, part in _file_parts(program):
        if expand(point.provider) == {"uprobe"} and len(point.parts) == _FILE_AND_FUNCTION:
            function = point.parts[2].text
            if _NAME.fullmatch(function):
                yield part.text, function


def with_parameters(name: str, parameters: Sequence[str]) -> str:
    """A file's name with the positional parameters in it, such as `$1`, replaced."""

    def value(match: re.Match[str]) -> str:
        number = int(match[1])
        return parameters[number - 1] if 0 < number <= len(parameters) else match.group()

    return _POSITIONAL.sub(value, name)


def check_parameters(program: Program, parameters: Sequence[str]) -> None:
    """Refuses positional parameters that say to which file a probe attaches, and not as a whole.

    bpftrace from 0.18 on splits an attach point after it has put in the parameters
    (AttachPointParser::lex_attachpoint): `uretprobe:$1` may be that of a file, which is then
    neither the container's own nor known not to be a Go program.

    Raises:
        ProgramError: there is such an attach point.
    """
    for probe in program.probes:
        for point in probe.attach_points:
            written = program.of(point.span)
            if "$" not in written:
                continue
            try:
                (run,) = syntax.parse(with_parameters(written, parameters) + " {}").probes
            except (ProgramError, ValueError):
                continue  # bpftrace will say what is wrong
            for other in run.attach_points:
                same = other.provider == point.provider and len(other.parts) == len(point.parts)
                if attaches_to_file(other.provider) and not same:
                    raise ProgramError(
                        f"here a parameter stands for more than one part of {written}: write it as "
                        "PROVIDER:FILE:FUNCTION, with a parameter for each",
                        point.span.start,
                    )


def check_confined(program: Program, parameters: Sequence[str], pids: Sequence[int]) -> None:
    """Refuses files that are not those of these processes' containers.

    What is left of /proc is theirs: /proc/PID/exe and what is below /proc/PID/root.

    Raises:
        ProgramError: there is another one.
    """
    for _, part in _file_parts(program):
        name = with_parameters(part.text, parameters)
        if not name.startswith(_PROC):
            continue  # it is looked for in the container's root
        found = _OF_PROCESS.fullmatch(name)
        if found is None or (found["pid"] != CONTAINER_PID and int(found["pid"]) not in pids):
            raise ProgramError(
                f"{name} is no file of the target's containers: write its path as the container "
                f"has it, /proc/{CONTAINER_PID}/exe, or use --no-scope",
                part.span.start,
            )


def in_root(name: str) -> str:
    """The path in the process's root where a name begins with /proc/PID/root, else empty."""
    found = _OF_PROCESS.fullmatch(name)
    return (found["path"] or "") if found else ""


def place(
    program: Program,
    paths: Mapping[str, Sequence[str]],
    entries: Mapping[tuple[str, str], int] | None = None,
) -> Iterator[Edit]:
    """Lets probes attach to these paths instead of the files' names.

    Several paths are several attach points. Names that are no keys stay.

    Args:
        program: The program.
        paths: By the files' names.
        entries: Of `entry_probes`, how many bytes behind the functions' start they are to be.
    """
    entries = entries or {}
    for point, part in _file_parts(program):
        replaced = paths.get(part.text)
        if replaced is None or list(replaced) == [part.text]:
            continue
        if part.text.startswith("/proc/"):
            reason = f"{CONTAINER_PID} stands for this process"
        elif len(replaced) > 1:
            reason = f"{part.text} is {len(replaced)} different files in the target's containers"
        else:
            reason = f"{part.text} is the container's own file"
        behind = 0
        if expand(point.provider) == {"uprobe"} and len(point.parts) == _FILE_AND_FUNCTION:
            behind = entries.get((part.text, point.parts[2].text), 0)
        offset = f"+{behind}" if behind else ""
        if behind:
            reason += f"; a probe costs less behind the first {behind} bytes, which do nothing"
        pieces: list[str | Span] = []
        for path in replaced:
            written = path if _PLAIN_PATH.fullmatch(path) else '"' + _escaped(path) + '"'
            before = Span(point.span.start, part.span.start)
            pieces += [before, written, Span(part.span.end, point.span.end), offset, ", "]
        yield Edit(point.span, tuple(pieces[:-1]), reason)


def uses_container_pid(program: Program) -> bool:
    """Whether the program names `$container_pid` anywhere but in comments."""
    return CONTAINER_PID in program.text and any(True for _ in _mentions(program))


def container_pid(program: Program, pids: Sequence[int]) -> Iterator[Edit]:
    """Replaces `$container_pid` where it is no file to attach to (see `place`).

    Raises:
        ProgramError: there are several processes, and it can stand for one only.
    """
    in_files = {
        offset
        for _, part in _file_parts(program)
        for offset in range(part.span.start, part.span.end)
    }
    if CONTAINER_PID not in program.text:
        return
    for offset in _mentions(program):
        if offset in in_files:
            continue
        if len(pids) != 1:
            raise ProgramError(
                f"{CONTAINER_PID} stands for {len(pids)} processes here, one a container; with "
                "several it can only be in the file of an attach point (/proc/$container_pid/exe)",
                offset,
            )
        yield Edit(
            Span(offset, offset + len(CONTAINER_PID)),
            (str(pids[0]),),
            f"{CONTAINER_PID} is the container's process",
        )


def _file_parts(program: Program) -> Iterator[tuple[AttachPoint, Part]]:
    for probe in program.probes:
        for point in probe.attach_points:
            if attaches_to_file(point.provider) and len(point.parts) > 2:
                yield point, point.parts[1]


def _mentions(program: Program) -> Iterator[int]:
    """Where `$container_pid` is named outside comments."""
    position = 0
    for item in program.items:
        points = getattr(item, "attach_points", ())
        for point in points:
            # What looks like a comment there is part of a path: uprobe:/proc/*/exe.
            for match in _CONTAINER_PID.finditer(program.text, point.span.start, point.span.end):
                yield match.start()
        position = points[-1].span.end if points else item.span.start
        for token in tokens(program.text, Span(position, item.span.end)):
            if token.kind in ("string", "variable", "other"):
                for match in _CONTAINER_PID.finditer(token.text):
                    yield token.start + match.start()


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace('"', '\\"')
