"""What an image is made of, and its name, which follows from exactly that.

An image's tag is the hash of all that goes into it. So an unchanged installation finds its images built,
and a changed one cannot run yesterday's runner by mistake. Reads files; builds nothing.
"""

import hashlib
import importlib.util
import io
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from uhlp_core.errors import UhlpError

from . import debian_base, debian_packages


@dataclass(frozen=True, slots=True)
class Recipe:
    """What makes one image differ from the others."""

    sources: tuple[str, ...]
    """Patterns of the runner's files that it has."""
    packages: tuple[str, ...] = ()
    """Debian packages beyond the Debian base."""
    official: tuple[str, str, str] | None = None
    """Repository and tag of an official image, and the file of it, that serve instead of the packages where
    a registry can be reached."""


PYTHON_RUNNER = "python_runner"
NODE_RUNNER = "node_runner"
LLM_ORCHESTRATOR = "llm_orchestrator"

IMAGES = {
    PYTHON_RUNNER: Recipe(sources=("*.py",)),
    NODE_RUNNER: Recipe(
        sources=("*.py", "*.mjs"),
        packages=("nodejs",),
        official=("node", "22-bookworm-slim", "/usr/local/bin/node"),
    ),
    LLM_ORCHESTRATOR: Recipe(sources=("*.py",)),
}
"""Every image of the platform; each has a folder with its Dockerfile."""

TEMPLATING = ("jinja2", "markupsafe")
"""Packages that the runner renders prompts with: pure Python, half a megabyte, the installation's own."""

REPOSITORY = "uhlp"

PACKAGES = "packages.tar"
"""What a Dockerfile finds beside it of an image that has packages."""

LIBRARY = "orjson"
"""The platform's own copy comes along, since not every release of Debian has it and the runner is a tenth
faster with it. Its file names the interpreter that it is for; where that is another one, it is not found."""

OFFICIAL_BASE = ("python", "3.11-slim-bookworm")
"""Repository and tag of what an image is built on where a registry can be reached."""

SOURCE_LABEL = "uhlp.source"
VERSION_LABEL = "uhlp.version"
BASE_LABEL = "uhlp.base"
"""What every image of ours says about itself. An image built on one of ours inherits it."""

_HASH_LENGTH = 12


@cache
def source_hash(name: str) -> str:
    """The hash of everything the image is made of. Read once: a process keeps to the image it knew first."""
    digest = hashlib.sha256()
    for path, content in _inputs(name):
        digest.update(f"{path}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:_HASH_LENGTH]


def current() -> frozenset[str]:
    """The hashes of all images as this installation wants them."""
    return frozenset(map(source_hash, IMAGES))


def tag(name: str) -> str:
    """The full name of the image as this installation wants it, such as `uhlp/python_runner:1f0c…`."""
    return f"{REPOSITORY}/{name}:{source_hash(name)}"


def base_tag() -> str:
    """The full name of the base that is made from Debian packages."""
    digest = hashlib.sha256(debian_base.recipe()).hexdigest()[:_HASH_LENGTH]
    return f"{REPOSITORY}/base:{digest}"


def named(reference: str) -> str | None:
    """The image of ours that a pool's `dockerImage` names, such as `uhlp/python_runner`; None for others."""
    repository, _, name = reference.partition("/")
    return name if repository == REPOSITORY and name in IMAGES else None


def context(name: str, packages: Path | None) -> IO[bytes]:
    """The tar that the engine builds the image from; `packages` is the tar of what the base lacks."""
    archive = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in _build_files(name):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
        if packages is not None:
            tar.add(packages, arcname=PACKAGES)
    archive.seek(0)
    return archive


def _inputs(name: str) -> Iterator[tuple[str, bytes]]:
    yield from _build_files(name)
    yield "official base", ":".join(OFFICIAL_BASE).encode()
    yield "debian base", debian_base.recipe()
    image = IMAGES[name]
    if image.packages:
        yield "packages", " ".join((*image.packages, *(image.official or ()))).encode()
        yield "debian packages", debian_packages.recipe()


def _build_files(name: str) -> Iterator[tuple[str, bytes]]:
    yield "Dockerfile", _dockerfile(name).read_bytes()
    runner = package("uhlp_runner")
    found = {path for pattern in IMAGES[name].sources for path in runner.rglob(pattern)}
    for path in sorted(found):
        yield f"uhlp_runner/{path.relative_to(runner)}", path.read_bytes()
    for library in TEMPLATING:
        folder = package(library)
        for path in sorted(folder.rglob("*.py")):
            yield f"templating/{library}/{path.relative_to(folder)}", path.read_bytes()
    for path in sorted(package(LIBRARY).iterdir()):
        if path.suffix in (".py", ".so"):
            yield f"libraries/{LIBRARY}/{path.name}", path.read_bytes()


def _dockerfile(name: str) -> Path:
    """A wheel carries the images' folders inside this package; in a checkout they lie beside the runner."""
    packed = Path(__file__).parent / "_assets" / name / "Dockerfile"
    return packed if packed.is_file() else package("uhlp_runner").parent / name / "Dockerfile"


def package(name: str) -> Path:
    """The folder of an installed package. Raises UhlpError."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UhlpError(f"the package {name} is not installed; install uhlp again")
    return Path(spec.submodule_search_locations[0])
