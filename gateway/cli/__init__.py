"""The command `gateway`: one file per subcommand. Exit status 2 means that the configuration is wrong."""

import click

from gateway import __version__
from gateway.cli.check import check
from gateway.cli.completion import completion
from gateway.cli.keys import keys
from gateway.cli.publish import publish
from gateway.cli.serve import serve
from gateway.cli.status import status
from gateway.cli.tail import tail
from gateway.cli.token import token
from gateway.cli.version import version


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
def main() -> None:
    """Events from a ZeroMQ bus to WebSocket clients."""


for command in (serve, check, tail, publish, status, token, keys, completion, version):
    main.add_command(command)
