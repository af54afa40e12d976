"""The session: what the runners of a trace said, as it came, in a file for any view of it later.

The file is Zstandard (RFC 8878); inside, one JSON object a line, which `zstdcat FILE | jq` shows.
The first line is the header, `{"kubectl-trace-session":1,...}`. Each other line is an event:
`{"node":...,"record":{...}}` (see `record`), `{"node":...,"notice":"..."}`,
`{"node":...,"progress":"..."}`,
`{"node":...,"ended":{"lost":...,"started":...,"error":"...","code":...}}`, or `{"finished":{...}}`.

A frame of its own ends every few seconds, so that a session whose client was killed can be read up
to its last moments.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import sys
import threading
import time
from typing import IO, TYPE_CHECKING

import msgspec

from kubectl_trace import errors
from kubectl_trace.errors import TraceError, UsageError
from kubectl_trace.results.events import Ended, Event, Finished, Notice, Progress, Records
from kubectl_trace.results.record import decode, encode

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from kubectl_trace.results.record import Record

__all__ = ["Header", "Writer", "create", "read"]

_FORMAT = 1
_PERIOD = 2.0  # seconds between two ends of a frame
_FRAME = 1 << 22  # bytes of JSON in a frame, at most some more
_LEVEL = 3
_CHUNK = 1 << 17  # bytes read of the file
_PIECE = 1 << 20  # bytes made of them at once

_ERRORS: dict[int, type[TraceError]] = {
    int(kind.code): kind
    for kind in (
        TraceError,
        UsageError,
        errors.NotFoundError,
        errors.ForbiddenError,
        errors.StartError,
        errors.RefusedError,
        errors.DeadlineError,
    )
}


class Header(msgspec.Struct, frozen=True):
    """The first line: what the session is of."""

    version: str
    """The client's."""
    trace: str
    """The trace's ID."""
    target: str
    """As the user named it."""
    created: str
    """RFC 3339, UTC."""
    format: int = msgspec.field(default=_FORMAT, name="kubectl-trace-session")


class _Error(msgspec.Struct, frozen=True, omit_defaults=True):
    error: str | None = None
    code: int = int(TraceError.code)


class _End(_Error, frozen=True, omit_defaults=True):
    lost: int = 0
    started: bool = True


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event; one of the last five is there."""

    node: str = ""
    record: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """As on the wire."""
    notice: str | None = None
    progress: str | None = None
    ended: _End | None = None
    finished: _Error | None = None


_LONGEST_LINE = 128 << 20
"""Bytes; a small file can unpack to any number of them."""

_decoder = msgspec.json.Decoder(_Line)
_NO_LINE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def create(path: str, header: Header, note: Callable[[str], None]) -> Writer:
    """Begins a session file that only its user may read; what was there is overwritten.

    Raises:
        UsageError: there can be no such file.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    if not path.startswith("/dev/"):  # /dev/stdout is a link
        flags |= os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, 0o600)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            said = "it is a symbolic link; name the file itself"
        raise UsageError(f"the session can't be saved to {path}: {said}") from error
    if os.isatty(descriptor):
        os.close(descriptor)
        raise UsageError(f"a session is no text: {path} is a terminal; name a file")
    return Writer(os.fdopen(descriptor, "wb"), header, note)


class Writer:
    """Writes a session; from any thread."""

    def __init__(self, file: IO[bytes], header: Header, note: Callable[[str], None]) -> None:
        """Writes the header.

        Args:
            file: What it writes to, and closes at the end.
            header: What the session is of.
            note: Is told, once, if the file takes no more; nothing is raised then, since a trace
                is worth more than its copy.
        """
        self._file = file
        self._note = note
        self._lock = threading.Lock()
        self._compressor = zstd.ZstdCompressor(_LEVEL)
        self._pending = 0
        self._frame_begun = time.monotonic()
        self._closed = threading.Event()
        self.whole = True
        """Everything up to now could be written."""
        with self._lock:
            self._put(encode(header) + b"\n")
            self._end_frame()
        threading.Thread(target=self._end_frames, name="session", daemon=True).start()

    def add(self, event: Event) -> None:
        """Writes an event, within seconds."""
        lines = b"".join(encode(line) + b"\n" for line in _lines(event))
        with self._lock:
            if self._closed.is_set():
                return
            self._put(lines)
            late = time.monotonic() - self._frame_begun > _PERIOD
            if late or self._pending > _FRAME:
                self._end_frame()

    def close(self) -> None:
        """Writes all that is left; more than once does no harm."""
        with self._lock:
            if self._closed.is_set():
                return
            self._closed.set()
            self._end_frame()
            try:
                self._file.close()
            except OSError as error:
                self._fail(error)

    def _end_frames(self) -> None:
        """Ends frames also while nothing comes."""
        while not self._closed.wait(_PERIOD):
            with self._lock:
                if not self._closed.is_set():
                    self._end_frame()

    def _put(self, lines: bytes) -> None:
        if self.whole:
            self._write(self._compressor.compress(lines))
            self._pending += len(lines)

    def _end_frame(self) -> None:
        self._frame_begun = time.monotonic()
        if self._pending and self.whole:
            self._pending = 0
            self._write(self._compressor.flush(self._compressor.FLUSH_FRAME))
            try:
                self._file.flush()
            except OSError as error:
                self._fail(error)

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        if self.whole:
            self.whole = False
            self._note(
                f"the session is no longer saved ({error.strerror}); what is there can be read"
            )


