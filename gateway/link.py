"""An open endpoint of the bus: its socket, and what came from it."""

from dataclasses import dataclass, field

from gateway.bus.subscriber import Subscriber
from gateway.config.sources import Endpoint
from gateway.metrics import EndpointStatus


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

    endpoint: Endpoint
    subscriber: Subscriber
    traffic: Traffic = field(default_factory=Traffic)

    def status(self, *, now: float) -> EndpointStatus:
        """Return its state; `now` is loop time."""
        subscriber, traffic = self.subscriber, self.traffic
        return EndpointStatus(
            endpoint=subscriber.endpoint,
            mode=subscriber.mode,
            state=subscriber.state,
            peers=subscriber.peers,
            received=subscriber.received,
            reopened=subscriber.reopened,
            refused=subscriber.refused,
            problem=subscriber.problem,
            last_event_seconds=None if traffic.last_event is None else now - traffic.last_event,
            events=traffic.events,
            heartbeats=traffic.heartbeats,
            rejected=traffic.rejected,
        )
