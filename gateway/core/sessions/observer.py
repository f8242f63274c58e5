"""What the hub reports about its clients, and who gets the reports."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.core.fanout.fanout import Fanout
from gateway.core.log.log import ChannelLog
from gateway.core.log.logs import Logs
from gateway.core.log.sources import Entry
from gateway.core.protocol.events import ClientChange, Connection, own_event
from gateway.core.sessions.session import Session


class Observer(Protocol):
    """Gets the hub's reports about its clients."""

    def on_change(self, session: Session, change: ClientChange, /, *, connected: int, now_ns: int) -> object:
        """A client did something; `connected` is how many clients are connected now."""

    def on_subscribed(self, patterns: Iterable[str], /) -> object:
        """A client subscribed to these patterns."""

    def on_denied(self, session: Session, channels: Sequence[str], /) -> object:
        """A client requested channels that it may not subscribe to."""

    def on_confirmed(self, session: Session, /) -> object:
        """A client confirmed that it received more: `session.known` has changed."""

    def deliver_personal(self, session: Session, log: ChannelLog, entry: Entry, /) -> object:
        """A personal message was appended to the session's log: deliver it."""


@dataclass(slots=True, eq=False, repr=False)
class LocalObserver:
    """Publishes changes on ``connections``, and delivers messages to readers in this process.

    `on_subscribed` and `on_denied` are called like the methods of the same names."""

    _logs: Logs
    _fanout: Fanout
    on_subscribed: Callable[[Iterable[str]], object] = lambda patterns: None
    on_denied: Callable[[Session, Sequence[str]], object] = lambda session, channels: None

    def on_change(self, session: Session, change: ClientChange, *, connected: int, now_ns: int) -> None:
        data = Connection(
            client_id=session.client_id,
            user_id=session.user_id,
            total_connections=connected,
            channels=list(change.channels) or None,
            code=change.code,
            seconds=change.seconds,
        )
        self._logs.append([own_event("connections", change.event_type, data, now_ns=now_ns)])

    def on_confirmed(self, session: Session) -> None:
        """Do nothing: in this process the session outlives its connection."""

    def deliver_personal(self, session: Session, log: ChannelLog, entry: Entry) -> None:
        reader = session.reader
        if reader is not None:
            reader.personal = log
            self._fanout.deliver_personal(reader, entry)
