"""The models of events: one declaration for validation, JSON Schema and documentation.

Few fields are required, and null stands for "not known". Fields beyond the declared ones are kept:
the gateway forwards an event's own bytes and does not rebuild them from the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType


Timestamp = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:?\d\d)?$",
        max_length=40,
        description="RFC 3339 date and time; without an offset it is taken as UTC.",
    ),
]
EventType = Annotated[str, Meta(min_length=1, max_length=128)]
Count = Annotated[int, Meta(ge=0)]


class SystemMetrics(Struct):
    """Figures of a running system."""

    cpu_percent: Annotated[float, Meta(ge=0)] | None = None
    memory_mb: Annotated[float, Meta(ge=0)] | None = None
    events_per_sec: Annotated[float, Meta(ge=0)] | None = None
    total_tokens: Count | None = None
    total_connections: Count | None = None


class Signal(Struct):
    """A signal that entered the core."""

    event_id: str | int | None = None
    event_type: str | None = None
    is_novel: bool | None = None
    priority: Annotated[int, Meta(ge=0, le=255)] | None = None
    resonance_score: float | None = None
    neighbors_count: Count | None = None


class Action(Struct):
    """An action that the core tried to carry out."""

    action_id: str | int | None = None
    action_type: str | None = None
    status: str | None = None
    result: Any = None
    execution_time_ms: Annotated[float, Meta(ge=0)] | None = None
    error: str | None = None


class LogRecord(Struct):
    """A log message of a service."""

    level: str
    message: str
    service: str | None = None
    correlation_id: str | int | None = None


class Status(Struct):
    """The state of a service."""

    status: str
    uptime_seconds: Annotated[float, Meta(ge=0)] | None = None
    version: str | None = None


class BusStatus(Struct):
    """A publisher whose heartbeats are overdue, or came again; the gateway's own event on ``status``."""

    status: str
    service: str


class Connection(Struct):
    """A client that connected, disconnected or changed its subscriptions; the gateway's own event.

    For a publisher on the bus, `client_id` is its incarnation."""

    client_id: str
    user_id: str | None = None
    total_connections: Count | None = None
    channels: list[str] | None = None
    code: int | None = None
    seconds: Annotated[float, Meta(ge=0)] | None = None
    name: str | None = None


class GatewayFigures(Struct, kw_only=True):
    """What a gateway does and uses; the gateway's own event on ``metrics.gateway``.

    Rates are those since the event before. `lost`, `repaired`, `rejected` and `evicted` count events
    since the gateway's start: on the bus, and (`evicted`) of clients that lagged too far. `lag` is
    how many events the slowest client is behind. `channels` has the rates of the channels that had
    events, in events per second."""

    gateway: str
    version: str
    uptime_seconds: float
    cpu_percent: float
    memory_mb: float
    connections: int
    subscriptions: int
    lagging: int
    lag: int
    received_per_second: float
    received_bytes_per_second: float
    delivered_per_second: float
    delivered_bytes_per_second: float
    lost: int
    repaired: int
    rejected: int
    evicted: int
    publishers: int
    publishers_stale: int
    bus: Literal["live", "stale", "waiting"]
    channels: dict[str, float]


class ClientChange(Struct, frozen=True):
    """What a client did, for an event on ``connections``."""

    event_type: str
    channels: tuple[str, ...] = ()
    code: int | None = None
    seconds: float | None = None
    remember: bool = True
    """Whether the session of a disconnected client can be resumed."""


@dataclass(frozen=True, slots=True)
class StandardChannel:
    """One of the six channels whose events have a typed `data`."""

    data: type[Struct]
    event_types: str
    description: str


