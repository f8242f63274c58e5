"""`gateway serve`: runs the gateway."""

import sys

import click

from gateway import logs
from gateway.cli.options import configured
from gateway.config import Config


@click.command()
@configured
def serve(config: Config) -> None:
    """Receive events from the bus and serve them to clients, until SIGTERM or SIGINT.

    It is configured by a TOML file, GATEWAY_… variables and flags; the later override the earlier. The first
    signal drains the clients, a second one stops at once. SIGHUP reads keys again from their files.
    """
    # Imported here, so that other commands start faster.
    from gateway import service
    from gateway.workers import supervisor

    logs.set_up(config.logging.level, config.logging.format)
    sys.exit(service.run(config, supervisor.Supervisor if config.workers > 1 else None))
