from __future__ import annotations

from datetime import UTC

import pytest

from kubectl_trace.cli import arguments, get, program_input, run
from kubectl_trace.cli.arguments import duration, split_at_dashes, split_verb
from kubectl_trace.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("1.5s", 1.5), ("250ms", 0.25)],
)
def test_durations_are_read_as_kubectl_writes_them(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "5 m", "-1", "1d", "1h-3m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        duration(text)


def test_connection_flags_may_stand_before_the_verb() -> None:
    assert split_verb(["-n", "x", "--as=bob", "run", "pod/a"]) == (
        "run",
        ["-n", "x", "--as=bob", "pod/a"],
    )


def test_words_after_two_dashes_are_the_programs() -> None:
    assert split_at_dashes(["a", "--", "-k", "--", "b"]) == (["a"], ["-k", "--", "b"])


def test_connection_flags_are_passed_on_in_their_order() -> None:
    words = ["pod/a", "--context", "c", "--as=bob", "--as-group", "g", "--as-group=h", "-s", "u"]
    words = arguments.spell_out_switches(["--insecure-skip-tls-verify", *words])
    parsed = run.parser().parse_args(words)
    assert parsed.connection_flags == [
        "--insecure-skip-tls-verify=true",
        "--context=c",
        "--as=bob",
        "--as-group=g",
        "--as-group=h",
        "--server=u",
    ]
    assert run.parser().parse_args(["pod/a"]).connection_flags == [], "nothing is shared"


def test_bpftraces_options_come_before_the_positional_parameters() -> None:
    split = program_input.after_dashes
    assert split(["-k", "-B", "full", "42", "-x"]) == (["-k", "-B", "full"], ["42", "-x"])
    assert split(["-5", "a"]) == ([], ["-5", "a"]), "a negative number is a parameter"
    assert split(["--", "-k"]) == ([], ["-k"])
    assert split(["--include=x.h", "y"]) == (["--include=x.h"], ["y"])


@pytest.mark.parametrize("word", ["-f", "-ftext", "-o", "-o/tmp/x", "-e", "-l", "-c", "--info"])
def test_an_option_that_would_break_the_records_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        program_input.after_dashes([word, "x"])


@pytest.mark.parametrize(
    ("created", "shown"),
    [
        ("2026-01-01T11:59:15Z", "45s"),
        ("2026-01-01T11:56:40Z", "3m20s"),
        ("2026-01-01T11:20:00Z", "40m"),
        ("2026-01-01T06:55:00Z", "5h5m"),
        ("2025-12-30T12:00:00Z", "2d"),
        ("2026-01-01T12:00:09Z", "0s"),
    ],
)
def test_ages_are_written_as_kubectl_does(created: str, shown: str) -> None:
    from datetime import datetime

    assert get.age(created, datetime(2026, 1, 1, 12, tzinfo=UTC)) == shown


def test_notes_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    arguments.complain("no such pod")
    assert capsys.readouterr() == ("", "error: no such pod\n")
