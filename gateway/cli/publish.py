"""`gateway publish`: events onto the bus from a shell."""

from pathlib import Path

import click

from gateway.cli.remote import complete_channel, needing
from gateway.cli.terminal import ending_well
from gateway.core.protocol.channels import is_name


BUS = "tcp://127.0.0.1:5556"
BUS_VARIABLE = "GATEWAY_BUS"


def _channel(_: click.Context, __: click.Parameter, name: str) -> str:
    if not is_name(name):
        raise click.BadParameter(
            f"{name!r} is no channel's name: segments of [A-Za-z0-9_-] joined by dots"
        )
    return name


@click.command()
@click.argument("channel", callback=_channel, shell_complete=complete_channel)
@click.argument("data", default="-")
@click.option("--type", "event_type", metavar="TYPE", help="Make DATA the data of such an event.")
@click.option("--text", is_flag=True, help="DATA is text, and goes as a JSON string.")
@click.option(
    "--bus",
    envvar=BUS_VARIABLE,
    default=BUS,
    show_default=True,
    show_envvar=True,
    help="The endpoint that the gateway binds.",
)
@click.option("--bind", help="Bind here instead, for gateways that connect.")
@click.option(
    "--curve",
    nargs=2,
    type=click.Path(path_type=Path),
    metavar="KEY_FILE GATEWAYS",
    help="Encrypt: the own .key_secret, and the gateway's .key (with --bind, a folder of them).",
)
@click.option(
    "--wait",
    "seconds",
    type=click.FloatRange(min=0, max=3600),
    default=10.0,
    show_default=True,
    help="Seconds to wait for a gateway at most: to be there, and to take what is sent.",
)
def publish(
    channel: str,
    data: str,
    event_type: str | None,
    text: bool,
    bus: str,
    bind: str | None,
    curve: tuple[Path, Path] | None,
    seconds: float,
) -> None:
    """Put events on the bus: DATA, which is JSON, or each line of standard input if it is - or missing.

    It waits until a gateway has subscribed, so that nothing is lost, and refuses what the gateway
    would reject. Blank lines are passed over. The last line on standard error says how many were
    published.

    Ends with 0; with 1 if no gateway is there or an event was refused, with 2 if CHANNEL or DATA on
    the command line is wrong, with 130 on Ctrl-C.

    \b
    gateway publish robots.r2 '{"x": 1.5}'
    gateway publish logs '{"level": "info", "message": "hello"}' --type log.info
    ping -i 5 localhost | gateway publish --text pings
    """
    with ending_well():
        with needing("neurograph-publisher"):
            # Here, so that the other commands start without it.
            from gateway.cli import publishing
        form = publishing.Form(channel, event_type, text=text)
        to = publishing.Bus(bind or bus, bool(bind), curve, seconds)
        if data == "-":
            publishing.publish_lines(form, to)
        else:
            publishing.publish_one(form, data, to)
