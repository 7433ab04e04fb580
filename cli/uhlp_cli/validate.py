"""`uhlp validate`: a folder checked exactly as a push would check it."""

import sys
from pathlib import Path

import click

from uhlp_cli.frame import Command, ExitCode, Invocation
from uhlp_cli.output import clean, line


@click.command("validate", cls=Command)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--app", metavar="NAME", help="The app it is for.  [default: the appId in the definition]")
@click.pass_obj
def validate(invocation: Invocation, folder: Path, app: str | None) -> None:
    """Check the state repo's content in DIR as a push would, and list every problem.

    Exits with 1 if there are problems.

    With --json: {valid, app, problems: [{file, line, column, code, message, remedy}]}.
    """
    from uhlp_state.receive import current_platform
    from uhlp_state.tree_source import DirectorySource
    from uhlp_state.validate import validate as check

    named = app or _declared_app(folder)
    validation = check(DirectorySource(folder), named, platform=current_platform(invocation.home.repos))
    problems = validation.problems
    if invocation.json:
        document = {"valid": not problems, "app": named, "problems": [one.to_json() for one in problems]}
        invocation.answer(document, "")
    else:
        for problem in problems:
            line(clean(problem.format()))
        said = f"{len(problems)} problem{'s' * (len(problems) != 1)}" if problems else f"{named}: valid"
        line(said, fg="red" if problems else "green")
    if problems:
        sys.exit(ExitCode.PROBLEM)


def _declared_app(folder: Path) -> str:
    """The appId that the definition claims; the folder's name where it cannot be told."""
    import yaml

    try:
        document = yaml.safe_load((folder / "state" / "app_definition.yaml").read_bytes())
        return str(document["appId"])
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return folder.absolute().name
