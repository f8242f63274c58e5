"""`gateway tail`: a gateway's events, as they come."""

import asyncio
import contextlib
import os
import shutil
import sys
import zlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.remote import Remote, fail, need, printable, remote


if TYPE_CHECKING:  # what takes time to import is imported when it is used
    from neurograph_client import Client, Event, Gap, Position

_COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "bright_cyan", "bright_green")
_INTERRUPTED = 130  # as a shell has it for SIGINT


@click.command()
@click.argument("channels", nargs=-1)
@click.option(
    "--last", type=click.IntRange(0), help="Begin with the newest so many of each channel."
)
@click.option("--since", metavar="EPOCH:OFFSET", help="Begin after this position, in one channel.")
@click.option("--filter", "condition", help="Only events that meet a condition, in CEL.")
@click.option("--rate", type=float, help="Events per second and key at most; the newest wins.")
@click.option("-n", "--count", type=click.IntRange(1), help="End after so many events.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line, as when piped.")
@remote
def tail(
    to: Remote,
    channels: tuple[str, ...],
    last: int | None,
    since: str | None,
    condition: str | None,
    rate: float | None,
    count: int | None,
    as_json: bool,
) -> None:
    """Print the events of CHANNELS, which may have wildcards; of all that you may follow by default.

    A lost connection is made again, and nothing is printed twice; what is missing is said. The exit
    status is 2 if the gateway does not understand what was asked for, 1 if it does not want it.
    """
    need("neurograph_client", "clients/python")
    options = {"last": last, "since": _position(since), "filter": condition, "rate": rate}
    if since is not None and len(channels) != 1:
        fail("--since: a position is one channel's; name it", status=2)
    printer = Printer(plain=as_json or not sys.stdout.isatty(), count=count)
    try:
        asyncio.run(_follow(to, channels or (">",), options, printer))
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read it has gone; nothing may be flushed to it at the end either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _position(text: str | None) -> "Position | None":
    if text is None:
        return None
    from neurograph_client import Position

    epoch, _, offset = text.rpartition(":")
    if not (epoch and offset.isascii() and offset.isdigit()):
        fail(f"--since: {text!r} is not EPOCH:OFFSET, as each event has them", status=2)
    return Position(epoch, int(offset))


async def _follow(
    to: Remote, channels: tuple[str, ...], options: dict[str, Any], printer: "Printer"
) -> None:
    from neurograph_client import Client, ClientError, RequestRefused

    waiting = False

    def on_state(state: str) -> None:
        nonlocal waiting
        if state == "waiting" and not waiting and client.last_end is not None:
            click.echo(f"waiting for {to.url}: {printable(client.last_end.reason)}", err=True)
        elif state == "connected" and waiting:
            click.echo("connected", err=True)
        waiting = state == "waiting" or (waiting and state == "connecting")

    try:
        client = Client(to.url, token=to.token, on_state=on_state)
        async with _running(client):
            async for item in client.subscribe(*channels, **options):
                if printer.show(item):
                    return
    except RequestRefused as error:
        fail(str(error), status=2 if error.status == 400 else 1)
    except (ClientError, ValueError) as error:
        fail(str(error))


@contextlib.asynccontextmanager
async def _running(client: "Client") -> AsyncIterator[None]:
    """Keep a client up, however long its first connection takes."""
    forever = asyncio.create_task(client.run_forever())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        await client.close()
        forever.cancel()
        await asyncio.gather(forever, return_exceptions=True)


class Printer:
    """Writes items to standard output: for people, or `plain` for programs."""

    def __init__(self, *, plain: bool, count: int | None) -> None:
        self._plain = plain
        self._left = count

    def show(self, item: "Event[Any] | Gap") -> bool:
        """Print one item; returns whether that was the last one wanted."""
        from neurograph_client import Event

        is_event = isinstance(item, Event)
        line = self._json(item) if self._plain else self._line(item)
        click.echo(line)  # flushes: whoever reads the pipe sees it now
        if is_event and self._left is not None:
            self._left -= 1
        return self._left == 0

    def _json(self, item: "Event[Any] | Gap") -> str:
        import orjson
        from neurograph_client import Event

        if isinstance(item, Event):
            found = item.message | {"epoch": item.epoch}
        else:
            found = {
                "type": "gap",
                "channel": item.channel,
                "epoch": item.epoch,
                "from": item.from_,
                "to": item.to,
                "count": item.count,
                "reason": item.reason,
            }
        text = orjson.dumps(found).decode()
        return _escaped(text) if sys.stdout.isatty() else text

    def _line(self, item: "Event[Any] | Gap") -> str:
        import orjson
        from neurograph_client import Event

        name = printable(item.channel)
        if not isinstance(item, Event):
            count = "some" if item.count is None else item.count
            return click.style(f"{name}: {count} events are missing ({item.reason})", fg="red")
        colour = _COLOURS[zlib.crc32(item.channel.encode()) % len(_COLOURS)]
        time, kind = printable(item.timestamp[11:23]), printable(item.event_type or "")
        head = f"{time}  {name} #{item.offset}  {kind}".rstrip()
        room = shutil.get_terminal_size().columns - len(head) - 3
        data = _escaped(orjson.dumps(item.data).decode())
        shown = data if len(data) <= room else data[: max(room, 10)] + "…"
        return (
            f"{click.style(time, dim=True)}  {click.style(name, fg=colour, bold=True)} "
            f"{click.style(f'#{item.offset}', dim=True)}  {f'{kind}  ' if kind else ''}{shown}"
        )


def _escaped(json: str) -> str:
    """Return JSON with what is not printable escaped, as JSON has it."""
    if json.isprintable():
        return json
    return "".join(
        c if c.isprintable() else "".join(f"\\u{unit:04x}" for unit in _units(c)) for c in json
    )


def _units(character: str) -> list[int]:
    data = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2)]
