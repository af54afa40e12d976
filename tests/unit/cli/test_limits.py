from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kubectl_trace.cli import calls, run
from kubectl_trace.cli.limits import limits, needs_statistics
from kubectl_trace.errors import UsageError

if TYPE_CHECKING:
    from kubectl_trace.trace import Limits


def limited(*words: str, is_local: bool = False) -> Limits:
    return limits(run.parser().parse_args(["local", *words]), is_local=is_local)


def test_unless_somebody_says_otherwise_a_flood_is_stopped_and_the_cost_is_watched() -> None:
    found = limited()
    assert (found.records, found.bytes, found.overhead) == (0, 256 << 20, 20)
    assert (found.memory, found.cpu) == ("1Gi", "1")
    assert not found.needs_statistics


def test_this_machine_is_not_limited_as_a_container_is() -> None:
    found = limited(is_local=True)
    assert (found.memory, found.cpu) == ("", "")


@pytest.mark.parametrize(
    ("words", "overhead", "needs"),
    [
        ((), 20, False),
        (("--stats",), 20, True),
        (("--max-overhead", "5%"), 5, True),
        (("--max-overhead", "0.5"), 0.5, True),
        (("--max-overhead", "150"), 150, True),
        (("--max-overhead", "none"), 0, False),
        (("--max-overhead", "0"), 0, False),
        (("--max-overhead", "none", "--stats"), 0, True),
    ],
)
def test_only_what_was_asked_for_needs_the_kernels_statistics(
    words: tuple[str, ...], overhead: float, needs: bool
) -> None:
    arguments = run.parser().parse_args(["local", *words])
    assert limits(arguments, is_local=False).overhead == overhead
    assert limits(arguments, is_local=False).needs_statistics == needs
    assert needs_statistics(arguments) == needs


@pytest.mark.parametrize(
    "words",
    [
        ("--max-records", "-1"),
        ("--max-bytes", "-1"),
        ("--max-bytes", "1.5"),
        ("--max-overhead", "-5%"),
        ("--max-overhead", "nan"),
        ("--max-overhead", "inf"),
        ("--max-overhead", "5 %%"),
        ("--memory", "lots"),
        ("--cpu", "0"),
    ],
)
def test_what_means_nothing_is_refused_by_the_flags_name(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=words[0]):
        limited(f"{words[0]}={words[1]}")


def test_calls_have_the_same_limits() -> None:
    arguments = calls.parser().parse_args(["pod/x", "f", "--max-records", "5", "--cpu", "250m"])
    found = limits(arguments, is_local=False)
    assert (found.records, found.cpu) == (5, "250m")
