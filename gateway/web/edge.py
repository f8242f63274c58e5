"""What every process that serves clients needs, be it the whole gateway, a parent or a worker."""

import asyncio
import functools
import socket
from collections import Counter
from collections.abc import Callable
from typing import get_args

from aiohttp import web

from gateway import cluster
from gateway.auth import Verifier, verifier
from gateway.auth.claims import Reason
from gateway.config.model import Config
from gateway.core.cluster.members import OwnFigures
from gateway.core.ingest.pipeline import Pipeline
from gateway.core.protocol.errors import CloseCode
from gateway.core.sessions.hub import Hub
from gateway.metrics.metrics import EndpointStatus, GatewayState, Metrics
from gateway.runtime import clock, logs
from gateway.runtime.logs import Throttle, logger
from gateway.runtime.tasks import Tasks, run_every
from gateway.web import app
from gateway.web.admission import LOCAL, let_go
from gateway.web.context import Admission, Context
from gateway.web.problems import Handler
from gateway.web.sockets.listener import Listener
from gateway.web.sockets.tls import Certificate
from gateway.web.write_scheduler import WriteScheduler
from gateway.wiring import build_policy, reload_core


log = logger("gateway")

_CLOCK_SECONDS = 1.0
"""Within this time, timestamps follow a wall clock that was set."""
_FIRST_REQUEST_SECONDS = 0.5
"""How long a drain waits for the requests of connections that were just accepted."""
_CLEANUP_SECONDS = 1.0
"""How long handlers may take to end once their connections are closed."""


def _limits(config: Config) -> dict[str, float]:
    """Return the settings to compare metrics with."""
    return {
        "workers": config.workers if config.workers > 1 else 0,
        "clients.connections_max": config.clients.connections_max,
        "ingest.channels_max": config.ingest.channels_max,
        "ingest.streams_max": config.ingest.streams_max,
        "sessions.disconnected_max": config.sessions.disconnected_max,
        "http.requests_waiting_max": config.http.requests_waiting_max,
    }


