"""Bring the images that this installation wants into the engine, from a registry's base or from packages."""

import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from uhlp_reconcilers.backends.docker_engine import Details, Engine
from uhlp_reconcilers.backends.protocol import BackendError

from . import debian_base, debian_packages, recipe

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Image:
    """An image of ours as the engine has it."""

    tag: str
    version: str
    """Of the platform that built it."""
    source: str
    base: str
    """What it was built on."""
    size: int
    """In bytes."""
    wanted: bool
    """Whether it is what this installation runs."""


def build(engine: Engine, name: str, progress: Progress) -> bool:
    """Build an image unless it is there; whether it was built. Raises BackendError, BaseUnavailable."""
    tag = recipe.tag(name)
    if engine.image(tag) is not None:
        return False
    base = _base(engine, progress)
    progress(f"building {tag} on {base}")
    labels = {
        recipe.VERSION_LABEL: version("uhlp"),
        recipe.SOURCE_LABEL: recipe.source_hash(name),
        recipe.BASE_LABEL: base,
    }
    with _packages(engine, name, base, progress) as packages, recipe.context(name, packages) as context:
        _follow(engine.build(context, tag, {"BASE": base}, labels), progress)
    return True


def built(engine: Engine) -> list[Image]:
    """Every image of ours that the engine has, whoever built it, newest first. Raises BackendError."""
    wanted = {recipe.tag(name) for name in recipe.IMAGES}
    return [
        Image(
            tag=tag,
            version=details["Labels"].get(recipe.VERSION_LABEL, ""),
            source=details["Labels"][recipe.SOURCE_LABEL],
            base=details["Labels"].get(recipe.BASE_LABEL, ""),
            size=details["Size"],
            wanted=tag in wanted,
        )
        for details in engine.images(recipe.SOURCE_LABEL)
        for tag in details["RepoTags"] or ()
    ]


def _base(engine: Engine, progress: Progress) -> str:
    """What to build on: the cached Debian base, the official image, or a Debian base made now."""
    made = recipe.base_tag()
    if engine.image(made) is not None:
        return made
    try:
        return _official(engine, *recipe.OFFICIAL_BASE, progress)
    except BackendError as error:
        progress(f"no registry ({error}); making a base from Debian packages instead")
    with tempfile.TemporaryDirectory(prefix="uhlp-base-", dir=debian_base.WORK_FOLDER) as folder:
        archive = Path(folder) / "root.tar"
        debian_base.make(archive, progress)
        progress(f"importing {made}")
        engine.load_root(archive, *made.split(":"))
    return made


@contextmanager
def _packages(engine: Engine, name: str, base: str, progress: Progress) -> Iterator[Path | None]:
    """The tar of what an image has beyond its base, from where the base came from; None if it is nothing."""
    image = recipe.IMAGES[name]
    if not image.packages:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="uhlp-packages-") as folder:
        archive = Path(folder) / recipe.PACKAGES
        if image.official is not None and base != recipe.base_tag():
            repository, tag, file = image.official
            program = Path(folder) / "program"
            engine.copy_out(_official(engine, repository, tag, progress), file, program)
            program.chmod(0o755)
            with tarfile.open(archive, "w") as tar:
                tar.add(program, arcname=file.removeprefix("/"))
        else:
            status = Path(folder) / "status"
            engine.copy_out(base, debian_packages.STATUS, status)
            debian_packages.make(archive, image.packages, status, progress)
        yield archive


def _official(engine: Engine, repository: str, tag: str, progress: Progress) -> str:
    """The official image, fetched if it is not there. Raises BackendError where no registry answers."""
    official = f"{repository}:{tag}"
    if engine.image(official) is None:
        progress(f"fetching {official}")
        _follow(engine.pull(repository, tag), progress)
    return official


def _follow(steps: Iterable[Details], progress: Progress) -> None:
    """Tell the engine's progress. Raises BackendError with the engine's reason if it failed."""
    for step in steps:
        if "error" in step:
            raise BackendError(f"the Docker engine says: {step['error'].strip()}")
        text = step.get("stream") or step.get("status") or ""
        if text.strip():
            progress(text.strip())
