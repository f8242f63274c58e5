"""The answers of REST; the OpenAPI document is generated from these types."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

from gateway.core.protocol.messages import BusState, Gap, Position
from gateway.metrics.metrics import EndpointStatus


class Page(Struct):
    """The part of a list that an answer holds."""

    offset: int
    limit: int
    total: int


class Client(Struct, kw_only=True):
    """A connected client; `lag` is the number of events it is behind, `buffered` that of unsent bytes."""

    client_id: str
    user_id: str | None
    address: str
    connected_seconds: float
    channels: list[str]
    lagging: bool
    lag: int
    buffered: int


class Disconnected(Struct):
    """The client whose connection is being closed."""

    client_id: str


class UserDisconnected(Struct):
    """The user whose `clients` connections are being closed."""

    user_id: str
    clients: int


class ProcessFigures(Struct, frozen=True):
    """What the gateway uses, its workers included; `cpu_percent` is of one CPU, since the last request."""

    cpu_percent: float
    memory_bytes: int
    open_files: int


class ClusterGateway(Struct, kw_only=True):
    """A gateway of the cluster. `lag_seconds` is how late it came to read from the bus; `recovering` counts the streams
    whose missing messages it waits for; `ready` says whether clients can connect to it; `own` is that of the gateway that answers."""

    id: str
    name: str
    version: str
    uptime_seconds: float
    clients: int
    lag_seconds: float
    recovering: int
    ready: bool
    own: bool


class Cluster(Struct):
    """The cluster. `degraded` says what works less well now."""

    degraded: list[str]
    gateways: list[ClusterGateway]


class GatewayStatus(Struct, kw_only=True):
    """The state of the gateway. `reasons` say why it is not ready; `subscriptions` counts those of all clients;
    `bus_state` says whether publishers have been heard, or are silent; `cluster` is null for a gateway that stands alone."""

    version: str
    authentication: Literal["none", "token"]
    uptime_seconds: float
    process: ProcessFigures
    ready: bool
    reasons: list[str]
    connections: int
    sessions_remembered: int
    subscriptions: int
    lagging: int
    channels: int
    bus_state: BusState
    bus: list[EndpointStatus]
    cluster: Cluster | None
    rejected: dict[str, int]
    clients: list[Client]
    page: Page


class RetentionInfo(Struct, kw_only=True):
    """The limits of a channel's history; an age of 0 means no limit."""

    events_max: int
    bytes_max: int
    age_seconds_max: float


class Channel(Struct, kw_only=True):
    """A channel. `start` is the position before the oldest event held, `schema` the JSON Schema of
    `data`, for standard channels."""

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
    """A channel, with its rate over the last minute, or over the part that its history covers."""

    events_per_second: float


class Channels(Struct):
    """The open channels."""

    channels: list[Channel]


RawEvent = Annotated[
    Raw,
    Meta(
        extra_json_schema={
            "anyOf": [{"$ref": "#/components/schemas/EventMessage"}, {"$ref": "#/components/schemas/Gap"}]
        }
    ),
]
"""An event or a gap, as it was encoded for its log."""


class History(Struct, kw_only=True):
    """A part of a channel's history. `next` is the `since` for the next part; `gap` is what is missing
    before the first event."""

    channel: str
    epoch: str
    events: list[RawEvent]
    next: Position
    gap: Gap | None


class RejectedMessage(Struct, kw_only=True):
    """A bus message that was rejected, the `number`-th since the start; `advice` is what to change. `payload` is its
    first KiB, `frames` shows all frames with their sizes, `hex` has the first 256 bytes of the first eight;
    `publisher` is empty without an envelope."""

    number: int
    time: str
    reason: str
    detail: str
    advice: str
    topic: str
    frames: str
    hex: list[str]
    endpoint: str
    publisher: str
    payload: str


class Rejections(Struct, kw_only=True):
    """Counts by reason since the start, and the newest messages of each endpoint, newest first."""

    counts: dict[str, int]
    rejections: list[RejectedMessage]


class PublishedTopic(Struct, kw_only=True):
    """A topic of one incarnation (in hexadecimal) of a publisher, with the publisher's sequence numbers.

    `transit_seconds` is the time from sending to receipt of its last message; negative if the publisher's
    clock is ahead of this machine's."""

    incarnation: str
    topic: str
    first_sequence: int
    newest_sequence: int
    lost: int
    duplicates: int
    late: int
    last_seconds: float
    transit_seconds: float | None


class PresentClient(Struct):
    """A client that is subscribed to a channel."""

    client_id: str
    user_id: str | None


class Presence(Struct, kw_only=True):
    """The clients that are subscribed to a channel; `users` counts distinct users. `clients` is null for
    callers that may not see them."""

    channel: str
    subscribers: int
    users: int
    clients: list[PresentClient] | None
    page: Page


class KnownPublisher(Struct, kw_only=True):
    """A publisher that sends heartbeats; `replay` is the endpoint of its replay service.

    `transit_seconds` is that of its topic where it is shortest: the difference of the two clocks shows there."""

    incarnation: str
    name: str
    stale: bool
    interval_seconds: float
    silent_seconds: float
    transit_seconds: float | None
    replay: str | None


class Publishers(Struct, kw_only=True):
    """Messages lost, duplicated and late, in total and by topic, the most recently heard first.

    `repaired` counts messages that were missed and then replayed, `recovering` the topics that wait
    for a replay."""

    lost: int
    duplicates: int
    late: int
    repaired: int
    recovering: int
    publishers: list[KnownPublisher]
    topics: list[PublishedTopic]
    page: Page


class Health(Struct):
    """The event loop runs."""

    status: str


class Readiness(Struct):
    """Whether new clients can connect, and if not, why; `degraded` says what works less well."""

    ready: bool
    reasons: list[str]
    degraded: list[str]
