"""`gateway version`: what is installed here."""

import platform

import click

from gateway import __version__


@click.command()
def version() -> None:
    """Print the versions of the gateway and of Python."""
    click.echo(f"neurograph-gateway {__version__} (Python {platform.python_version()})")
