"""The command `gateway`: one file per subcommand. Exit status 2 means a wrong configuration."""

import platform

import click

from gateway import __version__
from gateway.cli.check import check
from gateway.cli.keys import keys
from gateway.cli.publish import publish
from gateway.cli.serve import serve
from gateway.cli.status import status
from gateway.cli.tail import tail
from gateway.cli.token import token


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
def main() -> None:
    """Events from a ZeroMQ bus to WebSocket clients."""


@click.command()
def version() -> None:
    """Print the versions of the gateway and of Python."""
    click.echo(f"neurograph-gateway {__version__} (Python {platform.python_version()})")


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that makes SHELL complete commands, options, and channels of a running gateway.

    \b
    bash: eval "$(gateway completion bash)"      in ~/.bashrc
    zsh:  eval "$(gateway completion zsh)"       in ~/.zshrc, after compinit
    fish: gateway completion fish | source       in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    command = context.find_root().command
    click.echo(kind(command, {}, "gateway", "_GATEWAY_COMPLETE").source())


for command in (serve, check, tail, publish, status, token, keys, completion, version):
    main.add_command(command)
