"""Traces that somebody else has made: whoever may create Jobs writes their annotations."""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubectl_trace.cli import get
from kubectl_trace.kube import job as jobs
from kubectl_trace.kube.traces import Found, Part

COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
ANNOTATIONS = (
    jobs.ANNOTATION_TARGET,
    jobs.ANNOTATION_OWNER,
    jobs.ANNOTATION_TRACER,
    jobs.ANNOTATION_NODE,
    jobs.ANNOTATION_PROGRAM_HASH,
)
TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from("\x1b\x07\x9b\u202e\r\n\t"))


@st.composite
def traces(draw: st.DrawFn) -> Found:
    """One trace, with any annotations, image and message of its Job."""
    job: dict[str, Any] = {
        "metadata": {
            "name": "kubectl-trace-x",
            "namespace": "shop",
            "creationTimestamp": "2026-11-23T19:00:00Z",
            "labels": {jobs.LABEL_ID: "x"},
            "annotations": draw(st.dictionaries(st.sampled_from(ANNOTATIONS), TEXTS)),
        },
        "spec": {"template": {"spec": {"containers": [{"image": draw(TEXTS)}]}}},
        "status": {
            "failed": 1,
            "conditions": [
                {"type": "Failed", "status": "True", "reason": draw(TEXTS), "message": draw(TEXTS)}
            ],
        },
    }
    return Found((Part(job, None),))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("output", ["table", "wide", "json", "yaml", "name"])
def test_annotations_of_others_command_no_terminal(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @settings(max_examples=100, deadline=None)
    @given(traces())
    def check(found: Found) -> None:
        stdout = Terminal()
        monkeypatch.setattr(sys, "stdout", stdout)
        get._print(argparse.Namespace(output=output, traces=[]), [found], head=True)
        shown = stdout.getvalue()
        assert not COMMANDS.search(shown)
        if output in ("table", "wide"):
            assert len(shown.split("\n")) == 3, "a head, and one line for the trace"
        if output == "json":
            (item,) = json.loads(shown)["items"]
            assert item["owner"] == found.parts[0].annotation(jobs.ANNOTATION_OWNER)

    check()
