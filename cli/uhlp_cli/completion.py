"""`uhlp completion`: the shell code that completes commands and options."""

import click
from click.shell_completion import get_completion_class

from uhlp_cli.frame import Command, Invocation

_WHERE = {
    "bash": 'eval "$(uhlp completion bash)"  in ~/.bashrc',
    "zsh": 'eval "$(uhlp completion zsh)"  in ~/.zshrc',
    "fish": "uhlp completion fish > ~/.config/fish/completions/uhlp.fish",
}


@click.command("completion", cls=Command, epilog="\b\nTo install:\n" + "\n".join(_WHERE.values()))
@click.argument("shell", type=click.Choice(tuple(_WHERE)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the code that makes SHELL complete `uhlp`.

    With --json: {shell, script}.
    """
    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"no completion is known for {shell}")
    script = made(ctx.find_root().command, {}, "uhlp", "_UHLP_COMPLETE").source()
    invocation: Invocation = ctx.obj
    invocation.answer({"shell": shell, "script": script}, script)
