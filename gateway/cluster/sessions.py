"""Sessions and personal messages in the engine: so they reach clients of all gateways."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from gateway.cluster.engine import Engine, StreamEntry
from gateway.cluster.redis_client import Reply
from gateway.cluster.scripts import script
from gateway.core.cluster import sessions as kept
from gateway.core.cluster.numbered import is_behind, is_next, new_event, numbered
from gateway.core.cluster.once import Once
from gateway.core.cluster.presence import user_key, user_of
from gateway.core.protocol.channels import PERSONAL
from gateway.core.protocol.errors import RequestError
from gateway.core.protocol.events import Event
from gateway.core.sessions.hub import Hub
from gateway.core.sessions.requests import ConnectRequest
from gateway.core.sessions.session import Session
from gateway.runtime import clock
from gateway.runtime.logs import logger
from gateway.runtime.tasks import Tasks


log = logger("gateway.cluster")

_TAKE = script("take", "send")
_SAVE = script("save", "send")
_FORGET = script("forget")
_PERSONAL = script("personal", "send", "once")
_KICK = script("kick", "send")
_KICK_USER = script("kick_user", "live", "send")
_TOGETHER = 200
"""Sessions that are written together, and messages that are reported as lost."""
_SECONDS_MIN = 60.0
"""A connected client's session is kept for at least so long after it was last written."""
_WRITES_PER_TTL = 3
_ONCE_SECONDS = 300
_LOST = b""
"""In place of an event that was lost with its gateway."""


