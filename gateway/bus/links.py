"""The open endpoints of the bus: their sockets, the addresses of those with names, and their replay."""

import asyncio
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from gateway.bus.connection_limit import ConnectionLimit
from gateway.bus.context import Context
from gateway.bus.curve import Curve, Mode
from gateway.bus.framing import Frames
from gateway.bus.link import Link
from gateway.bus.names import Name
from gateway.bus.resolver import Resolve
from gateway.bus.sequence_replay import SequenceReplayClient
from gateway.bus.subscriber import BusError, Subscriber
from gateway.config.errors import ConfigError
from gateway.config.hosts import beside
from gateway.config.model import Bus, Config
from gateway.config.sources import Endpoint, endpoints
from gateway.core.ingest.interest import Interest
from gateway.core.ingest.publishers import Publishers, ReplayRequest
from gateway.core.sources.source import Source
from gateway.metrics.metrics import EndpointStatus
from gateway.runtime.logs import logger
from gateway.runtime.tasks import Tasks
from gateway.wiring import build_source


log = logger("gateway")

_HERE = "tcp://*:"
"""How a publisher's replay endpoint begins if it has the host at which the publisher is reached."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What the sockets of the bus call."""

    on_messages: Callable[[int, Iterable[Frames]], None]
    """Gets a link's number and what its socket received."""
    on_foreign: Callable[[int, Source, Iterable[Frames]], None]
    """The same for a link that has a source, which it gets, too."""
    on_replies: Callable[[Sequence[Frames]], None]
    """Gets answers to requests for replay."""
    on_change: Callable[[Subscriber, str], None]
    """That of `Subscriber`."""
    pause_seconds: Callable[[int], float]
    """That of `Subscriber`."""
    resolve: Resolve


