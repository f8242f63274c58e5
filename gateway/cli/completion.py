"""`gateway completion`: what makes a shell complete this command's words."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script for SHELL, as in: eval "$(gateway completion bash)"."""
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(context.find_root().command, {}, "gateway", "_GATEWAY_COMPLETE").source()
    click.echo(script)
