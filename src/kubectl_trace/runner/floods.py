r"""Many lines of `bpftrace -f json` at once: printf's, of which there may be 100,000s a second.

Line by line they cost 5 µs each. What is done here has the same results, and leaves to
`results.dialect` all that is not as plain as a text usually is.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from kubectl_trace.program.tags import DELIMITER
from kubectl_trace.results import dialect

if TYPE_CHECKING:
    from collections.abc import Iterator

# As bpftrace 0.17 (src/output.cpp) to 0.27 (src/output/json.cpp) write them.
_BEGIN, _END = b'{"type": "printf", "data": "', b'"}\n'
_RUN = re.compile(rb'^(?:\{"type": "printf", "data": "[^\n]*\n)+', re.MULTILINE)
_NUMBER = re.compile(rb"[0-9]+")
_SIGN_EXTENDED = b"\\uffffff"
"""What a byte over 0x7f begins with: char is signed."""

_decode = msgspec.json.Decoder(list[str]).decode


@dataclass(frozen=True)
class Tagged:
    """Texts of printf, in their order."""

    texts: list[str]
    """Without their tags."""
    numbers: list[tuple[int, ...]]
    """Those in the tags of each, or once those that all have."""


def split(block: bytes, special: bytes = b"") -> Iterator[tuple[bool, bytes]]:
    """Parts of whole lines, in their order, and whether `read` may be able to read them.

    Args:
        block: Whole lines.
        special: Of the printed texts those that have this in them are to be read line by line;
            empty: none.
    """
    return _apart(_runs(block), special) if special else _runs(block)


def read(run: bytes, tags: int) -> Tagged | None:
    """The texts of lines that `split` has found; None: they are to be read line by line.

    Args:
        run: The lines.
        tags: How many are before each text (`program.tags`).
    """
    if _SIGN_EXTENDED in run:
        try:
            run = dialect.join_bytes(run.decode()).encode()
        except UnicodeDecodeError:
            return None
    head = _head(tags)
    first = head.match(run)
    count = run.count(b"\n")
    if first is None or run.count(_END) != count:
        return None
    if run.count(first[0]) == count:
        begin, heads = first[0], [first[1]]
    else:
        begin, heads = _BEGIN, head.findall(run)
        if len(heads) != count:
            return None
        run = head.sub(_BEGIN, run)
    inner = run[len(begin) : -len(_END)].replace(_END + begin, b'","')
    try:
        texts = _decode(b'["' + inner + b'"]')
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if len(texts) != count:
        return None
    known = {each: tuple(map(int, _NUMBER.findall(each))) for each in set(heads)}
    return Tagged(texts, [known[each] for each in heads])


@functools.cache
def _head(tags: int) -> re.Pattern[bytes]:
    tag = b"%b[0-9]{1,6}%b" % (DELIMITER.encode(), DELIMITER.encode())
    return re.compile(re.escape(_BEGIN) + b"(" + tag * tags + b")")


def _runs(block: bytes) -> Iterator[tuple[bool, bytes]]:
    position = 0
    for found in _RUN.finditer(block):
        if found.start() > position:
            yield False, block[position : found.start()]
        yield True, found[0]
        position = found.end()
    if position < len(block):
        yield False, block[position:]


def _apart(parts: Iterator[tuple[bool, bytes]], special: bytes) -> Iterator[tuple[bool, bytes]]:
    """The same with lines that have `special` in them left to be read line by line."""
    for may_be_read, run in parts:
        position = 0
        # Searched as a fixed text: a pattern of a whole line would be tried at each byte of it.
        while may_be_read and (found := run.find(special, position)) >= 0:
            begin = max(run.rfind(b"\n", position, found) + 1, position)
            end = run.index(b"\n", found) + 1
            if begin > position:
                yield True, run[position:begin]
            yield False, run[begin:end]
            position = end
        if position < len(run):
            yield may_be_read, run[position:]
