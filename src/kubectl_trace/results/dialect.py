r"""Reads one line of ``bpftrace -f json``, whatever the bpftrace, as one record.

The format is that of bpftrace 0.17 (src/output.cpp), 0.23 (src/output.cpp) and 0.27
(src/output/json.cpp). What those versions get wrong is put right here, so that nothing behind
this module has to know a version:

- Every version writes a byte over 0x7f as ``\uffffffc3`` (a sign-extended char), which is no
  JSON text: the bytes are put together again and read as UTF-8. A byte that is no UTF-8 becomes
  the visible text ``\xff``, so that every text here can be encoded again.
- 0.17 leaves the values of ``strftime``, and others, without quotes.
- 0.17 computes a histogram's limits in 32 bits: its last bucket, from 2^31 on, comes as one from
  -2^31 to 0. (All greater values are in it: it is what 0.17's text calls ``[2G, 4G)``.)
- 0.23 escapes the keys of maps twice.
- 0.24 and later quote integers that a 64-bit float can't hold.
- Error records have no ``data``: their fields are beside ``type``.

What no reader can put right, because the line does not have it:

- 0.24 and later take every space out of a map's keys (``"my comm"`` comes as ``mycomm``), and the
  parentheses around a key. Inside stacks the indentation is put back (see ``text``).
- A key of ``a\n`` with a real backslash, from a version other than 0.23, is read as 0.23's escape.
- The parts of a key are joined with a comma, and so are not told from a comma in a string.
- Arrays and tuples look the same, and so do, from 0.24 on, ``buf()`` values; pointers and
  enumerations are plain numbers.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Output", "parse_line"]

RAW = "raw"
"""The type of a line that is no record: a child's output, a warning."""


class Output(msgspec.Struct, frozen=True, gc=False):
    """One thing bpftrace put out.

    Attributes:
        type: bpftrace's name for it (``printf``, ``map``, ``hist``, ``stats``, ``value``,
            ``attached_probes``, ...), or ``raw`` for a line that is no record.
        data: Its content as plain JSON values, in the order given. Texts are ``str``; ``map``,
            ``hist``, ``stats`` and ``tseries`` have one map's name as their only key; errors
            (``helper_error``, ``runtime_error``, ``errorf``, ``warnf``) have a dict of their
            fields.
        repeated: Of a map by key: entries whose keys read as others' do, in as many further maps
            as it takes. Bpftrace has stacks, symbols and times as numbers, and several may read
            the same, such as two places in one function, or one function in two processes.
    """

    type: str
    data: object
    repeated: tuple[dict[str, object], ...] = ()


_decode_output: Callable[[bytes | str], Output] = msgspec.json.Decoder(Output).decode
_decode_any: Callable[[bytes | str], object] = msgspec.json.Decoder().decode

# Types whose data is a text, or so plain that no version gets it wrong.
_AS_IT_IS = frozenset(
    {"printf", "time", "cat", "join", "syscall", "attached_probes", "lost_events"},
)

# What sign extension makes of a byte over 0x7f; none of the versions writes "\uffff" itself.
_SIGN_EXTENDED = b"\\uffffff"
# All backslashes from the first on: of an even number, the last is no escape's. A literal begins
# the pattern, so that it is searched for fast.
_EXTENDED = re.compile(r"\\(?<!\\\\)(\\*)uffffff([89a-f][0-9a-f])((?:\\uffffff[89a-f][0-9a-f])*)")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")

# A text with JSON's escapes still in it, as 0.23 leaves them in keys.
_ESCAPED_TEXT = re.compile(
    r'(?:[^"\\\x00-\x1f]|\\(?:["\\nrt]|u00[01][0-9a-f]|uffffff[89a-f][0-9a-f]))*',
)

_STRING_OR_BARE = re.compile(r'"(?:[^"\\]|\\.)*"(?:\s*:)?|([^\s"{}\[\],][^"{}\[\],]*)', re.DOTALL)
_JSON_SCALAR = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null")
# strftime's own format may hold a comma, so that where its value ends is known from behind only.
_BARE_WITH_COMMA = re.compile(
    r'\{"type": "(?:map", "data": \{"(@\w*)": ([^"{\[].*)\}|value", "data": ([^"{\[].*))\}\s*',
)
_INTEGER = re.compile(r"-?[1-9][0-9]{15,19}")

_INT32_MIN = -(2**31)

# What each entry of a map by key has once in the text of its record, and how often all else has it.
_ENTRY = {"map": (b'":', 3), "hist": (b"[{", 0), "stats": (b'":', 3), "tseries": (b"[{", 0)}


