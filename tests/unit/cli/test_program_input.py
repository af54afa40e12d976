from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.cli import program_input
from kubectl_trace.cli.main import main
from kubectl_trace.cli.program_input import checked
from kubectl_trace.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("k:f {}\0k:g {}", "a NUL character"),
        ("k:f { " + "(" * 1_000_000, "not closed"),
        ("k:f { " + "(" * 200_000 + ")" * 200_000, "not closed"),
        ('k:f { "' + "x" * 1_000_000, "no end"),
        ("k:f { /*" + "x" * 1_000_000, "no end"),
        ("/" * 1_000_000, "no probe"),
        (":" * 1_000_000, "missing"),
        ("k:f" + ",k:f" * 200_000, "missing"),
        ("#" * 1_000_000, "no probe"),
    ],
)
def test_a_huge_or_broken_program_is_told_of_in_moments(text: str, said: str) -> None:
    begun = time.monotonic()
    with pytest.raises(UsageError, match=said) as refused:
        program_input.checked(text, "stdin", limited=True)
    assert time.monotonic() - begun < 10
    assert len(str(refused.value)) < 2000


@pytest.mark.parametrize("content", [b"k:f { \xff }", b"\xed\xa0\x80", b" " * ((1 << 20) + 1)])
def test_a_file_that_is_no_text_or_endless_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.bt"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"UTF-8|larger than 1 MiB"):
        program_input.program(argparse.Namespace(eval=None, program=None, filename=str(file)))


def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(UsageError, match="larger than 1 MiB"):
        program_input.program(argparse.Namespace(eval=None, program=None, filename="/dev/zero"))


@pytest.mark.parametrize(
    "pair", ["LD_PRELOAD=/tmp/x.so", "PATH=/tmp", "BPFTRACE_=1", "bpftrace_X=1"]
)
def test_only_bpftraces_own_variables_are_given_to_it(pair: str) -> None:
    with pytest.raises(UsageError, match="none of bpftrace"):
        program_input.environment([pair])


@pytest.mark.parametrize(
    "words", [["--args", "\udcff"], ["--env", "BPFTRACE_X=\udcff"], ["-e", "k:f { /* \udcff */ }"]]
)
def test_what_is_no_text_is_refused_before_anything_begins(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    program = [] if "-e" in words else ["-e", "k:f { }"]
    assert main(["run", "local", *program, *words]) == 2
    assert "UTF-8" in capsys.readouterr().err


def test_a_password_in_the_programs_url_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "local", "-f", "http://me:secret@127.0.0.1:9/x.bt"]) == 2
    said = capsys.readouterr().err
    assert "127.0.0.1" in said
    assert "secret" not in said
