"""One gateway's part in its cluster: it reports itself to the others, and knows them."""

import asyncio
import contextlib
import secrets
from collections.abc import Callable

import msgspec

from gateway import __version__
from gateway.cluster.clients import ClusterClients
from gateway.cluster.engine import Engine
from gateway.cluster.events import ClusterEvents
from gateway.cluster.numbering import ClusterNumbering
from gateway.cluster.scripts import script
from gateway.cluster.sessions import ClusterSessions
from gateway.config.model import Cluster as Settings
from gateway.core.cluster.balance import Balance
from gateway.core.cluster.members import ClusterState, Heard, Member, Members, OwnFigures, encode
from gateway.core.cluster.once import Once
from gateway.core.ingest.pipeline import Pipeline
from gateway.core.protocol.channels import EVERYONE, PERSONAL
from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.core.protocol.events import Event
from gateway.core.protocol.messages import Broadcast, BroadcastResult, Publish
from gateway.core.sessions.broadcast import Broadcaster, Sender, as_broadcast, no_subscribers, sender_of, unknown_client
from gateway.core.sessions.hub import Hub
from gateway.core.sessions.session import Session
from gateway.runtime import clock
from gateway.runtime.logs import logger
from gateway.runtime.tasks import Tasks, run_every


log = logger("gateway.cluster")

_REPORT = script("report")
_LEAVE = script("leave")
_REPORTS_PER_TTL = 4
_LEASE_SECONDS = 1.0
"""The longest interval in which the lease is renewed, or taken if it is free."""
_decode_answer = msgspec.json.Decoder(tuple[int, bool | None]).decode


