"""`gateway completion`: what makes a shell complete this command."""

import click


SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that makes SHELL complete commands, options, and channels of a running gateway.

    \b
    bash: eval "$(gateway completion bash)"      in ~/.bashrc
    zsh:  eval "$(gateway completion zsh)"       in ~/.zshrc, behind compinit
    fish: gateway completion fish | source       in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    command = context.find_root().command
    click.echo(kind(command, {}, "gateway", "_GATEWAY_COMPLETE").source())