class Edge:
    """HTTP server, listener, heartbeats and writes of one process.

    `pipeline` is None where another process reads the bus; then `proxy` answers REST. `unready` says
    why no client should come, `refilling` whether the logs still fill. Needs a running event loop.
    Raises ConfigError: a key or certificate cannot be used."""

    def __init__(
        self,
        config: Config,
        hub: Hub,
        *,
        pipeline: Pipeline | None,
        proxy: Handler | None = None,
        bus: Callable[[], list[EndpointStatus]] = list,
        unready: Callable[[], list[str]] = list,
        refilling: Callable[[], bool] = lambda: False,
        admission: Admission = LOCAL,
    ) -> None:
        clock.follow_wall_clock()
        self.metrics = Metrics(hub, pipeline, endpoints=bus, buffers=self._buffers)
        self.write_scheduler = WriteScheduler(hub.fanout, config.fanout, on_written=self.metrics.fanned_out)
        self._certificate = Certificate(config.tls)
        self.context = Context(
            config=config,
            hub=hub,
            pipeline=pipeline,
            metrics=self.metrics,
            now_ns=clock.now_ns,
            started_ns=clock.now_ns(),
            bus=bus,
            unready=unready,
            policy=build_policy(config),
            verifier=self._verifier(config),
            refilling=refilling,
            admission=admission,
        )
        self.context.let_go = functools.partial(let_go, self.context)
        if pipeline is not None and config.cluster.url:
            self._join_cluster(config, pipeline)
        self.metrics.state = self._state
        self.metrics.limits = _limits(config)
        self.metrics.start_at_zero("tokens_refused_total", get_args(Reason))
        self.application = app.build(self.context, proxy=proxy)
        self.runner = web.AppRunner(self.application, access_log=None, shutdown_timeout=_CLEANUP_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._failures_throttle = Throttle(count=1, interval_seconds=1.0)
        hub.fanout.on_failure = self._on_fanout_failure
        self._tasks = Tasks()
        self._listener: Listener | None = None

    def _join_cluster(self, config: Config, pipeline: Pipeline) -> None:
        context = self.context
        assert context.broadcaster is not None, "this process reads the bus"
        context.cluster = joined = cluster.load()(
            config.cluster,
            context.hub,
            pipeline,
            context.broadcaster,
            own=self._own_figures,
            away_seconds=config.shutdown.reconnect_spread_seconds,
        )
        joined.ask_to_move = context.ask_to_move
        joined.sessions.let_go = lambda session: context.let_go(session)  # a parent sets another one later
        joined.sessions.on_kick = lambda client_id: context.disconnect(client_id, CloseCode.DISCONNECTED)
        joined.sessions.on_kick_user = context.disconnect_user
        context.broadcaster.deliver = joined.sessions.deliver_from_bus

    async def start(self) -> Listener:
        """Be ready for connections; return what accepts them once it is opened."""
        if self.context.verifier is not None:
            self.context.verifier.start()
        if self.context.cluster is not None:
            await self.context.cluster.start()
        await self.runner.setup()
        self._listener = Listener(
            self.runner,
            self.context.config.clients,
            tls=lambda: self._certificate.context,
            on_refused=self.metrics.refused,
        )
        heartbeat = self.context.heartbeat
        self.every(_CLOCK_SECONDS, clock.follow_wall_clock)
        self.every(heartbeat.interval, lambda: heartbeat.check(now=self._loop.time()))
        return self._listener

    def every(self, seconds: float, act: Callable[[], object]) -> None:
        self._tasks.start(run_every(seconds, act, on_late=self.metrics.loop_lag))

    def refresh_certificate(self) -> None:
        self._certificate.refresh()

    def prepare_reload(self, config: Config) -> Callable[..., None]:
        """Read the keys and certificates of another configuration; return what then uses it, as `_reload` does.
        Raises ConfigError: one of them cannot be used."""
        return functools.partial(self._reload, config, self._verifier(config), Certificate(config.tls))

    def _reload(self, config: Config, verifier: Verifier | None, certificate: Certificate, *, elsewhere: bool) -> None:
        context, old = self.context, self.context.verifier
        if config.logging != context.config.logging:
            logs.set_up(config.logging.level, config.logging.format)
        self._certificate = certificate
        self.metrics.limits = _limits(config)
        if config.auth.jwks_url and config.auth == context.config.auth:
            verifier = old  # it has fetched the keys already, and refreshes them
        elif old is not None:
            self._tasks.start(old.close())
        if verifier is not None and verifier is not old:
            verifier.start()
        context.reload(config, build_policy(config), verifier)
        reload_core(config, context.hub, context.policy, in_worker=context.in_worker, elsewhere=elsewhere)
        if self._listener is not None:
            self._listener.set_limit(config.clients.connections_max)

    def _verifier(self, config: Config) -> Verifier | None:
        return verifier(config.auth, on_fetch=self.metrics.jwks_fetched)

    async def drain(self) -> None:
        """Close every client's connection, each with its own delay for coming back."""
        self.context.draining = True
        if self._listener is not None:  # what is accepted gets an answer
            await self._listener.begun_requests(within=_FIRST_REQUEST_SECONDS)
        connections = list(self.context.connections.values())
        for connection in connections:
            connection.close(CloseCode.RESTART)
        await asyncio.gather(*(connection.wait_closed() for connection in connections))

    async def close(self) -> None:
        self._tasks.cancel()
        self.write_scheduler.close()
        if self.context.verifier is not None:
            await self.context.verifier.close()
        if self._listener is not None:
            self._listener.close()
        await self.runner.cleanup()
        if self.context.cluster is not None:
            await self.context.cluster.close()
        self.context.socket_writers.close()

    def _on_fanout_failure(self, error: Exception) -> None:
        suppressed = self._failures_throttle.allow(type(error).__name__, now=self._loop.time())
        if suppressed is not None:
            log.error("fanout_failed", exc_info=error, suppressed=suppressed)

    def _state(self) -> GatewayState:
        context = self.context
        clients = context.connected_clients()
        lag = max((one.lag for one in clients), default=0)
        return GatewayState(
            ready=not context.unready(),
            draining=context.draining,
            lag_events=lag,
            connections=Counter(one.kind for one in clients),
            certificate_expires=self._certificate.expires,
            cluster=None if context.cluster is None else context.cluster.state,
        )

    def _own_figures(self) -> OwnFigures:
        """Return what the other gateways of a cluster get to know."""
        hub, pipeline = self.context.hub, self.context.pipeline
        assert pipeline is not None, "this process is the one of its gateway that others know"
        listener = self._listener
        port = listener.addresses[0][1] if listener is not None and listener.sockets else self.context.config.port
        return OwnFigures(
            name=f"{socket.gethostname()}:{port}",
            clients=len(hub.sessions),
            recovering=pipeline.ingest.recovery.recovering,
            ready=not self.context.unready(),
        )

    def _buffers(self) -> list[int]:
        return [connection.buffered for connection in self.context.connections.values()]
