"""The messages between clients and the gateway: type, validation and JSON Schema in one.

Unknown fields of client messages are ignored, so that newer clients work with older gateways."""

from typing import Annotated, Any, Literal, get_args

from msgspec import UNSET, Meta, Raw, Struct, UnsetType


Id = Annotated[str, Meta(max_length=128)] | int
"""A client's own id for a message; the reply has the same."""
OptionalId = Id | UnsetType


Epoch = Annotated[str, Meta(max_length=64)]
Offset = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Position(Struct, frozen=True):
    """A place in a channel: behind the event with this offset of the source `epoch`.

    `others` has the offsets of the channel's further sources, by their epochs."""

    epoch: Epoch
    offset: Offset
    others: Annotated[dict[Epoch, Offset], Meta(max_length=256)] | UnsetType = UNSET

    @property
    def offsets(self) -> dict[str, int]:
        """The offset of each source."""
        return {self.epoch: self.offset} if self.others is UNSET else {**self.others, self.epoch: self.offset}


Since = Annotated[
    dict[str, Any],
    Meta(
        description="For one channel a position (epoch and offset), else a position for each channel, by name.",
        extra_json_schema={
            "anyOf": [
                {"$ref": "#/components/schemas/Position"},
                {"additionalProperties": {"$ref": "#/components/schemas/Position"}},
            ]
        },
    ),
]


Rate = Annotated[float, Meta(ge=0.01, le=1000, description="Events per second and key.")]
FilterText = Annotated[str, Meta(max_length=1024, description="An expression in CEL.")]


class Options(Struct, kw_only=True, omit_defaults=True):
    """Where a subscription starts, and which events it gets."""

    since: Since | None = None
    last: Annotated[int, Meta(ge=0)] | None = None
    filter: FilterText | None = None
    rate: Rate | None = None
    binary: bool | None = None


class ChannelRequest(Options, kw_only=True):
    """One channel of a `Subscribe` with its own options."""

    channel: str


class Subscribe(Options, tag="subscribe", kw_only=True):
    """Subscribe to channels; the options apply to each channel that does not set them itself."""

    channels: Annotated[list[str | ChannelRequest], Meta(min_length=1, max_length=1000)]
    id: OptionalId = UNSET


class Unsubscribe(Struct, tag="unsubscribe"):
    """End subscriptions; `channels` names them as they were made."""

    channels: Annotated[list[str], Meta(min_length=1, max_length=1000)]
    id: OptionalId = UNSET


class GetSubscriptions(Struct, tag="get_subscriptions"):
    """Request the list of this client's subscriptions."""

    id: OptionalId = UNSET


class Ping(Struct, tag="ping"):
    """Request a `Pong` with the current positions."""

    id: OptionalId = UNSET


class Auth(Struct, tag="auth"):
    """Authenticate, or replace the token before it expires."""

    token: str
    id: OptionalId = UNSET


IdempotencyKey = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        description="Chosen at random for each event: a repetition with the same key gets the first answer, and "
        "publishes nothing.",
    ),
]


Mandatory = Annotated[
    bool,
    Meta(
        description="Publish only if somebody gets the event: on a channel that is published on the bus a process there, "
        "else a client."
    ),
]


class Publish(Struct, tag="publish", kw_only=True):
    """Publish an event on a channel; answered by `Published`."""

    channel: str
    event: Raw
    idempotency_key: IdempotencyKey | None = None
    mandatory: Mandatory = False
    request_id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    """Asks for an answer: the event then says in `reply_to` to which client, and this id comes back with it."""
    id: OptionalId = UNSET


ClientMessage = Subscribe | Unsubscribe | GetSubscriptions | Ping | Auth | Publish


CLIENT_TYPES = [str(kind.__struct_config__.tag) for kind in get_args(ClientMessage)]


class Server(Struct):
    """The gateway's name and version."""

    name: str
    version: str


class Limits(Struct):
    """The limits for one client."""

    message_bytes_max: int
    subscriptions_max: int


class Connected(Struct, tag="connected", kw_only=True):
    """The first message on a connection.

    `session` is a secret: a client that connects with it within `session_ttl_seconds` after a
    disconnect gets back its identity, subscriptions, positions and waiting personal messages."""

    client_id: str
    user_id: str | None
    timestamp: str
    session: str
    session_ttl_seconds: float
    resumed: bool
    server: Server
    heartbeat_seconds: float
    limits: Limits
    roles: list[str]
    token_expires: str | None = None


class Denied(Struct):
    """A channel that this client may not subscribe to."""

    channel: str
    code: str
    message: str


BusState = Literal["waiting", "live", "stale"]


class Subscribed(Struct, tag="subscribed", kw_only=True):
    """Every event behind `positions` will be delivered, or reported as a gap.

    `recovered` says for each `since` whether nothing is missing. `bus` is ``waiting`` until a first
    message arrives from a publisher, and ``stale`` while the heartbeats of all publishers are overdue."""

    channels: list[str]
    timestamp: str
    bus: BusState
    positions: dict[str, Position]
    recovered: dict[str, bool]
    denied: list[Denied]
    warnings: list[str] | UnsetType = UNSET
    """Members of the request that the gateway does not know, so that a misspelt one is noticed."""
    id: OptionalId = UNSET


