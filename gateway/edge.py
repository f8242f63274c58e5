"""What every process that serves clients needs, be it the whole gateway, a parent or a worker."""

import asyncio
import time
from collections.abc import Callable

from aiohttp import web

from gateway.auth import verifier
from gateway.config.model import Config
from gateway.core.ingest.pipeline import Pipeline
from gateway.core.protocol.errors import CloseCode
from gateway.core.sessions.hub import Hub
from gateway.metrics import EndpointStatus, Metrics
from gateway.runtime import Tasks, run_every
from gateway.web import admission, app
from gateway.web.context import Context
from gateway.web.problems import Handler
from gateway.web.sockets.heartbeat import ClientHeartbeat
from gateway.web.sockets.listener import Listener, listener_of
from gateway.web.sockets.tls import Certificate
from gateway.wiring import build_policy
from gateway.write_scheduler import WriteScheduler


_CLEANUP_SECONDS = 1.0
"""How long handlers may take to end once their connections are closed."""


class Edge:
    """HTTP server, listener, heartbeats and writes of one process.

    `pipeline` is None where another process reads the bus; then `proxy` answers REST. `unready` says
    why no client should come, `refilling` whether the logs still fill. Needs a running event loop.

    Raises:
        ConfigError: A key or certificate cannot be used.
    """

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
    ) -> None:
        self.metrics = Metrics(hub, pipeline, endpoints=bus, buffers=self._buffers)
        self.verifier = verifier(config.auth)
        self.write_scheduler = WriteScheduler(
            hub.fanout, config.fanout, on_written=self.metrics.fanned_out
        )
        self._config = config
        self._certificate = Certificate(config.tls)
        self._heartbeat = ClientHeartbeat(hub, config.clients)
        self.context = Context(
            config=config,
            hub=hub,
            pipeline=pipeline,
            metrics=self.metrics,
            now_ns=time.time_ns,
            started_ns=time.time_ns(),
            heartbeat=self._heartbeat,
            bus=bus,
            unready=unready,
            policy=build_policy(config),
            verifier=self.verifier,
            refilling=refilling,
        )
        self.application = app.build(self.context, forward=proxy)
        self.runner = web.AppRunner(
            self.application, access_log=None, shutdown_timeout=_CLEANUP_SECONDS
        )
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._listener: Listener | None = None

    async def start(self) -> Listener:
        """Be ready for connections; return what accepts them once it is opened."""
        if self.verifier is not None:
            self.verifier.start()
        await self.runner.setup()
        self._listener = listener_of(
            self.runner,
            self._config,
            tls=lambda: self._certificate.context,
            on_refused=self.metrics.refused,
        )
        self.every(self._heartbeat.interval, lambda: self._heartbeat.check(now=self._loop.time()))
        return self._listener

    def every(self, seconds: float, act: Callable[[], object]) -> None:
        """Do something again and again, until the edge is closed."""
        self._tasks.start(run_every(seconds, act, on_late=self.metrics.loop_lag))

    def refresh_certificate(self) -> None:
        """Use a certificate that was replaced on disk."""
        self._certificate.refresh()

    def reload_keys(self) -> None:
        """Read the keys that tokens are verified with again; keep the old ones if that fails.

        Raises:
            ConfigError: A key cannot be used.
        """
        if self.verifier is not None:
            self.verifier.reload()

    async def drain(self) -> None:
        """Close every client's connection, each with its own delay for coming back."""
        self.context.draining = True
        await admission.close_all(self.context, CloseCode.RESTART)

    async def close(self) -> None:
        """Release everything."""
        self._tasks.cancel()
        self.write_scheduler.close()
        if self.verifier is not None:
            await self.verifier.close()
        if self._listener is not None:
            self._listener.close()
        await self.runner.cleanup()
        self.context.socket_writers.close()

    def _buffers(self) -> list[int]:
        return [connection.buffered for connection in self.context.connections.values()]
