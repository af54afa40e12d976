"""An ELF file's DWARF sections, read where and when they are asked for."""

from __future__ import annotations

from typing import BinaryIO

from kubectl_trace.binary import elf

# Of all of a file's sections together. A compressed one can only be had whole; in a Kubernetes
# program of 146 MB all of them have 100 MiB.
_MOST_KEPT = 320 << 20
# Smaller ones are read at once and kept: one read instead of thousands.
_KEPT_WHOLE = 16 << 20
_MOST_AT_ONCE = 256 << 20
LONGEST_STRING = 1 << 16
"""In bytes; longer ones are cut."""
_STRING_STEP = 256


class Budget:
    """How much more may be done or kept: no file makes a reader run for long or take all memory."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def spend(self, steps: int = 1) -> None:
        """Takes steps away.

        Raises:
            MalformedError: there were not so many left.
        """
        self.left -= steps
        if self.left < 0:
            raise elf.MalformedError("the debug information is too much to read")


class Section:
    """The bytes of one section; of one that is not there, none."""

    def __init__(
        self,
        file: BinaryIO,
        header: elf.Header,
        section: elf.Section | None,
        name: str,
        room: Budget,
    ) -> None:
        self.name = name
        self._file, self._header, self._section = file, header, section
        self._room = room
        self._whole: bytes | None = None
        if section is None or not section.size or section.type == elf.SHT_NOBITS:
            self._whole = b""

    @property
    def is_there(self) -> bool:
        """Whether there is anything in it."""
        return self._whole != b""

    def _load(self) -> bytes | None:
        if self._whole is None and self._section is not None:
            section = self._section
            packed = section.flags & elf.SHF_COMPRESSED or section.name.startswith(b".zdebug_")
            if packed or section.size <= min(_KEPT_WHOLE, self._room.left):
                self._whole = elf.content(self._file, self._header, section, self._room.left)
                self._room.spend(len(self._whole))
        return self._whole

    def window(self, offset: int, size: int) -> tuple[bytes, int]:
        """Bytes with those from the offset on in them, and at which place in them these are.

        All the section where it is in memory, else just these; fewer at the section's end.
        """
        whole = self._load()
        if offset < 0:
            return b"", 0
        if whole is not None:
            return whole, offset
        assert self._section is not None
        size = min(size, self._section.size - offset)
        if size > _MOST_AT_ONCE:
            raise elf.MalformedError(f"more than {_MOST_AT_ONCE >> 20} MiB of {self.name} at once")
        if size <= 0:
            return b"", 0
        return elf.read_at(self._file, self._section.offset + offset, size), 0

    def read(self, offset: int, size: int) -> bytes:
        """The bytes there, fewer at the section's end."""
        data, at = self.window(offset, size)
        return data[at : at + size]

    def size(self) -> int:
        """In bytes, decompressed."""
        whole = self._load()
        if whole is not None:
            return len(whole)
        assert self._section is not None
        return self._section.size

    def string(self, offset: int) -> str:
        """The zero-terminated text there, cut after 64 KiB; none outside of the section."""
        whole = self._load()
        if offset < 0:
            return ""
        if whole is not None:
            end = whole.find(b"\0", offset, offset + LONGEST_STRING)
            return whole[offset : end if end >= 0 else offset + LONGEST_STRING].decode(
                errors="replace"
            )
        size = _STRING_STEP
        while True:
            data = self.read(offset, size)
            end = data.find(b"\0")
            if end >= 0 or len(data) < size or size >= LONGEST_STRING:
                return data[: end if end >= 0 else len(data)].decode(errors="replace")
            size *= 8


class Sections:
    """All of one file's."""

    def __init__(self, file: BinaryIO) -> None:
        self.header = elf.read_header(file)
        found = {section.name: section for section in elf.sections(file, self.header)}
        room = Budget(_MOST_KEPT)

        def section(name: str) -> Section:
            plain, gnu = f".debug_{name}".encode(), f".zdebug_{name}".encode()
            its = found.get(plain) or found.get(gnu)
            return Section(file, self.header, its, f".debug_{name}", room)

        self.info = section("info")
        self.types = section("types")
        self.abbrev = section("abbrev")
        self.strings = section("str")
        self.line_strings = section("line_str")
        self.string_offsets = section("str_offsets")
        self.addresses = section("addr")
        self.ranges = section("ranges")
        self.range_lists = section("rnglists")
        self.locations = section("loc")
        self.location_lists = section("loclists")
        self.address_ranges = section("aranges")
        self.lines = section("line")

    def number(self, section: Section, offset: int, size: int) -> int:
        """An unsigned number in a section.

        Raises:
            MalformedError: it is outside of the section.
        """
        data = section.read(offset, size)
        if len(data) < size:
            raise elf.MalformedError(f"outside of {section.name}")
        return int.from_bytes(data, "little" if self.header.order == "<" else "big")
