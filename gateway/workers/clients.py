"""Every client of every worker, as the parent knows it.

For each the parent's hub has its session, with a reader that stands for the one in the worker: it
is counted with what it follows, and nothing is written to it. So what the hub tells of clients is
whole, and a session outlives the worker that held it.
"""

import time
from dataclasses import dataclass

from gateway.core.fanout.cohorts import Reader
from gateway.core.log.log import ChannelLog, Entry
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.events import ClientChange
from gateway.core.sessions import store
from gateway.core.sessions.permissions import Identity
from gateway.core.sessions.requests import ConnectRequest
from gateway.core.sessions.session import Session
from gateway.runtime import Tasks
from gateway.web import admission
from gateway.web.context import Context
from gateway.workers import messages
from gateway.workers.child import Child


_RELEASE_SECONDS = 2.0
"""How long a worker may take to let go of a client that another connection takes over."""
_LOST = 1006


@dataclass(slots=True)
class WorkerClient:
    """A connected client, and which worker holds it."""

    session: Session
    child: Child
    address: str
    connected_ns: int

    @property
    def client_id(self) -> str:
        """The client's public name."""
        return self.session.client_id

    @property
    def user_id(self) -> str | None:
        """The user it belongs to, if known."""
        return self.session.user_id

    @property
    def lagging(self) -> bool:
        """Whether it was behind when its worker last reported."""
        return self._behind.lagging

    @property
    def lag(self) -> int:
        """By how many events."""
        return self._behind.lag

    @property
    def buffered(self) -> int:
        """How many bytes waited for its socket."""
        return self._behind.buffered

    @property
    def _behind(self) -> messages.Behind:
        report = self.child.report
        found = report.behind.get(self.client_id) if report else None
        return found or messages.Behind(lagging=False, lag=0, buffered=0)


class Clients:
    """The clients that are connected, by their public names."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._hub = context.hub
        self._clients: dict[str, WorkerClient] = {}
        self._takeovers = Tasks()
        self._hub.hand = self._hand

    @property
    def clients(self) -> list[WorkerClient]:
        """All who are connected."""
        return list(self._clients.values())

    def arrive(self, child: Child, who: messages.Arrive) -> None:
        """Let a client in, or say why not; a session that another connection holds is freed first."""
        context, now_ns = self._context, time.time_ns()
        connect_request = ConnectRequest(
            who.client_id, who.secret, who.identity, session=who.session
        )
        refused = admission.refusal_code(context, who.address)
        held = self._hub.attached(connect_request, now_ns=now_ns)
        if refused is None and held is not None:
            self._takeovers.begin(self._take_over(self._clients[held.client_id], child, who))
            return
        if refused is None and admission.user_limit_reached(context, who.identity):
            refused = CloseCode.USER_LIMIT
        if refused is not None:
            spread = admission.spread_seconds(context)
            child.pipe.send(messages.Refused(who.number, refused, spread))
            return
        session, resumed = self._hub.enter(connect_request, now_ns=now_ns)
        session.reader = Reader(way=_Elsewhere(), on_lag=_nothing)
        self._count(session)
        self._clients[session.client_id] = WorkerClient(session, child, who.address, now_ns)
        context.address_limit.acquire(who.address)
        child.pipe.send(messages.Admitted(who.number, store.pack(session) if resumed else None))

    async def _take_over(self, client: WorkerClient, child: Child, who: messages.Arrive) -> None:
        # Its own worker gets all the time until it is replaced: what that tells of the old connection
        # must not be taken for word of the new one.
        within = None if client.child is child else _RELEASE_SECONDS
        await client.child.ask(
            lambda number: messages.Release(number, client.client_id), within=within
        )
        if self._clients.get(client.client_id) is client:
            self._lose(client)  # its worker does not answer, and will hear of it when it does
        if not child.gone:
            self.arrive(child, who)

    def rename(self, child: Child, who: messages.Rename) -> None:
        """Give a client the identity of its token, unless its user has too many clients already."""
        client = self._clients.get(who.client_id)
        allowed = client is not None and client.child is child
        if client is not None and allowed:
            allowed = self._become(client.session, who.identity)
        child.pipe.send(messages.Renamed(who.number, allowed))

    def _become(self, session: Session, identity: Identity) -> bool:
        if not session.identity.may_become(identity):
            return True  # its worker refuses it, and says why
        before = session.user_id
        if before != identity.user_id and admission.user_limit_reached(self._context, identity):
            return False
        session.identity = identity
        self._hub.store.named(session, before)
        return True

    def did(self, child: Child, what: messages.Did) -> None:
        """Take over what a client did, and announce it."""
        client = self._clients.get(what.client_id)
        if client is None or client.child is not child:
            return  # it was taken over from a worker that did not answer
        session, notice, now_ns = client.session, what.notice, time.time_ns()
        session.subscriptions = dict(store.subscriptions(what.followed))
        session.known = what.known
        if notice.event_type == "client.disconnected":
            self._depart(client, notice)
            return
        self._count(session)
        if notice.event_type == "client.subscribed":
            self._hub.watch(notice.channels)
        self._hub.announce(session, notice, now_ns)

    def known(self, child: Child, what: messages.Known) -> None:
        """Note what clients are known to have."""
        for client_id in what.clients:
            client = self._clients.get(client_id)
            if client is not None and client.child is child:
                client.session.known = what.known

    def lost(self, child: Child) -> None:
        """Let the clients of a worker go that has ended; their sessions wait for them."""
        for client in self.clients:
            if client.child is child:
                self._lose(client)

    def close(self) -> None:
        """Wait for nobody any more."""
        self._takeovers.cancel()

    def _lose(self, client: WorkerClient) -> None:
        seconds = (time.time_ns() - client.connected_ns) / 1e9
        self._context.metrics.closed(_LOST, seconds)
        self._depart(client, ClientChange("client.disconnected", code=_LOST, seconds=seconds))

    def _depart(self, client: WorkerClient, notice: ClientChange) -> None:
        del self._clients[client.client_id]
        self._context.address_limit.release(client.address)
        self._hub.depart(
            client.session,
            code=notice.code or _LOST,
            seconds=notice.seconds or 0.0,
            remember=notice.remember,
            now_ns=time.time_ns(),
        )

    def _count(self, session: Session) -> None:
        """Count a client with all that it follows now, as one that has all there is."""
        assert session.reader is not None
        view = frozenset(session.subscriptions.values())
        self._hub.fanout.follow(session.reader, view, self._hub.heads())

    def _hand(self, session: Session, _: ChannelLog, entry: Entry) -> None:
        client = self._clients.get(session.client_id)
        if client is not None:
            client.child.pipe.send(messages.Personal(session.client_id, entry))


class _Elsewhere:
    """The way of a client to which its worker writes."""

    def write(self, data: bytes, /) -> None:
        """Leave it to the worker."""


def _nothing() -> None:
    """Leave that to the worker too."""
