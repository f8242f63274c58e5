"""`gateway status`: how a running gateway is, at a glance."""

import sys
import time
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

import click
import msgspec

from gateway.cli.remote import Remote, fail, printable, remote


if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_API = "/api/v1/websocket"
_WITHIN_SECONDS = 5.0
_INTERRUPTED = 130


@click.command()
@click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option("--every", default=2.0, show_default=True, help="Seconds between looks.")
@click.option("--json", "as_json", is_flag=True, help="As the gateway says it.")
@remote
def status(to: Remote, watch: bool, every: float, as_json: bool) -> None:
    """Print how a gateway is: its bus, its channels, its clients. Needs the right to see that.

    The exit status is 1 if it cannot be asked, or does not answer.
    """
    try:
        _show(to, every=every if watch else None, as_json=as_json)
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None


def _show(to: Remote, *, every: float | None, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(_ask(to, "status"), indent=2))
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    if every is None or not sys.stdout.isatty():
        console.print(_look(to))
        return
    with Live(_look(to), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            live.update(_look(to), refresh=True)


def _look(to: Remote) -> "Group":
    decode = msgspec.json.decode
    return _drawn(decode(_ask(to, "status")), decode(_ask(to, "channels")))


def _ask(to: Remote, path: str) -> bytes:
    """Return what the gateway answers, or end with why it does not."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    headers = {"Authorization": f"Bearer {to.token}"} if to.token else {}
    url = f"{to.url.rstrip('/')}{_API}/{path}"
    if not url.startswith(("http://", "https://")):
        fail(f"--url: {to.url!r} is no http or https address", status=2)
    try:
        with urlopen(Request(url, headers=headers), timeout=_WITHIN_SECONDS) as answer:  # noqa: S310
            found: bytes = answer.read()
    except HTTPError as error:
        fail(f"{to.url}: {error.code} {_detail(error.read()) or error.reason}")
    except (OSError, HTTPException, ValueError) as error:
        fail(f"{to.url}: {error}")
    return found


def _detail(body: bytes) -> str:
    """Return what a problem document says."""
    try:
        return str(msgspec.json.decode(body)["detail"])
    except (msgspec.DecodeError, LookupError, TypeError):
        return ""


def _drawn(state: dict[str, Any], channels: dict[str, Any]) -> "Group":
    from rich.console import Group
    from rich.text import Text

    ready = ("ready", "green") if state["ready"] else ("not ready", "red")
    head = Text.assemble(
        (f"neurograph-gateway {state['version']}", "bold"),
        "  ",
        ready,
        f", up {_duration(state['uptime_seconds'])}, bus {state['bus_state']}, ",
        f"{state['connections']} clients, {state['lagging']} of them behind",
    )
    return Group(head, _bus(state), _channels(channels), _clients(state))


def _table(*columns: str) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        name = column.removesuffix(">")
        table.add_column(name, justify="right" if column.endswith(">") else "left")
    return table


def _bus(state: dict[str, Any]) -> "Table":
    table = _table("bus", "", "state", "publishers>", "received>", "last>")
    for link in state["bus"]:
        ago = link["last_event_seconds"]
        last = "" if ago is None else f"{_duration(ago)} ago"
        row = (link["endpoint"], link["mode"], link["state"], link["peers"], link["received"], last)
        table.add_row(*(printable(str(one)) for one in row))
    return table


def _channels(channels: dict[str, Any]) -> "Table":
    table = _table("channel", "subscribers>", "offset>", "events held>", "bytes>")
    for one in channels["channels"]:
        row = (one["name"], one["subscribers"], one["position"]["offset"], one["events"])
        table.add_row(*map(str, row), f"{one['bytes']:,}")
    return table


def _clients(state: dict[str, Any]) -> "Table":
    table = _table("client", "user", "address", "connected>", "behind>", "follows")
    for one in state["clients"]:
        row = (
            one["client_id"],
            one["user_id"] or "",
            one["address"],
            _duration(one["connected_seconds"]),
            one["lag"] or "",
            " ".join(one["channels"]),
        )
        table.add_row(*(printable(str(cell)) for cell in row))
    return table


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
