"""Programs that include kernel headers."""

from __future__ import annotations

import functools
import http.server
import io
import os
import shutil
import tarfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .command import trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .cluster import Cluster

MODULES = Path("/lib/modules", os.uname().release)
# A header of our own in a real tree's place: what is tested is that the node's file is found.
# bpftrace itself includes linux/kconfig.h, which every tree has.
HEADER = "#define KUBECTL_TRACE_ANSWER 42\n"
PROGRAM = """\
#include <linux/kubectl_trace.h>
BEGIN { printf("the answer is %d\\n", KUBECTL_TRACE_ANSWER); exit(); }
"""


@pytest.fixture
def headers_on_the_node() -> Iterator[None]:
    """A tree of headers where the node's kernel has its own, as a distribution lays them out."""
    if MODULES.exists():
        pytest.skip("this machine has modules of its own, which no test may touch")
    source = Path("/usr/src/kubectl-trace-headers")
    (source / "include" / "linux").mkdir(parents=True)
    (source / "include" / "linux" / "kubectl_trace.h").write_text(HEADER)
    (source / "include" / "linux" / "kconfig.h").touch()
    had_modules = MODULES.parent.exists()
    MODULES.mkdir(parents=True)
    (MODULES / "build").symlink_to(source)
    yield
    shutil.rmtree(MODULES if had_modules else MODULES.parent)
    shutil.rmtree(source)


def test_headers_come_from_the_node(cluster: Cluster, node: str, headers_on_the_node: None) -> None:
    result = trace("run", "--fetch-headers", node, "-a", "-e", PROGRAM)
    assert (result.code, result.stdout) == (0, "the answer is 42\n"), result


def test_headers_come_from_a_mirror(cluster: Cluster, node: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / f"linux-headers-{os.uname().release}.tar.xz", "w:xz") as archive:
        for name, content in (("kubectl_trace.h", HEADER), ("kconfig.h", "")):
            member = tarfile.TarInfo(f"include/linux/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer((this_host(cluster), 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        mirror = f"http://{server.server_address[0]!s}:{server.server_address[1]}"
        words = ("--fetch-headers", "--headers-mirror", mirror)
        result = trace("run", *words, node, "-a", "-e", PROGRAM)
        server.shutdown()
        serving.join()
    assert (result.code, result.stdout) == (0, "the answer is 42\n"), result


def this_host(cluster: Cluster) -> str:
    """This machine's address as the nodes see it; only the testbed's is known."""
    from testbed.settings import HOST_ADDRESS

    nodes = {item["metadata"]["name"] for item in cluster.get("nodes")["items"]}
    if nodes != {"node-a", "node-b"}:
        pytest.skip("the cluster is not the testbed: its nodes may not reach this machine")
    return HOST_ADDRESS


def test_without_headers_it_is_said_where_they_were_looked_for(cluster: Cluster, node: str) -> None:
    if MODULES.exists():
        pytest.skip("this machine has headers")
    result = trace("run", "--fetch-headers", node, "-a", "-e", PROGRAM)
    assert result.code == 5, result
    assert "/lib/modules/" in result.stderr
    assert "--headers-mirror" in result.stderr
