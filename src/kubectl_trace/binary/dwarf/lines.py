"""The names of source files, out of the line tables' headers: 6.2.4 of DWARF 5 and of DWARF 4."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from kubectl_trace.binary import elf
from kubectl_trace.binary.dwarf import constants as dw
from kubectl_trace.binary.dwarf.cursor import Cursor

if TYPE_CHECKING:
    from kubectl_trace.binary.dwarf.units import Unit

_LARGEST_HEADER = 4 << 20
_MOST_NAMES = 1 << 16
_Item = TypeVar("_Item")
_CONTENT_PATH, _CONTENT_DIRECTORY = 1, 2


@dataclass(frozen=True, slots=True)
class Files:
    """The source files of a unit, by the numbers that its entries use."""

    directories: list[str]
    """The first is where the unit was compiled; others may be relative to it."""
    names: list[tuple[str, int]]
    """A name, and the number of its directory."""

    def path(self, number: int) -> str:
        """The file's path as the compiler was given it; empty where there is no such file."""
        if not 0 <= number < len(self.names):
            return ""
        name, directory = self.names[number]
        if not name or directory >= len(self.directories):
            return name
        inside = self.directories[directory] if directory else ""
        return posixpath.normpath(posixpath.join(self.directories[0], inside, name))


def read_files(unit: Unit) -> Files:
    """The unit's source files.

    Raises:
        MalformedError: the line table's header is broken.
    """
    top = unit.top()
    compiled_in = top.string(dw.AT_COMP_DIR)
    offset = top.integer(dw.AT_STMT_LIST)
    if offset is None or not unit.sections.lines.is_there:
        return Files([], [])
    data, at = unit.sections.lines.window(offset, _LARGEST_HEADER)
    cursor = Cursor(data, at, unit.order, _LARGEST_HEADER)
    offset_size = 4
    if cursor.unsigned(4) == 0xFFFFFFFF:
        offset_size = 8
        cursor.unsigned(8)
    version = cursor.unsigned(2)
    if not 2 <= version <= 5:
        raise elf.MalformedError(f"a line table of a version that is not known ({version})")
    if version >= 5:
        cursor.unsigned(2)  # Sizes of addresses and segment selectors.
    cursor.unsigned(offset_size)
    # Lengths of instructions, is_stmt, line base and range; then the lengths of the opcodes.
    cursor.block(5 if version >= 4 else 4)
    cursor.block(max(cursor.unsigned(1) - 1, 0))
    if version >= 5:
        directories = [name for name, _ in _described(unit, cursor, offset_size)]
        return Files(directories, _described(unit, cursor, offset_size))
    directories = [compiled_in]
    while text := cursor.string():
        _add(unit, directories, text.decode(errors="replace"))
    # The first has the number 1.
    names = [("", 0)]
    while text := cursor.string():
        directory, _modified, _size = cursor.uleb(), cursor.uleb(), cursor.uleb()
        _add(unit, names, (text.decode(errors="replace"), directory))
    return Files(directories, names)


def _add(unit: Unit, found: list[_Item], item: _Item) -> None:
    unit.budget.spend()
    if len(found) >= _MOST_NAMES:
        raise elf.MalformedError("too many source files")
    found.append(item)


def _described(unit: Unit, cursor: Cursor, offset_size: int) -> list[tuple[str, int]]:
    """Names and directories of DWARF 5, which says how they are written: 6.2.4.1."""
    formats = [(cursor.uleb(), cursor.uleb()) for _ in range(cursor.unsigned(1))]
    found: list[tuple[str, int]] = []
    for _ in range(cursor.uleb()):
        name, directory = "", 0
        for content, form in formats:
            value = unit.read_form(cursor, form, offset_size)
            if content == _CONTENT_PATH:
                name = unit.string(form, value)
            elif content == _CONTENT_DIRECTORY and isinstance(value, int):
                directory = value
        _add(unit, found, (name, directory))
    return found
