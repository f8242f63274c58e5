"""`gateway reload`: asks the running gateway at its control socket."""

import click

from gateway.cli.options import configured
from gateway.config import Config
from gateway.process import control


_RELOAD_SECONDS = 30.0
_UPGRADE_SECONDS = 90.0
"""Longer than the gateway waits for the new process."""


@click.command()
@configured
def reload(config: Config) -> None:
    """Make the running gateway read its configuration again, and print what changed.

    The options only say where it listens (control_file): it reads what it was started with. It uses all of
    the new configuration or, if something is wrong with it, nothing: the exit status is then 1."""
    _ask(config, "reload", seconds=_RELOAD_SECONDS)


@click.command()
@configured
def upgrade(config: Config) -> None:
    """Replace the running gateway by a new process with the code and the configuration of now.

    The port stays open, and clients resume at the new process. The options only say where the gateway listens
    (control_file): the new process has the options of the old one. If it does not become ready, the old one
    goes on, and the exit status is 1."""
    _ask(config, "upgrade", seconds=_UPGRADE_SECONDS)


def _ask(config: Config, word: str, *, seconds: float) -> None:
    path = config.control_file
    if not path:
        raise click.ClickException("control_file is not set: set it to the path of a socket and restart the gateway")
    try:
        done, text = control.ask(path, word, seconds=seconds)
    except OSError as error:
        raise click.ClickException(f"no gateway answers at {path}: {error.strerror or error}") from error
    click.echo(text, err=not done)
    if not done:
        raise SystemExit(1)
