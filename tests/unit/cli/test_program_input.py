from __future__ import annotations

import pytest

from kubectl_trace.cli.program_input import checked
from kubectl_trace.errors import UsageError

IMPORTS = 'import "other.bt";\nBEGIN { }'


def test_a_program_that_is_none_is_refused_with_its_line_and_a_caret() -> None:
    with pytest.raises(UsageError) as refused:
        checked("BEGIN { }\nkprobe:f\n", "mine.bt", limited=False)
    where, line, caret = str(refused.value).splitlines()
    assert where.startswith("mine.bt:2:9: a { is missing")
    assert (line, caret) == ("kprobe:f", "        ^")


def test_what_can_not_be_limited_is_refused_where_there_is_a_scope() -> None:
    checked(IMPORTS, "mine.bt", limited=False)
    with pytest.raises(UsageError, match=r"^mine\.bt:1:1: an imported script"):
        checked(IMPORTS, "mine.bt", limited=True)
