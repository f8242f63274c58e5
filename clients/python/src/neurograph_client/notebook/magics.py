"""The magics: each is a line in a cell that asks the gateway, or shows what it sends."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from IPython.core.error import UsageError
from IPython.core.magic import no_var_expand
from IPython.display import display

from neurograph_client import BlockingClient, Client, ClientError, Event
from neurograph_client.answers import Channels, Status
from neurograph_client.items import matches
from neurograph_client.notebook.arguments import ArgumentsError, HelpRequested, parse, parse_publish
from neurograph_client.terminal.formatting import item_as_text
from neurograph_client.terminal.options import TOKEN_VARIABLE, URL, URL_VARIABLE, Gateway


NAME = "ng"
"""The variable in which notebooks find the client."""

_ATTRIBUTE = "_neurograph_magics"


def load(shell: Any) -> None:
    """Define the magics in an IPython shell."""
    if not hasattr(shell, _ATTRIBUTE):
        setattr(shell, _ATTRIBUTE, Magics(shell))


def unload(shell: Any) -> None:
    """Remove the magics, and disconnect."""
    magics: Magics | None = getattr(shell, _ATTRIBUTE, None)
    if magics is not None:
        magics.remove()
        delattr(shell, _ATTRIBUTE)


class Magics:
    """The magics of one shell, with the client that they share."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._gateway: Gateway | None = None
        self._client: BlockingClient | None = None
        self._lines: dict[str, Callable[[argparse.Namespace], Any]] = {
            "ng_connect": self._connect,
            "ng_status": self._status,
            "ng_channels": self._channels,
            "ng_tail": self._tail,
            "ng_query": self._query,
            "ng_live": self._live,
        }
        for name in self._lines:
            shell.register_magic_function(self._magic(name), "line", name)
        shell.register_magic_function(self._publish_magic(), "line", "ng_publish")

    def remove(self) -> None:
        """Take the magics away, and disconnect."""
        for name in (*self._lines, "ng_publish"):
            self._shell.magics_manager.magics["line"].pop(name, None)
        self._disconnect()

    def _magic(self, name: str) -> Callable[[str], Any]:
        def magic(line: str) -> Any:
            return self._answered(lambda: self._lines[name](parse(name, line)))

        magic.__doc__ = f"%{name} --help says what it does."
        return magic

    def _answered(self, ask: Callable[[], Any]) -> Any:
        """Return what is asked for; say in a line what went wrong."""
        try:
            return ask()
        except HelpRequested as help_:
            print(help_)
            return None
        except ArgumentsError as error:
            raise UsageError(str(error)) from None
        except ClientError as error:
            explained = str(error) if self._gateway is None else self._gateway.explain(error)
            raise UsageError(explained) from None

    @property
    def _connected(self) -> BlockingClient:
        if self._client is None:
            raise UsageError(f"there is no connection: %ng_connect {URL}")
        return self._client

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.close()
            if self._shell.user_ns.get(NAME) is self._client:
                del self._shell.user_ns[NAME]
            self._client = None

    def _connect(self, given: argparse.Namespace) -> None:
        url = given.url or os.environ.get(URL_VARIABLE) or URL
        token = Path(given.token_file).expanduser() if given.token_file else os.environ.get(TOKEN_VARIABLE)
        gateway = Gateway(url, token)
        try:
            gateway.read_token()
        except (OSError, ValueError) as error:
            raise UsageError(f"the token cannot be used: {error}") from None
        self._disconnect()
        self._gateway = gateway
        try:
            client = Client(url, token=None if token is None else lambda: gateway.read_token() or "")
        except ValueError as error:
            raise UsageError(str(error)) from None
        self._client = BlockingClient(client)
        self._shell.push({NAME: self._client})
        print(f"connected to {url}; {NAME} is the client")

    def _status(self, _: argparse.Namespace) -> Status:
        return self._connected.status()

    def _channels(self, given: argparse.Namespace) -> Channels:
        patterns = given.patterns or [">"]
        found = self._connected.channels()
        return Channels(one for one in found if any(matches(pattern, one["name"]) for pattern in patterns))

    def _tail(self, given: argparse.Namespace) -> None:
        events = 0
        options = {"last": given.last or None, "filter": given.filter, "rate": given.rate, "timeout": given.timeout}
        items = self._connected.events(*given.channels, **options)
        try:
            for item in items:
                sys.stdout.write(item_as_text(item, colour=True))
                events += isinstance(item, Event)
                if events >= given.count:
                    print(f"ended after {events:,} events; --count N prints more")
                    return
            print(f"ended after {events:,} events, as nothing came for {given.timeout:g} s")
        except KeyboardInterrupt:
            print(f"interrupted after {events:,} events")

    def _query(self, given: argparse.Namespace) -> Any:
        found = self._connected.columns(*given.channels, last=given.last, filter=given.filter, flatten=not given.nested)
        if found.gaps:
            where = (
                "df.attrs['gaps'] lists them" if not given.polars else "without --polars, df.attrs['gaps'] lists them"
            )
            print(f"{len(found.gaps):,} gaps: {found.missing:,} or more events are missing; {where}", file=sys.stderr)
        return found.to_polars() if given.polars else found.to_pandas()

    def _live(self, given: argparse.Namespace) -> None:
        from neurograph_client.notebook import widgets

        kind = {"chart": widgets.Chart, "values": widgets.Values, "tail": widgets.Tail}[given.kind]
        fields = given.fields.split(",") if given.fields else None
        options = {"last": given.last, "filter": given.filter, "rate": given.rate}
        display(kind(self._connected, *given.channels, fields=fields, **options))

    def _publish_magic(self) -> Callable[[str], None]:
        def publish(line: str) -> None:
            channel, text, event_type = parse_publish(line)
            made = self._connected.publish(channel, self._value(text), event_type)
            place = str(made.position)
            print(f"published on {channel} at {place}; clients that follow it: {made.recipients:,}")

        def magic(line: str) -> None:
            """Publish an event: %ng_publish CHANNEL DATA, where DATA is JSON or an expression of Python."""
            self._answered(lambda: publish(line))

        no_var_expand(magic)  # IPython would take the braces of JSON for names of variables
        return magic

    def _value(self, text: str) -> Any:
        try:
            return orjson.loads(text)
        except ValueError:
            # As a cell with this text would be.
            return self._shell.ev(text)
