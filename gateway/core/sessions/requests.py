"""What clients ask for: messages taken apart and checked, with errors that name the field."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.core.fanout.cohorts import Cursors
from gateway.core.fanout.filters import Filter, FilterError
from gateway.core.fanout.filters import parse as parse_filter
from gateway.core.fanout.views import Subscription
from gateway.core.log.epochs import ORIGIN, Cursor
from gateway.core.log.log import ChannelLog
from gateway.core.protocol import channels, messages
from gateway.core.protocol.channels import is_wildcard
from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.core.protocol.messages import ChannelRequest, Position
from gateway.core.sessions.permissions import Identity


_decoder: msgspec.json.Decoder[messages.ClientMessage] = msgspec.json.Decoder(
    messages.ClientMessage
)


class _OnlyId(msgspec.Struct):
    id: messages.OptionalId = msgspec.UNSET


_decode_id = msgspec.json.Decoder(_OnlyId).decode

# What msgspec raises; of a text with half a character in it, what encoding that raises.
_NOT_JSON = (msgspec.DecodeError, UnicodeEncodeError, RecursionError)


def error_message(error: RequestError, id_: messages.OptionalId = msgspec.UNSET) -> messages.Error:
    """Return what tells a client about its mistake."""
    code = error.code
    return messages.Error(
        id=id_,
        code=code.word,
        status=code.status,
        message=error.message,
        temporary=code.temporary,
        retry_after=msgspec.UNSET if error.retry_after is None else error.retry_after,
    )


def parse(text: str | bytes) -> messages.ClientMessage:
    """Read one message.

    Raises:
        RequestError: It is not JSON, of no known type, or a field is wrong.
    """
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError as error:
        word = str(error)
        if "$.type`" in word or "missing required field `type`" in word:
            raise RequestError(
                ErrorCode.UNKNOWN_TYPE,
                "`type` is one of subscribe, unsubscribe, get_subscriptions, ping, auth",
            ) from error
        raise RequestError(ErrorCode.INVALID_FIELD, word) from error
    except _NOT_JSON as error:
        raise RequestError(ErrorCode.INVALID_JSON, str(error)) from error


def id_of(text: str | bytes) -> messages.OptionalId:
    """Return the id of a message that is otherwise wrong, so that the error can echo it."""
    try:
        return _decode_id(text).id
    except _NOT_JSON:
        return msgspec.UNSET


@dataclass(frozen=True, slots=True)
class SubscribeRequest:
    """One channel or pattern of a subscribe message, with the options that hold for it."""

    channel: str
    since: Position | dict[str, Position] | None
    last: int | None
    subscription: Subscription


def split(message: messages.Subscribe) -> list[SubscribeRequest]:
    """Give each channel of a message its options, and check them; of one named twice, the last.

    Raises:
        RequestError: A name, a position or an option is not one.
    """
    common = read_since(message.since)
    if len(message.channels) > 1 and isinstance(common, Position):
        raise RequestError(
            ErrorCode.INVALID_FIELD, "`since` for several channels names a position for each"
        )
    asked: dict[str, SubscribeRequest] = {}
    for one in message.channels:
        own = ChannelRequest(channel=one) if isinstance(one, str) else one
        _check(own.channel)
        since = common if own.since is None else read_since(own.since)
        if isinstance(since, Position) and channels.is_wildcard(own.channel):
            raise RequestError(
                ErrorCode.INVALID_FIELD,
                f"`since` of the wildcard {own.channel!r} must name a position for each channel",
            )
        last = message.last if own.last is None else own.last
        asked[own.channel] = SubscribeRequest(own.channel, since, last, _select(own, message))
    return list(asked.values())


def read_since(since: dict[str, Any] | None) -> Position | dict[str, Position] | None:
    """Tell a single position from one position per channel.

    Raises:
        RequestError: It is neither.
    """
    if since is None:
        return None
    try:
        if since.keys() == {"epoch", "offset"} and not isinstance(since["epoch"], dict):
            return msgspec.convert(since, Position)
        return msgspec.convert(since, dict[str, Position])
    except msgspec.ValidationError as error:
        raise RequestError(ErrorCode.INVALID_FIELD, f"since: {error}") from error


def _select(own: ChannelRequest, common: messages.Options) -> Subscription:
    text = common.filter if own.filter is None else own.filter
    rate = common.rate if own.rate is None else own.rate
    return Subscription(own.channel, None if text is None else read_filter(text), rate)


def read_filter(text: str) -> Filter:
    """Read a condition.

    Raises:
        RequestError: It is none; the message points at the place.
    """
    try:
        return parse_filter(text)
    except FilterError as error:
        raise RequestError(ErrorCode.INVALID_FILTER, f"filter: {error}") from error


def _check(pattern: str) -> None:
    if not channels.is_pattern(pattern):
        raise RequestError(
            ErrorCode.INVALID_CHANNEL,
            f"{pattern[:128]!r} is not a channel: segments of [A-Za-z0-9_-] joined by dots, "
            "`*` for one segment, a final `>` for the rest",
        )


class SubscriptionStarts:
    """Where channels begin for a client: the answer to `since` and `last`, channel by channel."""

    __slots__ = ("cursors", "denied", "latest_only", "logs", "lost", "recovered")

    def __init__(self) -> None:
        self.denied: list[messages.Denied] = []
        self.logs: dict[str, ChannelLog] = {}
        self.cursors: dict[str, Cursor] = {}
        self.recovered: dict[str, bool] = {}
        self.lost: dict[str, ChannelLog] = {}
        """Logs in which the client's position is not known; it gets a gap of reason `epoch`."""
        self.latest_only: set[str] = set()

    def begin(self, log: ChannelLog, after: Cursor) -> None:
        """Begin behind a place."""
        self.logs[log.name] = log
        self.cursors[log.name] = after

    def resume(self, log: ChannelLog, after: Cursor) -> None:
        """Begin behind a place that the client had reached; what is missing there will be a gap."""
        self.begin(log, after)
        self.recovered[log.name] = log.missing(after) is None

    def recover(self, log: ChannelLog, since: Position) -> None:
        """Resume from a client's position; one of another epoch is lost."""
        after = log.epochs.find(since, ahead_max=log.retention.events_max)
        if after is not None:
            self.resume(log, after)
        else:
            self.begin(log, log.start)
            self.recovered[log.name] = False
            self.lost[log.name] = log

    def positions(self) -> dict[str, Position]:
        """Return where the channels begin, as clients know it."""
        return {name: self.logs[name].epochs.position(at) for name, at in self.cursors.items()}

    def add(self, asked: SubscribeRequest, logs: Iterable[ChannelLog], current: Cursors) -> None:
        """Decide where each log that is asked for begins for a client that stands at `current`."""
        since = asked.since
        for log in logs:
            stands = current.get(log.name, log.newest)
            if isinstance(since, Position):
                self.recover(log, since)
            elif since is not None and log.name in since:
                self.recover(log, since[log.name])
            elif since is not None and is_wildcard(asked.channel):
                # The client subscribed to this pattern and has no position here: the channel is new.
                self.resume(log, ORIGIN)
            elif asked.last == 1:
                # The current value, or that of each key, however long ago it changed.
                oldest = next(iter(log.current(ORIGIN)), None)
                first = log.newest if oldest is None else oldest.before
                self.begin(log, min(first, stands))
                if first <= stands:  # a lagging client is owed more than the current values
                    self.latest_only.add(log.name)
            elif asked.last is not None:
                # A lagging client is owed more than the last few events, and gets them.
                self.begin(log, min(log.back(asked.last), stands))
            elif log.name not in self.cursors:
                self.begin(log, stands)


def denial(channel: str, identity: Identity) -> messages.Denied:
    """Return why a client may not subscribe to a channel."""
    if identity.is_anonymous:
        code, text = ErrorCode.UNAUTHORIZED, "subscribing to this channel needs a token"
    else:
        code, text = ErrorCode.FORBIDDEN, "none of your roles may subscribe to this channel"
    return messages.Denied(channel, code.word, text)


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """A client that connects: what it brings, and the fresh ids that it gets."""

    client_id: str
    secret: str
    identity: Identity
    session: str | None = None
    channels: Sequence[str] = ()
    last: int | None = None
    since: Mapping[str, Position] | None = None
    conditions: messages.Conditions = field(default_factory=messages.Conditions)

    @property
    def subscribe(self) -> messages.Subscribe:
        """The same as the message that asks for it."""
        return messages.Subscribe(
            channels=list(self.channels),
            last=self.last,
            since=None if self.since is None else msgspec.to_builtins(self.since),
            filter=self.conditions.filter,
            rate=self.conditions.rate,
        )
