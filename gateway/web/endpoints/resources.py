"""What REST answers with; OpenAPI is generated from these."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

from gateway.core.protocol.messages import BusState, Position
from gateway.web.context import EndpointStatus


class Page(Struct):
    """Which part of a list this is."""

    offset: int
    limit: int
    total: int


class Client(Struct, kw_only=True):
    """One connection; `lag` counts the events that it is behind, `buffered` the unsent bytes."""

    client_id: str
    user_id: str | None
    address: str
    connected_seconds: float
    channels: list[str]
    lagging: bool
    lag: int
    buffered: int


class ProcessFigures(Struct, frozen=True):
    """What the gateway uses, its workers included; `cpu_percent` is of one CPU, since the last request."""

    cpu_percent: float
    memory_bytes: int
    open_files: int


class GatewayStatus(Struct, kw_only=True):
    """The gateway at a glance; `subscriptions` counts clients and what they follow, `bus_state` tells
    whether anything was heard from a publisher yet, or not for too long."""

    version: str
    authentication: Literal["none", "token"]
    uptime_seconds: float
    process: ProcessFigures
    ready: bool
    connections: int
    sessions_remembered: int
    subscriptions: int
    lagging: int
    channels: int
    bus_state: BusState
    bus: list[EndpointStatus]
    rejected: dict[str, int]
    clients: list[Client]
    page: Page


class RetentionInfo(Struct, kw_only=True):
    """How much a channel keeps; an age of 0 is no limit."""

    events_max: int
    bytes_max: int
    age_seconds_max: float


class Channel(Struct, kw_only=True):
    """A channel: `start` is the position before the oldest event held, `schema` the JSON Schema of a
    standard channel's `data`."""

    name: str
    description: str
    standard: bool
    subscribers: int
    position: Position
    events: int
    bytes: int
    start: Position
    retention: RetentionInfo
    schema: dict[str, Any] | None


class ChannelDetail(Channel, kw_only=True):
    """A channel, and its rate over the last minute, or over what its log holds of it."""

    events_per_second: float


class Channels(Struct):
    """All channels that are open."""

    channels: list[Channel]


class MissingRange(Struct, kw_only=True, rename={"from_": "from"}):
    """Offsets that are no longer held; null where the position was of another epoch."""

    from_: int | None
    to: int | None
    reason: Literal["evicted", "epoch"]


RawEvent = Annotated[
    Raw,
    Meta(
        extra_json_schema={
            "anyOf": [
                {"$ref": "#/components/schemas/EventMessage"},
                {"$ref": "#/components/schemas/Gap"},
            ]
        }
    ),
]
"""An event or a gap as it is in its log: bytes that were encoded once."""


class History(Struct, kw_only=True):
    """A part of a channel's log; ask again with `next` as `since` for what follows."""

    channel: str
    epoch: str
    events: list[RawEvent]
    next: Position
    gap: MissingRange | None


class RejectedMessage(Struct, kw_only=True):
    """A bus message that was not let in; `payload` is its first KiB."""

    time: str
    reason: str
    detail: str
    topic: str
    payload: str


class Rejections(Struct, kw_only=True):
    """Counts by reason since the start, and the newest messages first."""

    counts: dict[str, int]
    rejections: list[RejectedMessage]


class PublishedTopic(Struct, kw_only=True):
    """A topic of one publisher's life; `incarnation` in hexadecimal, sequences as it numbers them."""

    incarnation: str
    topic: str
    first_sequence: int
    newest_sequence: int
    lost: int
    duplicates: int
    late: int
    last_seconds: float


class PresentClient(Struct):
    """One that follows a channel now."""

    client_id: str
    user_id: str | None


class Presence(Struct, kw_only=True):
    """Who follows a channel now; `users` counts different ones."""

    channel: str
    subscribers: int
    users: int
    clients: list[PresentClient] | None
    page: Page


class KnownPublisher(Struct, kw_only=True):
    """A publisher that sends heartbeats; `replay` is where it can be asked for what was missed."""

    incarnation: str
    name: str
    stale: bool
    interval_seconds: float
    silent_seconds: float
    replay: str | None


class Publishers(Struct, kw_only=True):
    """What publishers' numbering tells, in all and by topic, the latest heard first.

    `repaired` counts messages that were missed and replayed; `recovering` topics that wait for some.
    """

    lost: int
    duplicates: int
    late: int
    repaired: int
    recovering: int
    publishers: list[KnownPublisher]
    topics: list[PublishedTopic]
    page: Page


class Health(Struct):
    """The event loop turns."""

    status: str


class Readiness(Struct):
    """Whether new clients are welcome, and why not."""

    ready: bool
    reasons: list[str]
