"""Every message between a client and the gateway: type, validation and JSON Schema in one.

Unknown fields of client messages are ignored, so that newer clients can talk to older gateways.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType


Id = Annotated[str, Meta(max_length=128)] | int
"""A client's own name for a message; the reply echoes it."""
OptionalId = Id | UnsetType


class Position(Struct, frozen=True):
    """A place in a channel: after the event with this offset, in this life of the log."""

    epoch: Annotated[str, Meta(max_length=64)]
    offset: Annotated[int, Meta(ge=0, le=2**63 - 1)]


Since = Annotated[
    dict[str, Any],
    Meta(
        description="A position (epoch and offset) in the one channel asked for, "
        "or a position for each channel by name.",
        extra_json_schema={
            "anyOf": [
                {"$ref": "#/components/schemas/Position"},
                {"additionalProperties": {"$ref": "#/components/schemas/Position"}},
            ]
        },
    ),
]


Rate = Annotated[float, Meta(ge=0.01, le=1000, description="Events per second and key.")]
Condition = Annotated[str, Meta(max_length=1024, description="A condition in CEL.")]


class Options(Struct, kw_only=True, omit_defaults=True):
    """How a subscription starts and what it leaves out."""

    since: Since | None = None
    last: Annotated[int, Meta(ge=0)] | None = None
    filter: Condition | None = None
    rate: Rate | None = None


class ChannelRequest(Options, kw_only=True):
    """One channel of a `Subscribe`, with options of its own."""

    channel: str


class Subscribe(Options, tag="subscribe", kw_only=True):
    """Follow channels; options apply to those that bring none of their own."""

    channels: Annotated[list[str | ChannelRequest], Meta(min_length=1, max_length=1000)]
    id: OptionalId = UNSET


class Unsubscribe(Struct, tag="unsubscribe"):
    """Stop following; `channels` names subscriptions as they were made."""

    channels: Annotated[list[str], Meta(min_length=1, max_length=1000)]
    id: OptionalId = UNSET


class GetSubscriptions(Struct, tag="get_subscriptions"):
    """Ask for what this client follows."""

    id: OptionalId = UNSET


class Ping(Struct, tag="ping"):
    """Ask for a sign of life and the current positions."""

    id: OptionalId = UNSET


class Auth(Struct, tag="auth"):
    """Authenticate, or refresh a token."""

    token: str
    id: OptionalId = UNSET


ClientMessage = Subscribe | Unsubscribe | GetSubscriptions | Ping | Auth


class Server(Struct):
    """Who answers."""

    name: str
    version: str


class Limits(Struct):
    """What this gateway accepts from one client."""

    message_bytes_max: int
    subscriptions_max: int


class Connected(Struct, tag="connected", kw_only=True):
    """The first message: all that a client would otherwise have to be configured with.

    `session` is a secret: connecting with it within `session_ttl_seconds` of a disconnect restores
    identity, subscriptions, positions and waiting personal messages.
    """

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
    """A channel that was asked for and is not served to this client."""

    channel: str
    code: str
    message: str


BusState = Literal["waiting", "live", "stale"]


class Subscribed(Struct, tag="subscribed", kw_only=True):
    """From `positions` on nothing is missed; `recovered` answers each `since`.

    `bus` tells whether anything was heard from a publisher yet, or not for too long.
    """

    channels: list[str]
    timestamp: str
    bus: BusState
    positions: dict[str, Position]
    recovered: dict[str, bool]
    denied: list[Denied]
    id: OptionalId = UNSET


class Unsubscribed(Struct, tag="unsubscribed", kw_only=True):
    """Names the subscriptions that were really removed; `denied` says why, if nobody asked for it."""

    channels: list[str]
    timestamp: str
    denied: list[Denied] | UnsetType = UNSET
    id: OptionalId = UNSET


class Authenticated(Struct, tag="authenticated", kw_only=True):
    """The token was accepted; what its bearer follows and may not any more is `unsubscribed` next."""

    user_id: str | None
    roles: list[str]
    token_expires: str
    timestamp: str
    id: OptionalId = UNSET


class TokenExpiring(Struct, tag="token_expiring", kw_only=True):
    """The token expires soon, and with it the connection (4002) unless `auth` brings a newer one."""

    token_expires: str
    seconds: float
    timestamp: str


class Conditions(Struct, omit_defaults=True):
    """What a subscription leaves out."""

    filter: str | None = None
    rate: float | None = None


class Subscriptions(Struct, tag="subscriptions", kw_only=True):
    """What this client follows, and on which conditions, if there are any."""

    channels: list[str]
    timestamp: str
    conditions: dict[str, Conditions] | UnsetType = UNSET
    id: OptionalId = UNSET


class Pong(Struct, tag="pong", kw_only=True):
    """A sign of life; all events up to `positions` were sent before it."""

    timestamp: str
    positions: dict[str, Position]
    id: OptionalId = UNSET


class Error(Struct, tag="error", kw_only=True, omit_defaults=False):
    """Something was not done; the connection goes on."""

    code: str
    status: int
    message: str
    temporary: bool
    retry_after: float | UnsetType = UNSET
    id: OptionalId = UNSET


GapReason = Literal[
    "evicted", "epoch", "bus_loss", "rejected", "conflated", "filtered", "unwatched"
]


class Gap(Struct, tag="gap", rename={"from_": "from"}, kw_only=True):
    """Events that will not come, and how many, if that is known.

    `evicted`: the log has moved on. `epoch`: what came at the end of the life before this one is not
    known. `bus_loss`: lost between publisher and gateway. `rejected`: not let in. `unwatched`: not fetched, as nobody followed the channel. `conflated`: newer
    events stand for them, as the subscription asked. `filtered`: the event that would have named its
    epoch was not wanted. What follows is numbered in `epoch`; `from`
    is null where what is missing begins in another one.
    """

    channel: str
    epoch: str
    from_: int | None
    to: int | None
    count: int | None
    reason: GapReason


class ClosingMessage(Struct, tag="closing", kw_only=True):
    """Sent right before the gateway closes; come back after `after_ms` if `reconnect`."""

    code: int
    reason: str
    reconnect: bool
    after_ms: int


class EventMessage(Struct, tag="event", kw_only=True):
    """An event as clients get it (declared for the schema; frames are joined from bytes)."""

    channel: str
    offset: int
    timestamp: str
    data: Any
    event_type: str | UnsetType = UNSET
    epoch: str | UnsetType = UNSET
    """In the first event of each epoch."""


ServerMessage = (
    Connected
    | Subscribed
    | Unsubscribed
    | Authenticated
    | TokenExpiring
    | Subscriptions
    | Pong
    | Error
    | Gap
    | ClosingMessage
    | EventMessage
)


class Broadcast(Struct, kw_only=True):
    """A message over REST: to exactly one of a channel, a client, a user, or everyone."""

    event: Raw
    channel: str | None = None
    client_id: str | None = None
    user_id: str | None = None
    everyone: bool = False


class BroadcastResult(Struct):
    """How many clients a message is for; `position` is its own, null where each client has one."""

    recipients: int
    channel: str
    position: Position | None
