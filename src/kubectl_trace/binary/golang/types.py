"""What the Go type at an address is called: as the runtime finds it out for an interface's value.

Go 1.16 to 1.27. Format: runtime, type.go, of Go 1.19, and internal/abi, type.go, of 1.24 and 1.27.
"""

from __future__ import annotations

from functools import cached_property
from typing import BinaryIO

from kubectl_trace.binary import elf
from kubectl_trace.binary.golang import build_info
from kubectl_trace.binary.golang import header as headers
from kubectl_trace.binary.golang import image as images
from kubectl_trace.binary.golang import module as modules

_SIZE = 48
_FLAGS, _KIND, _NAME = 20, 23, 40
_EXTRA_STAR = 1 << 1
# In its upper bits are flags, until Go 1.26.
_KIND_MASK = 31
# reflect, type.go, Kind.String.
_KINDS = [
    "invalid",
    "bool",
    "int",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "uintptr",
    "float32",
    "float64",
    "complex64",
    "complex128",
    "array",
    "chan",
    "func",
    "interface",
    "map",
    "ptr",
    "slice",
    "string",
    "struct",
    "unsafe.Pointer",
]
_LONGEST_NAME = 4096
_LONGEST_VARINT = 10


class TypeTable:
    """The types of a Go program, or library; not those that it makes while it runs (reflect).

    Nothing but headers is read until something is asked for.

    Args:
        file: The ELF file, which must stay open.

    Raises:
        MalformedError: it is no ELF file, no Go program for amd64 or arm64, or broken.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._image = images.open_image(file)
        self._header = headers.find(self._image)

    def type_name(self, address: int) -> str:
        """The type's name as Go's `%T` shows it, as `*errors.errorString`; cut after 4096 bytes.

        Args:
            address: Of the type, before any relocation of the whole: an interface without methods
                points at it, the second word of what one with methods points at does.

        Returns:
            "" where no type is.

        Raises:
            MalformedError: the program's types can't be found (module.py), or are broken.
        """
        data = self._read(address)
        if not data:
            return ""
        place = int.from_bytes(data[_NAME : _NAME + 4], "little", signed=True)
        name = self._name(self._module.types + place)
        return name.removeprefix("*") if data[_FLAGS] & _EXTRA_STAR else name

    def kind(self, address: int) -> str:
        """What kind of type it is, in the words of package reflect: `ptr`, `struct` and so on.

        Args:
            address: As `type_name`.

        Returns:
            "" where no type is.

        Raises:
            MalformedError: as `type_name`.
        """
        data = self._read(address)
        kind = data[_KIND] & _KIND_MASK if data else 0
        return _KINDS[kind] if 0 < kind < len(_KINDS) else ""

    def _read(self, address: int) -> bytes:
        """The type's bytes; none where there is no type."""
        module = self._module
        if not module.types <= address < module.types_end or address % 8:
            return b""
        data = self._image.at(address, _SIZE)
        return data if len(data) == _SIZE else b""

    def _name(self, address: int) -> str:
        data = self._image.at(address, 1 + _LONGEST_VARINT + _LONGEST_NAME)
        # Its first byte is flags.
        if self._has_short_lengths:
            start, size = 3, int.from_bytes(data[1:3], "big")
        else:
            start, size = _varint(data, 1)
        if start > len(data) or not size:
            raise elf.MalformedError("a type's name is cut short")
        return data[start : start + min(size, _LONGEST_NAME)].decode("utf-8", "replace")

    @cached_property
    def _module(self) -> modules.Module:
        return modules.find(self._image, self._header)

    @cached_property
    def _has_short_lengths(self) -> bool:
        """Whether a name begins with a length of 2 bytes, not with a varint: before Go 1.17."""
        # Go 1.16 and 1.17 are told apart by nothing else.
        return self._header.since < 18 and not build_info.version(self._image.file).startswith(
            "go1.17"
        )


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Where the varint there ends, and its value."""
    value = 0
    for index, byte in enumerate(data[at : at + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return at + index + 1, value
    raise elf.MalformedError("a type's name is cut short")