def parse_line(line: bytes) -> Output | None:
    """Reads one line of ``bpftrace -f json``.

    Args:
        line: The line, with or without the newline at its end.

    Returns:
        The record; a line that is no record as type ``raw``, whose data is the line's text with
        the newline it came with; None for a blank line (bpftrace up to 0.23 writes two before the
        maps at exit). Never raises: any bytes are a line.
    """
    if _SIGN_EXTENDED in line:
        return _parse_text(join_bytes(_to_text(line, "\\\\x")), line)
    try:
        output = _decode_output(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if not line.strip():
            return None
        return _parse_text(_to_text(line, "\\\\x"), line)
    return output if output.type in _AS_IT_IS else _normalize(_with_repeated(output, line))


def _with_repeated(output: Output, line: bytes | str) -> Output:
    """The record with the entries that a JSON object can't have: decoders keep the last ones."""
    if output.type not in _ENTRY or not isinstance(output.data, dict):
        return output
    text = line if isinstance(line, bytes) else line.encode(errors="surrogatepass")
    entry, others = _ENTRY[output.type]
    maps = [value for value in output.data.values() if isinstance(value, dict)]
    # Whatever else is in the text makes the count greater, and the look closer.
    if sum(map(len, maps)) >= text.count(entry) - others:
        return output
    decoded = json.loads(text, object_pairs_hook=_Pairs)
    layers: list[dict[str, object]] = []
    for name, value in decoded["data"].items():
        seen: Counter[str] = Counter()
        for key, item in value.pairs if isinstance(value, _Pairs) else ():
            while len(layers) <= seen[key]:
                layers.append({})
            layers[seen[key]].setdefault(name, _Pairs([]))[key] = item  # type: ignore[index]
            seen[key] += 1
    if len(layers) < 2:
        return output
    return Output(output.type, layers[0], tuple(layers[1:]))


class _Pairs(dict[str, object]):
    """A JSON object, with all its pairs."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def _parse_text(text: str, line: bytes) -> Output:
    """Reads what the fast path couldn't: an error record, a defect, or no record at all."""
    if text.startswith("{"):
        for candidate in (text, _quote_bare(text)):
            try:
                fields = _decode_any(candidate)
            except (msgspec.DecodeError, RecursionError):
                continue
            if isinstance(fields, dict) and isinstance(kind := fields.pop("type", None), str):
                output = Output(kind, fields.get("data", fields))
                return _normalize(_with_repeated(output, candidate))
            break
        if found := _BARE_WITH_COMMA.fullmatch(text):
            name, value, bare = found.groups()
            return Output("map", {name: value}) if name else Output("value", bare)
    return Output(RAW, _to_text(line, "\\x"))


def _to_text(line: bytes, prefix: str) -> str:
    """The bytes as UTF-8; what isn't UTF-8 as ``prefix`` and two hexadecimal digits."""
    text = line.decode("utf-8", "surrogateescape")
    if text.isascii():
        return text
    return _NOT_UTF8.sub(lambda byte: f"{prefix}{ord(byte[0]) - 0xDC00:02x}", text)


def join_bytes(text: str, prefix: str = "\\\\x") -> str:
    """Undoes the sign extension of bytes in a text that still has its escapes.

    Args:
        text: One line, or several.
        prefix: What stands before the two hexadecimal digits of a byte that is not of UTF-8.
    """

    def to_text(digits: str) -> str:
        return _to_text(bytes.fromhex(digits.replace("\\uffffff", "")), prefix)

    def joined(found: re.Match[str]) -> str:
        others, first, more = found.groups()
        if len(others) % 2:
            return f"\\{others}uffffff{first}{to_text(more)}"
        return others + to_text(first + more)

    return _EXTENDED.sub(joined, text)


def _quote_bare(text: str) -> str:
    """Puts quotes around values that have none and are no JSON."""

    def quoted(token: re.Match[str]) -> str:
        bare = (token[1] or "").rstrip()
        if not bare or _JSON_SCALAR.fullmatch(bare):
            return token[0]
        return msgspec.json.encode(bare).decode() + token[1][len(bare) :]

    return _STRING_OR_BARE.sub(quoted, text)


def _normalize(output: Output) -> Output:
    """Puts right what a version got wrong in the data of a decoded record."""
    if output.repeated:
        layers = [
            _normalize(Output(output.type, data)).data for data in (output.data, *output.repeated)
        ]
        first, *repeated = (layer for layer in layers if isinstance(layer, dict))
        return Output(output.type, first, tuple(repeated))
    if output.type in {"map", "stats", "tseries"} and isinstance(output.data, dict):
        data = {name: _value(_plain_keys(value)) for name, value in output.data.items()}
        return Output(output.type, data)
    if output.type == "hist" and isinstance(output.data, dict):
        return Output("hist", {name: _hist(value) for name, value in output.data.items()})
    if output.type == "value":
        return Output("value", _value(output.data))
    return output


def _value(value: object) -> object:
    """The value with the integers that were quoted for their size as integers."""
    if isinstance(value, str):
        # 0.24+ quotes an integer exactly when a 64-bit float would change it.
        if _INTEGER.fullmatch(value) and int(float(value)) != int(value):
            number = int(value)
            return number if -(2**63) <= number < 2**64 else value
        return value
    if isinstance(value, list):
        return [_value(item) for item in value]
    if isinstance(value, dict):
        return {key: _value(item) for key, item in value.items()}
    return value


def _plain_keys(value: object) -> object:
    """A map's content with its keys unescaped, if all of them are escaped once too often."""
    if not isinstance(value, dict):
        return value
    if not any("\\" in key for key in value) or not all(map(_ESCAPED_TEXT.fullmatch, value)):
        return value
    return {_unescape(key): item for key, item in value.items()}


def _unescape(key: str) -> str:
    text: object = _decode_any(f'"{join_bytes(key)}"')
    return text if isinstance(text, str) else key


def _hist(value: object) -> object:
    """A histogram, or a map of them, with right limits."""
    if isinstance(value, dict):
        return {key: _buckets(item) for key, item in _pairs(_plain_keys(value))}
    return _buckets(value)


def _pairs(value: object) -> list[tuple[str, object]]:
    return list(value.items()) if isinstance(value, dict) else []


def _buckets(value: object) -> object:
    """Buckets with integers as limits, and the last limits of 0.17 put right."""
    if not isinstance(value, list):
        return value
    for i, bucket in enumerate(value):
        if not isinstance(bucket, dict):
            continue
        if isinstance(bucket.get("min"), str) or isinstance(bucket.get("max"), str):
            bucket = value[i] = {name: _value(limit) for name, limit in bucket.items()}
        if bucket.get("min") == _INT32_MIN and bucket.get("max") == 0:
            bucket |= {"min": 2**31, "max": 2**32 - 1}
    return value
