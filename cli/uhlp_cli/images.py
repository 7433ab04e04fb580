"""`uhlp images`: the container images that sandboxes run in, built on this machine."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import click

from uhlp_cli.frame import Group, Invocation
from uhlp_cli.output import clean, table

Progress = Callable[[str], None]


@click.group("images", cls=Group)
def images() -> None:
    """Build and list the container images that sandboxes run in."""


@images.command("build")
@click.argument("names", metavar="[IMAGE]...", nargs=-1)
@click.pass_obj
def build(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Build IMAGE (default: all) unless this version of it is there.

    Starts from an official image where a registry can be reached, and otherwise from Debian packages, which
    needs root and debootstrap.

    With --json: {images: [{tag, built}]}.
    """
    from uhlp_core.errors import InvalidInput
    from uhlp_reconcilers.backends.docker_engine import Engine
    from uhlp_reconcilers.images import build as builder
    from uhlp_reconcilers.images import recipe

    for name in names:
        if name not in recipe.IMAGES:
            raise InvalidInput(f"there is no image {name!r}; images: {', '.join(recipe.IMAGES)}")
    engine = Engine()
    results = []
    for name in names or recipe.IMAGES:
        with _progress() as progress:
            was_built = builder.build(engine, name, progress)
        results.append({"tag": recipe.tag(name), "built": was_built})
    engine.close()
    lines = [f"{one['tag']}  {'built' if one['built'] else 'is there already'}" for one in results]
    invocation.answer({"images": results}, "\n".join(lines))


@images.command("list")
@click.pass_obj
def list_images(invocation: Invocation) -> None:
    """List the images that the Docker engine has, and which of them this version runs.

    With --json: {images: [{tag, version, source, base, size, wanted}]}, size in bytes.
    """
    from uhlp_reconcilers.backends.docker_engine import Engine
    from uhlp_reconcilers.images import build as builder

    engine = Engine()
    found = builder.built(engine)
    engine.close()
    if invocation.json:
        invocation.answer({"images": [asdict(image) for image in found]}, "")
        return
    rows = [
        (image.tag, image.version, image.base, f"{image.size >> 20} MiB", "in use" if image.wanted else "old")
        for image in found
    ]
    table(("IMAGE", "VERSION", "BASE", "SIZE", ""), rows)


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show the last step beside a spinner on a terminal; without one, a line for each step."""
    if not sys.stderr.isatty():
        yield lambda text: click.echo(clean(text), err=True)
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("looking at what is there …") as status:
        yield lambda text: status.update(escape(clean(text)))
