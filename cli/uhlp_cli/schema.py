"""`uhlp schema`: the JSON Schemas of a state repo's files, for editors."""

from pathlib import Path

import click

from uhlp_cli.frame import Group, Invocation


@click.group("schema", cls=Group)
def schema() -> None:
    """Work with the JSON Schemas of a state repo's files."""


@schema.command("export")
@click.argument(
    "folder",
    metavar="[DIR]",
    required=False,
    type=click.Path(path_type=Path, file_okay=False),
    default="schemas",
)
@click.pass_obj
def export(invocation: Invocation, folder: Path) -> None:
    """Write every schema into DIR (default: schemas), for an editor's YAML support.

    With --json: {files: [path]}.
    """
    from uhlp_state.schema_export import export_schemas, serialise

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, document in sorted(export_schemas().items()):
        path = folder / name
        path.write_bytes(serialise(document))
        written.append(str(path))
    invocation.answer({"files": written}, "\n".join(written))