STANDARD: Mapping[str, StandardChannel] = {
    "metrics": StandardChannel(SystemMetrics, "system_metrics", "Figures of the running system"),
    "signals": StandardChannel(Signal, "signal.*", "Signals that enter the core"),
    "actions": StandardChannel(Action, "action.*", "Actions and their results"),
    "logs": StandardChannel(LogRecord, "log.<level>", "Log messages"),
    "status": StandardChannel(Status, "status.<status>", "States of the services"),
    "connections": StandardChannel(Connection, "client.*", "Clients that connect and disconnect"),
}


class EventFields(Struct):
    """The members of an event; `data` stays undecoded. Each subclass has another form of its time."""

    event_type: EventType
    data: Raw
    # The gateway adds members of these names.
    type: Raw | UnsetType = UNSET
    channel: Raw | UnsetType = UNSET
    offset: Raw | UnsetType = UNSET
    epoch: Raw | UnsetType = UNSET
    # Only in place of `data`.
    data_base64: Raw | UnsetType = UNSET
    timestamp: Any = UNSET


class EventObject(EventFields):
    """An event as publishers write it."""

    timestamp: Timestamp | UnsetType | None = UNSET


class DatedEventObject(EventFields):
    """The same with a valid date: msgspec reads dates faster than it checks patterns."""

    timestamp: datetime | UnsetType | None = UNSET


class NumberedEventObject(EventFields):
    """The same with unix time: seconds, or thousandths, millionths or billionths of one."""

    timestamp: float | UnsetType | None = UNSET


class BytesEventObject(Struct):
    """An event that carries bytes; only `data_base64` is required."""

    data_base64: str
    event_type: EventType | UnsetType = UNSET
    timestamp: Timestamp | UnsetType | None = UNSET
    data: Raw | UnsetType = UNSET
    type: Raw | UnsetType = UNSET
    channel: Raw | UnsetType = UNSET
    offset: Raw | UnsetType = UNSET
    epoch: Raw | UnsetType = UNSET


class Address(Struct):
    """To whom a personal message on the bus goes: one client, or all clients of a user."""

    client_id: str | None = None
    user_id: str | None = None


class MissingRange(NamedTuple):
    """A publisher's messages from number `first` to `last`, which will not be delivered.

    With the reason ``epoch`` it is not known which, nor whether any: a publisher ended without a
    farewell, or its numbers were forgotten."""

    first: int
    last: int
    reason: Literal["bus_loss", "rejected", "unwatched", "evicted", "epoch"]


class Event(Struct, frozen=True):
    """A valid event on its way to a log.

    `fields` are the members of the event's JSON object, without the surrounding braces, as clients
    get them: ``"event_type":...,"timestamp":...,"data":...``. `incarnation` and `sequence` are those
    of its envelope, if it has one; `missing` are the publisher's messages missing right before it."""

    channel: str
    fields: bytes
    received_ns: int
    sent_ns: int = 0
    incarnation: int | None = None
    sequence: int = 0
    missing: tuple[MissingRange, ...] = ()
    late: bool = False
    """Whether it was replayed, or held until earlier ones were."""


def unix_timestamp(ns: int) -> str:
    """Return unix nanoseconds as RFC 3339 in UTC, to the microsecond."""
    seconds, fraction = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction // 1000:06d}Z"


_clock_offset_ns = 0


def set_clock_offset(ns: int) -> None:
    """Say how far unix time is ahead of the clock that all `now_ns` are of."""
    global _clock_offset_ns
    _clock_offset_ns = ns


def unix_ns(now_ns: int) -> int:
    return now_ns + _clock_offset_ns


def timestamp(now_ns: int) -> str:
    """Return the time of the clock that all `now_ns` are of, as `unix_timestamp` does."""
    return unix_timestamp(now_ns + _clock_offset_ns)


def own_event(channel: str, event_type: str, data: Struct, *, now_ns: int) -> Event:
    """Return an event that the gateway itself publishes."""
    fields = b'"event_type":"%b","timestamp":"%b","data":%b' % (
        event_type.encode(),
        timestamp(now_ns).encode(),
        msgspec.json.encode(data),
    )
    return Event(channel, fields, now_ns)
