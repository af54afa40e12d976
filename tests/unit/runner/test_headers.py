from __future__ import annotations

import io
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


@pytest.mark.parametrize(("files", "size"), [(1, 100_001), (2, 60_000), (60, 0)])
def test_an_archive_that_unpacks_to_more_than_headers_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int, size: int
) -> None:
    monkeypatch.setattr(headers, "_LARGEST_UNPACKED", 100_000)
    archive, folder = tmp_path / "headers.tar.xz", tmp_path / "to"
    folder.mkdir()
    with tarfile.open(archive, "w:xz") as tar:
        for number in range(files):
            member = tarfile.TarInfo(f"include/{number}.h")
            member.size = size
            tar.addfile(member, io.BytesIO(bytes(size)))
    with pytest.raises(StartError, match="unpacks to more than"):
        headers._unpack(archive, folder)
    written = [path.stat().st_size for path in folder.rglob("*.h")]
    assert sum(written) <= 100_000
    assert len(written) < files


def test_an_archive_of_headers_is_both_trees(tmp_path: Path) -> None:
    archive = tmp_path / "headers.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        member = tarfile.TarInfo("include/a.h")
        member.size = 5
        tar.addfile(member, io.BytesIO(b"int a"))
    headers._unpack(archive, tmp_path)
    for tree in ("build", "source"):
        assert (tmp_path / tree / "include/a.h").read_text() == "int a"


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
