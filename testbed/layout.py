"""Built images as an OCI image layout: a folder of blobs, each named by its digest.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .settings import CACHE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

FOLDER = CACHE / "images"
_BLOBS = FOLDER / "blobs" / "sha256"
_LAYOUT = {"imageLayoutVersion": "1.0.0"}
_REFERENCE = "org.opencontainers.image.ref.name"
_CONTAINERD_REFERENCE = "io.containerd.image.name"


@dataclass(frozen=True)
class Built:
    """A built image: its reference, its manifest, and the digests of its config and layers."""

    reference: str
    manifest: str
    manifest_size: int
    config: str
    layers: tuple[str, ...]

    @property
    def blobs(self) -> tuple[str, ...]:
        """Every blob the image is made of, by digest."""
        return (self.manifest, self.config, *self.layers)

    @property
    def size(self) -> int:
        """Bytes in the layout; the big layers are not compressed."""
        return sum(blob(digest).stat().st_size for digest in self.blobs)


def blob(digest: str) -> Path:
    """The file of a blob (`sha256:…`)."""
    return _BLOBS / digest.removeprefix("sha256:")


def find(reference: str) -> Built | None:
    """The image of this reference, if the layout has it whole."""
    try:
        index = _read(FOLDER / "index.json")
        entry = next(m for m in index["manifests"] if _tag(m) == reference)
        manifest = _read(blob(entry["digest"]))
    except (OSError, ValueError, StopIteration):
        return None
    layers = tuple(layer["digest"] for layer in manifest["layers"])
    built = Built(reference, entry["digest"], entry["size"], manifest["config"]["digest"], layers)
    return built if all(blob(digest).exists() for digest in built.blobs) else None


def adopt_layers(docker_archive: Path) -> None:
    """Take the uncompressed layers out of an archive that buildah wrote."""
    _BLOBS.mkdir(parents=True, exist_ok=True)
    with tarfile.open(docker_archive) as archive:
        for member in archive:
            # A layer is DIGEST.tar; the same under older names are links.
            source = archive.extractfile(member) if member.isfile() else None
            path = Path(member.name)
            if source is None or path.suffix != ".tar" or len(path.parts) != 1:
                continue
            target = _BLOBS / path.stem
            if not target.exists():
                new = target.with_suffix(".new")
                with new.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                new.rename(target)


def prune(keep: Collection[str]) -> None:
    """Forget images of other references than these, and blobs of none."""
    index = _read(FOLDER / "index.json")
    index["manifests"] = [m for m in index["manifests"] if _tag(m) in keep]
    (FOLDER / "index.json").write_text(json.dumps(index))
    built = [find(reference) for reference in keep]
    used = {digest for image in built if image for digest in image.blobs}
    for file in _BLOBS.iterdir():
        if f"sha256:{file.name}" not in used:
            file.unlink()


def write_archive(
    images: Sequence[Built], output: IO[bytes], without: Collection[str] = ()
) -> None:
    """Write images as one archive that containerd and Docker read.

    Args:
        images: the images.
        output: where to; it need not be seekable.
        without: digests of blobs to leave out, since the reader has them.
    """
    index = {
        "schemaVersion": 2,
        "manifests": [
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": image.manifest,
                "size": image.manifest_size,
                "annotations": {
                    _REFERENCE: image.reference.rpartition(":")[2],
                    _CONTAINERD_REFERENCE: image.reference,
                },
            }
            for image in images
        ],
    }
    # What Docker's `load` reads; containerd goes by the index.
    manifest = [
        {
            "Config": _member(image.config),
            "RepoTags": [image.reference.removeprefix("docker.io/")],
            "Layers": [_member(layer) for layer in image.layers],
        }
        for image in images
    ]
    with tarfile.open(fileobj=output, mode="w|") as archive:
        _add(archive, "oci-layout", _LAYOUT)
        _add(archive, "index.json", index)
        _add(archive, "manifest.json", manifest)
        for digest in {digest for image in images for digest in image.blobs} - set(without):
            with blob(digest).open("rb") as file:
                member = tarfile.TarInfo(_member(digest))
                member.size = blob(digest).stat().st_size
                archive.addfile(member, file)


def _member(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add(archive: tarfile.TarFile, name: str, content: object) -> None:
    data = json.dumps(content).encode()
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _tag(entry: dict[str, Any]) -> str | None:
    reference = entry.get("annotations", {}).get(_REFERENCE)
    return str(reference) if reference else None


def _read(file: Path) -> Any:
    return json.loads(file.read_text())
