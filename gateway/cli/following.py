"""Following a gateway from a terminal, for as long as somebody reads."""

import logging
import select
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial

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

from gateway.cli.lines import Item, as_json, for_people
from gateway.cli.remote import Remote, hint
from gateway.cli.terminal import Failure, Mistake, coloured, on_terminal, say, write


_WRONG = {400, 404, 422}
"""The statuses of requests that nobody can serve, whoever asks."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be followed; `since` has epoch and offset by channel, or under ``""`` for the only one."""

    channels: tuple[str, ...]
    last: int | None
    since: dict[str, tuple[str, int]] | None
    filter: str | None
    rate: float | None

    @property
    def position(self) -> Position | dict[str, Position] | None:
        """Where to go on, as the client takes it."""
        if self.since is None:
            return None
        places = {name: Position(*place) for name, place in self.since.items()}
        return places.get("") or places


class Notices:
    """Tells people once that there is no connection, and once that there is one again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._away = False
        self._been = False

    def tell(self, state: State, ended: Disconnect | None) -> None:
        """Take a change of the connection's state."""
        if state == "connected":
            if self._away:
                say(f"connected{' again' * self._been}")
            self._been, self._away = True, False
        elif state == "reconnecting" and not self._away:
            self._away = True
            what = "disconnected" if self._been else f"no gateway at {self._url}"
            say(f"{what}{f' ({ended.reason})' if ended else ''}; trying again")


class _Told(logging.Handler):
    """What the client logs, in a line without a traceback."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def follow(remote: Remote, wanted: Wanted, *, count: int | None, as_json: bool) -> None:
    """Print what comes, until `count` events have, or until nobody reads on.

    Raises:
        Failure: The gateway refuses.
        BrokenPipeError: Nobody reads on.
    """
    logger = logging.getLogger("neurograph_client")
    logger.addHandler(_Told(logging.WARNING))
    logger.propagate = False
    try:
        with closing(_connected(remote)) as client:
            threading.Thread(target=_close_unread, args=[client], daemon=True).start()
            _print(client, wanted, count, _form(as_json))
    except RequestRefusedError as error:
        kind = Mistake if error.status in _WRONG else Failure
        raise kind(f"{error}{hint(error.status)}") from None
    except ClosedError as error:
        raise Failure(f"{remote.url}: {error}{hint(error.code)}") from None


def _connected(remote: Remote) -> BlockingClient:
    """Return a client with a connection, however long that takes."""
    notices = Notices(remote.url)
    token = None if remote.token is None else lambda: remote.bearer() or ""

    def tell(state: State) -> None:
        notices.tell(state, client.last_disconnect)

    while True:
        client = Client(remote.url, token=token, on_state=tell)
        try:
            return BlockingClient(client)
        except NotConnectedError:  # not within its time
            continue


def _form(as_json_wanted: bool) -> Callable[[Item], str]:
    if as_json_wanted or not on_terminal():
        return as_json
    return partial(for_people, colour=coloured())


def _print(
    client: BlockingClient, wanted: Wanted, count: int | None, form: Callable[[Item], str]
) -> None:
    items = client.events(
        *wanted.channels,
        last=wanted.last,
        since=wanted.position,
        filter=wanted.filter,
        rate=wanted.rate,
    )
    left = count
    for item in items:
        write(form(item))
        if left is not None and isinstance(item, Event):
            left -= 1
            if not left:
                return


def _close_unread(client: BlockingClient) -> None:
    """Close the client when nobody reads standard output any more, even if nothing comes to be written."""
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)  # errors and hang-ups come unasked
    watch.poll()
    client.close()
