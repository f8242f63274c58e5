"""`gateway status`: show the state of a running gateway."""

import shutil
import time
from http import HTTPStatus
from typing import Any, NoReturn

import click

from neurograph_client import ClientError, RequestRefusedError
from neurograph_client.terminal import output, status_page
from neurograph_client.terminal.options import Gateway, gateway_options


_HOME, _CLEAR_LINE, _CLEAR_REST, _CLEAR = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[2J"


@click.command()
@click.option("--watch", is_flag=True, help="Refresh it, with rates, until Ctrl-C.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1, max=3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="The interval of --watch.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the gateway's documents on one line.")
@gateway_options
def status(gateway: Gateway, watch: bool, every: float, as_json: bool) -> None:
    """Show the state of a gateway: bus, channels with their rates, publishers, clients.

    The exit status is 1 if there is no gateway. With --watch it waits for one instead.
    """
    with output.clean_exit():
        if watch:
            _watch(gateway, every, as_json)
        try:
            output.write(_rendered(_documents(gateway), None, as_json))
        except ClientError as error:
            raise output.CommandError(gateway.explain(error)) from None


def _documents(gateway: Gateway) -> dict[str, Any]:
    """Fetch what is shown; a document that this token may not see is None."""
    found: dict[str, Any] = {"time": time.time(), "status": gateway.get("status")}
    for name in ("channels", "publishers"):
        try:
            found[name] = gateway.get(name)
        except RequestRefusedError as error:
            if error.status != HTTPStatus.FORBIDDEN:
                raise
            found[name] = None
    return found


def _rendered(found: dict[str, Any], before: dict[str, Any] | None, as_json: bool) -> str:
    if as_json:
        return output.json_line(found)
    try:
        return status_page.page(found, before, colour=output.has_colours(), whole=not output.is_terminal())
    except (KeyError, TypeError, AttributeError) as error:
        raise output.CommandError(f"the gateway's status documents have another form ({error!r}); try --json") from None


def _watch(gateway: Gateway, every: float, as_json: bool) -> NoReturn:
    redraw = output.is_terminal() and not as_json
    if redraw:
        output.write(_CLEAR)
    before = None
    while True:
        try:
            found = _documents(gateway)
            text = _rendered(found, before, as_json)
            before = found
        except ClientError as error:
            problem = output.printable(gateway.explain(error))
            text = "" if as_json else f"{problem}\n"
            if as_json:
                output.notice(problem)
        output.write(_redrawn(text) if redraw else text)
        time.sleep(every)


def _redrawn(text: str) -> str:
    """Return what draws a page over the one before without flicker, cut to the terminal's size."""
    columns, rows = shutil.get_terminal_size()
    lines = [line if "\x1b" in line else line[:columns] for line in text.splitlines()[: rows - 1]]
    return _HOME + "".join(f"{line}{_CLEAR_LINE}\n" for line in lines) + _CLEAR_REST
