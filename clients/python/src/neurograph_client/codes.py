"""The codes of the gateway's protocol. Made from the gateway's declarations: `make models`.

A newer gateway may send codes that are not listed here.
"""

from enum import IntEnum, StrEnum
from typing import Literal


GapReason = Literal["evicted", "epoch", "bus_loss", "rejected", "conflated", "filtered", "unwatched"]
"""Why events are missing."""


class ErrorCode(StrEnum):
    """Why the gateway refused a request: the `code` of `RequestRefusedError`."""

    INVALID_JSON = "invalid_json"
    INVALID_MSGPACK = "invalid_msgpack"
    UNKNOWN_TYPE = "unknown_type"
    INVALID_FIELD = "invalid_field"
    INVALID_FILTER = "invalid_filter"
    INVALID_CHANNEL = "invalid_channel"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    FORBIDDEN_ORIGIN = "forbidden_origin"
    NOT_FOUND = "not_found"
    UNKNOWN_CHANNEL = "unknown_channel"
    UNKNOWN_CLIENT = "unknown_client"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    TIMEOUT = "timeout"
    TOO_LARGE = "too_large"
    UNKNOWN_HOST = "unknown_host"
    INVALID_EVENT = "invalid_event"
    UPGRADE_REQUIRED = "upgrade_required"
    TOO_MANY_SUBSCRIPTIONS = "too_many_subscriptions"
    RATE_LIMITED = "rate_limited"
    HEADERS_TOO_LARGE = "headers_too_large"
    INTERNAL = "internal"
    NO_SUBSCRIBERS = "no_subscribers"
    UNSUPPORTED = "unsupported"
    UNAVAILABLE = "unavailable"


class CloseCode(IntEnum):
    """Why the gateway closed a connection: the `code` of `Disconnect` and `ClosedError`."""

    PROTOCOL_ERROR = 1002
    BINARY = 1003
    INVALID_TEXT = 1007
    TOO_LARGE = 1009
    INTERNAL = 1011
    RESTART = 1012
    TRY_LATER = 1013
    SLOW_CONSUMER = 4000
    HEARTBEAT_TIMEOUT = 4001
    TOKEN_EXPIRED = 4002
    REBALANCED = 4003
    SESSION_TAKEN_OVER = 4500
    UNAUTHORIZED = 4501
    AUTH_TIMEOUT = 4502
    USER_LIMIT = 4503
    DISCONNECTED = 4504
