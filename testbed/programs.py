"""Programs whose every call is known, in the languages that functions are traced in.

Each calls the same functions again and again and logs its own calls (README.md), so that what a
tracer says can be compared with what was. They are built on this machine, by its own compilers and
by the Go of later suites, and run on it as well as in the images.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from . import suites
from .commands import run, say
from .errors import TestbedError
from .lock import locked
from .settings import CACHE, FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SOURCES = FOLDER / "programs"
#: The Debian packages that compile them.
COMPILERS = ("binutils", "g++", "gcc", "golang-go", "libc6-dev", "rustc")

_FOLDER = CACHE / "programs"
# What is unpacked of other suites, and what their Go has compiled.
_LANGUAGES = CACHE / "languages"
_COMPILED = ("c", "cpp", "go", "rust")
_DAY = 24 * 60 * 60

_C = {
    "c-O0": ("-O0", "-g"),
    "c-O2": ("-O2", "-g"),
    "c-split": ("-O2", "-g"),
    "c-static": ("-O2", "-gdwarf-4", "-static", "-no-pie"),
    "c-stripped": ("-O2", "-s"),
}
_CPP = {
    "cpp-O0": ("-O0", "-g"),
    "cpp-O2": ("-O2", "-g"),
    "cpp-stripped": ("-O2", "-s"),
}
_RUST = {
    "rust-O": ("-O", "-g"),
    "rust-debug": ("-g",),
    "rust-stripped": ("-O", "-C", "strip=symbols"),
    "rust-v0": ("-O", "-g", "-C", "symbol-mangling-version=v0"),
}
#: By what follows the version in the name.
_GO: Mapping[str, tuple[str, ...]] = {"": (), "-stripped": ("-ldflags=-s -w",)}
_GO_OF_TRIXIE: Mapping[str, tuple[str, ...]] = {
    **_GO,
    "-noopt": ("-gcflags=-N -l",),
    "-pie-stripped": ("-buildmode=pie", "-ldflags=-s -w"),
}


def folder() -> Path:
    """Where the programs of these sources are, or will be."""
    digest = hashlib.sha256(platform.machine().encode())
    sources = [file for name in _COMPILED for file in (SOURCES / name).iterdir()]
    for file in sorted([Path(__file__), *sources]):
        digest.update(f"{file.name}\n".encode() + file.read_bytes())
    return _FOLDER / digest.hexdigest()[:16]


def ensure() -> Path:
    """Build the programs unless those of these sources are there; give their folder.

    Raises:
        TestbedError: a compiler failed, or is not to be had.
    """
    built = folder()
    if built.exists():
        return built
    with locked(_FOLDER / "lock", "build the traced programs"):
        if built.exists():
            return built
        _forget_old()
        say("building the traced programs")
        started = time.monotonic()
        suites.install(*COMPILERS)
        with suites.made_whole(built) as new:
            new.mkdir()
            _build(new)
        say(f"the traced programs are built ({time.monotonic() - started:.0f} s)")
    return built


def _forget_old() -> None:
    """Remove the programs of other sources, but those that a test of today may use."""
    for other in _FOLDER.iterdir():
        if len(other.name) == 16 and time.time() - other.stat().st_mtime > _DAY:
            shutil.rmtree(other)


def _build(new: Path) -> None:
    for name, options in _C.items():
        run(["gcc", "-std=gnu11", *options, "-o", new / name, SOURCES / "c" / "calls.c"])
    _split(new / "c-split")
    for name, options in _CPP.items():
        run(["g++", "-std=c++17", *options, "-o", new / name, SOURCES / "cpp" / "calls.cpp"])
    for name, options in _RUST.items():
        # Not by name: in PATH may be another than Debian's.
        run(["/usr/bin/rustc", *options, "-o", new / name, SOURCES / "rust" / "calls.rs"])
    _build_go(Path("/usr/lib/go-1.19"), new / "go1.19", _GO)
    trixie = _go_in(_unpacked("trixie", "golang-go"))
    _build_go(trixie, new / "go1.24", _GO_OF_TRIXIE)
    # Never run here, but read.
    _build_go(trixie, new / "go1.24-arm64", {"": ()}, env={"GOARCH": "arm64"})
    _build_go(_go_in(_unpacked("sid", "golang-go")), new / "go-newest", _GO)
    try:
        old = _unpacked("bullseye", "golang-go,python3")
    except TestbedError:
        # Its support has ended; one day mirrors will not have it.
        say("Debian bullseye is not to be had: no program of Go 1.15 and no Python 3.9")
        return
    _build_go(_go_in(old), new / "go1.15", _GO, files="calls.go")
    (new / "python3.9").symlink_to(old / "usr" / "bin" / "python3.9")


def _split(program: Path) -> None:
    """Put debug information into a file of its own, as Debian's -dbgsym packages have it."""
    debug = program.with_name(f"{program.name}.debug")
    run(["objcopy", "--only-keep-debug", "--compress-debug-sections", program, debug])
    run(["strip", "--strip-all", program])
    run(["objcopy", f"--add-gnu-debuglink={debug}", program])


def _build_go(
    root: Path,
    program: Path,
    variants: Mapping[str, Sequence[str]],
    files: str = "*.go",
    env: Mapping[str, str] | None = None,
) -> None:
    go = root / "bin" / "go"
    sources = sorted((SOURCES / "go").glob(files))
    for suffix, options in variants.items():
        built = f"{program}{suffix}"
        run(
            [go, "build", "-trimpath", *options, "-o", built, *sources],
            env={
                **{name: "" for name in os.environ if name.startswith(("GO", "CGO"))},
                "GOROOT": str(root),
                "GOCACHE": str(_LANGUAGES / "go-build"),
                "GOTOOLCHAIN": "local",
                "GOPROXY": "off",
                "GO111MODULE": "off",
                "CGO_ENABLED": "0",
                **(env or {}),
            },
        )


def _unpacked(suite: str, packages: str) -> Path:
    """The packages of another suite, unpacked once a machine."""
    root = _LANGUAGES / suite
    if not root.exists():
        with suites.made_whole(root) as new:
            say(f"unpacking {packages} of Debian {suite}")
            suites.unpack(suite, packages, new)
    return root


def _go_in(root: Path) -> Path:
    """The folder of the Go in there; its programs are static."""
    (found,) = root.glob("usr/lib/go-*")
    return found
