from __future__ import annotations

import contextlib
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_trace.errors import UsageError
from kubectl_trace.kube.quantity import amount, quantity, size


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("1", 1),
        ("64Ki", 65536),
        ("1.5Gi", 3 << 29),
        ("500k", 500_000),
        ("2M", 2_000_000),
        ("250m", Fraction(1, 4)),
        (".5", Fraction(1, 2)),
        ("1.", 1),
    ],
)
def test_quantities_are_those_of_kubernetes(text: str, value: Fraction) -> None:
    assert quantity(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "-1", "1K", "1 Gi", "1e3", "0x1", "1GB", "1.5.1", "٣"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no quantity"):
        quantity(text)


def test_a_part_of_a_byte_is_no_size_and_nothing_no_limit() -> None:
    with pytest.raises(UsageError, match="no whole number of bytes"):
        size("250m")
    with pytest.raises(UsageError, match="nothing at all"):
        amount("0Mi")


@given(st.integers(0, 1 << 40), st.sampled_from(["Ki", "Mi", "Gi"]))
def test_a_unit_multiplies(number: int, unit: str) -> None:
    factor = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}[unit]
    assert size(f"{number}{unit}") == number * factor


def test_any_text_is_a_quantity_or_refused() -> None:
    @given(st.text())
    def check(text: str) -> None:
        with contextlib.suppress(UsageError):
            assert quantity(text) >= 0

    check()
