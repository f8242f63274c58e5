"""What a parent and a worker do with what their hubs report of clients.

A parent's hub knows all clients, but their connections are elsewhere; a worker's hub has the
connections, and its parent announces what clients do.
"""

from collections.abc import Callable, Iterable

from msgspec import Struct

from gateway.core.log.log import ChannelLog, Entry
from gateway.core.protocol.events import ClientChange
from gateway.core.sessions.observer import Observer
from gateway.core.sessions.session import Session
from gateway.core.sessions.store import known_cursors
from gateway.workers.messages import Changed, Confirmed


class ParentObserver:
    """Announces clients as a gateway in one process does, but sends them their personal messages."""

    def __init__(self, local: Observer, *, send: Callable[[Session, Entry], object]) -> None:
        self.on_change = local.on_change
        self.on_subscribed = local.on_subscribed
        self.on_denied = local.on_denied
        self.on_confirmed = local.on_confirmed
        self._send = send

    def deliver_personal(self, session: Session, log: ChannelLog, entry: Entry) -> None:
        """Send it to the worker that holds the client, if it is connected."""
        self._send(session, entry)


class WorkerObserver:
    """Tells the parent what clients do, and delivers in this process."""

    def __init__(self, local: Observer, *, send: Callable[[Struct], object]) -> None:
        self.on_denied = local.on_denied
        self.deliver_personal = local.deliver_personal
        self._send = send
        self._confirmed: dict[Session, None] = {}

    def on_change(
        self, session: Session, change: ClientChange, *, connected: int, now_ns: int
    ) -> None:
        """Tell the parent, with what a session must outlive this process with."""
        subscriptions = list(session.subscriptions.values())
        self._send(Changed(session.client_id, change, subscriptions, known_cursors(session)))

    def on_subscribed(self, patterns: Iterable[str]) -> None:
        """Do nothing: the parent sees it from the change."""

    def on_confirmed(self, session: Session) -> None:
        """Tell the parent with the next `send_confirmed`."""
        self._confirmed[session] = None

    def send_confirmed(self) -> None:
        """Tell the parent what clients have confirmed; equal cursors share one message."""
        groups: dict[int, list[Session]] = {}
        for session in self._confirmed:
            if session.reader is not None:
                groups.setdefault(id(session.known), []).append(session)
        self._confirmed.clear()
        for sessions in groups.values():
            names = [session.client_id for session in sessions]
            self._send(Confirmed(names, dict(sessions[0].known)))