class Unsubscribed(Struct, tag="unsubscribed", kw_only=True):
    """The subscriptions that ended; `denied` says why, if the client did not unsubscribe."""

    channels: list[str]
    timestamp: str
    denied: list[Denied] | UnsetType = UNSET
    id: OptionalId = UNSET


class Authenticated(Struct, tag="authenticated", kw_only=True):
    """The token was accepted. If it denies some subscriptions, an `unsubscribed` follows."""

    user_id: str | None
    roles: list[str]
    token_expires: str
    timestamp: str
    id: OptionalId = UNSET


class TokenExpiring(Struct, tag="token_expiring", kw_only=True):
    """The token expires soon. Unless an `auth` replaces it, the connection is closed with 4002."""

    token_expires: str
    seconds: float
    timestamp: str


class ViewOptions(Struct, omit_defaults=True):
    """Which events of its channels a subscription gets."""

    filter: str | None = None
    rate: float | None = None
    binary: bool = False


class Subscriptions(Struct, tag="subscriptions", kw_only=True):
    """This client's subscriptions; `options` has those with a filter or a rate."""

    channels: list[str]
    timestamp: str
    options: dict[str, ViewOptions] | UnsetType = UNSET
    id: OptionalId = UNSET


class Pong(Struct, tag="pong", kw_only=True):
    """The reply to a ping; all events up to `positions` were sent before it."""

    timestamp: str
    positions: dict[str, Position]
    id: OptionalId = UNSET


class Published(Struct, tag="published", kw_only=True):
    """An event was published: it has this position, and so many clients get it.

    `bus` says whether a process on the bus subscribes to it, null if the channel is not published there."""

    channel: str
    position: Position
    recipients: int
    bus: bool | None
    timestamp: str
    id: OptionalId = UNSET


class Error(Struct, tag="error", kw_only=True, omit_defaults=False):
    """A request failed; the connection stays open."""

    code: str
    status: int
    message: str
    temporary: bool
    retry_after: float | UnsetType = UNSET
    id: OptionalId = UNSET


class WarningMessage(Struct, tag="warning", kw_only=True):
    """Something that is probably a mistake of the client's.

    `code` is ``filter_failed``: the filter of the subscription `channel` failed on `count` events, counted since
    the last such warning. One comes at once, further ones once a minute while there are more."""

    code: str
    channel: str
    count: int
    message: str
    timestamp: str


GapReason = Literal["evicted", "epoch", "bus_loss", "rejected", "conflated", "filtered", "unwatched"]


class Gap(Struct, tag="gap", rename={"from_": "from"}, kw_only=True):
    """Events that will not be delivered, and how many, if that is known.

    `evicted`: the log no longer holds them. `epoch`: a new epoch began or a publisher ended, and
    what came last before that is not known. `bus_loss`: lost between publisher and gateway. `rejected`: not valid.
    `unwatched`: not fetched from the bus, as no client subscribed to the channel. `conflated`: replaced
    by newer events, because of the subscription's rate. `filtered`: the filter does not match the
    first event of an epoch, so this gap names the epoch. The next events are numbered in `epoch`;
    `from` is null if the missing ones begin in an earlier epoch."""

    channel: str
    epoch: str
    from_: int | None
    to: int | None
    count: int | None
    reason: GapReason


class ClosingMessage(Struct, tag="closing", kw_only=True):
    """The last message before the gateway closes; if `reconnect`, reconnect after `after_ms`."""

    code: int
    reason: str
    reconnect: bool
    after_ms: int


class EventMessage(Struct, tag="event", kw_only=True):
    """An event as clients get it (for the schema only: frames are joined from bytes)."""

    channel: str
    offset: int
    timestamp: str
    data: Any | UnsetType = UNSET
    data_base64: str | UnsetType = UNSET
    """The payload in place of `data`, if it is bytes; also in `data` where a binary message brings them."""
    event_type: str | UnsetType = UNSET
    epoch: str | UnsetType = UNSET
    """Only in the first event of each epoch."""


ServerMessage = (
    Connected
    | Subscribed
    | Unsubscribed
    | Authenticated
    | TokenExpiring
    | Subscriptions
    | Pong
    | Published
    | Error
    | WarningMessage
    | Gap
    | ClosingMessage
    | EventMessage
)


class Broadcast(Struct, kw_only=True):
    """An event of a client, to exactly one of: a channel, a client, a user, everyone."""

    event: Raw
    channel: str | None = None
    client_id: str | None = None
    user_id: str | None = None
    everyone: bool = False
    idempotency_key: IdempotencyKey | None = None
    mandatory: Mandatory = False


class BroadcastResult(Struct):
    """How many clients get the event. `position` is null for personal messages: each client has its own.

    `bus` says whether a process on the bus subscribes to the event, null if the channel is not published there."""

    recipients: int
    channel: str
    position: Position | None
    bus: bool | None = None
