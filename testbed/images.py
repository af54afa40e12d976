"""The images of the runner and of the workloads, built without a registry.

buildah builds each Containerfile as it stands; the base image they name is made by mmdebstrap from
this machine's own Debian mirror and put where buildah looks first.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import layout, programs
from .commands import UNTIL_WE_END, run, say
from .errors import TestbedError
from .settings import CACHE, CHECKOUT, FOLDER
from .suites import KEYRING, apt_sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from .layout import Built

# The base images that can be made, as Containerfiles name them.
_BASES = re.compile(r"^FROM (debian:(\w+)-slim)\b", re.MULTILINE)
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_CERTIFICATES_INSIDE = "/run/certificates.crt"
_NOTES = CACHE / "images" / "built"
_STORAGE = CACHE / "buildah"


@dataclass(frozen=True)
class Image:
    """An image to build: its name, reference, Containerfile, and the sources it is made of.

    Of what is built beforehand, `version` changes with it.
    """

    name: str
    reference: str
    containerfile: Path
    context: Path
    sources: tuple[Path, ...] = ()
    version: str = ""


def _workload(
    name: str, context: Path | None = None, sources: tuple[Path, ...] = (), version: str = ""
) -> Image:
    folder = FOLDER / "images" / name
    reference = f"docker.io/kubectl-trace-testbed/{name}:1"
    file = folder / "Containerfile"
    return Image(name, reference, file, context or folder, (folder, *sources), version)


def _runtimes() -> Image:
    sources = tuple(programs.SOURCES / name for name in ("java", "php", "python", "ruby"))
    return _workload("runtimes", programs.SOURCES, sources)


PAUSE = _workload("pause")
WORKLOADS = (
    PAUSE,
    _workload("nginx"),
    _workload("app"),
    _workload("programs", programs.folder(), version=programs.folder().name),
    _runtimes(),
)


def runner() -> Image:
    """The runner's image, named by the package.

    Raises:
        TestbedError: the package does not say what its image is called.
    """
    package = CHECKOUT / "src" / "kubectl_trace"
    deploy = CHECKOUT / "deploy"
    return Image(
        "runner",
        f"docker.io/{_runner_reference(package)}",
        deploy / "Containerfile",
        CHECKOUT,
        (package, deploy / "requirements.lock"),
    )


def ensure(images: Sequence[Image]) -> list[Built]:
    """Build what is not built of these sources yet; give all in the same order.

    Raises:
        TestbedError: a tool failed, or apt knows no Debian mirror.
    """
    return [_ensure(image) for image in images]


def archive(image: Image) -> Path:
    """Build an image where its sources have changed; give a file that containerd and Docker load.

    Raises:
        TestbedError: as `ensure`.
    """
    built = _ensure(image)
    file = CACHE / f"{image.name}.tar"
    new = file.with_suffix(".new")
    with new.open("wb") as output:
        layout.write_archive([built], output)
    new.rename(file)
    return file


def _ensure(image: Image) -> Built:
    note = _NOTES / image.name
    digest = _digest(image)
    built = layout.find(image.reference)
    if built and note.exists() and note.read_text() == digest:
        return built
    # What a build that was killed has left.
    _buildah("rm", "--all")
    for name, release in _BASES.findall(image.containerfile.read_text()):
        _ensure_base(f"docker.io/library/{name}", release)
    say(f"building image {image.reference}")
    ignore = image.containerfile.with_name("Containerfile.dockerignore")
    _buildah(
        *("build", "--isolation=chroot", "--layers", "--pull-never", "--timestamp=0"),
        *([f"--ignorefile={ignore}"] if ignore.exists() else []),
        # What this machine trusts, pip is to trust, too.
        *(f"--volume={_CERTIFICATES}:{_CERTIFICATES_INSIDE}:ro",),
        f"--build-arg=PIP_CERT={_CERTIFICATES_INSIDE}",
        *(f"--file={image.containerfile}", f"--tag={image.reference}", str(image.context)),
    )
    _seed_layout(image)
    _buildah("push", image.reference, f"oci:{layout.FOLDER}:{image.reference}")
    built = layout.find(image.reference)
    if built is None:
        raise TestbedError(f"buildah did not write {image.reference} to {layout.FOLDER}")
    layout.prune([each.reference for each in (*WORKLOADS, runner())])
    _NOTES.mkdir(exist_ok=True)
    note.write_text(digest)
    say(f"image {image.reference}: {built.size / 1e6:.0f} MB")
    return built


def _seed_layout(image: Image) -> None:
    """Put the lower layers into the layout uncompressed, unless they are there.

    Compressing them would take longer than all the rest, and buildah leaves alone what is there:
    after a change of the package only the top layer is written.
    """
    layers = json.loads(_buildah("inspect", "--type=image", image.reference))
    lower = layers["OCIv1"]["rootfs"]["diff_ids"][:-1]
    if all(layout.blob(digest).exists() for digest in lower):
        return
    whole = _STORAGE / "whole.tar"
    whole.unlink(missing_ok=True)
    _buildah("push", image.reference, f"docker-archive:{whole}:{image.reference}")
    layout.adopt_layers(whole)
    whole.unlink()


def _digest(image: Image) -> str:
    """Changes with anything the image is made of."""
    digest = hashlib.sha256()
    digest.update(f"{image.reference} {platform.machine()} {_base_digest()}".encode())
    digest.update(image.version.encode())
    for file in sorted({image.containerfile, *_files(image.sources)}):
        content = file.read_bytes()
        mode = file.stat().st_mode & 0o111
        digest.update(f"{file.relative_to(CHECKOUT)} {mode} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def _files(sources: Iterable[Path]) -> list[Path]:
    every = (file for source in sources for file in (source, *source.rglob("*")))
    found = (file for file in every if file.is_file())
    return [file for file in found if "__pycache__" not in file.parts]


def _runner_reference(package: Path) -> str:
    """IMAGE of image.py, which is "name:" + the version, read without importing the package."""
    version = _constant(package / "_version.py", "__version__", {})
    return _constant(package / "image.py", "IMAGE", {"__version__": version})


def _constant(file: Path, name: str, known: dict[str, str]) -> str:
    try:
        tree = ast.parse(file.read_text())
    except OSError as error:
        raise TestbedError(f"the runner's image has no name: {error}") from error
    for statement in tree.body:
        targets: list[ast.expr] = []
        value: ast.expr | None = None
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign):
            targets, value = [statement.target], statement.value
        if value is not None and any(isinstance(t, ast.Name) and t.id == name for t in targets):
            return _text(value, known, file)
    raise TestbedError(f"{file} does not define {name}")


def _text(value: ast.expr, known: dict[str, str], file: Path) -> str:
    """A text built of constants, `+`, f-strings and known names."""
    match value:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name) if name in known:
            return known[name]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left, known, file) + _text(right, known, file)
        case ast.JoinedStr(values=parts):
            return "".join(_text(part, known, file) for part in parts)
        case ast.FormattedValue(value=inner):
            return _text(inner, known, file)
    raise TestbedError(
        f"{file}:{value.lineno}: more than constants and __version__: {ast.unparse(value)}"
    )


# The base images


def _ensure_base(base: str, release: str) -> None:
    tag = f"{base}-{_base_digest()}"
    try:
        _buildah("inspect", "--type=image", tag)
    except TestbedError:
        say(f"making base image {base}")
    else:
        return
    tar = _STORAGE / "base.tar"
    run(
        [
            *UNTIL_WE_END,
            *("mmdebstrap", "--variant=minbase", "--quiet", f"--keyring={KEYRING}"),
            # As in Debian's own slim images.
            *(
                f"--dpkgopt=path-exclude=/usr/share/{folder}/*"
                for folder in ("doc", "info", "locale", "man", "groff", "lintian", "linda")
            ),
            *(release, str(tar), *apt_sources(release)),
        ]
    )
    container = _buildah("from", "scratch").strip()
    _buildah("add", container, str(tar), "/")
    _buildah("config", "--cmd", "bash", container)
    _buildah("commit", "--rm", container, base)
    _buildah("tag", base, tag)
    tar.unlink()


def _base_digest() -> str:
    """Changes when the base image is made in another way, not with its packages' versions."""
    return "1"


def _buildah(*argv: str) -> str:
    """Run buildah with its own storage, in a mount namespace of its own.

    Its mounts, and its notes of them, which are in memory, go when it ends, however it ends.
    """
    _STORAGE.mkdir(parents=True, exist_ok=True)
    run_root = _STORAGE / "run"
    run_root.mkdir(exist_ok=True)
    # Its own place for network configuration, which it makes although it needs none.
    config = _STORAGE / "containers.conf"
    config.write_text(f'[network]\nnetwork_config_dir = "{_STORAGE}/networks"\n')
    # /var/lib/containers: a cache that no option moves.
    script = (
        f"mount -t tmpfs tmpfs {run_root} && mkdir -p /var/lib/containers "
        '&& mount -t tmpfs tmpfs /var/lib/containers && exec buildah "$@"'
    )
    return run(
        [
            *UNTIL_WE_END,
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "buildah"),
            *(f"--root={_STORAGE / 'root'}", f"--runroot={run_root}", "--storage-driver=overlay"),
            *argv,
        ],
        env={"CONTAINERS_CONF": str(config), "TMPDIR": str(_STORAGE)},
    )
