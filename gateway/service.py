"""The only place where objects meet: build, start, tick, drain, stop."""

import asyncio
import contextlib
import functools
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Protocol

from aiohttp import web

from gateway import __version__
from gateway.auth import verifier
from gateway.bus.context import make_context
from gateway.bus.curve import Curve
from gateway.bus.framing import Frames
from gateway.bus.replay import ReplayClient
from gateway.bus.subscriber import BusError, Mode, Subscriber
from gateway.config.checks import is_loopback
from gateway.config.errors import ConfigError
from gateway.config.model import Config
from gateway.core.ingest.ingest import Tick
from gateway.core.ingest.publishers import MISSED_HEARTBEATS_MAX
from gateway.core.protocol.errors import CloseCode
from gateway.logs import Throttle, logger
from gateway.metrics import Metrics
from gateway.runtime import allow_many_files, collect_rarely, every, loop_factory
from gateway.web import admission, app
from gateway.web.context import Context, EndpointStatus
from gateway.web.sockets.heartbeat import ClientHeartbeat
from gateway.web.sockets.listener import Listener, listener_of
from gateway.web.sockets.tls import Certificate
from gateway.wiring import build_hub, build_policy
from gateway.write_scheduler import WriteScheduler


log = logger("gateway")

_REPEATED_LOG_SECONDS = 1.0
"""How often one reason for rejections, or one change of a link, is logged; all are counted."""
_REFUSED_LOG_SECONDS = 10.0
"""The same of handshakes that fail: who fails tries again at once, and for as long as it takes."""
_HOUSEKEEPING_SECONDS = 1.0
_CLEANUP_SECONDS = 1.0
"""How long handlers may take to end once their connections are closed."""


class Supervisor(Protocol):
    """Other processes that hold the clients."""

    async def start(self, runner: web.AppRunner, listener: Listener) -> None: ...
    def unready(self) -> list[str]: ...
    def reload(self) -> None: ...
    def tidy(self, now_ns: int) -> None: ...
    async def drain(self) -> None: ...
    async def stop(self) -> None: ...


MakeSupervisor = Callable[[Config, Context, web.Application], Supervisor]


