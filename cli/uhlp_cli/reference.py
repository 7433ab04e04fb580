"""The generated pages of the manual; `python -m uhlp_cli.reference` (`make docs`) writes them into `docs/`.

Each page is derived from the code that it describes, so it cannot say anything else.
"""

from collections.abc import Callable, Iterator, Mapping
from inspect import cleandoc
from pathlib import Path
from typing import Any

import click

Lines = Iterator[str]


def render(page: str) -> str:
    """The Markdown of one page of `PAGES`."""
    head = "<!-- Generated from the code: do not edit. `make docs` writes it anew. -->\n"
    return head + "\n".join(PAGES[page]()) + "\n"


def _cli() -> Lines:
    from uhlp_cli.main import cli

    yield "# The command line"
    yield ""
    yield _paragraphs(cli.help)
    yield ""
    yield "Tables have columns and colour on a terminal (`NO_COLOR` turns colour off); in a pipe they are"
    yield "tab-separated lines without a head. With `--json`, standard output is one JSON document (one"
    yield 'object a line for `logs` and `events`), and an error is `{"error": {"code", "message"}}`.'
    yield ""
    yield "| exit code | meaning |"
    yield "|---|---|"
    for line in (cli.epilog or "").splitlines():
        number, _, meaning = line.strip().partition("  ")
        if number.isdigit():
            yield f"| {number} | {meaning} |"
    for name in cli.list_commands(click.Context(cli)):
        command = cli.get_command(click.Context(cli), name)
        if command is not None:
            yield from _command(f"uhlp {name}", command)


def _command(path: str, command: click.Command) -> Lines:
    context = click.Context(command, info_name=path)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                yield from _command(f"{path} {name}", child)
        return
    yield ""
    yield f"## `{path}`"
    yield ""
    yield "```"
    yield " ".join([path, *command.collect_usage_pieces(context)])
    yield "```"
    yield ""
    yield _paragraphs(command.help)
    own = [option for option in command.params if isinstance(option, click.Option)]
    records = [
        record
        for option in own
        if option.name not in ("home_dir", "as_json") and (record := option.get_help_record(context))
    ]
    if records:
        yield ""
        yield "| option | meaning |"
        yield "|---|---|"
        for names, text in records:
            yield f"| {_cell(f'`{names}`')} | {_cell(text)} |"


def _paragraphs(text: str | None) -> str:
    r"""A command's help as Markdown; click's `\b` marks a block whose lines stay as they are."""
    blocks = []
    for block in cleandoc(text or "").split("\n\n"):
        if block.startswith("\b\n"):
            blocks.append("```\n" + block.removeprefix("\b\n") + "\n```")
        else:
            blocks.append(block)
    return "\n\n".join(blocks)


def _problems() -> Lines:
    from uhlp_state.problems import Code

    yield "# What the validator says"
    yield ""
    yield "A push, and `uhlp validate DIR`, list every problem with file, line, column, one of these codes,"
    yield "what is wrong, and how to mend it. The codes are stable. Not everything that is accepted is acted"
    yield "on by this release ([model.md](model.md) says of what): a component of type WORKFLOW answers 501"
    yield "`HANDLER_TYPE_NOT_AVAILABLE`."
    yield ""
    yield "| code | meaning |"
    yield "|---|---|"
    for code in Code:
        yield f"| `{code.value}` | {_cell(code.meaning)} |"


def _settings() -> Lines:
    from uhlp_core.settings import Settings

    yield "# Settings"
    yield ""
    yield "A setting comes from its default, then `<home>/config.yaml`, then its variable, then a flag of the"
    yield "command; the last one wins. A wrong value is refused with the place that it came from."
    yield ""
    yield "| setting | variable | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in Settings.model_fields.items():
        variable = "UHLP_HOME" if name == "home_dir" else f"UHLP_{name.upper()}"
        default = "" if field.default is None else f"`{field.default}`"
        yield f"| `{name}` | `{variable}` | {default} | {_cell(field.description or '')} |"


def _model() -> Lines:
    from uhlp_state.schema_export import export_schemas

    yield "# The files of a state repo"
    yield ""
    yield "Every key of every YAML file. `uhlp schema export` writes the same as JSON Schemas for editors."
    for name, schema in sorted(export_schemas().items()):
        definitions: Mapping[str, Any] = schema.get("$defs", {})
        yield ""
        yield f"## {schema.get('title', name)} (`{name}`)"
        yield from _object(schema)
        for title, definition in definitions.items():
            if "properties" in definition:
                yield ""
                yield f"### {title}"
                yield from _object(definition)


def _object(schema: Mapping[str, Any]) -> Lines:
    yield ""
    yield schema.get("description", "")
    yield ""
    yield "| key | type | meaning |"
    yield "|---|---|---|"
    required = set(schema.get("required", ()))
    for name, value in schema.get("properties", {}).items():
        mark = " (required)" if name in required else ""
        yield f"| `{name}`{mark} | {_cell(_type(value))} | {_cell(value.get('description', ''))} |"


def _type(schema: Mapping[str, Any]) -> str:
    """A JSON Schema's type in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            kinds = [_type(choice) for choice in schema[key] if choice.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"mapping to {_type(schema['additionalProperties'])}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _cell(text: str) -> str:
    """Text in a table's cell: on one line, and nothing in it taken for a border or for HTML."""
    between_ticks = " ".join(text.replace("|", "\\|").split()).split("`")
    between_ticks[::2] = [plain.replace("<", "&lt;") for plain in between_ticks[::2]]
    return "`".join(between_ticks)


PAGES: Mapping[str, Callable[[], Lines]] = {
    "cli": _cli,
    "problems": _problems,
    "settings": _settings,
    "model": _model,
}


def main() -> None:
    """Write every generated page into the checkout's `docs/`."""
    folder = Path(__file__).parents[2] / "docs"
    for page in PAGES:
        (folder / f"{page}.md").write_text(render(page))


if __name__ == "__main__":
    main()
