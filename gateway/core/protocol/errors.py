"""Errors of requests, and close codes of connections.

    GatewayError
      RequestError    the client can correct its request; has an `ErrorCode`

The range of a close code says what a client should do, so that old clients understand new codes:
4000-4499 reconnect; 4500-4999 do not reconnect with the same token, session and address. The other
codes are those of RFC 6455, section 7.4, and of the IANA registry."""

from enum import Enum, IntEnum


class GatewayError(Exception):
    """The root of this package's own exceptions."""


class ErrorCode(Enum):
    """A stable word, an HTTP status, and whether the same request may succeed later."""

    INVALID_JSON = ("invalid_json", 400, False)
    INVALID_MSGPACK = ("invalid_msgpack", 400, False)
    UNKNOWN_TYPE = ("unknown_type", 400, False)
    INVALID_FIELD = ("invalid_field", 400, False)
    INVALID_FILTER = ("invalid_filter", 400, False)
    INVALID_CHANNEL = ("invalid_channel", 400, False)
    UNAUTHORIZED = ("unauthorized", 401, False)
    FORBIDDEN = ("forbidden", 403, False)
    FORBIDDEN_ORIGIN = ("forbidden_origin", 403, False)
    NOT_FOUND = ("not_found", 404, False)
    UNKNOWN_CHANNEL = ("unknown_channel", 404, False)
    UNKNOWN_CLIENT = ("unknown_client", 404, False)
    METHOD_NOT_ALLOWED = ("method_not_allowed", 405, False)
    TIMEOUT = ("timeout", 408, True)
    TOO_LARGE = ("too_large", 413, False)
    UNKNOWN_HOST = ("unknown_host", 421, False)
    INVALID_EVENT = ("invalid_event", 422, False)
    UPGRADE_REQUIRED = ("upgrade_required", 426, False)
    TOO_MANY_SUBSCRIPTIONS = ("too_many_subscriptions", 429, False)
    RATE_LIMITED = ("rate_limited", 429, True)
    HEADERS_TOO_LARGE = ("headers_too_large", 431, False)
    INTERNAL = ("internal", 500, True)
    NO_SUBSCRIBERS = ("no_subscribers", 503, True)
    UNSUPPORTED = ("unsupported", 501, False)
    UNAVAILABLE = ("unavailable", 503, True)

    def __init__(self, word: str, status: int, temporary: bool) -> None:
        self.word = word
        self.status = status
        self.temporary = temporary


class RequestError(GatewayError):
    """A request that cannot be served; `message` says why, and what the client can do."""

    def __init__(self, code: ErrorCode, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after
        """Seconds until the request can be served; None if that is not known."""


class CloseCode(IntEnum):
    """Why the gateway closes a connection."""

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

    @property
    def reason(self) -> str:
        """The code's word in ``closing`` messages and metrics."""
        return self.name.lower()

    @property
    def reconnect(self) -> bool:
        return self in {CloseCode.INTERNAL, CloseCode.RESTART, CloseCode.TRY_LATER} or (4000 <= self < 4500)
