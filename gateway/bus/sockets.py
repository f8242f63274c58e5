"""All sockets of a gateway's bus, which share their keys and a limit: opened, polled, reloaded and closed together."""

import asyncio
import functools
import secrets
from collections.abc import Callable

from gateway.bus import keys
from gateway.bus.connection_limit import ConnectionLimit
from gateway.bus.context import make_context
from gateway.bus.curve import Curve
from gateway.bus.links import Callbacks, Links
from gateway.bus.outlet import BusOutlet
from gateway.bus.replay import ReplayClient
from gateway.bus.subscriber import BusError
from gateway.config.model import Config
from gateway.config.sources import endpoints
from gateway.core.ingest.publishers import ReplayRequest
from gateway.core.ingest.recovery import Recovery
from gateway.core.protocol.envelope import GROUP_BITS
from gateway.runtime import clock


_RELEASE_SECONDS_MAX = 5.0
_LOOK_SECONDS = 0.02


class BusSockets:
    """The endpoints (`links`), the requests for replay, and the `outlet` if clients' events are published.

    Needs a running event loop until `close`."""

    def __init__(
        self, config: Config, recovery: Recovery, *, connections_max: int, own_group: int | None, callbacks: Callbacks
    ) -> None:
        self._context = make_context()
        self._curve = Curve(self._context, config.bus)
        limit = ConnectionLimit(connections_max)
        self.links = Links(
            self._context,
            config,
            self._curve,
            limit,
            interest=recovery.interest,
            publishers=recovery.publishers,
            callbacks=callbacks,
        )
        self._replay_client = ReplayClient(self._context, config.bus, self._curve, on_replies=callbacks.on_replies)
        self.outlet: BusOutlet | None = None
        if config.bus.publish:
            assert own_group is not None
            incarnation = own_group << GROUP_BITS | secrets.randbits(GROUP_BITS)
            self.outlet = BusOutlet(
                self._context, config.bus, self._curve, limit=limit, unix_ns=clock.unix_ns, incarnation=incarnation
            )

    async def open(self, config: Config, *, wait: bool) -> None:
        """Open all sockets; with `wait`, until another process has left their addresses, which it does soon.
        Raises BusError: an endpoint cannot be opened. Raises ConfigError: a source's decoder cannot be loaded."""
        for endpoint in endpoints(config):
            await _until_free(functools.partial(self.links.open, endpoint, config), wait=wait)
        if self.outlet is not None:
            await _until_free(self.outlet.open, wait=wait)

    def release(self) -> None:
        """Close the endpoints that are bound, for a successor."""
        self.links.release()
        if self.outlet is not None:
            self.outlet.close()

    def resume(self) -> None:
        """Open again what `release` has closed."""
        self.links.resume()
        if self.outlet is not None:
            self.outlet.reopen()

    def reload(self, config: Config) -> None:
        """Use another configuration. Raises ConfigError or BusError: it cannot be used, and nothing has changed."""
        curve_keys = keys.read(config.bus)
        self.links.reload(config)
        if stale := self._curve.reload(curve_keys):
            self._replay_client.close()  # opened again for the next request
            self.links.replace(stale)

    def poll(self) -> None:
        """Read what waits, and do what is due; to be called every second or so."""
        self.links.poll()
        self._replay_client.poll()
        if self.outlet is not None:
            self.outlet.beat()
        self._curve.poll()

    def request(self, missing: ReplayRequest) -> None:
        """Ask a publisher for what is missing."""
        client = self.links.sequence_replays.get(missing.endpoint, self._replay_client)
        client.send_request(self.links.reach(missing))

    def close(self) -> None:
        self.links.close()
        self._replay_client.close()
        if self.outlet is not None:
            self.outlet.close()
        self._curve.close()

    def destroy(self) -> None:
        """End ZeroMQ, after `close`, as soon as it has sent what is left."""
        self._context.destroy(linger=0)


async def _until_free(open_: Callable[[], object], *, wait: bool) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + _RELEASE_SECONDS_MAX
    while True:
        try:
            open_()
            return
        except BusError:
            if not wait or loop.time() > until:
                raise
        await asyncio.sleep(_LOOK_SECONDS)
