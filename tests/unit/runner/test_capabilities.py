from __future__ import annotations

from pathlib import Path

import pytest

from kubectl_trace.runner.capabilities import missing


@pytest.mark.parametrize(
    ("effective", "expected"),
    [
        ("000000c000080004", []),
        ("0000004000080004", ["BPF"]),
        ("0000008000080004", ["PERFMON"]),
        ("0000000000000000", ["BPF", "PERFMON"]),
        ("0000000000200000", []),  # SYS_ADMIN
    ],
)
def test_tells_which_capabilities_are_missing(
    tmp_path: Path, effective: str, expected: list[str]
) -> None:
    status = tmp_path / "status"
    status.write_text(f"Name:\tx\nCapPrm:\tffff\nCapEff:\t{effective}\nCapBnd:\t0\n")
    assert missing(status) == expected


def test_where_it_can_not_be_told_nothing_is_missing() -> None:
    assert missing(Path("/nothing")) == []
