"""Every client of every worker, as the parent knows it.

The parent's hub has a session for each client, with a reader that counts for its subscriptions and to
which nothing is written. So the hub knows all clients, and a session outlives the worker that held
its connection."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.core.fanout.cohorts import Reader
from gateway.core.log.log import ChannelLog
from gateway.core.log.sources import Entry
from gateway.core.protocol.errors import CloseCode, ErrorCode, RequestError
from gateway.core.protocol.events import ClientChange
from gateway.core.protocol.messages import BroadcastResult, Publish
from gateway.core.sessions.observer import Observer
from gateway.core.sessions.permissions import Identity
from gateway.core.sessions.requests import ConnectRequest, parse
from gateway.core.sessions.session import Session
from gateway.core.sessions.store import state_of
from gateway.runtime import clock
from gateway.runtime.logs import logger
from gateway.runtime.tasks import Tasks
from gateway.web import admission
from gateway.web.context import Context
from gateway.web.sockets.connection import ConnectionKind
from gateway.workers import messages
from gateway.workers.child import Child


log = logger("gateway.workers")

_RELEASE_SECONDS = 2.0
"""How long a worker may take to release a client whose session another connection takes over."""
_ABNORMAL = 1006


@dataclass(slots=True)
class WorkerClient:
    """A connected client, and which worker holds its connection."""

    session: Session
    child: Child
    address: str
    kind: ConnectionKind
    connected_ns: int

    @property
    def client_id(self) -> str:
        return self.session.client_id

    @property
    def lagging(self) -> bool:
        return self._behind.lagging

    @property
    def lag(self) -> int:
        return self._behind.lag

    @property
    def buffered(self) -> int:
        return self._behind.buffered

    @property
    def _behind(self) -> messages.Behind:
        """What its worker last reported."""
        report = self.child.report
        found = report.behind.get(self.client_id) if report else None
        return found or messages.Behind(lagging=False, lag=0, buffered=0)


class ParentObserver:
    """Announces clients as a gateway in one process does, and gives `send` personal messages."""

    def __init__(self, local: Observer, *, send: Callable[[Session, Entry], object]) -> None:
        self.on_change = local.on_change
        self.on_subscribed = local.on_subscribed
        self.on_denied = local.on_denied
        self.on_confirmed = local.on_confirmed
        self._send = send

    def deliver_personal(self, session: Session, log: ChannelLog, entry: Entry) -> None:
        self._send(session, entry)


class Clients:
    """The clients that are connected, by their public names."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._hub = context.hub
        self._clients: dict[str, WorkerClient] = {}
        self._takeovers = Tasks()

    @property
    def connected(self) -> list[WorkerClient]:
        return list(self._clients.values())

    def admit(self, child: Child, who: messages.Admit) -> None:
        """Admit a client or refuse it; a session that another connection holds is released first."""
        if self._context.cluster is None:
            self._admit(child, who)
        else:
            self._takeovers.start(self._admit_in_cluster(child, who))

    async def _admit_in_cluster(self, child: Child, who: messages.Admit) -> None:
        try:
            request = ConnectRequest(who.client_id, who.secret, who.identity, session=who.session)
            assert self._context.cluster is not None
            await self._context.cluster.sessions.take(request)
            now_ns = clock.now_ns()
            is_held = self._hub.attached(request, now_ns=now_ns) is not None
            client_id = self._hub.client_id(request, now_ns=now_ns)
            if not is_held and not await admission.user_admitted(self._context, who.identity, client_id):
                spread = admission.spread_seconds(self._context)
                child.pipe.send(messages.Refused(who.number, CloseCode.USER_LIMIT, spread))
            elif not child.gone:
                self._admit(child, who)
        except Exception:
            log.exception("process_message_failed", message_type="Admit")
            self.refuse(child, who.number)

    def _admit(self, child: Child, who: messages.Admit) -> None:
        context, now_ns = self._context, clock.now_ns()
        request = ConnectRequest(who.client_id, who.secret, who.identity, session=who.session)
        refused = admission.refusal_code(context, who.address)
        held = self._hub.attached(request, now_ns=now_ns)
        if refused is None and held is not None:
            self._takeovers.start(self._take_over(self._clients[held.client_id], child, who))
            return
        if refused is None and admission.user_limit_reached(context, who.identity):
            refused = CloseCode.USER_LIMIT
        if refused is not None:
            spread = admission.spread_seconds(context)
            child.pipe.send(messages.Refused(who.number, refused, spread))
            return
        session, resumed = self._hub.admit(request, now_ns=now_ns)
        client = self._clients[session.client_id] = WorkerClient(session, child, who.address, who.kind, now_ns)
        context.address_limit.acquire(who.address)
        context.metrics.opened()
        if who.session:
            context.metrics.session_resumed(found=resumed)
        try:
            session.reader = Reader(writer=_NoWriter(), on_lag=_nothing)
            self._count(session)
            child.pipe.send(messages.Admitted(who.number, state_of(session) if resumed else None))
        except BaseException:
            self._forget(client)
            raise

    def refuse(self, child: Child, number: int) -> None:
        """Refuse a client that could not be admitted because of a failure here."""
        child.pipe.send(messages.Refused(number, CloseCode.INTERNAL, 0.0))

    async def _take_over(self, client: WorkerClient, child: Child, who: messages.Admit) -> None:
        # The same worker gets all the time until it is replaced: what it reports of the old connection
        # must not be taken for a report of the new one.
        within = None if client.child is child else _RELEASE_SECONDS
        await self._release(client, within=within)
        if child.gone:
            return
        try:
            self._admit(child, who)
        except Exception:
            log.exception("process_message_failed", message_type="Admit")
            self.refuse(child, who.number)

    async def _release(self, client: WorkerClient, *, within: float | None) -> None:
        """Have a client's worker close its connection; if it does not answer, it will get the message when it does."""
        await client.child.requests.ask(lambda number: messages.Release(number, client.client_id), within=within)
        if self._clients.get(client.client_id) is client:
            self._lose(client)

    def identify(self, child: Child, who: messages.Identify) -> None:
        if self._context.cluster is None:
            self._identify(child, who)
        else:
            self._takeovers.start(self._identify_in_cluster(child, who))

    async def _identify_in_cluster(self, child: Child, who: messages.Identify) -> None:
        client = self._clients.get(who.client_id)
        is_other = client is not None and client.session.user_id != who.identity.user_id
        if is_other and not await admission.user_admitted(self._context, who.identity, who.client_id):
            child.pipe.send(messages.Identified(who.number, allowed=False))
        else:
            self._identify(child, who)

    def _identify(self, child: Child, who: messages.Identify) -> None:
        client = self._clients.get(who.client_id)
        allowed = client is not None and client.child is child
        if client is not None and allowed:
            allowed = self._become(client.session, who.identity)
        child.pipe.send(messages.Identified(who.number, allowed))

    def _become(self, session: Session, identity: Identity) -> bool:
        if not session.identity.may_become(identity):
            return True  # its worker refuses it, and says why
        before = session.user_id
        if before != identity.user_id and admission.user_limit_reached(self._context, identity):
            return False
        session.identity = identity
        self._hub.store.reassign(session, before)
        return True

    def publish(self, child: Child, what: messages.Publish) -> None:
        """Publish a client's event, and answer when that is done."""
        broadcaster, client = self._context.broadcaster, self._clients.get(what.client_id)
        assert broadcaster is not None

        def answer(found: BroadcastResult | RequestError) -> None:
            if child.gone:
                return
            if isinstance(found, RequestError):
                problem = found.code.name, found.message, found.retry_after
                child.pipe.send(messages.Broadcasted(what.number, None, *problem))
            else:
                child.pipe.send(messages.Broadcasted(what.number, found))

        try:
            if client is None or client.child is not child:
                raise RequestError(ErrorCode.UNAVAILABLE, "another connection has taken this session over")
            message = parse(what.text)
            assert isinstance(message, Publish)
            if self._context.cluster is None:
                answer(broadcaster.publish(message, client.session, now_ns=clock.now_ns()))
            else:
                self._context.cluster.publish(message, client.session, answer)
        except RequestError as error:
            answer(error)

    def on_failed(self, child: Child, what: messages.Failed) -> None:
        """Forget a client that its worker could not connect."""
        session = self._hub.store.of_secret(what.secret, now_ns=clock.now_ns())
        client = self._clients.get(session.client_id) if session is not None else None
        if client is not None and client.child is child:
            self._forget(client)

    def on_changed(self, child: Child, what: messages.Changed) -> None:
        """Take over what a client did, and announce it."""
        client = self._clients.get(what.client_id)
        if client is None or client.child is not child:
            return  # its session was taken over while this worker did not answer
        session, change, now_ns = client.session, what.change, clock.now_ns()
        if change.event_type == "client.connected":
            session.subscriptions = {}  # some may be denied to a client that resumed
        for pattern in what.removed:
            session.subscriptions.pop(pattern, None)
        session.subscriptions |= {one.pattern: one for one in what.subscriptions}
        session.known = {**session.known, **what.known}
        if change.event_type == "client.disconnected":
            self._disconnect(client, change)
            return
        self._count(session)
        if change.event_type == "client.subscribed":
            self._hub.observer.on_subscribed(change.channels)
        self._hub.report(session, change, now_ns=now_ns)

    def on_confirmed(self, child: Child, what: messages.Confirmed) -> None:
        """Take over what clients are known to have received."""
        for client_id in what.clients:
            client = self._clients.get(client_id)
            if client is not None and client.child is child:
                client.session.known = what.known
                self._hub.store.confirm_secret(client.session)

    def send_personal(self, session: Session, entry: Entry) -> None:
        """Send a personal message to the worker that holds a client, if it is connected."""
        client = self._clients.get(session.client_id)
        if client is not None:
            client.child.pipe.send(messages.Personal(session.client_id, entry))

    def disconnect(self, client_id: str, code: CloseCode) -> bool:
        """Let the worker that holds a client close its connection; return whether there is such a client."""
        client = self._clients.get(client_id)
        if client is not None:
            client.child.pipe.send(messages.Disconnect(client_id, code))
        return client is not None

    async def let_go(self, session: Session) -> None:
        """End a session that another gateway has taken, with its connection."""
        client = self._clients.get(session.client_id)
        if client is not None:
            await self._release(client, within=_RELEASE_SECONDS)
        is_connected = session.client_id in self._hub.sessions
        if not is_connected and self._hub.store.of_client(session.client_id) is session:
            self._hub.store.drop(session)

    def on_worker_lost(self, child: Child) -> None:
        """Disconnect the clients of a worker that has ended; their sessions may be resumed."""
        for client in self.connected:
            if client.child is child:
                self._lose(client)

    def close(self) -> None:
        self._takeovers.cancel()

    def _lose(self, client: WorkerClient) -> None:
        seconds = (clock.now_ns() - client.connected_ns) / 1e9
        change = ClientChange("client.disconnected", code=_ABNORMAL, seconds=seconds)
        self._disconnect(client, change)

    def _forget(self, client: WorkerClient) -> None:
        """Disconnect a client and forget its session: it must not keep a place, or fail again when resumed."""
        change = ClientChange("client.disconnected", code=CloseCode.INTERNAL, remember=False)
        self._disconnect(client, change)

    def _disconnect(self, client: WorkerClient, change: ClientChange) -> None:
        del self._clients[client.client_id]
        code, seconds = change.code or _ABNORMAL, change.seconds or 0.0
        self._context.address_limit.release(client.address)
        self._context.metrics.closed(code, seconds)
        self._hub.disconnect(
            client.session, code=code, seconds=seconds, remember=change.remember, now_ns=clock.now_ns()
        )

    def _count(self, session: Session) -> None:
        """Count a client with its present subscriptions, as a reader that has all there is."""
        assert session.reader is not None
        view = frozenset(session.subscriptions.values())
        self._hub.fanout.subscribe(session.reader, view, self._hub.heads())


class _NoWriter:
    """Stands for the writer of a client whose worker writes to it."""

    def write(self, data: bytes, /) -> None:
        """Leave it to the worker."""


def _nothing() -> None:
    """Leave it to the worker."""
