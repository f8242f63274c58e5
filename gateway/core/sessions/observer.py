"""What the hub reports of its clients, and to whom."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from gateway.core.fanout.fanout import Fanout
from gateway.core.log.log import ChannelLog, Entry
from gateway.core.log.logs import Logs
from gateway.core.protocol.events import ClientChange, Connection, own_event
from gateway.core.sessions.session import Session


class Observer(Protocol):
    """Takes what the hub reports of its clients."""

    def on_change(
        self, session: Session, change: ClientChange, /, *, connected: int, now_ns: int
    ) -> object:
        """Report that a client came, went or changed its subscriptions; `connected` are there now."""
        ...

    def on_subscribed(self, patterns: Iterable[str], /) -> object:
        """Report what a client subscribed to."""
        ...

    def on_denied(self, session: Session, channels: Sequence[str], /) -> object:
        """Report channels that a client asked for and may not subscribe to."""
        ...

    def on_confirmed(self, session: Session, /) -> object:
        """Report that a client is known to have received more."""
        ...

    def deliver_personal(self, session: Session, log: ChannelLog, entry: Entry, /) -> object:
        """Deliver a personal message that is in its log."""
        ...


class LocalObserver:
    """Announces clients on ``connections``, and delivers to readers in this process.

    `on_subscribed` and `on_denied` are told what the methods of these names are told.
    """

    def __init__(
        self,
        logs: Logs,
        fanout: Fanout,
        *,
        on_subscribed: Callable[[Iterable[str]], object] = lambda patterns: None,
        on_denied: Callable[[Session, Sequence[str]], object] = lambda session, channels: None,
    ) -> None:
        self._logs = logs
        self._fanout = fanout
        self.on_subscribed = on_subscribed
        self.on_denied = on_denied

    def on_change(
        self, session: Session, change: ClientChange, *, connected: int, now_ns: int
    ) -> None:
        """Publish it on ``connections``."""
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
        """Leave it to the session, which outlives the connection in this process."""

    def deliver_personal(self, session: Session, log: ChannelLog, entry: Entry) -> None:
        """Write it to the session's reader, if its client is connected."""
        reader = session.reader
        if reader is not None:
            reader.personal = log
            self._fanout.deliver_personal(reader, entry)
