"""What an image is made of, and its name, which follows from exactly that.

An image's tag is the hash of all that goes into it. So an unchanged installation finds its images built,
and a changed one cannot run yesterday's runner by mistake. Reads files; builds nothing.
"""

import hashlib
import importlib.util
import io
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from uhlp_core.errors import UhlpError

from . import debian_base

PYTHON_RUNNER = "python_runner"
LLM_ORCHESTRATOR = "llm_orchestrator"
IMAGES = (PYTHON_RUNNER, LLM_ORCHESTRATOR)
"""Every image of the platform; each has a folder with its Dockerfile."""

TEMPLATING = ("jinja2", "markupsafe")
"""Packages that the runner renders prompts with: pure Python, half a megabyte, the installation's own."""

REPOSITORY = "uhlp"

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


def tag(name: str) -> str:
    """The full name of the image as this installation wants it, such as `uhlp/python_runner:1f0c…`."""
    return f"{REPOSITORY}/{name}:{source_hash(name)}"


def base_tag() -> str:
    """The full name of the base that is made from Debian packages."""
    digest = hashlib.sha256(debian_base.recipe()).hexdigest()[:_HASH_LENGTH]
    return f"{REPOSITORY}/base:{digest}"


def context(name: str) -> io.BytesIO:
    """The tar that the engine builds the image from."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in _build_files(name):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    archive.seek(0)
    return archive


def _inputs(name: str) -> Iterator[tuple[str, bytes]]:
    yield from _build_files(name)
    yield "official base", ":".join(OFFICIAL_BASE).encode()
    yield "debian base", debian_base.recipe()


def _build_files(name: str) -> Iterator[tuple[str, bytes]]:
    yield "Dockerfile", _dockerfile(name).read_bytes()
    runner = package("uhlp_runner")
    for path in sorted(runner.rglob("*.py")):
        yield f"uhlp_runner/{path.relative_to(runner)}", path.read_bytes()
    for library in TEMPLATING:
        folder = package(library)
        for path in sorted(folder.rglob("*.py")):
            yield f"templating/{library}/{path.relative_to(folder)}", path.read_bytes()


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
