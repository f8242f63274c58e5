"""A gateway from start to stop: the bus, the pipeline, the edge, and the workers if there are any."""

import asyncio
import contextlib
import errno
import functools
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from gateway.bus import keys
from gateway.bus.connection_limit import ConnectionLimit
from gateway.bus.context import make_context
from gateway.bus.curve import Curve
from gateway.bus.framing import Frames
from gateway.bus.links import Links
from gateway.bus.outlet import BusOutlet
from gateway.bus.replay import ReplayClient
from gateway.bus.resolver import Resolve, Resolver
from gateway.bus.subscriber import BusError, Subscriber
from gateway.config.changes import Changes, changes
from gateway.config.model import Config
from gateway.config.sources import endpoints
from gateway.core.fanout.fanout import Fanout
from gateway.core.ingest.interest import Interest
from gateway.core.ingest.pipeline import Tick
from gateway.core.protocol.channels import OWN_FIGURES
from gateway.core.protocol.envelope import GROUP_BITS
from gateway.core.protocol.events import own_event
from gateway.core.protocol.messages import BusState
from gateway.core.sessions.observer import LocalObserver, Observer
from gateway.core.sources.source import Source
from gateway.metrics import own_figures
from gateway.metrics.metrics import EndpointStatus
from gateway.process.handover import Inherited
from gateway.runtime import clock
from gateway.runtime.listening import listen, url
from gateway.runtime.logs import Throttle, logger
from gateway.runtime.system import ProcessUsage, memory_bytes, notify_systemd, open_files_max
from gateway.web import admission
from gateway.web.edge import Edge
from gateway.web.sockets.listener import Listener, bus_connections_max
from gateway.wiring import build_hub, build_logs, build_pipeline
from gateway.workers.supervisor import Supervisor


log = logger("gateway")

_REPEATED_LOG_SECONDS = 1.0
"""Interval at which one reason for rejections, or one change of an endpoint, is logged; all are counted."""
_REFUSED_LOG_SECONDS = 10.0
"""The same for failed handshakes: a peer that failed tries again at once, without end."""
_HOUSEKEEPING_SECONDS = 1.0
_BUS_RELEASE_SECONDS_MAX = 5.0
_FILL_SECONDS_MAX = 10.0
"""How long a successor waits for the publishers of the process before it."""
_LOOK_SECONDS = 0.02


