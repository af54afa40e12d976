from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.binary.elf import EM_AARCH64, EM_X86_64
from kubectl_trace.functions import sources
from kubectl_trace.functions.sources import Memory, Source, Unknown, Words
from tests.unit.functions.machine import HEAP, Machine, in_words

PLACE = st.tuples(st.sampled_from([1, 2, 4, 8]), st.integers(0, 32)).filter(
    lambda found: found[1] % found[0] == 0
)


def sources_of(data: bytes, machine: Machine) -> list[Source]:
    """The same bytes in memory, and in registers."""
    machine.registers["sp"] = machine.put(bytes(24) + data) + 8
    names = [f"r{number}" for number in range(8, 8 + len(data) // 8)]
    in_words(machine, data, names)
    return [
        Memory(sources.at(sources.register("sp"), 16)),
        Words(tuple(map(sources.register, names))),
    ]


@given(st.binary(min_size=40, max_size=40), PLACE)
def test_a_number_is_that_of_its_bytes_wherever_it_is(data: bytes, place: tuple[int, int]) -> None:
    machine = Machine()
    size, offset = place
    for source in sources_of(data, machine):
        expression = sources.number(source, offset, size)
        assert expression is not None
        assert machine.number(expression) == int.from_bytes(data[offset : offset + size], "little")


@given(st.binary(min_size=40, max_size=40), PLACE, st.integers(0, 4))
def test_a_part_of_a_part_is_the_part(data: bytes, place: tuple[int, int], words: int) -> None:
    machine = Machine()
    size, offset = place
    for source in sources_of(data + bytes(32), machine):
        whole = sources.number(source, words * 8 + offset, size)
        inner = sources.number(sources.part(source, words * 8), offset, size)
        assert whole is not None
        assert inner is not None
        assert machine.number(whole) == machine.number(inner)


def test_a_number_across_registers_or_of_another_size_is_not_read() -> None:
    source = Words(('reg("di")', 'reg("si")'))
    assert sources.number(source, 4, 8) is None
    assert sources.number(source, 7, 2) is None
    assert sources.number(source, 0, 3) is None
    assert sources.number(Memory('reg("di")'), 0, 16) is None


def test_nothing_is_read_behind_the_last_register() -> None:
    assert sources.number(Words(('reg("di")',)), 8, 8) is None
    assert sources.number(sources.part(Words(('reg("di")',)), 8), 0, 4) is None
    assert sources.number(Words(()), 0, 1) is None


def test_what_is_in_a_floating_point_register_is_not_read() -> None:
    source = Words((None, 'reg("di")'))
    assert sources.number(source, 0, 8) is None
    assert sources.number(source, 8, 8) == 'reg("di")'


def test_what_is_unknown_stays_so() -> None:
    assert sources.number(Unknown("why"), 0, 8) is None
    assert sources.part(Unknown("why"), 8) == Unknown("why")


def test_a_part_between_the_words_of_registers_is_unknown() -> None:
    assert isinstance(sources.part(Words(('reg("di")',)), 4), Unknown)
    assert sources.part(Memory("1"), 4) == Memory("(1 + 4)")


@pytest.mark.parametrize(
    ("machine", "number", "name"),
    [
        (EM_X86_64, 0, "ax"),
        (EM_X86_64, 1, "dx"),
        (EM_X86_64, 4, "si"),
        (EM_X86_64, 5, "di"),
        (EM_X86_64, 7, "sp"),
        (EM_X86_64, 14, "r14"),
        (EM_X86_64, 17, None),  # xmm0
        (EM_AARCH64, 0, "r0"),
        (EM_AARCH64, 31, "sp"),
        (EM_AARCH64, 64, None),  # v0
        (EM_AARCH64, -1, None),
        (3, 0, None),
    ],
)
def test_registers_have_the_numbers_of_the_machines_abi(
    machine: int, number: int, name: str | None
) -> None:
    assert sources.dwarf_register(machine, number) == name


def test_the_machine_of_these_tests_reads_as_bpftrace_does() -> None:
    machine = Machine({"ax": 0xFFFF_FFFF_8000_0000, "sp": HEAP}, [(HEAP, bytes(range(16)))])
    assert machine.number('(int64)(int32)(reg("ax"))') == 0xFFFF_FFFF_8000_0000
    assert machine.number('(uint64)*(uint16 *)(reg("sp") + 2)') == 0x0302
    assert machine.number("1 + 2 << 3 & 0x18 | 1") == 0x19
    assert machine.number("(uint64)*(uint64 *)5") == 0
