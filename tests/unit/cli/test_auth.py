from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from kubectl_trace.cli import auth, calls, functions, launch, run
from kubectl_trace.errors import UsageError
from tests.unit.kube.admission import FOLDER, Policy, pod_of

if TYPE_CHECKING:
    from types import ModuleType

    from kubectl_trace.kube.client import Object


def pod(*flags: str) -> Object:
    """The runner's pod about which `auth can-i` asks."""
    arguments = auth.parser().parse_args(["can-i", "node/a", *flags])
    return pod_of(auth.runner(arguments, "traces"))


def refusals(*flags: str) -> str:
    return " ".join(Policy(FOLDER / "policy.yaml").refuses(pod(*flags)))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), ""),
        (("--max-overhead", "none", "--fetch-headers"), ""),
        (("--stats",), "capabilities"),
        (("--max-overhead", "5%"), "capabilities"),
        (("--privileged",), "privileged"),
        (("--fetch-headers", "--headers-mirror", "https://headers.example"), "mirror"),
        (("--fetch-headers", "--init-imagename", "other"), "init container"),
        (("--imagename", "other"), "image"),
    ],
)
def test_the_runner_that_is_asked_about_is_the_one_that_run_would_create(
    flags: tuple[str, ...], said: str
) -> None:
    found = refusals(*flags)
    assert said in found
    assert bool(found) == bool(said)


def test_what_it_may_use_and_its_account_are_asked_about_too() -> None:
    spec = pod("--memory", "2Gi", "--cpu", "500m", "--serviceaccount", "traces")["spec"]
    assert spec["containers"][0]["resources"]["limits"] == {"cpu": "500m", "memory": "2Gi"}
    assert spec["serviceAccountName"] == "traces"


def test_a_flag_that_means_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="--max-overhead x"):
        pod("--max-overhead", "x")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_a_webhook_says_is_harmless_to_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_terminal: bool
) -> None:
    value = {"message": "a webhook's\x1b]0;title\x07 and \x9b2J \u202eword"}
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal, raising=False)
    auth._print_json(value)
    launch._print_objects([value], "json")
    shown = capsys.readouterr().out
    first, end = json.JSONDecoder().raw_decode(shown)
    assert (first, json.loads(shown[end:])["items"]) == (value, [value])
    assert ("\x9b" in shown or "\u202e" in shown) != is_terminal


@pytest.mark.parametrize("verb", [auth, calls, functions, run])
def test_no_password_comes_into_the_arguments_of_a_job(verb: ModuleType) -> None:
    words = {auth: ["can-i"], calls: ["pod/web", "f"]}.get(verb, ["pod/web"])
    for url in ("https://ada:s3cret@mirror/headers", "ada:s3cret@mirror", "file:///etc"):
        with pytest.raises(UsageError, match="--headers-mirror") as refused:
            verb.parser().parse_args([*words, "--headers-mirror", url])
        assert "s3cret" not in str(refused.value)
    for url in ("HTTPS://mirror/headers", "http://m:80", ""):
        parsed = verb.parser().parse_args([*words, "--headers-mirror", url])
        assert parsed.headers_mirror == url
