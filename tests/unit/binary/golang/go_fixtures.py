"""Small Go programs: one made by hand after Go's runtime, and one that Go has built."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from kubectl_trace.binary import elf
from tests.unit.binary.elf_fixtures import Segment, elf_file

TEXT, TABLE, DATA, MODULE = 0x401000, 0x500000, 0x580000, 0x600000
#: Where the types are, from where types begin.
INT, POINTER, STRUCT = 0x100, 0x140, 0x180
_TYPES = DATA + 0x1000
_TYPES_SIZE = 0x1000
_FUNCTION_DATA = DATA + 0x100
_TEXT_SECTION = DATA + 0x40


@dataclass(frozen=True)
class Function:
    """A function, and whether the compiler made it around another."""

    name: str
    size: int
    is_wrapper: bool = False


FUNCTIONS = (
    Function("go:buildid", 32),
    Function("main.main", 64),
    Function("main.Add", 16, is_wrapper=True),
    Function("main.Add", 48),
    Function("main.Map[...]", 32),
    Function("main.Map[...]", 64),
    Function("main.(*Point).Move", 32),
)
#: It has no code of its own; main.main has it inlined.
INLINED = "main.tiny"
FILE, LINE = "example.org/m/main.go", 7


@dataclass(frozen=True)
class Form:
    """What a version of Go writes: the table's form, and which words of the module are what."""

    magic: int
    since: int
    types: int = 37
    types_end: int = 38
    function_data: int = 40
    text_sections: int = 41
    has_text: bool = True


FORMS = {
    "1.15": Form(0xFFFFFFFB, 2),
    "1.16": Form(0xFFFFFFFA, 16, 35, 36, 38, 37),
    "1.18": Form(0xFFFFFFF0, 18, 35, 36, 38, 39),
    "1.20": Form(0xFFFFFFF1, 20),
    "1.26": Form(0xFFFFFFF1, 20, text_sections=42, has_text=False),
    "1.27": Form(0xFFFFFFF1, 20, 37, 39, 43, 45, has_text=False),
}


def go_program(version: str, machine: int = elf.EM_X86_64, is_relocated: bool = False) -> bytes:
    """A Go program without section headers but those of relocations.

    Args:
        version: Of `FORMS`.
        machine: What it is for.
        is_relocated: Whether addresses in data are zero in the file, and in relocations.
    """
    form = FORMS[version]
    table = _table(form, 4 if machine == elf.EM_AARCH64 else 1)
    module = _module(form, table)
    text_section = [0, sum(f.size for f in FUNCTIONS), TEXT]
    data = bytearray(_TYPES - DATA + _TYPES_SIZE)
    _put(data, _FUNCTION_DATA, _inline_tree(form, table))
    _put(data, _TYPES + INT, _type(2, 0x20, 2))
    _put(data, _TYPES + POINTER, _type(22, 0x30, 0))
    _put(data, _TYPES + STRUCT, _type(25 | 32, 0x30, 2))
    has_short_lengths = form.since < 18
    for at, name in ((0x20, b"*int"), (0x30, b"*main.Point")):
        size = struct.pack(">H", len(name)) if has_short_lengths else bytes((len(name),))
        _put(data, _TYPES + at, b"\1" + size + name)
    relocations = []
    if is_relocated:
        # Numbers are none of those that loading changes.
        for start, words in ((MODULE, module), (_TEXT_SECTION, text_section)):
            for index, word in enumerate(words):
                if word >= TEXT:
                    relocations.append((start + 8 * index, word))
                    words[index] = 0
    _put(data, _TEXT_SECTION, struct.pack("<3Q", *text_section))
    code = b"\x90" * sum(function.size for function in FUNCTIONS)
    program = bytearray(
        elf_file(
            segments=(
                Segment(elf.PT_LOAD, elf.PF_X, code, TEXT),
                Segment(elf.PT_LOAD, 0, table, TABLE),
                Segment(elf.PT_LOAD, 0, bytes(data), DATA),
                Segment(elf.PT_LOAD, elf.PF_W, struct.pack("<48Q", *module), MODULE),
            )
        )
    )
    struct.pack_into("<H", program, 18, machine)
    if not is_relocated:
        return bytes(program)
    kind = 1027 if machine == elf.EM_AARCH64 else 8
    return with_section(
        bytes(program),
        b".rela.dyn",
        b"".join(struct.pack("<QQQ", place, kind, value) for place, value in relocations),
    )


