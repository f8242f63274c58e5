"""`gateway tail`: what comes, as it comes."""

import re

import click

from gateway.cli.remote import Remote, complete_channel, needing, remote
from gateway.cli.terminal import ending_well


EVERYTHING = (">", "$everyone")
"""What is followed unless channels are named."""

AddressLimit = dict[str, tuple[str, int]]

_PLACE = re.compile(r"(?:([^=,:]+)=)?([0-9A-Za-z_-]+):(\d{1,19})")


def _places(_: click.Context, __: click.Parameter, given: str | None) -> AddressLimit | None:
    """Read ``metrics=EPOCH:12,logs=EPOCH:7``, or ``EPOCH:12``, which is under the name ``""``."""
    if given is None:
        return None
    found: AddressLimit = {}
    for part in given.split(","):
        match = _PLACE.fullmatch(part)
        if match is None:
            raise click.BadParameter(f"{part!r} is not CHANNEL=EPOCH:OFFSET, nor EPOCH:OFFSET")
        found[match[1] or ""] = match[2], int(match[3])
    if "" in found and len(found) > 1:
        raise click.BadParameter("with several positions, each needs its channel: CHANNEL=…")
    return found


@click.command()
@click.argument("channels", nargs=-1, shell_complete=complete_channel)
@click.option("--last", type=int, metavar="N", help="Begin with the newest N events that are held.")
@click.option(
    "--since",
    metavar="POSITION",
    callback=_places,
    help="Go on behind EPOCH:OFFSET, or behind CHANNEL=EPOCH:OFFSET,…: as events have them in JSON.",
)
@click.option("--filter", metavar="CEL", help="Leave out what does not meet a condition.")
@click.option("--rate", type=float, metavar="N", help="At most N events per second; newest wins.")
@click.option(
    "-n", "--count", type=click.IntRange(min=1), metavar="N", help="End after so many events."
)
@click.option("--json", "as_json", is_flag=True, help="A line of JSON each, also on a terminal.")
@remote
def tail(
    gateway: Remote,
    channels: tuple[str, ...],
    last: int | None,
    since: AddressLimit | None,
    filter: str | None,
    rate: float | None,
    count: int | None,
    as_json: bool,
) -> None:
    """Print the events of CHANNELS as they come: of all of them, unless some are named.

    Names may be patterns: 'robots.*' for one segment, 'robots.>' for the rest; mind the quotes. A
    lost connection is made again, and goes on where it was. What is missing is told as a gap.

    On a terminal each event is a line for people; else, or with --json, a line of JSON as in the
    gateway's protocol, a gap with "type": "gap". Notices go to standard error. Ctrl-C ends it, with
    130; it ends with 0 after --count, or when nobody reads on, with 2 if the gateway finds a channel
    or an option wrong, with 1 if it refuses for another reason.

    \b
    gateway tail logs --last 20 --filter "data.level == 'error'"
    gateway tail 'robots.*' --rate 2
    gateway tail metrics -n 1 --last 1 | jq .data.cpu_percent
    """
    with ending_well():
        with needing("neurograph-client"):
            # Here, so that the other commands start without it.
            from gateway.cli import following
        wanted = following.Wanted(channels or EVERYTHING, last, since, filter, rate)
        following.follow(gateway, wanted, count=count, as_json=as_json)
