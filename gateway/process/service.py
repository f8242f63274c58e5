"""A gateway from start to stop: the bus, the pipeline, the edge, and the workers if there are any."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from gateway.bus.framing import Frames
from gateway.bus.links import Callbacks
from gateway.bus.outlet import BusOutlet
from gateway.bus.resolver import Resolve, Resolver
from gateway.bus.sockets import BusSockets
from gateway.bus.subscriber import Subscriber
from gateway.config.changes import Changes, changes
from gateway.config.model import Config
from gateway.core.fanout.fanout import Fanout
from gateway.core.ingest.interest import Interest
from gateway.core.ingest.pipeline import Pipeline, Tick
from gateway.core.protocol.channels import OWN_FIGURES
from gateway.core.protocol.events import own_event
from gateway.core.protocol.messages import BusState
from gateway.core.sessions.hub import Hub
from gateway.core.sessions.observer import LocalObserver, Observer
from gateway.core.sources.source import Source
from gateway.metrics import own_figures
from gateway.metrics.metrics import EndpointStatus
from gateway.process.bus_log import BusLog
from gateway.process.handover import Inherited
from gateway.runtime import clock
from gateway.runtime.listening import listen, url
from gateway.runtime.logs import logger
from gateway.runtime.system import ProcessUsage, memory_bytes, notify_systemd, open_files_max
from gateway.web import admission
from gateway.web.edge import Edge
from gateway.web.sockets.listener import Listener, bus_connections_max
from gateway.wiring import build_hub, build_logs, build_pipeline
from gateway.workers.supervisor import Supervisor


log = logger("gateway")

_HOUSEKEEPING_SECONDS = 1.0
_FILL_SECONDS_MAX = 10.0
"""How long a successor waits for the publishers of the process before it."""
_LOOK_SECONDS = 0.02


class Service:
    """One gateway: all of it, or with `workers` above 1 all but the clients' connections.

    `resolve` looks up names in endpoints; by default, the system's resolver does. Needs a running event loop from `start` to `stop`."""

    def __init__(self, config: Config, *, resolve: Resolve | None = None) -> None:
        self.config = config
        self.urls: list[str] = []
        self._supervisor = Supervisor(config) if config.workers > 1 else None
        self.pipeline, self.hub = self._build_core(config)
        self._edge = edge = Edge(
            config,
            self.hub,
            pipeline=self.pipeline,
            bus=self.bus,
            unready=self.unready,
            refilling=lambda: bool(self._refilling()),
        )
        if self._supervisor is not None:
            self._supervisor.attach(edge.context, edge.application)
        logs = self.hub.logs
        logs.on_closed.append(lambda channel: self._bus_log.channel_closed(channel, now=self._loop.time()))
        logs.on_cut.append(lambda bytes_max: self._bus_log.histories_cut(bytes_max, now=self._loop.time()))
        self.metrics = edge.metrics
        self._loop = asyncio.get_running_loop()
        self._bus_log = BusLog()
        self._sockets = BusSockets(
            config,
            self.pipeline.ingest.recovery,
            connections_max=bus_connections_max(config, files=open_files_max()),
            own_group=self.pipeline.ingest.own_group,
            callbacks=Callbacks(
                on_messages=self._on_messages,
                on_foreign=self._on_foreign,
                on_replies=self._on_replies,
                on_change=self._on_endpoint_changed,
                pause_seconds=edge.write_scheduler.pause_seconds,
                resolve=resolve or Resolver(),
            ),
        )
        self._links = self._sockets.links
        if self._sockets.outlet is not None:
            self._publish_on_bus(self._sockets.outlet)
        self._keeps_port = False
        """Whether connections may wait at the port for the next process."""
        self._began = self._loop.time()
        self._refilled = False
        self._server: Listener | None = None
        self._usage = ProcessUsage()
        self._counts = own_figures.Counts(at_ns=edge.context.started_ns, received={})

    def _build_core(self, config: Config) -> tuple[Pipeline, Hub]:
        """Return what fills the logs, and what reads them; with workers, these read replicas."""
        logs = build_logs(config, total_bytes_max=config.history.total_bytes_max or memory_bytes() // 4)
        fanout = Fanout(logs.by_name, epoch=logs.epoch)
        observer: Observer = LocalObserver(
            logs, fanout, on_subscribed=self._on_subscribed, on_denied=admission.log_denied
        )
        if self._supervisor is None:
            logs.on_append.append(fanout.deliver)
        else:
            observer = self._supervisor.observer(observer)
        return build_pipeline(config, logs), build_hub(config, logs, fanout, observer, bus_state=self._bus_state)

    def _publish_on_bus(self, outlet: BusOutlet) -> None:
        """Let processes on the bus get what clients publish."""
        broadcaster = self._edge.context.broadcaster
        assert broadcaster is not None, "this process reads the bus"
        broadcaster.bus = outlet
        self.metrics.reopen_failures = lambda: outlet.reopen_failures

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
        await self._sockets.open(config, wait=predecessor is not None)
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
        self._sockets.release()
        return [one.incarnation for one in self.pipeline.ingest.recovery.publishers.known if not one.stale]

    def resume_bus(self) -> None:
        """Open again what `release_bus` has closed: the successor failed."""
        self._sockets.resume()

    @property
    def outdated(self) -> bool:
        """Whether this process can serve nobody any more, and has to make room for another version."""
        return self._supervisor is not None and self._supervisor.outdated

    def on_outdated(self, act: Callable[[], object]) -> None:
        """Call this as soon as it is outdated."""
        if self._supervisor is not None:
            self._supervisor.on_outdated = act

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
        self._sockets.reload(config)
        apply(elsewhere=self._supervisor is not None)
        if self._supervisor is not None:
            self._supervisor.reload(config)
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
        self._sockets.close()
        if self._supervisor is not None:
            await self._supervisor.stop()
        await self._edge.close()
        self._sockets.destroy()

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

    def _on_messages(self, number: int, batch: Iterable[Frames]) -> None:
        self._edge.write_scheduler.begin_batch()
        now_ns = clock.now_ns()
        publishers = self.pipeline.ingest.recovery.publishers
        heartbeats = publishers.heartbeats
        tick = self.pipeline.receive(batch, now_ns=now_ns, link=number)
        link = self._links.by_number[number]
        self._after(tick, link.endpoint.address)
        heartbeats = publishers.heartbeats - heartbeats
        rejected = len(tick.rejections)
        events = max(tick.messages - heartbeats - rejected, 0)
        link.traffic.add(events, heartbeats, rejected, now=self._loop.time())

    def _on_foreign(self, number: int, source: Source, batch: Iterable[Frames]) -> None:
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
        if tick.rejections:
            self._bus_log.rejected(tick.rejections, endpoint=endpoint, now=self._loop.time())
        for request in self.pipeline.ingest.recovery.take_requests():
            self._sockets.request(request)

    def _on_subscribed(self, patterns: Iterable[str]) -> None:
        """Subscribe on the bus to what a client subscribes to, if it is not subscribed to yet."""
        interest = self._interest
        if not interest.everything and interest.watch(patterns, now_ns=clock.now_ns()):
            self._links.subscribe()

    def _on_endpoint_changed(self, subscriber: Subscriber, change: str) -> None:
        self._bus_log.endpoint_changed(subscriber, change, connected=self._links.connected, now=self._loop.time())

    def _unsubscribe_idle(self, now_ns: int) -> None:
        """Unsubscribe on the bus from what no client has subscribed to for long."""
        interest = self._interest
        if not interest.everything:
            interest.watch(self.hub.patterns(), now_ns=now_ns)
            if interest.drop_idle(now_ns=now_ns):
                self._links.subscribe()
                self.pipeline.ingest.recovery.pause_unwatched()

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
        self._sockets.poll()
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
