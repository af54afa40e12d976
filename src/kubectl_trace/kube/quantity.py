"""Quantities as Kubernetes writes them: `512Mi`, `1.5G`, `250m`.

Format: kubernetes/apimachinery pkg/api/resource/quantity.go, without its exponents.
"""

from __future__ import annotations

import re
from fractions import Fraction

from kubectl_trace.errors import UsageError

_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(m|k|[MGTP]|[KMGTP]i)?", re.ASCII)
_SUFFIXES = {
    "m": Fraction(1, 1000),
    "": Fraction(1),
    **{name: Fraction(1000**power) for power, name in enumerate("kMGTP", 1)},
    **{f"{name}i": Fraction(1024**power) for power, name in enumerate("KMGTP", 1)},
}


def quantity(text: str) -> Fraction:
    """A quantity's value.

    Raises:
        UsageError: the text is none.
    """
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!r} is no quantity; write 64Mi, 1Gi, 1.5G, 500k or 250m")
    return Fraction(found[1].rstrip(".")) * _SUFFIXES[found[2] or ""]


def size(text: str) -> int:
    """A number of bytes, such as `64Mi`; 0 is one, too.

    Raises:
        UsageError: the text is none.
    """
    value = quantity(text)
    if value.denominator != 1:
        raise UsageError(f"{text!r} is no whole number of bytes; write 64Mi, 1Gi or 500k")
    return int(value)


def amount(text: str) -> str:
    """A quantity greater than 0, as it is written.

    Raises:
        UsageError: the text is none.
    """
    if quantity(text) <= 0:
        raise UsageError(f"{text!r} is nothing at all; write more than 0")
    return text
