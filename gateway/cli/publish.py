"""`gateway publish`: events onto the bus, from a shell."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.remote import fail, need


if TYPE_CHECKING:
    from neurograph_publisher import Publisher

BUS = "tcp://127.0.0.1:5556"
_LINGER_SECONDS = 5.0
_NAME = "gateway publish"


@click.command()
@click.argument("channel")
@click.argument("data", default="-")
@click.option("--type", "event_type", help="Make it an event object of this event_type.")
@click.option("--text", is_flag=True, help="DATA, or each line, is a text and not JSON.")
@click.option(
    "--bus",
    default=BUS,
    envvar="GATEWAY_BUS",
    show_default=True,
    show_envvar=True,
    help="The endpoint that the gateway binds.",
)
@click.option(
    "--curve",
    nargs=2,
    metavar="KEY GATEWAY",
    help="Files with your secret key and the gateway's public one, as `gateway keys` makes them.",
)
@click.option(
    "--wait", default=10.0, show_default=True, help="How long to wait for the gateway, in seconds."
)
def publish(
    channel: str,
    data: str,
    event_type: str | None,
    text: bool,
    bus: str,
    curve: tuple[str, str] | None,
    wait: float,
) -> None:
    """Put DATA on the bus as an event of CHANNEL; with - or nothing, every line of standard input.

    Each is checked as the gateway does before it is sent, and only sent once the gateway listens.
    The exit status is 2 if one is not an event, and 1 if nobody listens.
    """
    need("neurograph_publisher", "publishers/python")
    from neurograph_publisher import Curve, Publisher, PublisherError

    lines = sys.stdin if data == "-" else [data]
    events = _checked(channel, lines, event_type, text=text)
    try:
        keys = Curve(*curve) if curve else None
        with Publisher(connect=bus, curve=keys, linger_seconds=_LINGER_SECONDS, name=_NAME) as out:
            if not out.wait_for_subscriber(wait):
                fail(f"nobody listens at {bus}; is it what the gateway binds?")
            count = sum(_send(out, channel, one, event_type) for one in events)
    except PublisherError as error:
        fail(str(error), status=2)
    if data == "-":
        click.echo(f"{count} published on {channel}", err=True)


def _send(out: "Publisher", channel: str, data: Any, event_type: str | None) -> bool:
    """Send one event, when there is room for it."""
    while not out.publish(channel, data, event_type):
        time.sleep(0.01)
    return True


def _checked(
    channel: str, lines: Iterable[str], event_type: str | None, *, text: bool
) -> Iterator[Any]:
    """Read lines, and end where the gateway would refuse one."""
    import orjson

    from gateway.assembly import build_hub
    from gateway.config import Config

    ingest = build_hub(Config()).ingest
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = line.rstrip("\n") if text else orjson.loads(line)
            event = data if event_type is None else {"event_type": event_type, "data": data}
            ingest.read_event(channel, orjson.dumps(event), now_ns=time.time_ns())
        except orjson.JSONDecodeError as error:
            fail(f"{channel}, line {number}: no JSON ({error}); --text takes it as it is", status=2)
        except ValueError as error:
            hint = "; is there a --type missing?" if event_type is None else ""
            fail(f"{channel}, line {number}: {error}{hint}", status=2)
        yield data
