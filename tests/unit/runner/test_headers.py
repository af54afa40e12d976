from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from kubectl_trace.errors import StartError
from kubectl_trace.runner import headers
from kubectl_trace.runner.headers import resolve_within

RELEASE = "6.1.0-test"


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A node's root folder, its headers laid out as Debian does."""
    root = tmp_path / "node"
    build = root / "usr/src/linux-headers-6.1.0-test"
    (build / "include/generated").mkdir(parents=True)
    (build / "include/generated/autoconf.h").write_text("#define CONFIG_X 1")
    (build / "scripts").mkdir()
    (build / "scripts/large").write_text("not for a compiler of headers")
    modules = root / "lib/modules" / RELEASE
    modules.mkdir(parents=True)
    (modules / "build").symlink_to("/usr/src/linux-headers-6.1.0-test")
    return root


def test_headers_of_the_node_are_found_through_its_links(tmp_path: Path, node: Path) -> None:
    to = tmp_path / "headers"
    to.mkdir()
    assert "/lib/modules/" in headers._fetch(to, RELEASE, "", node)
    for tree in ("build", "source"):
        assert (to / tree / "include/generated/autoconf.h").read_text() == "#define CONFIG_X 1"
        assert not (to / tree / "scripts").exists()
    assert sorted(path.name for path in to.iterdir()) == ["build", "source"], "nothing half done"


def test_where_there_are_none_it_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="--headers-mirror"):
        headers._fetch(tmp_path, RELEASE, "", tmp_path / "node")
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_would_leave_its_folder_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "headers.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(tarfile.TarInfo("../escaped"))
    with pytest.raises(tarfile.TarError):
        headers._unpack(archive, tmp_path)
    assert not (tmp_path.parent / "escaped").exists()


@pytest.mark.parametrize("mirror", ["file:///etc", "ftp://x", "/etc"])
def test_a_mirror_is_a_web_server(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(StartError, match="no http or https URL"):
        headers._fetch(tmp_path, RELEASE, mirror, tmp_path / "node")


def test_links_stay_within_the_other_root(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "usr/lib/up").symlink_to("../../../../etc")
    (tmp_path / "etc").mkdir()
    assert resolve_within(tmp_path, Path("/lib")) == tmp_path / "usr/lib"
    assert resolve_within(tmp_path, Path("/lib/up")) == tmp_path / "etc"
    assert resolve_within(tmp_path, Path("/missing")) is None


def test_a_circle_of_links_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert resolve_within(tmp_path, Path("/a")) is None
