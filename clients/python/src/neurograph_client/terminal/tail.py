"""`gateway tail`: print events as they arrive."""

import logging
import re
import select
import sys
import threading
from contextlib import closing
from functools import partial
from http import HTTPStatus

import click

from neurograph_client import (
    BlockingClient,
    Client,
    ClosedError,
    Disconnect,
    Event,
    NotConnectedError,
    Position,
    RequestRefusedError,
    State,
)
from neurograph_client.terminal import output
from neurograph_client.terminal.formatting import item_as_json, item_as_text
from neurograph_client.terminal.options import Gateway, complete_channel, gateway_options


ALL_CHANNELS = (">", "$everyone")

_USAGE_ERRORS = {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY}
_POSITION = re.compile(r"(?:([^=,:]+)=)?([0-9A-Za-z_-]+:\d{1,19}(?::[0-9A-Za-z_-]+:\d{1,19})*)")

Since = Position | dict[str, Position]


def _read_since(_: click.Context, __: click.Parameter, text: str | None) -> Since | None:
    """Read ``EPOCH:12``, or ``metrics=EPOCH:12,logs=EPOCH:7``; a channel with several sources has all their offsets."""
    if text is None:
        return None
    found: dict[str, Position] = {}
    for part in text.split(","):
        match = _POSITION.fullmatch(part)
        if match is None:
            raise click.BadParameter(f"{part!r} is not CHANNEL=EPOCH:OFFSET, nor EPOCH:OFFSET")
        places = match[2].split(":")
        offsets = dict(zip(places[::2], map(int, places[1::2]), strict=True))
        found[match[1] or ""] = Position.of(offsets, places[0])
    if "" not in found:
        return found
    if len(found) > 1:
        raise click.BadParameter("with several positions, each needs its channel: CHANNEL=…")
    return found[""]


def _read_last(_: click.Context, __: click.Parameter, last: int | None) -> int | None:
    if last is not None and last < 0:
        raise click.BadParameter(f"{last} is not a number of events; for the newest {-last} write --last {-last}")
    return last


@click.command()
@click.argument("channels", nargs=-1, shell_complete=complete_channel)
@click.option("--last", type=int, callback=_read_last, metavar="N", help="Begin with the newest N events of the log.")
@click.option(
    "--since",
    metavar="POSITION",
    callback=_read_since,
    help="Resume after EPOCH:OFFSET or CHANNEL=EPOCH:OFFSET,…, as in the JSON of events; EPOCH:1:EPOCH:3 of several sources.",
)
@click.option("--filter", metavar="CEL", help="Only events that meet this condition.")
@click.option("--rate", type=float, metavar="N", help="At most N events per second; newest wins.")
@click.option("-n", "--count", type=click.IntRange(min=1), metavar="N", help="Exit after N events.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines on a terminal, too.")
@gateway_options
def tail(
    gateway: Gateway,
    channels: tuple[str, ...],
    last: int | None,
    since: Since | None,
    filter: str | None,
    rate: float | None,
    count: int | None,
    as_json: bool,
) -> None:
    """Print the events of CHANNELS as they arrive. Without CHANNELS, print the events of all.

    Names may be patterns: 'robots.*' for one segment, 'robots.>' for one or more; quote them. After a
    lost connection it reconnects and resumes. Missing events are printed as a gap.

    On a terminal, each event is a line for people. Otherwise, or with --json, it is a line of JSON: the
    gateway's message; a gap has "type": "gap". Notices go to standard error.

    The exit status is 0 after --count events or when the reader closes the pipe, 2 if a channel or an
    option is wrong, 1 if the gateway refuses for another reason, and 130 after Ctrl-C.

    \b
    gateway tail logs --last 20 --filter "data.level == 'error'"
    gateway tail 'robots.*' --rate 2
    gateway tail metrics -n 1 --last 1 | jq .data.cpu_percent
    """
    as_json = as_json or not output.is_terminal()
    render = item_as_json if as_json else partial(item_as_text, colour=output.has_colours())
    log_as_notices()
    with output.clean_exit():
        try:
            with closing(_connect(gateway)) as client:
                threading.Thread(target=_close_without_reader, args=[client], daemon=True).start()
                items = client.events(*(channels or ALL_CHANNELS), last=last, since=since, filter=filter, rate=rate)
                for item in items:
                    output.write(render(item))
                    if count is not None and isinstance(item, Event):
                        count -= 1
                        if not count:
                            return
        except RequestRefusedError as error:
            if error.status in _USAGE_ERRORS:
                raise click.UsageError(output.printable(gateway.explain(error))) from None
            raise output.CommandError(gateway.explain(error)) from None
        except ClosedError as error:
            raise output.CommandError(gateway.explain(error)) from None


class _ConnectionNotices:
    """Prints one notice when there is no connection, and one when there is one again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lost = False
        self._connected_before = False

    def update(self, state: State, disconnect: Disconnect | None) -> None:
        if state == "connected":
            if self._lost:
                output.notice("reconnected" if self._connected_before else "connected")
            self._connected_before, self._lost = True, False
        elif state == "reconnecting" and not self._lost:
            self._lost = True
            what = "disconnected" if self._connected_before else f"no gateway at {self._url}"
            output.notice(f"{what}{f' ({disconnect.reason})' if disconnect else ''}; trying again")


def _connect(gateway: Gateway) -> BlockingClient:
    """Return a connected client, however long that takes."""
    notices = _ConnectionNotices(gateway.url)
    while True:
        try:
            return BlockingClient(new_client(gateway, notices))
        except NotConnectedError:  # not within the client's timeout
            continue


def new_client(gateway: Gateway, notices: _ConnectionNotices | None = None, *, timeout: float = 10.0) -> Client:
    """Return a client that prints when it has lost its connection, and when it has one again."""
    notices = notices or _ConnectionNotices(gateway.url)
    token = None if gateway.token is None else lambda: gateway.read_token() or ""
    client = Client(
        gateway.url, token=token, timeout=timeout, on_state=lambda state: notices.update(state, client.last_disconnect)
    )
    return client


class _NoticeHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        output.notice(record.getMessage())  # one line, without a traceback


def log_as_notices() -> None:
    """Print what the client logs as notices."""
    logger = logging.getLogger("neurograph_client")
    logger.addHandler(_NoticeHandler(logging.WARNING))
    logger.propagate = False


def _close_without_reader(client: BlockingClient) -> None:
    """Close the client when the reader closes the pipe, even if there is no event to write."""
    if not hasattr(select, "poll"):  # Windows
        return
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)  # errors and hang-ups are always reported
    watch.poll()
    client.close()
