"""`gateway status`: how a running gateway is, at a glance."""

import shutil
import time
from typing import Any

import click

from gateway.cli.remote import Refused, Remote, Unreachable, remote
from gateway.cli.terminal import Failure, coloured, ending_well, json_line, on_terminal, say, write


_HOME, _CLEAR_LINE, _CLEAR_REST, _CLEAR = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[2J"
_FORBIDDEN = 403


@click.command()
@click.option("--watch", is_flag=True, help="Show it again and again, with rates, until Ctrl-C.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1, max=3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often --watch looks.",
)
@click.option("--json", "as_json", is_flag=True, help="The gateway's own documents, on one line.")
@remote
def status(gateway: Remote, watch: bool, every: float, as_json: bool) -> None:
    """Show how a gateway is: the bus, channels and their rates, publishers, clients.

    Ends with 1 if there is no gateway; with --watch that is shown, and waited for.
    """
    with ending_well():
        if watch:
            _watch(gateway, every, as_json)
        else:
            write(_shown(_documents(gateway), None, as_json))


def _documents(gateway: Remote) -> dict[str, Any]:
    """Fetch what is shown; None stands for what this token may not see."""
    found: dict[str, Any] = {"time": time.time(), "status": gateway.get("status")}
    for name in ("channels", "publishers"):
        try:
            found[name] = gateway.get(name)
        except Refused as refused:
            if refused.code != _FORBIDDEN:
                raise
            found[name] = None
    return found


def _shown(found: dict[str, Any], before: dict[str, Any] | None, as_json: bool) -> str:
    # Here, so that the other commands start without it.
    from gateway.cli import overview

    if as_json:
        return json_line(found)
    try:
        return overview.page(found, before, colour=coloured())
    except (KeyError, TypeError, AttributeError) as error:
        raise Failure(
            f"the gateway speaks of itself in another way: {error!r}; try --json"
        ) from None


def _watch(gateway: Remote, every: float, as_json: bool) -> None:
    redraw = on_terminal() and not as_json
    if redraw:
        write(_CLEAR)
    before = None
    while True:
        try:
            found = _documents(gateway)
            text = _shown(found, before, as_json)
            before = found
        except (Unreachable, Refused) as failure:
            text = "" if as_json else f"{failure.message}\n"
            if as_json:
                say(failure.message)
        write(_redrawn(text) if redraw else text)
        time.sleep(every)


def _redrawn(text: str) -> str:
    """Return what draws a page over the one before, without flicker, as far as it fits."""
    columns, rows = shutil.get_terminal_size()
    lines = [line if "\x1b" in line else line[:columns] for line in text.splitlines()[: rows - 1]]
    return _HOME + "".join(f"{line}{_CLEAR_LINE}\n" for line in lines) + _CLEAR_REST
