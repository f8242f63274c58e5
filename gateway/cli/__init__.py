"""The command `gateway`: its own subcommands, and those of other packages.

Exit status 2 means that the configuration is wrong."""

import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gateway import __version__
from gateway.cli import streams
from gateway.cli.check import check
from gateway.cli.control import reload, upgrade
from gateway.cli.doctor import doctor
from gateway.cli.options import REREAD, configured
from gateway.cli.token import token
from gateway.config import Config
from gateway.runtime import logs
from gateway.runtime.docstrings import docstring


GROUP = "gateway.commands"
"""The entry points of packages that add subcommands; each names a click command."""

PACKAGES = {
    "bench": "clients/python",
    "inspect": "clients/python",
    "publish": "publishers/python",
    "record": "clients/python",
    "replay": "clients/python",
    "request": "clients/python",
    "status": "clients/python",
    "tail": "clients/python",
}
"""Subcommands that this project's other packages add, and their folders in its source."""


_INTERRUPTED = 130


class Commands(click.Group):
    """The gateway's own subcommands, and those that installed packages add.

    An added one is imported when it is used or listed. So `serve` does not wait for it, and starts
    even if it is broken."""

    def main(self, *args: Any, **kwargs: Any) -> Any:  # as click has it
        if not kwargs.get("standalone_mode", True):
            return super().main(*args, **kwargs)
        streams.open_closed()
        try:
            try:
                status = super().main(*args, **{**kwargs, "standalone_mode": False})
            except click.ClickException as error:
                error.show()
                status = error.exit_code
        except OSError as error:
            streams.exit_if_full(error)
        except (click.Abort, KeyboardInterrupt):  # wherever Ctrl-C comes; click itself would print "Aborted!"
            status = _INTERRUPTED
        raise SystemExit(status)

    def invoke(self, context: click.Context) -> None:
        super().invoke(context)  # what a command returns is not its exit status

    def list_commands(self, context: click.Context) -> list[str]:
        from importlib.metadata import entry_points  # here, as it slows down the start

        added = {entry.name for entry in entry_points(group=GROUP)}
        return sorted({*super().list_commands(context), *PACKAGES, *added})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        command = super().get_command(context, name) or _added(name)
        if command is not None and command.help is None and command.callback is not None:  # with -OO
            command.help = docstring(command.callback)
        return command


def _added(name: str) -> click.Command | None:
    """Return another package's subcommand, or one that says why it cannot be used."""
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP, name=name):
        try:
            command = entry.load()
        except Exception as error:  # whatever another package's import raises
            return _unavailable(name, f"{entry.value} cannot be imported: {error!r}")
        if isinstance(command, click.Command):
            return command
        return _unavailable(name, f"{entry.value} is not a click command")
    if name in PACKAGES:
        return _unavailable(name, f"it needs, from this project's source: pip install './{PACKAGES[name]}[terminal]'")
    return None


def _unavailable(name: str, reason: str) -> click.Command:
    def fail(arguments: Sequence[str]) -> None:
        raise click.ClickException(f"`gateway {name}` is not available: {reason}")

    return click.Command(
        name,
        callback=fail,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        context_settings={"ignore_unknown_options": True},
        add_help_option=False,
        short_help=f"(Not available: {reason})",
    )


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Events from a ZeroMQ bus to WebSocket clients.",
)
@click.version_option(__version__, message="%(version)s")
def main() -> None:
    """The command `gateway`."""


@click.command()
@configured
def serve(config: Config) -> None:
    """Receive events from the bus and serve them to clients, until SIGTERM or SIGINT.

    It is configured by a TOML file, GATEWAY_… variables and flags; the later override the earlier. The first
    signal drains the clients, a second one stops at once. SIGHUP reads the configuration again, as `gateway
    reload` does."""
    from gateway.process import gateway as process  # here, so that other commands start faster

    logs.set_up(config.logging.level, config.logging.format)
    sys.exit(process.run(config, click.get_current_context().meta[REREAD]))


@click.command()
@configured
def proxy(config: Config) -> None:
    """Take events from publishers to gateways elsewhere, with libzmq's own proxy, until SIGTERM or SIGINT.

    Publishers are at `connect` and `bind`, as for a gateway; gateways connect to `proxy.publish`, and ask there for
    what they missed. At `host` and `port` are /healthz and /metrics. See docs/bus.md."""
    from gateway.process import proxy as process  # here, so that other commands start faster

    logs.set_up(config.logging.level, config.logging.format)
    sys.exit(process.run(config))


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--name", default="gateway", show_default=True, help="Name of the files.")
def keys(folder: Path, name: str) -> None:
    """Make a pair of CURVE keys for the bus: DIR/NAME.key is public, DIR/NAME.key_secret is secret.

    Existing files are never overwritten. Each publisher and each gateway needs a pair of its own."""
    from gateway.bus.keys import make_pair  # here, so that other commands start without zmq

    if not name or name.startswith(".") or not name.isprintable() or set(name) & {"/", "\\"}:
        raise click.BadParameter(f"{name!r} is not a file name", param_hint="--name")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        public, secret = make_pair(folder.resolve(), name)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
    own = json.dumps(str(secret), ensure_ascii=False)  # as TOML and Python write it, too
    click.echo(
        f"""\
Give {public} to everyone who connects with {name}. Keep {secret.name} on its machine.

In the gateway's [bus]:  curve_key_file = {own}
                         curve_client_keys_dir = "FOLDER with the .key file of each publisher"  # for bind
                         curve_server_key_file = "the .key file of the publisher"               # for connect
A publisher, to connect: Publisher(connect=…, curve=Curve({own}, "the .key file of the gateway"))
             to bind:    Publisher(bind=…, curve=Curve({own}, "FOLDER with the .key file of each gateway"))"""
    )


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


for command in (serve, proxy, reload, upgrade, check, doctor, token, keys, completion, version):
    main.add_command(command)