class Service:
    """One gateway in this process, or all but its clients' sockets, which a crew may hold.

    Needs a running event loop from `start` to `stop`.
    """

    def __init__(self, config: Config, make_supervisor: MakeSupervisor | None = None) -> None:
        self.config = config
        self.hub = build_hub(config, fan_out=make_supervisor is None)
        self._verifier = verifier(config.auth)
        self.metrics = Metrics(self.hub, links=self.bus, buffers=self._buffers)
        self.url = ""
        self._loop = asyncio.get_running_loop()
        self._zmq = make_context()
        self._curve = Curve(self._zmq, config.bus)
        self._subscribers: list[Subscriber] = []
        self._replay_client = ReplayClient(
            self._zmq, config.bus, self._curve, on_replies=self._replayed
        )
        self._began = self._loop.time()
        self._refilled = False
        self._certificate = Certificate(config.tls)
        self._listener: Listener | None = None
        self._server: Listener | None = None
        self._rejections_throttle = Throttle(count=1, interval_seconds=_REPEATED_LOG_SECONDS)
        self._endpoints_throttle = Throttle(count=1, interval_seconds=_REPEATED_LOG_SECONDS)
        self._refusals_throttle = Throttle(count=1, interval_seconds=_REFUSED_LOG_SECONDS)
        self._heartbeat = ClientHeartbeat(self.hub, config.clients)
        self._context = Context(
            config=config,
            hub=self.hub,
            metrics=self.metrics,
            now_ns=time.time_ns,
            started_ns=time.time_ns(),
            heartbeat=self._heartbeat,
            bus=self.bus,
            unready=self.unready,
            policy=build_policy(config),
            verifier=self._verifier,
            refilling=lambda: bool(self._refilling()),
        )
        application = app.build(self._context)
        self._supervisor = (
            make_supervisor(config, self._context, application) if make_supervisor else None
        )
        self._runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=_CLEANUP_SECONDS
        )
        self._timers: list[asyncio.Task[None]] = []
        self._write_scheduler = WriteScheduler(
            self.hub.fanout, config.fanout, on_written=self.metrics.fanned_out
        )

    async def start(self) -> None:
        """Open the bus, then the door.

        Raises:
            BusError: A bus endpoint cannot be opened.
            OSError: The HTTP address cannot be bound, or the crew does not start.
        """
        config = self.config
        endpoints: list[tuple[str, Mode]] = [(e, "connect") for e in config.connect]
        if config.bind:
            endpoints.append((config.bind, "bind"))
        self.hub.watch = self._watch
        self.hub.deny = admission.log_denied
        for endpoint, mode in endpoints:
            subscriber = Subscriber(
                self._zmq,
                endpoint,
                mode,
                config.bus,
                self._curve,
                on_messages=functools.partial(self._tick, len(self._subscribers)),
                on_change=self._endpoint_changed,
                rest=self._write_scheduler.rest,
            )
            self._subscribers.append(subscriber)
            subscriber.fetch(self.hub.ingest.recovery.interest.prefixes)
            subscriber.open()
        if self._verifier is not None:
            self._verifier.start()
        await self._runner.setup()
        server = self._listener = listener_of(
            self._runner,
            config,
            tls=lambda: self._certificate.context,
            on_refused=self.metrics.refused,
        )
        await server.open(config.host, config.port)
        if self._supervisor is not None:
            await self._supervisor.start(self._runner, server)
        self._server = server
        host, port = server.address
        scheme = "https" if config.tls.cert_file else "http"
        self.url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        late = self.metrics.loop_lag
        self._timers = [
            self._loop.create_task(every(self._heartbeat.interval, self._beat, on_late=late)),
            self._loop.create_task(every(_HOUSEKEEPING_SECONDS, self._tidy, on_late=late)),
        ]

    def reload(self) -> None:
        """Read keys again from their files; what cannot be used leaves the old one."""
        if self._supervisor is not None:
            self._supervisor.reload()
        if self._verifier is None:
            return
        try:
            self._verifier.reload()
        except ConfigError as error:
            log.error("not reloaded", reason=str(error))
        else:
            log.info("reloaded")

    async def drain(self) -> None:
        """Send every client away with a delay of its own; then nothing holds the gateway."""
        self._context.draining = True
        if self._supervisor is not None:
            await self._supervisor.drain()
        await admission.close_all(self._context, CloseCode.RESTART)

    async def stop(self) -> None:
        """Release everything."""
        for timer in self._timers:
            timer.cancel()
        self._write_scheduler.close()
        for subscriber in self._subscribers:
            subscriber.close()
        self._replay_client.close()
        self._curve.close()
        if self._verifier is not None:
            await self._verifier.close()
        if self._listener is not None:
            self._listener.close()
        if self._supervisor is not None:
            await self._supervisor.stop()
        await self._runner.cleanup()
        self._context.socket_writers.close()
        self._zmq.destroy(linger=0)

    def unready(self) -> list[str]:
        """Say why no new client should be sent here; empty if one may."""
        reasons = []
        if self._server is None:
            reasons.append("not listening yet")
        reasons += self._refilling()
        if self._context.draining:
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
        recovering = self.hub.ingest.recovery.recovering
        if recovering:
            return [f"asking publishers for what they hold of {recovering} topics"]
        if self._loop.time() < self._began + self.config.bus.start_seconds:
            return ["listening for publishers"]
        self._refilled = True
        return []

    def bus(self) -> list[EndpointStatus]:
        """Say how each endpoint of the bus is."""
        now = self._loop.time()
        return [
            EndpointStatus(
                endpoint=subscriber.endpoint,
                mode=subscriber.mode,
                state=subscriber.state,
                peers=subscriber.peers,
                received=subscriber.received,
                reopened=subscriber.reopened,
                refused=subscriber.refused,
                problem=subscriber.problem,
                last_event_seconds=None
                if subscriber.last_message is None
                else now - subscriber.last_message,
            )
            for subscriber in self._subscribers
        ]

    def _buffers(self) -> list[int]:
        return [connection.buffered for connection in self._context.connections.values()]

    def _tick(self, subscriber: int, batch: Sequence[Frames]) -> None:
        """Take in all that one wake-up of a bus socket brought."""
        self._write_scheduler.begin()
        now_ns = time.time_ns()
        publishers = self.hub.ingest.recovery.publishers
        heartbeats_received = publishers.heartbeats_received
        self._took(self.hub.tick(batch, now_ns=now_ns), now_ns)
        if publishers.heartbeats_received != heartbeats_received:
            self._subscribers[subscriber].due_seconds = (
                MISSED_HEARTBEATS_MAX * publishers.interval_ns / 1e9
            )

    def _replayed(self, replies: Sequence[Frames]) -> None:
        """Take in what publishers sent again."""
        now_ns = time.time_ns()
        self._took(self.hub.replayed(replies, now_ns=now_ns), now_ns)

    def _took(self, tick: Tick, now_ns: int) -> None:
        """Count what a tick brought, log what it refused, send what it asks for."""
        if tick.bytes or tick.events or tick.rejections:
            self.metrics.tick(tick, now_ns=now_ns)
        for rejection in tick.rejections:
            suppressed = self._rejections_throttle.admit(rejection.reason, now=self._loop.time())
            if suppressed is not None:
                log.warning(
                    "rejected",
                    reason=rejection.reason,
                    detail=rejection.detail,
                    topic=rejection.topic,
                    suppressed=suppressed,
                )
        for ask in self.hub.ingest.recovery.take_requests():
            self._replay_client.ask(ask)

    def _watch(self, patterns: Iterable[str]) -> None:
        """Fetch what a client begins to follow, if it is not fetched yet."""
        interest = self.hub.ingest.recovery.interest
        if not interest.everything and interest.watch(patterns, now_ns=time.time_ns()):
            self._fetch()

    def _unwatch(self, now_ns: int) -> None:
        """Fetch no longer what nobody follows."""
        recovery = self.hub.ingest.recovery
        if not recovery.interest.everything:
            recovery.interest.watch(self.hub.watched(), now_ns=now_ns)
            if recovery.interest.expire(now_ns=now_ns):
                self._fetch()
                recovery.sleep()

    def _fetch(self) -> None:
        for subscriber in self._subscribers:
            subscriber.fetch(self.hub.ingest.recovery.interest.prefixes)

    def _endpoint_changed(self, subscriber: Subscriber, change: str) -> None:
        refused = "refused" in {change, subscriber.state}
        limit = self._refusals_throttle if refused else self._endpoints_throttle
        key = f"{subscriber.endpoint} {change} {subscriber.problem if refused else ''}"
        suppressed = limit.admit(key, now=self._loop.time())
        if suppressed is not None:
            (log.warning if refused else log.info)(
                "bus_link",
                endpoint=subscriber.endpoint,
                change=change,
                peers=subscriber.peers,
                suppressed=suppressed,
                **({"problem": subscriber.problem} if refused else {}),
            )

    def _beat(self) -> None:
        self._heartbeat.check(now=self._loop.time())

    def _tidy(self) -> None:
        self._certificate.refresh()
        # What waits in the sockets first: it may be what others are waiting for.
        for subscriber in self._subscribers:
            subscriber.touch()
        self._replay_client.touch()
        self._curve.touch()
        now_ns = time.time_ns()
        self._unwatch(now_ns)
        if self._supervisor is not None:
            self._supervisor.tidy(now_ns)
        self._took(self.hub.expire(now_ns=now_ns), now_ns)