class Service:
    """One gateway: all of it, or with `workers` above 1 all but the clients' connections.

    `resolve` looks up names in endpoints; by default, the system's resolver does. Needs a running event loop from `start` to `stop`."""

    def __init__(self, config: Config, *, resolve: Resolve | None = None) -> None:
        self.config = config
        self.urls: list[str] = []
        self._supervisor = supervisor = Supervisor(config) if config.workers > 1 else None
        logs = build_logs(config, total_bytes_max=config.history.total_bytes_max or memory_bytes() // 4)
        fanout = Fanout(logs.by_name, epoch=logs.epoch)
        self.pipeline = build_pipeline(config, logs)
        observer: Observer = LocalObserver(
            logs, fanout, on_subscribed=self._on_subscribed, on_denied=admission.log_denied
        )
        if supervisor is None:
            logs.on_append.append(fanout.deliver)
        else:
            observer = supervisor.observer(observer)
        self.hub = build_hub(config, logs, fanout, observer, bus_state=self._bus_state)
        self._edge = edge = Edge(
            config,
            self.hub,
            pipeline=self.pipeline,
            bus=self.bus,
            unready=self.unready,
            refilling=lambda: bool(self._refilling()),
        )
        if supervisor is not None:
            supervisor.attach(edge.context, edge.application)
        logs.on_closed.append(self._on_channel_closed)
        logs.on_cut.append(self._on_histories_cut)
        self.metrics = edge.metrics
        self._loop = asyncio.get_running_loop()
        self._zmq = make_context()
        self._curve = Curve(self._zmq, config.bus)
        limit = ConnectionLimit(bus_connections_max(config, files=open_files_max()))
        self._links = Links(
            self._zmq,
            config,
            self._curve,
            limit,
            interest=self._interest,
            publishers=self.pipeline.ingest.recovery.publishers,
            resolve=resolve or Resolver(),
            on_messages=self._on_messages,
            on_foreign=self._on_foreign,
            on_replies=self._on_replies,
            on_change=self._endpoint_changed,
            pause_seconds=edge.write_scheduler.pause_seconds,
        )
        self._keeps_port = False
        """Whether connections may wait at the port for the next process."""
        self._replay_client = ReplayClient(self._zmq, config.bus, self._curve, on_replies=self._on_replies)
        self._outlet = self._bound_outlet(limit) if config.bus.publish else None
        self._began = self._loop.time()
        self._refilled = False
        self._server: Listener | None = None
        self._usage = ProcessUsage()
        self._counts = own_figures.Counts(at_ns=edge.context.started_ns, received={})
        self._rejections_throttle = Throttle(count=1, interval_seconds=_REPEATED_LOG_SECONDS)
        self._endpoints_throttle = Throttle(count=1, interval_seconds=_REPEATED_LOG_SECONDS)
        self._refusals_throttle = Throttle(count=1, interval_seconds=_REFUSED_LOG_SECONDS)

    def _bound_outlet(self, limit: ConnectionLimit) -> BusOutlet:
        """Return where processes on the bus get what clients publish."""
        group = self.pipeline.ingest.own_group
        assert group is not None
        incarnation = group << GROUP_BITS | secrets.randbits(GROUP_BITS)
        outlet = BusOutlet(
            self._zmq, self.config.bus, self._curve, limit=limit, unix_ns=clock.unix_ns, incarnation=incarnation
        )
        broadcaster = self._edge.context.broadcaster
        assert broadcaster is not None, "this process reads the bus"
        broadcaster.bus = outlet
        self.metrics.reopen_failures = lambda: outlet.reopen_failures
        return outlet

    @property
    def _interest(self) -> Interest:
        return self.pipeline.ingest.recovery.interest

    async def start(self, inherited: Inherited = Inherited()) -> None:  # noqa: B008  # frozen
        """Open the bus, then the HTTP address, or the inherited sockets; if there is a predecessor, succeed it.
        Raises BusError: a bus endpoint cannot be opened.
        Raises ConfigError: a source's decoder cannot be loaded.
        Raises OSError: the HTTP address cannot be bound, or the workers do not start."""
        config = self.config
        predecessor = inherited.predecessor
        expected = frozenset() if predecessor is None else await predecessor.release_bus()
        for endpoint in endpoints(config):
            await self._until_free(functools.partial(self._links.open, endpoint, config), retry=predecessor is not None)
        if self._outlet is not None:
            await self._until_free(self._outlet.open, retry=predecessor is not None)
        self._began = self._loop.time()
        listener = await self._edge.start()
        self._keeps_port = inherited.by_systemd
        try:
            listener.listen(inherited.sockets or await listen(config.hosts, config.port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise OSError(f"host: cannot listen on {error.filename} ({error.strerror})") from error
            reason = f"port: {error.filename} is in use, perhaps by another gateway"
            raise OSError(f"{reason}; choose another with --port, or 0 for any that is free") from error
        if self._supervisor is not None:
            await self._supervisor.start(self._edge.runner, listener)
        self._server = listener
        scheme = "https" if config.tls.cert_file else "http"
        self.urls = [url(scheme, *address) for address in listener.addresses]
        self._edge.every(_HOUSEKEEPING_SECONDS, self._housekeep)
        if predecessor is not None:
            await self._fill_logs(expected)
        listener.resume_accepting()
        if predecessor is not None:
            await predecessor.dismiss()
        if config.figures_seconds and self.hub.logs.admit(OWN_FIGURES):
            self._publish_figures()
            self._edge.every(config.figures_seconds, self._publish_figures)

    async def _until_free(self, open_: Callable[[], object], *, retry: bool) -> None:
        """Open an endpoint at the start; with `retry`, wait until the predecessor has left its address."""
        until = self._loop.time() + _BUS_RELEASE_SECONDS_MAX
        while True:
            try:
                open_()
                return
            except BusError:
                if not retry or self._loop.time() > until:
                    raise
            await asyncio.sleep(_LOOK_SECONDS)

    async def _fill_logs(self, expected: frozenset[int]) -> None:
        """Wait until the predecessor's publishers are heard from and have replayed, as far as they do it soon."""
        publishers = self.pipeline.ingest.recovery.publishers
        until = self._loop.time() + _FILL_SECONDS_MAX
        while any(publishers.get(one) is None for one in expected) or self._refilling():
            if self._loop.time() > until:
                missing = [one for one in expected if publishers.get(one) is None]
                log.warning("upgrade_incomplete", publishers=[f"{one:016x}" for one in missing])
                return
            await asyncio.sleep(_LOOK_SECONDS)

    @property
    def listening(self) -> Sequence[socket.socket]:
        """The sockets at which clients connect."""
        return [] if self._server is None else self._server.sockets

    def release_bus(self) -> list[int]:
        """Close the endpoints that are bound, for a successor; return the incarnations of the live publishers."""
        self._links.release()
        if self._outlet is not None:
            self._outlet.close()
        return [one.incarnation for one in self.pipeline.ingest.recovery.publishers.known if not one.stale]

    def resume_bus(self) -> None:
        """Open again what `release_bus` has closed: the successor failed."""
        self._links.resume()
        if self._outlet is not None:
            self._outlet.reopen()

    def leave_port(self) -> None:
        """Leave new connections to the successor."""
        if self._server is not None:
            self._server.leave_port()

    def reload(self, new: Config) -> Changes:
        """Use another configuration, as far as that needs no restart; return what changed.
        Raises ConfigError or BusError: it cannot be used, and nothing has changed."""
        found = changes(self.config, new)
        config = found.config
        apply = self._edge.prepare_reload(config)
        curve_keys = keys.read(config.bus)
        self._links.reload(config)
        apply(elsewhere=self._supervisor is not None)
        if self._supervisor is not None:
            self._supervisor.reload(config)
        if stale := self._curve.reload(curve_keys):
            self._replay_client.close()  # opened again for the next request
            self._links.replace(stale)
        self.config = config
        return found

    async def drain(self) -> None:
        if self._keeps_port:
            self.leave_port()
        self._edge.context.draining = True
        if (cluster := self._edge.context.cluster) is not None:
            cluster.report_soon()
            if cluster.others_ready and self._server is not None:
                # A balancer that is refused tries another one at once.
                self._server.leave_port(accept_waiting=True)
        if self._supervisor is not None:
            await self._supervisor.drain()
        await self._edge.drain()

    async def stop(self) -> None:
        self._links.close()
        self._replay_client.close()
        if self._outlet is not None:
            self._outlet.close()
        self._curve.close()
        if self._supervisor is not None:
            await self._supervisor.stop()
        await self._edge.close()
        self._zmq.destroy(linger=0)

    def unready(self) -> list[str]:
        reasons = []
        if self._server is None:
            reasons.append("not listening yet")
        reasons += self._refilling()
        if self._edge.context.draining:
            reasons.append("draining")
        if self._supervisor is not None:
            reasons += self._supervisor.unready()
        if len(self.hub.sessions) >= self.config.clients.connections_max:
            reasons.append("clients.connections_max is reached")
        return reasons

    def _refilling(self) -> list[str]:
        """Say whether the logs are still being filled with what publishers hold."""
        if self._refilled or self._server is None:
            return []
        recovering = self.pipeline.ingest.recovery.recovering
        if recovering:
            return [f"waiting for replay of {recovering} streams"]
        if names := self._links.looking_up:
            self._began = self._loop.time()
            return [f"waiting for the addresses of {', '.join(names)}"]
        if self._loop.time() < self._began + self.config.bus.discovery_seconds:
            return ["waiting to hear from publishers (bus.discovery_seconds)"]
        self._refilled = True
        return []

    def _bus_state(self) -> BusState:
        """Return the state of the bus: without a connected publisher it is not live, whatever came before."""
        state = self.pipeline.bus_state
        return "stale" if state == "live" and not self._links.connected else state

    def bus(self) -> list[EndpointStatus]:
        return self._links.statuses()

    def _on_messages(self, number: int, batch: Sequence[Frames]) -> None:
        self._edge.write_scheduler.begin_batch()
        now_ns = clock.now_ns()
        publishers = self.pipeline.ingest.recovery.publishers
        heartbeats = publishers.heartbeats
        tick = self.pipeline.receive(batch, now_ns=now_ns, link=number)
        link = self._links.by_number[number]
        self._after(tick, link.endpoint.address)
        heartbeats = publishers.heartbeats - heartbeats
        rejected = len(tick.rejections)
        events = max(len(batch) - heartbeats - rejected, 0)
        link.traffic.add(events, heartbeats, rejected, now=self._loop.time())

    def _on_foreign(self, number: int, source: Source, batch: Sequence[Frames]) -> None:
        """Take in the messages of an endpoint with a source."""
        self._edge.write_scheduler.begin_batch()
        now_ns = clock.now_ns()
        tick = self.pipeline.receive_from(source, batch, now_ns=now_ns, link=number)
        link = self._links.by_number[number]
        self._after(tick, link.endpoint.address)
        link.traffic.add(len(tick.events), 0, len(tick.rejections), now=self._loop.time())

    def _on_replies(self, replies: Sequence[Frames]) -> None:
        now_ns = clock.now_ns()
        self._after(self.pipeline.receive_replies(replies, now_ns=now_ns))

    def _after(self, tick: Tick, endpoint: str = "") -> None:
        """Count what a tick brought, log what it rejected, send the requests that it needs."""
        if tick.bytes or tick.events or tick.rejections:
            self.metrics.tick(tick, now_ns=clock.unix_ns())
        for rejection in tick.rejections:
            suppressed = self._rejections_throttle.allow(rejection.reason, now=self._loop.time())
            if suppressed is not None:
                log.warning(
                    "event_rejected",
                    reason=rejection.reason,
                    detail=rejection.detail,
                    topic=rejection.topic,
                    frames=rejection.frames,
                    endpoint=endpoint,
                    publisher=rejection.publisher,
                    suppressed=suppressed,
                )
        for request in self.pipeline.ingest.recovery.take_requests():
            client = self._links.sequence_replays.get(request.endpoint, self._replay_client)
            client.send_request(self._links.reach(request))

    def _on_subscribed(self, patterns: Iterable[str]) -> None:
        """Subscribe on the bus to what a client subscribes to, if it is not subscribed to yet."""
        interest = self._interest
        if not interest.everything and interest.watch(patterns, now_ns=clock.now_ns()):
            self._links.subscribe()

    def _on_channel_closed(self, channel: str) -> None:
        suppressed = self._rejections_throttle.allow("channel_closed", now=self._loop.time())
        if suppressed is not None:
            log.info("channel_closed", channel=channel, suppressed=suppressed)

    def _on_histories_cut(self, bytes_max: int) -> None:
        suppressed = self._rejections_throttle.allow("histories_cut", now=self._loop.time())
        if suppressed is not None:
            log.warning("histories_cut", bytes_max=bytes_max, suppressed=suppressed)

    def _unsubscribe_idle(self, now_ns: int) -> None:
        """Unsubscribe on the bus from what no client has subscribed to for long."""
        interest = self._interest
        if not interest.everything:
            interest.watch(self.hub.patterns(), now_ns=now_ns)
            if interest.drop_idle(now_ns=now_ns):
                self._links.subscribe()
                self.pipeline.ingest.recovery.pause_unwatched()

    def _endpoint_changed(self, subscriber: Subscriber, change: str) -> None:
        refused = "refused" in {change, subscriber.state}
        limit = self._refusals_throttle if refused else self._endpoints_throttle
        key = f"{subscriber.endpoint} {change} {subscriber.problem if refused else ''}"
        suppressed = limit.allow(key, now=self._loop.time())
        if suppressed is not None:
            # One endpoint without a publisher is usual, as there is one of each mode by default.
            alone = change == "waiting" and not self._links.connected
            log.log(
                logging.WARNING if refused or alone else logging.INFO,
                "bus_endpoint_changed",
                endpoint=subscriber.endpoint,
                change=change,
                peers=subscriber.peers,
                suppressed=suppressed,
                **({"problem": subscriber.problem} if refused or subscriber.problem else {}),
            )

    def _publish_figures(self) -> None:
        now_ns = clock.now_ns()
        before, self._counts = self._counts, own_figures.count(self.metrics, self.pipeline, now_ns=now_ns)
        context = self._edge.context
        event = own_figures.figures(
            before,
            self._counts,
            gateway=f"{socket.gethostname()}:{self.urls[0].rpartition(':')[2]}",
            started_ns=context.started_ns,
            usage=self._usage.read(),
            lags=[client.lag for client in context.connected_clients() if client.lagging],
            hub=self.hub,
            pipeline=self.pipeline,
        )
        self.hub.logs.append([own_event(OWN_FIGURES, "gateway_figures", event, now_ns=now_ns)])

    def _housekeep(self) -> None:
        notify_systemd(WATCHDOG=1)
        self._edge.refresh_certificate()
        # First what waits in the sockets: it may be what is waited for.
        self._links.poll()
        self._replay_client.poll()
        if self._outlet is not None:
            self._outlet.beat()
        self._curve.poll()
        now_ns = clock.now_ns()
        self._unsubscribe_idle(now_ns)
        if self._supervisor is not None:
            self._supervisor.tick(now_ns)
        self.hub.store.forget_expired(now_ns=now_ns)
        self.hub.warn_of_failed_filters(now_ns=now_ns)
        self._after(self.pipeline.expire(now_ns=now_ns))


@contextlib.asynccontextmanager
async def running(
    config: Config,
    inherited: Inherited = Inherited(),  # noqa: B008  # frozen
    *,
    resolve: Resolve | None = None,
) -> AsyncIterator[Service]:
    service = Service(config, resolve=resolve)
    try:
        await service.start(inherited)
        yield service
    finally:
        await service.stop()