def _lines(event: Event) -> Iterator[_Line]:
    if isinstance(event, Records):
        for record in event.records:
            yield _Line(event.node, record=msgspec.Raw(encode(record)))
    elif isinstance(event, Notice):
        yield _Line(event.node, notice=event.text)
    elif isinstance(event, Progress):
        yield _Line(event.node, progress=event.text)
    elif isinstance(event, Ended):
        text, code = _told(event.error)
        yield _Line(event.node, ended=_End(text, code, event.lost, event.started))
    else:
        yield _Line(finished=_Error(*_told(event.error)))


def _told(error: TraceError | None) -> tuple[str | None, int]:
    return (None, int(TraceError.code)) if error is None else (str(error), int(error.code))


def read(path: str) -> tuple[Header, Generator[Event, None, None]]:
    """Opens a saved session.

    Returns:
        Its header, and its events as they are read, with little of the file in memory. The last
        one is always `Finished`. Of a session that is cut short, or damaged from some place on,
        all that is before it comes; then each node without an end has one, and `Finished` has the
        error.

    Raises:
        UsageError: there is no such file, or it is no session, or a later version's.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115  (the events are read from it later)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path} can't be read: {said}") from error
    try:
        blocks = _blocks(file)
        first, _, rest = next(blocks, b"").partition(b"\n")
        return _header(first), _events(file, itertools.chain((rest,), blocks))
    except (OSError, _CutError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        file.close()
        raise UsageError(
            f"{path} is no saved session; `kubectl trace run --save FILE` makes one"
        ) from error
    except UsageError:
        file.close()
        raise


class _CutError(Exception):
    """The file ends too early, or can't be read from here on."""


def _header(line: bytes) -> Header:
    header = msgspec.json.decode(line, type=_Marked)
    if header.format > _FORMAT:
        raise UsageError(
            f"the session is of kubectl trace {header.version}, which writes another format; "
            "use that version"
        )
    return msgspec.json.decode(line, type=Header)


class _Marked(msgspec.Struct, frozen=True):
    """What every version's header has: by it a session is told from any other JSON."""

    format: int = msgspec.field(name="kubectl-trace-session")
    version: str = "of another version"


def _events(file: IO[bytes], blocks: Iterable[bytes]) -> Generator[Event, None, None]:
    open_nodes: dict[str, bool] = {}  # whether the summary has come
    reason = "its client did not end it"
    with file:
        try:
            for block in blocks:
                for event in _decoded(block):
                    if isinstance(event, Finished):
                        yield event
                        return
                    if isinstance(event, Ended):
                        open_nodes.pop(event.node, None)
                    elif isinstance(event, Records):
                        summed_up = any(each.type == "summary" for each in event.records)
                        open_nodes[event.node] = open_nodes.get(event.node, False) or summed_up
                    yield event
        except (OSError, _CutError) as error:
            reason = str(error)
    for node, whole in open_nodes.items():
        missing = None if whole else TraceError("the saved session ends before its trace does")
        yield Ended(node, error=missing)
    yield Finished(TraceError(f"the saved session is not whole: {reason}"))


def _decoded(block: bytes) -> Iterator[Event]:
    """The events of whole lines; a node's consecutive records are one event.

    Raises:
        _CutError: a line is damaged; all before it has come.
    """
    records: list[Record] = []
    node = ""
    try:
        for line in _decoded_lines(block):
            record = None if line.record is msgspec.UNSET else decode(bytes(line.record))
            if records and (record is None or line.node != node):
                yield Records(node, records)
                records = []
            if record is not None:
                node = line.node
                records.append(record)
            elif (event := _event(line)) is not None:
                yield event
    except _NO_LINE as error:
        if records:
            yield Records(node, records)
        raise _CutError(f"a line is damaged ({error})") from error
    if records:
        yield Records(node, records)


def _decoded_lines(block: bytes) -> Iterable[_Line]:
    """The lines; one that is damaged raises where it is."""
    try:
        return _decoder.decode_lines(block)
    except _NO_LINE:
        return map(_decoder.decode, block.removesuffix(b"\n").split(b"\n"))


def _event(line: _Line) -> Event | None:
    """The event of a line that has no record; None if a later version made it."""
    if line.notice is not None:
        return Notice(line.notice, line.node)
    if line.progress is not None:
        return Progress(line.node, line.progress)
    if (end := line.ended) is not None:
        return Ended(line.node, end.lost, _error(end), end.started)
    if line.finished is not None:
        return Finished(_error(line.finished))
    return None


def _error(said: _Error) -> TraceError | None:
    return None if said.error is None else _ERRORS.get(said.code, TraceError)(said.error)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    """Whole lines, many at once.

    Raises:
        _CutError: the file ends within a frame, or is damaged; all lines before have come.
    """
    rest: list[bytes] = []
    length = 0
    for piece in _pieces(file):
        lines, newline, begun = piece.rpartition(b"\n")
        if newline:
            yield b"".join((*rest, lines, newline))
            rest.clear()
            length = 0
        rest.append(begun)
        length += len(begun)
        if length > _LONGEST_LINE:
            raise _CutError(f"a line is longer than {_LONGEST_LINE >> 20} MiB")


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    data = file.read(_CHUNK)
    if data.startswith(b"{"):  # a session that was unpacked
        while data:
            yield data
            data = file.read(_CHUNK)
        return
    decompressor = zstd.ZstdDecompressor()
    while data:
        try:
            yield decompressor.decompress(data, max_length=_PIECE)
            while not (decompressor.needs_input or decompressor.eof):
                yield decompressor.decompress(b"", max_length=_PIECE)
        except zstd.ZstdError as error:
            raise _CutError(f"the file is damaged ({error})") from error
        if decompressor.eof:
            data = decompressor.unused_data
            decompressor = zstd.ZstdDecompressor()
            data = data or file.read(_CHUNK)
        else:
            data = file.read(_CHUNK)
            if not data:
                raise _CutError("the file is cut short")