class Cluster:
    """`away_seconds` is how long clients that are asked to connect again may wait. Needs a running event loop.
    Raises ConfigError: the file with the engine's password cannot be read."""

    def __init__(
        self,
        settings: Settings,
        hub: Hub,
        pipeline: Pipeline,
        broadcaster: Broadcaster,
        *,
        own: Callable[[], OwnFigures],
        away_seconds: float,
    ) -> None:
        self.id = secrets.token_hex(8)
        self.engine = Engine(settings, gateway=self.id)
        self.clients = ClusterClients(self.engine, hub, ttl_seconds=settings.ttl_seconds)
        self._tasks = Tasks()
        self.sessions = ClusterSessions(self.engine, hub, self._tasks)
        self.events = ClusterEvents(self.engine, hub.logs)
        self._hub = hub
        self._publishers = pipeline.ingest.recovery.publishers
        self._broadcaster = broadcaster
        self.numbering: ClusterNumbering | None = None
        if settings.numbering == "one":
            self.numbering = ClusterNumbering(
                self.engine, self.events, pipeline, self._tasks, ttl_seconds=settings.ttl_seconds
            )
        self._own = own
        self._ttl_seconds = settings.ttl_seconds
        self._timeout_seconds = settings.timeout_seconds
        self._name = settings.name
        self._started = clock.unix_ns() / 1e9
        self._members = Members(ttl_ns=round(settings.ttl_seconds * 1e9))
        self._late_seconds = 0.0
        """The longest delay of this process's timer since the last report."""
        self._balance = Balance(away_seconds=settings.ttl_seconds + away_seconds) if settings.balance else None
        self.ask_to_move: Callable[[int], object] = lambda count: None
        """Asks so many clients to connect again, those first that have been connected for longest."""
        self._is_listed = False
        """Whether the engine, since it is up, has a report of this gateway."""
        hub.store.on_changed = self._on_changed

    def _on_changed(self, session: Session) -> None:
        self.clients.note(session)
        self.sessions.note(session)

    async def start(self) -> None:
        """Join the cluster, and wait until this gateway has what the engine holds for it, if that is up."""
        self.engine.on_up.append(self._on_up)
        self.engine.start()
        self._tasks.start(self.clients.keep_written())
        self._tasks.start(self.sessions.keep_written())
        self._tasks.start(self.events.keep_current())
        self._tasks.start(run_every(self.sessions.write_seconds, self.sessions.note_all, on_late=lambda seconds: None))
        interval = self._ttl_seconds / _REPORTS_PER_TTL
        if self.numbering is not None:
            self._tasks.start(self.numbering.keep_sending())
            renewals = min(interval, _LEASE_SECONDS)
            self._tasks.start(run_every(renewals, self.numbering.renew, on_late=lambda seconds: None))
        self._tasks.start(run_every(interval, lambda: self._tasks.start(self._report()), on_late=self._note_late))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_seconds):
                await self.engine.settled.wait()
                if self.engine.up:
                    await self.events.settled.wait()

    def publish(
        self, message: Publish, session: Session, on_answer: Callable[[BroadcastResult | RequestError], object]
    ) -> None:
        """Send an event that came over a WebSocket, and call `on_answer` when that is done; events are sent in order."""
        self._tasks.start(self._publish(as_broadcast(message), sender_of(message, session), on_answer))

    async def _publish(
        self, message: Broadcast, sender: Sender, on_answer: Callable[[BroadcastResult | RequestError], object]
    ) -> None:
        try:
            answer = await self.broadcast(message, sender)
        except RequestError as error:
            on_answer(error)  # not later: this frame must not keep it, as its traceback refers to this frame
        except Exception:
            log.exception("cluster_failed")
            on_answer(RequestError(ErrorCode.INTERNAL, "the event may or may not have been published"))
        else:
            on_answer(answer)

    async def broadcast(self, message: Broadcast, sender: Sender) -> BroadcastResult:
        """Send an event to exactly one target, wherever its clients are; with an idempotency key, once.
        Raises RequestError: as `Broadcaster.send`. Raises EngineUnavailable."""
        self.engine.check()
        event = self._broadcaster.event(message, sender, now_ns=clock.now_ns())
        once = Once.of(message, sender.identity)
        if event.channel != PERSONAL:
            return await self._to_channel(event, sender, once, mandatory=message.mandatory)
        count = await self.sessions.send_personal(
            event.fields, client_id=message.client_id, user_id=message.user_id, once=once
        )
        if not count and message.user_id is None:
            raise unknown_client(message)
        return BroadcastResult(count, PERSONAL, None)

    async def _to_channel(self, event: Event, sender: Sender, once: Once, *, mandatory: bool) -> BroadcastResult:
        channel, reaches = event.channel, self._broadcaster.reaches(event.channel)
        recipients = self._hub.subscribers(channel)
        if channel == EVERYONE:
            recipients = sum(one.clients for one in self.state.members)
        elif mandatory and reaches is None and not recipients:
            recipients = len(await self.clients.present(channel))
        if mandatory and not (recipients if reaches is None else reaches):
            raise no_subscribers(channel, on_bus=reaches is not None)
        answer = msgspec.json.encode([recipients, reaches]).decode()
        published = await self.events.publish(event, once=once, answer=answer)
        if published.is_new:
            self._broadcaster.send_on_bus(event, sender)
            self._hub.counts.published[reaches] += 1
        recipients, reaches = _decode_answer(published.answer)
        return BroadcastResult(recipients, channel, published.position, reaches)

    async def close(self) -> None:
        """Leave the cluster, as far as the engine answers in time."""
        self._tasks.cancel()
        with contextlib.suppress(RequestError):
            if self.numbering is not None:
                await self.numbering.finish()
            await self.sessions.write_all()
            await self.engine.run(_LEAVE)
        await self.engine.close()

    @property
    def state(self) -> ClusterState:
        members = self._members.with_own(self._own_member(), now_ns=clock.now_ns())
        engine = self.engine
        return ClusterState(
            own_id=self.id,
            members=tuple(members),
            problem=engine.problem,
            advice=engine.advice,
            failures=engine.failures,
            commands=engine.commands,
            events=self.events.channels.counts,
            lease=None if self.numbering is None else self.numbering.lease,
        )

    def _own_member(self) -> Member:
        own = self._own()
        return Member(
            id=self.id,
            name=self._name or own.name,
            version=__version__,
            started=self._started,
            clients=own.clients,
            lag_seconds=self._late_seconds,
            recovering=own.recovering,
            ready=own.ready,
        )

    def _heard(self) -> Heard:
        live = {f"{one.incarnation:016x}": one.name for one in self._publishers.known if not one.stale}
        return Heard(sent=clock.unix_ns() / 1e9, publishers=live)

    def _note_late(self, seconds: float) -> None:
        self._late_seconds = max(self._late_seconds, seconds)

    def _on_up(self, changed: bool) -> None:  # the only argument of a callback
        self._is_listed = False
        self.clients.lose()
        self.sessions.note_all()
        self._tasks.start(self._report())

    async def _report(self) -> None:
        report, heard = encode(self._own_member()), encode(self._heard())
        self._late_seconds = 0.0
        with contextlib.suppress(RequestError, asyncio.CancelledError):  # the engine says what is wrong
            reply = await self.engine.run(_REPORT, report, round(self._ttl_seconds * 1000), heard)
            assert isinstance(reply, list)
            was_listed, reports = reply
            if self._is_listed and not was_listed:
                # It was late: its clients are gone with its report, and others may have taken its sessions unnoticed.
                self.clients.lose()
                self.sessions.note_all()
            self._is_listed = True
            self._members.take(reports, now_ns=clock.now_ns())
            self._rebalance()

    @property
    def others_ready(self) -> list[Member]:
        """The other gateways to which clients can connect; none if they are not known now."""
        found = self.state
        return [] if found.problem else [one for one in found.members if one.ready and one.id != self.id]

    def report_soon(self) -> None:
        """Let the others know now what has changed in this gateway."""
        self._tasks.start(self._report())

    def _rebalance(self) -> None:
        balance, own = self._balance, self._own()
        if balance is None:
            return
        others = [one.clients for one in self.others_ready] if own.ready else []
        was_active, was_paused = balance.active, balance.is_paused
        count = balance.step(own.clients, others, now_ns=clock.now_ns())
        if balance.active and not was_active:
            log.info("cluster_rebalancing", clients=own.clients, mean=round(balance.mean))
        elif balance.is_paused and not was_paused:
            log.warning("cluster_rebalancing_failed", clients=own.clients, mean=round(balance.mean))
        if count:
            self.ask_to_move(count)