class ClusterSessions:
    """Keeps this gateway's sessions in the engine, takes those that come from other gateways, and delivers what
    the engine has for its clients."""

    def __init__(self, engine: Engine, hub: Hub, tasks: Tasks) -> None:
        self.let_go: Callable[[Session], Awaitable[None]]
        """Ends a session of this gateway that another one has taken, with its connection."""
        self.on_kick: Callable[[str], object] = lambda client_id: None
        """Called with the id of a client to disconnect."""
        self.on_kick_user: Callable[[str], object] = lambda user_id: None
        """Called with the id of a user whose clients to disconnect."""
        self._engine = engine
        self._tasks = tasks
        self._hub = hub
        self._changed: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._saved: set[str] = set()
        """Clients whose sessions the engine may have."""
        self._lost: Counter[str] = Counter()
        """How many personal messages of clients that other gateways have were lost with their sessions here."""
        engine.follow(engine.key("inbox", engine.gateway), self._on_inbox)

    # -- this gateway's sessions ---------------------------------------------------------------

    def note(self, session: Session) -> None:
        """Note that a session has changed, or was forgotten."""
        session.engine = session.engine or self._engine.epoch  # also while it is down
        self._changed[session.client_id] = None
        self._wake.set()

    def note_all(self) -> None:
        """Write all sessions again."""
        for session in self._hub.store.sessions:
            self._changed[session.client_id] = None
        self._wake.set()

    @property
    def write_seconds(self) -> float:
        """In which interval `note_all` keeps the sessions of connected clients from being forgotten."""
        return max(self._hub.store.ttl_seconds, _SECONDS_MIN) / _WRITES_PER_TTL

    async def keep_written(self) -> None:
        """Write what changes, whenever the engine is up."""
        await self._engine.keep(self._wake, self.write_all)

    async def write_all(self) -> None:
        """Write what has changed, and report to clients what was lost. Raises EngineUnavailable."""
        while self._changed:
            await self._write(list(self._changed)[:_TOGETHER])
        while self._lost:
            client_id, lost = next(iter(self._lost.items()))
            count = min(lost, _TOGETHER)
            await asyncio.gather(*(self._number(_LOST, client_id) for _ in range(count)))
            self._lost -= Counter({client_id: count})

    async def _write(self, client_ids: list[str]) -> None:
        store, saved = self._hub.store, self._saved
        found = [(client_id, store.of_client(client_id)) for client_id in client_ids]
        written = [(client_id, one) for client_id, one in found if one is not None or client_id in saved]
        replies = [
            self._engine.run(_FORGET, client_id) if session is None else self._save(session)
            for client_id, session in written
        ]
        numbered_here = {client_id: kept.numbered_here(one) for client_id, one in written if one is not None}
        for client_id in client_ids:
            self._changed.pop(client_id, None)
        for (client_id, session), reply in zip(written, await asyncio.gather(*replies), strict=True):
            if session is None:
                saved.discard(client_id)
                continue
            assert isinstance(reply, list)
            if reply[0] == 0:
                self._tasks.start(self._lose(session))
                continue
            saved.add(client_id)
            session.numbered_written = numbered_here[client_id]
            if store.of_client(client_id) is not session:
                self.note(session)  # it was forgotten meanwhile
            elif reply[1] and is_behind(session.personal, int(reply[1], 16), int(reply[2])):
                await self._catch_up(session)

    async def _catch_up(self, session: Session) -> None:
        """Deliver what the engine has for a session and what this gateway's own stream has not brought."""
        found = await self._engine.command("XRANGE", self._engine.key("personal", session.client_id), "-", "+")
        assert isinstance(found, list)
        for _, fields in found:
            self._deliver(session, {name.decode(): value for name, value in fields.items()})

    def _save(self, session: Session) -> asyncio.Future[Reply]:
        connected = session.client_id in self._hub.sessions
        seconds = self._hub.store.ttl_seconds
        if connected:
            seconds = max(seconds, _SECONDS_MIN) * (1 + 1 / _WRITES_PER_TTL)
        secrets = [kept.secret_key(one) for one in (session.secret, session.earlier_secret) if one]
        return self._engine.run(
            _SAVE,
            session.client_id,
            max(round(seconds * 1000), 1),
            kept.identity_key(session.identity),
            "" if session.user_id is None else user_key(session.user_id),
            kept.encode(session),
            int(connected),
            *secrets,
        )

    async def _lose(self, session: Session) -> None:
        """Let go of a session that another gateway has taken; what only this gateway has numbered for its client is lost."""
        # Not to be forgotten in the engine: it may come back, and would be gone then.
        self._saved.discard(session.client_id)
        if self._hub.store.of_client(session.client_id) is not session:
            return
        await self.let_go(session)
        if self._hub.store.of_client(session.client_id) is not session:
            self._lost[session.client_id] += min(kept.only_here(session), self._hub.store.messages_max)
            session.personal = None  # another call may have waited, too
            self._wake.set()

    async def take(self, request: ConnectRequest) -> None:
        """Add the session that a client brings to the hub if another gateway has it.

        If the engine is down, or has no such session, nothing is done: the client may have a session of this gateway,
        else it gets a new one."""
        if request.session is None:
            return
        secret, identity = kept.secret_key(request.session), kept.identity_key(request.identity)
        is_here = self._hub.store.of_secret(request.session, now_ns=clock.now_ns()) is not None
        try:
            reply = await self._engine.run(_TAKE, secret, identity, int(is_here))
        except RequestError:
            return
        assert isinstance(reply, list)
        if reply[0] != 2:
            return
        client_id, content, entries = reply[1].decode(), reply[2], reply[3]
        if (old := self._hub.store.of_client(client_id)) is not None:
            await self._lose(old)
            if self._hub.store.of_client(client_id) is not None:
                return  # it has just come back by another connection
        now_ns = clock.now_ns()
        try:
            session = kept.restore(self._hub, client_id, content, request, engine=self._engine.epoch, now_ns=now_ns)
        except (msgspec.MsgspecError, ValueError) as error:
            log.warning("session_not_restored", client_id=client_id, problem=str(error))
            return
        self._saved.add(client_id)
        for _, parts in entries:
            fields = {name.decode(): value for name, value in zip(parts[::2], parts[1::2], strict=True)}
            self._deliver(session, fields)

    # -- messages ------------------------------------------------------------------------------

    async def send_personal(self, event: bytes, *, client_id: str | None, user_id: str | None, once: Once) -> int:
        """Send an event to a client or a user's clients; return how many sessions get it.
        Raises EngineUnavailable; RequestError: `once` was used for another event."""
        store = self._hub.store
        found = [store.of_client(client_id)] if client_id is not None else store.of_user(user_id or "")
        unwritten = [one for one in found if one is not None and one.client_id in self._changed]
        if unwritten:
            await self._write([one.client_id for one in unwritten])
        reply = await self._engine.run(
            _PERSONAL,
            max(store.messages_max, 1),
            event,
            client_id or "",
            "" if user_id is None else user_key(user_id),
            once.key,
            once.content,
            _ONCE_SECONDS * 1000,
        )
        return once.checked(reply)

    def deliver_from_bus(self, session: Session, event: Event) -> None:
        """Deliver a personal message that came from the bus to a session of this gateway.

        It is numbered and kept by the engine, for other gateways; if that is down, by this gateway."""

        def on_reply(reply: "asyncio.Future[Reply]") -> None:
            failed = not reply.cancelled() and (reply.exception() is not None or not reply.result())
            if failed and self._hub.store.of_client(session.client_id) is session:
                deliver_here()

        def deliver_here() -> None:
            self._hub.deliver_personal(session, event)
            self.note(session)  # so that another gateway reports it if its client moves before it has it

        try:
            if session.client_id in self._changed:
                self._save(session).add_done_callback(_ignore)
            reply = self._number(event.fields, session.client_id)
        except RequestError:
            deliver_here()
        else:
            reply.add_done_callback(on_reply)

    def _number(self, fields: bytes, client_id: str) -> asyncio.Future[Reply]:
        """Have the engine number an event for a client, and send it to the gateway that has it. Raises EngineUnavailable."""
        return self._engine.run(_PERSONAL, max(self._hub.store.messages_max, 1), fields, client_id, "", "", "", 0)

    async def kick(self, client_id: str) -> bool:
        """Have a client of another gateway disconnected; return whether there is one. Raises EngineUnavailable."""
        return bool(await self._engine.run(_KICK, client_id))

    async def kick_user(self, user_id: str) -> int:
        """Have a user's clients of other gateways disconnected; return how many there are. Raises EngineUnavailable."""
        reply = await self._engine.run(_KICK_USER, user_key(user_id))
        assert isinstance(reply, int)
        return reply

    def _on_inbox(self, entries: list[StreamEntry]) -> None:
        for _, fields in entries:
            if fields["kind"] == b"kick_user":
                self.on_kick_user(user_of(fields["user"]))
                continue
            client_id = fields["client"].decode()
            session = self._hub.store.of_client(client_id)
            match fields["kind"]:
                case b"kick":
                    self.on_kick(client_id)
                case b"taken" if session is not None:
                    # If it has come back since, writing it shows that it is this gateway's.
                    self.note(session)
                case b"personal" if session is not None:
                    if is_next(session.personal, numbered(fields)):
                        self._deliver(session, fields)
                    else:  # some entries before it were dropped; writing the session brings them
                        self.note(session)

    def _deliver(self, session: Session, fields: Mapping[str, bytes]) -> None:
        one = numbered(fields)  # its source is the engine's epoch
        unknown = session.engine not in (0, one.epoch)
        event = new_event(session.personal, PERSONAL, one, now_ns=clock.now_ns(), unknown=unknown)
        if event is not None:
            self._hub.deliver_personal(session, event)


def _ignore(reply: "asyncio.Future[Reply]") -> None:
    if not reply.cancelled():
        reply.exception()
