"""An open endpoint of the bus: its socket, and what came from it."""

from dataclasses import dataclass, field

from gateway.bus.subscriber import Subscriber
from gateway.config.hosts import address
from gateway.config.sources import Endpoint
from gateway.metrics.metrics import EndpointStatus


SILENCE_SECONDS = 30.0
"""A connection without messages for so long is silent, if its publishers do not say when their next heartbeat is due."""


@dataclass(slots=True)
class Traffic:
    """What an endpoint brought."""

    events: int = 0
    heartbeats: int = 0
    rejected: int = 0
    last_event: float | None = None
    """Loop time of the last event."""

    def add(self, events: int, heartbeats: int, rejected: int, *, now: float) -> None:
        self.events += events
        self.heartbeats += heartbeats
        self.rejected += rejected
        if events:
            self.last_event = now


@dataclass(frozen=True, slots=True)
class Link:
    """An open endpoint of the bus."""

    number: int
    """It is that of no other link before."""
    endpoint: Endpoint
    """Where it is connected: for a name, at one of its addresses."""
    configured: Endpoint
    """As the settings have it."""
    subscriber: Subscriber
    opened: float
    """Loop time."""
    traffic: Traffic = field(default_factory=Traffic)

    def is_silent(self, *, now: float) -> bool:
        """Tell whether nothing is to be expected of it: nobody is connected, or nothing came for too long."""
        subscriber = self.subscriber
        heard = self.opened if subscriber.last_message is None else subscriber.last_message
        return not subscriber.peers or now - heard > (subscriber.silence_seconds_max or SILENCE_SECONDS)

    def status(self, *, now: float, leaving: bool = False) -> EndpointStatus:
        """Return its state; `now` is loop time. `leaving` says that its name does not have this address any more."""
        subscriber, traffic = self.subscriber, self.traffic
        named = self.endpoint is not self.configured
        return EndpointStatus(
            endpoint=self.configured.address,
            address=address(self.endpoint.address) if named else "",
            link=self.number,
            mode=subscriber.mode,
            state="leaving" if leaving else subscriber.state,
            peers=subscriber.peers,
            received=subscriber.received,
            reopened=subscriber.reopened,
            refused=subscriber.diagnosis.refused,
            problem=subscriber.diagnosis.problem,
            last_event_seconds=None if traffic.last_event is None else now - traffic.last_event,
            events=traffic.events,
            heartbeats=traffic.heartbeats,
            rejected=traffic.rejected,
        )
