"""The current context without kubectl: as kubectl says it, or not at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from kubectl_trace.kube.context import Context, chosen_user, plain_file, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONFIG: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "one",
    "contexts": [
        {"name": "one", "context": {"cluster": "c", "user": "ada", "namespace": "here"}},
        {"name": "two", "context": {"cluster": "c", "user": "bob"}},
    ],
}


def written(folder: Path, config: object, dump: Callable[[Any], str] = yaml.safe_dump) -> str:
    file = folder / "config"
    file.write_text(dump(config))
    return str(file)


@pytest.mark.parametrize("dump", [yaml.safe_dump, json.dumps])
def test_the_context_is_the_current_one_or_the_flags(
    tmp_path: Path, dump: Callable[[Any], str]
) -> None:
    file = written(tmp_path, CONFIG, dump)
    assert read(file, []) == Context("here", "ada")
    assert read(file, ["--context=one", "--as=root", "--context=two"]) == Context("", "bob")


@pytest.mark.parametrize(
    "change",
    [
        {"current-context": "three"},
        {"current-context": None},
        {"contexts": None},
        {"contexts": CONFIG["contexts"] * 2},
        {"contexts": [{"name": "one", "context": {"namespace": 7}}]},
        {"contexts": [{"name": "one"}]},
        {"current-context": 1, "contexts": [{"name": 1, "context": {}}]},
    ],
)
def test_what_is_not_plain_is_left_to_kubectl(tmp_path: Path, change: dict[str, Any]) -> None:
    assert read(written(tmp_path, {**CONFIG, **change}), []) is None


@pytest.mark.parametrize("text", ["", "[", "a: !!python/object:os.system {}", "- 1", "\0"])
def test_a_file_that_is_no_kubeconfig_is_left_to_kubectl(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    assert read(str(tmp_path / "config"), []) is None
    assert read(str(tmp_path / "none"), []) is None


def test_only_one_file_and_no_flag_that_changes_it_is_plain(tmp_path: Path) -> None:
    file = written(tmp_path, CONFIG)
    (tmp_path / ".kube").mkdir()
    home = tmp_path / ".kube" / "config"
    home.touch()
    assert plain_file([], {"KUBECONFIG": file, "HOME": str(tmp_path)}) == file
    assert plain_file(["--kubeconfig=" + file], {"KUBECONFIG": "other"}) == file
    assert plain_file([], {"KUBECONFIG": "", "HOME": str(tmp_path)}) == str(home)
    assert plain_file(["--context=two", "--as=x"], {"KUBECONFIG": file}) == file
    assert plain_file([], {"KUBECONFIG": f"{file}:{home}"}) == ""
    assert plain_file([], {"KUBECONFIG": str(tmp_path / "none")}) == ""
    assert plain_file([], {}) == ""
    assert plain_file([], {"KUBECONFIG": ":", "HOME": str(tmp_path)}) == "", "no file at all"
    for flag in ("--user=x", "--cluster=y", "--server=z", "--token=t"):
        assert plain_file([flag], {"KUBECONFIG": file}) == ""


@pytest.mark.parametrize(
    ("flags", "user"),
    [
        ([], None),
        (["--context=two"], None),
        (["--as=eve", "--as=bob"], "bob"),
        (["--user=root"], "root"),
        (["--user=root", "--as=bob"], "bob"),
        (["--user="], None),
        (["--token=secret"], ""),
        (["--client-certificate=file"], ""),
    ],
)
def test_who_asks_is_whom_the_flags_name(flags: list[str], user: str | None) -> None:
    assert chosen_user(flags) == user
