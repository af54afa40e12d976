from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_trace.cli.functions import _table

if TYPE_CHECKING:
    import pytest


def test_columns_line_up_and_one_very_long_name_makes_none_wide(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ["main.add", "main.(*Cart).Total", "x" * 5000]
    _table([{"name": name, "file": "/app", "offset": 16} for name in names], is_wide=False)
    head, *lines, long = capsys.readouterr().out.splitlines()
    assert {line.index("/app") for line in lines} == {head.index("FILE")}
    assert long == f"{'x' * 5000}   /app   0x10     -          -"
    assert max(map(len, [head, *lines])) < 100


def test_control_characters_of_names_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    _table([{"name": "a\x1b[2J\nb", "file": "/app", "offset": 16}], is_wide=True)
    _, line = capsys.readouterr().out.splitlines()
    assert line.startswith("a?[2J?b")
