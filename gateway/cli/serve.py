"""`gateway serve`: the gateway itself."""

import sys

import click

from gateway import logs
from gateway.cli.options import configured
from gateway.config import Config


@click.command()
@configured
def serve(config: Config) -> None:
    """Receive events from the bus and serve them until SIGTERM or SIGINT.

    A TOML file, GATEWAY_… variables and flags configure it, in rising order. The first signal drains,
    a second one ends at once.
    """
    # Here, so that `gateway check` and --help start without all that serving needs.
    from gateway import service
    from gateway.workers import supervisor

    logs.set_up(config.logging.level, config.logging.format)
    sys.exit(service.run(config, supervisor.Supervisor if config.workers > 1 else None))