def with_section(data: bytes, name: bytes, content: bytes, address: int = 0) -> bytes:
    """The file with one section, and that of its name."""
    names = b"\0" + name + b"\0.shstrtab\0"
    content_at = len(data)
    names_at = content_at + len(content)
    headers = bytes(64)
    for at, place, size, where in (
        (1, content_at, len(content), address),
        (2 + len(name), names_at, len(names), 0),
    ):
        headers += struct.pack("<IIQQQQIIQQ", at, 1, 0, where, place, size, 0, 0, 1, 0)
    header = bytearray(data[:64])
    struct.pack_into("<Q", header, 0x28, names_at + len(names))
    struct.pack_into("<HH", header, 0x3C, 3, 2)
    return bytes(header) + data[64:] + content + names + headers


def _put(data: bytearray, address: int, content: bytes) -> None:
    data[address - DATA : address - DATA + len(content)] = content


def _type(kind: int, name: int, flags: int) -> bytes:
    return struct.pack("<QQIBBBBQQiI", 8, 0, 0, flags, 8, 8, kind, 0, 0, name, 0)


def _names() -> dict[str, int]:
    places: dict[str, int] = {}
    at = 0
    for name in [*dict.fromkeys(function.name for function in FUNCTIONS), INLINED]:
        places[name] = at
        at += len(name) + 1
    return places


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def _table(form: Form, quantum: int) -> bytes:
    places = _names()
    names = _padded(b"".join(name.encode() + b"\0" for name in places))
    units = _padded(struct.pack("<I", 0))
    files = _padded(FILE.encode() + b"\0")
    # By address: file 0; line 7; inlined call 0, for one step. Zigzag, from -1 on.
    values = _padded(bytes((0, 2, 1, 0, 2 * (LINE + 1), 1, 0, 2, 1, 0)))
    file_at, line_at, inline_at = 1, 4, 7
    is_offset = form.since >= 18
    if form.since == 2:
        names_at, functions_at, record_base = 16, 16, 0
    else:
        names_at = 8 + 8 * (8 if is_offset else 7)
        units_at = names_at + len(names)
        files_at = units_at + len(units)
        values_at = files_at + len(files)
        functions_at = values_at + len(values)
        record_base = functions_at
    step = 4 if is_offset else 8
    lookup_size = (2 * len(FUNCTIONS) + 1) * step
    lookup_size += -lookup_size % 8
    names_shift = 0
    lookup, records = [], b""
    record_at = functions_at - record_base + lookup_size
    if form.since == 2:
        names_shift = record_at
        record_at += len(names)
    entry = 0 if is_offset else TEXT
    for function in FUNCTIONS:
        lookup += [entry, record_at + len(records)]
        has_tree = function.name == "main.main"
        head = [entry] if is_offset else [entry & 0xFFFFFFFF, entry >> 32]
        head += [places[function.name] + names_shift, 0, 0, 0, file_at, line_at, 3]
        head += [0] if form.since >= 16 else []
        head += [LINE] if form.since == 20 else []
        head += [(21 if function.is_wrapper else 0) | 4 << 24]
        head += [0, 0, inline_at if has_tree else 0]
        head += [0xFFFFFFFF] * 3 + [0 if has_tree else 0xFFFFFFFF]
        record = struct.pack(f"<{len(head)}I", *head)
        records += _padded(record)
        entry += function.size
    lookup.append(entry)
    code = "I" if is_offset else "Q"
    functions = _padded(struct.pack(f"<{len(lookup)}{code}", *lookup))
    head_bytes = struct.pack("<IHBB", form.magic, 0, quantum, 8)
    if form.since == 2:
        return head_bytes + struct.pack("<Q", len(FUNCTIONS)) + functions + names + records
    counts = [len(FUNCTIONS), 1]
    if is_offset:
        counts.append(TEXT if form.has_text else 0)
    counts += [names_at, units_at, files_at, values_at, functions_at]
    head_bytes += struct.pack(f"<{len(counts)}Q", *counts)
    return head_bytes + names + units + files + values + functions + records


def _inline_tree(form: Form, _table: bytes) -> bytes:
    name = _names()[INLINED]
    if form.since >= 20:
        return struct.pack("<4i", 0, name, 0, LINE)
    return struct.pack("<5i", 0, 0, 0, name, 0)


def _module(form: Form, table: bytes) -> list[int]:
    words = [0] * 48
    if form.since == 2:
        return words
    places = struct.unpack_from("<5Q", table, 32 if form.since >= 18 else 24)
    words[0] = TABLE
    words[1] = TABLE + places[0]
    words[16] = TABLE + places[4]
    words[17] = len(FUNCTIONS) + 1
    words[22] = TEXT
    words[form.types], words[form.types_end] = _TYPES, _TYPES + _TYPES_SIZE
    if form.since >= 18:
        words[form.function_data] = _FUNCTION_DATA
    words[form.text_sections : form.text_sections + 3] = [_TEXT_SECTION, 1, 1]
    return words


def type_at(place: int) -> int:
    """The address of a type: `INT`, `POINTER` or `STRUCT`."""
    return _TYPES + place