class Links:
    """Opens the endpoints, and closes them. Needs a running event loop until `close`."""

    def __init__(
        self,
        context: Context,
        config: Config,
        curve: Curve,
        limit: ConnectionLimit,
        *,
        interest: Interest,
        publishers: Publishers,
        callbacks: Callbacks,
    ) -> None:
        self.by_number: dict[int, Link] = {}
        """The open ones, each with a number that no other one had before."""
        self.sequence_replays: dict[str, SequenceReplayClient] = {}
        """The clients of publishers with numbers of their own, by the endpoint of their replay."""
        self._context = context
        self._config = config
        self._curve = curve
        self._limit = limit
        self._interest = interest
        self._publishers = publishers
        self._callbacks = callbacks
        self._loop = asyncio.get_running_loop()
        self._opened = 0
        self._names: list[Name] = []
        self._tasks = Tasks()

    def open(self, endpoint: Endpoint, config: Config, *, again: bool = False) -> None:
        """Open an endpoint, or follow the addresses of its name.

        `again` is for one that was just closed: libzmq may still hold its address.
        Raises BusError: it cannot be opened. Raises ConfigError: its source's decoder cannot be loaded."""
        if not endpoint.host:
            self._open(endpoint, endpoint, config, again=again)
            return
        if endpoint.source is not None:
            build_source(config, endpoint.source)
        name = Name(
            endpoint,
            resolve=self._callbacks.resolve,
            open_link=lambda at: self._open(at, endpoint, config),
            close_link=self._leave,
            is_silent=lambda number: self.by_number[number].is_silent(now=self._loop.time()),
        )
        self._names.append(name)
        self._tasks.start(self._follow(name))

    async def _follow(self, name: Name) -> None:
        while not name.closed:
            try:
                await name.look_up(now=self._loop.time())
            except Exception:
                log.exception("timer_failed")
            await asyncio.sleep(self._config.bus.resolve_seconds)

    def _open(self, endpoint: Endpoint, configured: Endpoint, config: Config, *, again: bool = False) -> int:
        number, curve = self._opened, self._curve
        self._opened += 1
        on_messages = functools.partial(self._callbacks.on_messages, number)
        if endpoint.source is not None:
            if not endpoint.may_use_curve:
                curve = Curve(self._context, Bus())
            source = build_source(config, endpoint.source)
            on_messages = functools.partial(self._callbacks.on_foreign, number, source)
            if endpoint.source.replay:
                self.sequence_replays[endpoint.source.replay] = SequenceReplayClient(
                    self._context,
                    endpoint.source.replay,
                    config.bus,
                    curve,
                    first=endpoint.source.sequence_first,
                    convert=source.convert_replayed,
                    on_reply=lambda reply: self._callbacks.on_replies([reply]),
                )
        subscriber = Subscriber(
            self._context,
            endpoint.address,
            endpoint.mode,
            config.bus,
            curve,
            on_messages=on_messages,
            on_change=self._callbacks.on_change,
            pause_seconds=self._callbacks.pause_seconds,
            source=endpoint.source,
            limit=self._limit,
        )
        subscriber.subscribe(self._interest.prefixes)
        if endpoint.mode == "bind":
            self._publishers.bound.add(number)
        self.by_number[number] = Link(number, endpoint, configured, subscriber, opened=self._loop.time())
        try:
            subscriber.open(again=again)
        except BusError:
            self._close(number)
            raise
        return number

    def _leave(self, number: int) -> None:
        """Close a link after reading what its socket holds."""
        self.by_number[number].subscriber.suspend()
        self._close(number)

    def _close(self, number: int) -> None:
        link = self.by_number.pop(number)
        link.subscriber.close()
        self._publishers.bound.discard(number)
        source = link.endpoint.source
        if source is not None and source.replay in self.sequence_replays:
            self.sequence_replays.pop(source.replay).close()

    def reload(self, config: Config) -> None:
        """Open and close what another configuration asks for. Raises BusError or ConfigError, and changes nothing."""
        wanted = endpoints(config)
        known = self._configured
        gone = [endpoint for endpoint in known if endpoint not in wanted]
        # An address whose source changes can be opened only after it was closed; what remains is opened before.
        taken = {endpoint.address for endpoint in gone}
        opened: list[Endpoint] = []
        try:
            for endpoint in wanted:
                if endpoint.source is not None:
                    build_source(config, endpoint.source)
                if endpoint not in known and endpoint.address not in taken:
                    self.open(endpoint, config)
                    opened.append(endpoint)
        except (BusError, ConfigError):
            self._close_all(opened)
            raise
        self._close_all(gone)
        for endpoint in wanted:
            if endpoint not in known and endpoint.address in taken:
                self.open(endpoint, config, again=True)
        self._config = config

    @property
    def _configured(self) -> list[Endpoint]:
        links = [link.configured for link in self.by_number.values()]
        return [*(name.endpoint for name in self._names), *(one for one in links if not one.host)]

    def _close_all(self, configured: Iterable[Endpoint]) -> None:
        for endpoint in configured:
            for name in [one for one in self._names if one.endpoint == endpoint]:
                name.close()
                self._names.remove(name)
            for number in [one.number for one in self.by_number.values() if one.configured == endpoint]:
                self._close(number)

    def replace(self, stale: set[Mode]) -> None:
        """Replace the sockets whose connections began with keys that are used no more."""
        for link in self.by_number.values():
            if link.subscriber.mode in stale and link.endpoint.may_use_curve:
                link.subscriber.replace()

    def release(self) -> None:
        """Close what is bound, for a successor."""
        for link in self.by_number.values():
            if link.endpoint.mode == "bind":
                link.subscriber.suspend()

    def resume(self) -> None:
        """Bind again what `release` has closed."""
        for link in self.by_number.values():
            if link.endpoint.mode == "bind":
                link.subscriber.resume()

    def subscribe(self) -> None:
        """Subscribe to what is of interest now."""
        for link in self.by_number.values():
            link.subscriber.subscribe(self._interest.prefixes)

    def poll(self) -> None:
        """Read without a wake-up, replace dead sockets, leave addresses that are gone."""
        for number, link in list(self.by_number.items()):
            link.subscriber.silence_seconds_max = self._publishers.silence_ns(number) / 1e9
            link.subscriber.poll()
        for name in self._names:
            name.leave_silent()
        for client in self.sequence_replays.values():
            client.poll()

    def reach(self, request: ReplayRequest) -> ReplayRequest:
        """Return a replay request with the host of its publisher, if the publisher left that to the gateway."""
        publisher = self._publishers.get(request.incarnation)
        link = None if publisher is None else self.by_number.get(publisher.link)
        if link is None or link.endpoint.mode == "bind" or not request.endpoint.startswith(_HERE):
            return request
        return replace(request, endpoint=beside(request.endpoint, link.endpoint.address))

    @property
    def connected(self) -> bool:
        """Whether any endpoint has a peer."""
        return any(link.subscriber.peers for link in self.by_number.values())

    @property
    def looking_up(self) -> list[str]:
        """The names of which no look-up has ended yet."""
        return [name.endpoint.host for name in self._names if not name.answered]

    def statuses(self) -> list[EndpointStatus]:
        """Return the state of each link, and of each name that has none, or not all that it should."""
        now, leaving = self._loop.time(), set[int]().union(*(name.leaving for name in self._names))
        found = [link.status(now=now, leaving=number in leaving) for number, link in self.by_number.items()]
        return found + [status for name in self._names for status in name.statuses()]

    def close(self) -> None:
        self._tasks.cancel()
        for link in self.by_number.values():
            link.subscriber.close()
        for client in self.sequence_replays.values():
            client.close()
