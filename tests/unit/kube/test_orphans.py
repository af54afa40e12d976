from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kubectl_trace.kube import dead_proxies
from kubectl_trace.kube import job as jobs
from kubectl_trace.kube.orphans import orphans

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from kubectl_trace.kube.client import Object

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def an_object(created: str = "2026-01-01T11:00:00Z", **annotations: str) -> Object:
    return {
        "metadata": {
            "namespace": "n",
            "name": "kubectl-trace-1",
            "labels": {jobs.LABEL: "kubectl-trace-1", jobs.LABEL_ID: "1"},
            "creationTimestamp": created,
            "annotations": annotations,
        }
    }


ATTACHED = {jobs.ANNOTATION_ATTACHED: "true", jobs.ANNOTATION_TIMEOUT: "120"}
RUNNING = {**an_object(), "status": {"phase": "Running"}}
PENDING = {**an_object(), "status": {"phase": "Pending"}}


def kinds(jobs_: list[Object], pods: list[Object], config_maps: list[Object]) -> list[str]:
    return [each.kind for each in orphans(jobs_, pods, config_maps, NOW)]


def test_a_running_trace_is_no_orphan_however_old() -> None:
    assert kinds([an_object(**ATTACHED)], [RUNNING], [an_object()]) == []


def test_what_has_no_job_any_more_is_an_orphan() -> None:
    assert kinds([], [RUNNING], [an_object()]) == ["pod", "configmap"]


def test_a_job_without_its_program_is_an_orphan_unless_it_is_still_being_made() -> None:
    assert kinds([an_object()], [PENDING], []) == ["job"]
    assert kinds([an_object("2026-01-01T11:59:30Z")], [PENDING], []) == []


def test_a_trace_that_waits_longer_than_its_client_is_an_orphan() -> None:
    assert kinds([an_object(**ATTACHED)], [PENDING], [an_object()]) == ["job"]
    patient = {**ATTACHED, jobs.ANNOTATION_TIMEOUT: "7200"}
    assert kinds([an_object(**patient)], [PENDING], [an_object()]) == []


def test_a_detached_trace_may_wait_for_ever() -> None:
    assert kinds([an_object()], [PENDING], [an_object()]) == []


def test_the_folder_of_a_dead_proxy_is_removed_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    dead, living, strange = (tmp_path / f"kubectl-trace-{name}" for name in "dls")
    for folder in (dead, living, strange):
        folder.mkdir()
    (strange / "s").touch()
    (strange / "thesis.txt").touch()
    with socket.socket(socket.AF_UNIX) as left, socket.socket(socket.AF_UNIX) as listening:
        left.bind(str(dead / "s"))
        listening.bind(str(living / "s"))
        listening.listen()
        left.close()
        assert dead_proxies.remove() == [str(dead)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [living.name, strange.name]