@contextlib.asynccontextmanager
async def running(
    config: Config, make_supervisor: MakeSupervisor | None = None
) -> AsyncIterator[Service]:
    """Run a gateway for the length of a block."""
    service = Service(config, make_supervisor)
    try:
        await service.start()
        yield service
    finally:
        await service.stop()


def run(config: Config, make_supervisor: MakeSupervisor | None = None) -> int:
    """Run a gateway until a signal ends it; return the process's exit status."""
    allow_many_files()
    collect_rarely()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_serve(config, make_supervisor))


async def _serve(config: Config, make_supervisor: MakeSupervisor | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with running(config, make_supervisor) as service:
            loop.add_signal_handler(signal.SIGHUP, service.reload)
            log.info("listening", url=service.url, version=__version__)
            if not (config.auth.required or is_loopback(config.host)):
                log.warning("nobody is authenticated", host=config.host, role=config.auth.open_role)
            for subscriber in service.bus():
                log.info(
                    "bus_link", change="opened", endpoint=subscriber.endpoint, mode=subscriber.mode
                )
            await stop.wait()
            for number in (signal.SIGTERM, signal.SIGINT):
                # A second signal ends at once, by the signal itself.
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_DFL)
            log.info("draining", clients=len(service.hub.sessions))
            try:
                async with asyncio.timeout(config.shutdown.seconds_max):
                    await service.drain()
            except TimeoutError:
                log.warning("drain cut short", seconds=config.shutdown.seconds_max)
    except (BusError, OSError) as error:
        log.error("cannot start", reason=str(error))  # expected: no traceback
        return 1
    log.info("stopped")
    return 0
